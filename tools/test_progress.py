"""Shows what ctest is doing: reads its output, passes on what someone should see, and counts the rest.

Usage: ctest ... | test_progress.py
On a terminal one line is redrawn every second; elsewhere a line comes with every tenth of the tests, at
least LOG_EVERY and at most SILENCE seconds apart. Tests that pass have no line of their own.
"""
import os
import re
import select
import shutil
import sys
import time

LOG_EVERY = 5  # seconds between lines that report another tenth
SILENCE = 30  # seconds after which a line comes in any case
STARTED = re.compile(r'^ +Start +(\d+): (.*)$')
ENDED = re.compile(r'^ *\d+/(\d+) Test +#(\d+): .*?(Passed|\*\*\*\S.*?) +([0-9.]+) sec$')


def clock(seconds):
    return f'{int(seconds) // 60}:{int(seconds) % 60:02}'


class Progress:
    """`now`: seconds of a clock; `write`: shows text at once; `columns`: of a terminal, 0 in a log."""

    def __init__(self, now, write, columns):
        self.now, self.write, self.columns = now, write, columns
        self.started = self.shown = now()
        self.running = {}  # by number, in the order they began: name and when
        self.done = self.total = self.failed = self.tenths = 0

    def line(self, text):
        """Takes a line of ctest."""
        started, ended = STARTED.match(text), ENDED.match(text)
        if started:
            self.running[started[1]] = (started[2], self.now())
        elif ended:
            self.done, self.total = self.done + 1, int(ended[1])
            self.running.pop(ended[2], None)
            self.failed += ended[3].startswith('***') and 'Skipped' not in ended[3]
            if ended[3] != 'Passed':
                self.show(text)
        else:
            self.show(text)
        self.tick()

    def tick(self):
        """To be called every second or so, with or without a line."""
        since = self.now() - self.shown
        if self.columns:
            if since >= 1:
                self.shown = self.now()
                self.write('\r' + self.status()[:self.columns - 1] + '\x1b[K')
            return
        tenths = self.done * 10 // self.total if self.total else 0
        if (tenths > self.tenths and since >= LOG_EVERY) or (self.running and since >= SILENCE):
            self.shown, self.tenths = self.now(), tenths
            self.write(self.status() + '\n')

    def status(self):
        count = f'{self.done} of {self.total}' if self.total else f'{self.done}'
        text = f'{clock(self.now() - self.started)}  {count} tests done, {self.failed} failed'
        names = [f'{name} ({clock(self.now() - since)})' for name, since in self.running.values()]
        return text + ('; running: ' + ', '.join(names) if names else '')

    def show(self, text):
        self.write(('\r\x1b[K' if self.columns else '') + text + '\n')

    def close(self):
        if self.columns:
            self.write('\r\x1b[K')


def show(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def main():
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    progress = Progress(time.monotonic, show, columns)
    pending = b''
    while True:
        if select.select([0], [], [], 1)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b'\n')
            for line in lines:
                progress.line(line.decode(errors='replace'))
        progress.tick()
    if pending:
        progress.line(pending.decode(errors='replace'))
    progress.close()


if __name__ == '__main__':
    main()
