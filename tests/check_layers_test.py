"""tools/check_layers.py accepts a tree that obeys the rules and names every line that does not."""
import pathlib
import subprocess
import sys
import tempfile

CHECKER = pathlib.Path(__file__).resolve().parent.parent / 'tools' / 'check_layers.py'

# file, one include, and what the checker must say of it (None: nothing)
CASES = (
    ('base/error.cc', '"base/error.h"', None),
    ('text/tokenizer.cc', '"io/json.h"', None),
    ('device/operations.cc', '"kernels/matmul.h"', None),
    ('model/family.cc', '"kernels/matmul.h"', 'ask device/ instead'),
    ('kernels/matmul.cc', '<dnnl.hpp>', None),
    ('base/error.cc', '<vector>', None),
    ('base/error.cc', '"tensor/dtype.h"', 'base comes before tensor'),
    ('io/file.cc', '"text/utf8.h"', 'io comes before text'),
    ('kernels/matmul.cc', '"text/utf8.h"', None),
    ('model/family.cc', '"report/report.h"', 'model comes before report'),
    ('formats/registry.cc', '"jobs/quantize.h"', 'formats comes before jobs'),
    ('kernels/matmul.h', '<dnnl.hpp>', 'does not belong here'),
    ('kernels/onednn_product.h', '<dnnl.hpp>', None),
    ('kernels/matmul.cc', '"kernels/onednn_product.h"', None),
    ('model/decoder_layer.cc', '"kernels/onednn_product.h"', 'is for kernels alone'),
    ('model/family.cc', '<hwy/highway.h>', 'does not belong here'),
    ('model/family.cc', '<nlohmann/json.hpp>', 'does not belong here'),
    ('io/file.cc', '<zstd.h>', 'does not belong here'),
    ('io/file.cc', '<boost/any.hpp>', 'is a library no module wraps'),
    ('base/error.cc', '"error.h"', 'is not a file below'),
    ('utilities/all.cc', '<vector>', 'is not a module'),
)
HEADERS = ('base/error.h', 'tensor/dtype.h', 'io/json.h', 'io/safetensors.h', 'kernels/matmul.h',
           'kernels/onednn_product.h',
           'formats/registry.h', 'report/report.h', 'jobs/quantize.h', 'text/utf8.h')


def verdict(file, include):
    with tempfile.TemporaryDirectory() as root:
        for header in HEADERS:
            path = pathlib.Path(root, 'src', header)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('#pragma once\n')
        path = pathlib.Path(root, 'src', file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#include {include}\n')
        pathlib.Path(root, 'src/base/placeholder.cc').touch()
        return subprocess.run([sys.executable, CHECKER, pathlib.Path(root, 'src')],
                              capture_output=True, text=True, check=False)


wrong = 0
for file, include, expected in CASES:
    run = verdict(file, include)
    good = run.returncode == 0 if expected is None else (run.returncode == 1 and expected in run.stdout)
    if not good:
        print(f'{file} with {include}: expected {expected}, found {run.returncode}: {run.stdout}')
        wrong += 1
sys.exit(1 if wrong else 0)
