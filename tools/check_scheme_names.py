"""Checks that no quantization scheme is named outside its row: what a scheme does follows from its data.

A string of the program's sources that is the name or an alias of a row of schemes/scheme_presets.cc, in upper or lower
case, may stand there alone. "fp8" and "w_fp8_a_fp8" are left out: the first is a type of the cache and a format, too,
and both belong to the scheme that has a table of its own (quantization/scheme.cc).

Usage: check_scheme_names.py [SOURCE_DIR]     (src/ of this repository by default)
"""
import re

import source_check

PRESETS = 'schemes/scheme_presets.cc'
ROW = re.compile(r'\{"([A-Za-z0-9_]+)",\s*"([^"]*)",\s*"')
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
SHARED = {'fp8', 'w_fp8_a_fp8'}
OTHERS = ('io/gguf.cc',)  # names of another format's types


def scheme_names(source):
    text = (source / PRESETS).read_text()
    rows = ROW.findall(text)
    return {name.lower() for first, aliases in rows for name in [first, *aliases.split()]} - SHARED


def problems(source):
    names = scheme_names(source)
    if len(names) < 10:
        yield f'{PRESETS}: only {len(names)} names were found'
    for file in sorted(source.rglob('*')):
        path = file.relative_to(source).as_posix()
        if file.suffix not in ('.h', '.cc') or path == PRESETS or path in OTHERS or path.endswith('_test.cc'):
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            for text in STRING.findall(line.split('//')[0]):
                if text.lower() in names:
                    yield f'{path}:{number}: "{text}" is the name of a scheme; ask for its data'


if __name__ == '__main__':
    source_check.run(problems)
