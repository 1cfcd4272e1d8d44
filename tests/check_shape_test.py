"""tools/check_shape.py accepts small sources and names what is too long."""
import pathlib
import subprocess
import sys
import tempfile

CHECKER = pathlib.Path(__file__).resolve().parent.parent / 'tools' / 'check_shape.py'


def function(lines, head='void F() {'):
    """A function of that many lines, its braces in strings, comments and blocks included."""
    body = ['  Use("}{");  // }', '  if (x) { y(); }'] + ['  a += 1;'] * (lines - 4)
    return '\n'.join([head] + body + ['}']) + '\n'


# contents, and what the checker must say of it (None: nothing)
CASES = (
    (function(60), None),
    (function(61), 'a function of 61 lines'),
    ('namespace n {\n' + function(61) + '}\n', 'file.cc:2: a function of 61 lines'),
    ('class C {\n public:\n  int x() { return 1; }\n' + function(62, '  int y() const {') + '};\n',
     'a function of 62 lines'),
    ('template <typename T>\n' + function(60, 'void F(T a,\n       T b) {'), 'a function of 62 lines'),
    ('constexpr int kTable[] = {\n' + '  1,\n' * 100 + '};\n', None),
    ('struct S {\n' + '  int a = 0;\n' * 100 + '};\n', None),
    ('const char kText[] = R"(' + '{\n' * 100 + ')";\n', None),
    ('int a;\n' * 450, None),
    ('int a;\n' * 451, '451 lines'),
)


def verdict(contents):
    with tempfile.TemporaryDirectory() as root:
        pathlib.Path(root, 'file.cc').write_text(contents)
        return subprocess.run([sys.executable, CHECKER, root], capture_output=True, text=True, check=False)


wrong = 0
for contents, expected in CASES:
    run = verdict(contents)
    good = run.returncode == 0 if expected is None else run.returncode == 1 and expected in run.stdout
    if not good:
        print(f'{contents[:60]!r}: expected {expected}, found {run.returncode}: {run.stdout}')
        wrong += 1
sys.exit(1 if wrong else 0)
