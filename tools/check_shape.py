"""Checks that sources stay small enough to read: no file of src/ above 450 lines, no function above 60.

A function is a block in braces that stands directly in a namespace or a type and is neither of the
two; it is counted from the line its declaration begins on to its closing brace.

Usage: check_shape.py [SOURCE_DIR]     (src/ of this repository by default)
"""
import re

import source_check

LONGEST_FILE = 450
LONGEST_FUNCTION = 60

# What is no code: comments, raw strings, strings, characters. Line ends stay.
NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                     re.S)
TYPE = re.compile(r'\b(class|struct|union|enum|namespace)\b[^()=;]*$|\bextern\s*$')
BRACE = re.compile(r'[{}]')


def plain(text):
    """The text with everything that is no code blanked out."""
    return NO_CODE.sub(lambda match: re.sub(r'[^\n]', ' ', match.group()), text)


def functions(text):
    """Yields (first line, last line) of every function, counted from 1."""
    code = plain(text)
    scopes = []  # of every open brace: 'type', 'function', 'other'
    starts = []
    statement = 0  # where the statement began that a brace belongs to
    for match in BRACE.finditer(code):
        at = match.start()
        if match.group() == '{':
            begin = max(statement, code.rfind(';', 0, at) + 1)
            head = re.sub(r'^\s*#[^\n]*$', '', code[begin:at], flags=re.M)
            if any(scope != 'type' for scope in scopes):
                scopes.append('other')
            elif TYPE.search(head):
                scopes.append('type')
            elif '(' in head and not re.search(r'=\s*$', head):
                scopes.append('function')
            else:
                scopes.append('other')
            starts.append(begin + len(code[begin:at]) - len(code[begin:at].lstrip()))
        else:
            if not scopes:
                continue
            start = starts.pop()
            if scopes.pop() == 'function':
                yield code.count('\n', 0, start) + 1, code.count('\n', 0, at) + 1
        statement = at + 1


def problems(source):
    for file in sorted(source.rglob('*')):
        if file.suffix not in ('.h', '.cc') or file.name.endswith('_test.cc'):
            continue
        text = file.read_text(encoding='utf8')
        path = file.relative_to(source).as_posix()
        lines = text.count('\n')
        if lines > LONGEST_FILE:
            yield f'{path}: {lines} lines, at most {LONGEST_FILE}'
        for first, last in functions(text):
            if last - first + 1 > LONGEST_FUNCTION:
                yield f'{path}:{first}: a function of {last - first + 1} lines, at most {LONGEST_FUNCTION}'


if __name__ == '__main__':
    source_check.run(problems)
