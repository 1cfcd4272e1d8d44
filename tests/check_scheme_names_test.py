"""check_scheme_names.py says what is wrong, and nothing of what is right."""
import pathlib
import subprocess
import sys
import tempfile

TOOL = pathlib.Path(__file__).resolve().parent.parent / 'tools' / 'check_scheme_names.py'
SOURCE = TOOL.parent.parent / 'src'
GOOD = 'const char* a = "fp8"; const char* b = "mxfp4-pack-quantized";  // not "NVFP4"\n'
BAD = 'if (name == "nvFP4") return;\n'


def found(text):
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / 'schemes').mkdir()
        (root / 'schemes/scheme_presets.cc').write_text((SOURCE / 'schemes/scheme_presets.cc').read_text())
        (root / 'a.cc').write_text(text)
        done = subprocess.run([sys.executable, TOOL, root], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


assert found(GOOD) == (0, ''), found(GOOD)
status, message = found(BAD)
assert status == 1 and message.startswith('a.cc:1: "nvFP4"'), message
