"""tools/test_progress.py says what ctest is doing, in a log and on a terminal, and hides no failure."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tools'))
from test_progress import Progress  # noqa: E402

PASSED = '{:>3}/100 Test #{}: {} ...............   Passed    0.10 sec'
FAILED = '  2/100 Test #2: bad ...............***Failed    0.10 sec'
SKIPPED = '  3/100 Test #3: without ...............***Skipped   0.10 sec'


class Screen:
    def __init__(self, columns):
        self.time, self.text = 100.0, ''
        self.progress = Progress(lambda: self.time, self.write, columns)

    def write(self, text):
        self.text += text

    def take(self):
        text, self.text = self.text, ''
        return text


wrong = 0


def expect(found, expected):
    global wrong
    if found != expected:
        print(f'expected {expected!r}\nfound    {found!r}')
        wrong += 1


# A log: nothing for tests that pass, except a line for every tenth.
log = Screen(0)
for i in range(1, 101):
    log.progress.line(f'      Start {i:>3}: test{i}')
    log.time += 1
    log.progress.line(PASSED.format(i, i, f'test{i}'))
expect(log.take().splitlines(), [f'{t // 60}:{t % 60:02}  {t} of 100 tests done, 0 failed'
                                 for t in range(10, 101, 10)])

# A test that takes long is named at least every half a minute.
log = Screen(0)
log.progress.line('        Start   7: slow')
for _ in range(65):
    log.time += 1
    log.progress.tick()
expect(log.take(), '0:30  0 tests done, 0 failed; running: slow (0:30)\n'
                   '1:00  0 tests done, 0 failed; running: slow (1:00)\n')

# Failures, skips and what a failing test wrote are shown as ctest gives them.
log = Screen(0)
for line in (FAILED, 'expected 1, found 2', SKIPPED):
    log.progress.line(line)
expect(log.take(), FAILED + '\nexpected 1, found 2\n' + SKIPPED + '\n')
expect(log.progress.failed, 1)

# A terminal: one line, cut to the width, that gives way to a failure and goes at the end.
screen = Screen(40)
screen.progress.line('      Start   7: a_test_with_a_rather_long_name')
screen.time += 2
screen.progress.tick()
expect(screen.take(), '\r' + '0:02  0 tests done, 0 failed; running: a_test'[:39] + '\x1b[K')
screen.progress.line(FAILED)
expect(screen.take(), '\r\x1b[K' + FAILED + '\n')
screen.progress.close()
expect(screen.take(), '\r\x1b[K')
sys.exit(1 if wrong else 0)
