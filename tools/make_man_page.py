"""Makes the manual page from what the program says of itself: --help of narrow and of each command.

Usage: make_man_page.py PROGRAM >narrow.1
"""
import datetime
import os
import re
import subprocess
import sys

ENTRY = re.compile(r'^  (\S.*?)(?:\s{2,}(\S.*))?$')
HEADING = re.compile(r'^(Options|Positionals|Subcommands):$')
# How CLI11 describes what a flag takes: "TEXT REQUIRED", "INT:INT in [1 - 4096]", "TEXT:{a,b} ...".
TAKES = re.compile(r'^(?P<names>\S+)(?:\s+(?P<type>.*))?$')
WORDS = {'TEXT': 'text', 'INT': 'number', 'UINT': 'number', 'FLOAT': 'number'}


def help_of(program, *command):
    result = subprocess.run([program, *command, '--help'], capture_output=True, text=True, check=True)
    return result.stdout.rstrip('\n').split('\n')


def parse(lines):
    """(description, usage, {heading: [(name, text)]}, footer) of a help text."""
    description, usage, sections, footer = lines[0], lines[1].removeprefix('Usage: '), {}, []
    entries = None
    for line in lines[2:]:
        heading = HEADING.match(line)
        if heading:
            entries = sections.setdefault(heading.group(1), [])
        elif line.startswith(' ' * 30) and entries:
            name, text = entries[-1]
            entries[-1] = (name, f'{text} {line.strip()}'.strip())
        elif line.startswith('  ') and entries is not None and ENTRY.match(line):
            # The text begins in column 30, or after the first gap of a name that ends before it.
            name, text = (line[2:30], line[30:]) if len(line) > 30 and line[29] == ' ' else (line[2:], '')
            entries.append((name.strip(), text.strip()))
        elif line:
            entries = None
            footer.append(line)
    return description, usage, sections, footer


def roff(text):
    """Text that says the same to roff."""
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return '\\&' + text if text.startswith(('.', "'")) else text


def argument(kind):
    """What a flag takes, as a manual says it."""
    if not kind:
        return ''
    choices = re.search(r'\{(.*?)\}', kind)
    text = choices.group(1).replace(',', '|') if choices else WORDS[re.match(r'[A-Z]+', kind).group()]
    return text + (' ...' if kind.endswith('...') else '')


def entry(name, text):
    found = TAKES.match(name)
    names = ', '.join(f'\\fB{roff(part)}\\fR' for part in found.group('names').split(','))
    kind = (found.group('type') or '').replace('REQUIRED', '').strip()
    takes = argument(kind)
    required = ' (required)' if 'REQUIRED' in name else ''
    return f'.TP\n{names}' + (f' \\fI{roff(takes)}\\fR' if takes else '') + f'\n{roff(text + required)}'


def page(program):
    description, usage, sections, footer = parse(help_of(program))
    version = subprocess.run([program, '--version'], capture_output=True, text=True, check=True).stdout.strip()
    moment = int(os.environ.get('SOURCE_DATE_EPOCH', datetime.datetime.now().timestamp()))
    date = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime('%Y-%m-%d')
    yield f'.TH NARROW 1 "{date}" "{version}" "User Commands"'
    yield f'.SH NAME\nnarrow \\- {roff(description.removeprefix("narrow: "))}'
    yield f'.SH SYNOPSIS\n.B narrow\n{roff(usage.removeprefix("narrow "))}'
    yield '.SH OPTIONS'
    yield from (entry(name, text) for name, text in sections['Options'])
    yield '.SH COMMANDS'
    for command, summary in sections['Subcommands']:
        said, usage, parts, _ = parse(help_of(program, command))
        assert said == summary, f'{command}: "{said}" is not "{summary}"'
        yield f'.SS {roff(usage)}\n{roff(summary)}.'
        for heading in ('Positionals', 'Options'):
            yield from (entry(name, text) for name, text in parts.get(heading, []) if name != '-h,--help')
    status = ' '.join(footer)
    assert status.startswith('Exit status: '), status
    yield f'.SH EXIT STATUS\n{roff(status.removeprefix("Exit status: "))}'


if __name__ == '__main__':
    print('\n'.join(page(sys.argv[1])))
