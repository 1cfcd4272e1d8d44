#!/usr/bin/env python3
"""Makes the Parquet files that tests read, with pyarrow 26 from texts of the shared data.

Usage: make_parquet_tests.py SHARED OUTPUT             small files of every kind, and rows.json
       make_parquet_tests.py --whole SHARED OUTPUT     the test split of WikiText-2 as the hub has it, whole
"""
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq


def wiki_rows(shared):
    """Rows of the data set: an empty one is a line holding one space in the raw file."""
    raw = (pathlib.Path(shared) / 'data/text/wiki.test.raw').read_bytes().decode()
    lines = raw.split('\n')
    assert lines.pop() == ''
    return ['' if line == ' ' else line + '\n' for line in lines]


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)


def small(shared, output):
    rows = wiki_rows(shared)[:24]
    nulls = [None if i % 3 == 1 else row for i, row in enumerate(rows)]
    repeated = [rows[i * i % 7] for i in range(300)]
    with_nulls = [None if i % 5 == 0 else text for i, text in enumerate(repeated)]
    required = pa.schema([pa.field('text', pa.string(), nullable=False)])
    kinds = {}
    for codec in ('none', 'snappy', 'zstd'):
        for version in ('1.0', '2.0'):
            for dictionary in (False, True):
                name = f'{codec}-v{version[0]}-{"dictionary" if dictionary else "plain"}'
                options = dict(compression=codec, data_page_version=version, use_dictionary=dictionary)
                write(output / f'{name}.parquet', {'text': nulls}, **options)
                kinds[name] = nulls
    write(output / 'repeated.parquet', {'text': repeated}, compression='zstd')
    kinds['repeated'] = repeated
    write(output / 'repeated-nulls.parquet', {'text': with_nulls}, compression='snappy', data_page_size=64,
          write_batch_size=16)
    kinds['repeated-nulls'] = with_nulls
    pq.write_table(pa.table({'text': rows}, schema=required), output / 'required.parquet', compression='zstd',
                   use_dictionary=False, row_group_size=5)
    kinds['required'] = rows
    pq.write_table(pa.table({'text': repeated}, schema=required), output / 'required-dictionary.parquet',
                   compression='snappy', data_page_version='2.0', row_group_size=100)
    kinds['required-dictionary'] = repeated
    # Other columns, nested ones among them, before and after.
    write(output / 'columns.parquet', {
        'id': list(range(24)), 'meta': [{'a': i, 'b': str(i)} for i in range(24)], 'tags': [['x', 'y']] * 24,
        'text': rows, 'title': [f'title {i}' for i in range(24)], 'score': [0.5] * 24}, compression='zstd')
    kinds['columns'] = rows
    write(output / 'empty.parquet', {'text': pa.array([], pa.string())}, compression='zstd')
    kinds['empty'] = []
    texts = sorted({text for kind in kinds.values() for text in kind if text is not None})
    places = {name: [None if text is None else texts.index(text) for text in kind] for name, kind in kinds.items()}
    (output / 'rows.json').write_text(json.dumps({'texts': texts, 'kinds': places}, ensure_ascii=False) + '\n',
                                      encoding='utf8')
    # Not read: a codec and an encoding.
    write(output / 'gzip.unread', {'text': rows}, compression='gzip')
    write(output / 'delta.unread', {'text': rows}, compression='none', use_dictionary=False,
          column_encoding={'text': 'DELTA_BYTE_ARRAY'})


def main():
    arguments = sys.argv[1:]
    whole = arguments[:1] == ['--whole']
    if len(arguments) != (3 if whole else 2):
        sys.exit(__doc__)
    shared, output = pathlib.Path(arguments[-2]), pathlib.Path(arguments[-1])
    if whole:
        write(output, {'text': wiki_rows(shared)}, compression='snappy')
    else:
        output.mkdir(parents=True, exist_ok=True)
        small(shared, output)


if __name__ == '__main__':
    main()
