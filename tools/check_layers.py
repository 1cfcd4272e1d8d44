"""Checks that the modules of src/ include each other in one direction only.

The modules have a total order, ORDER below, which is also that of src/CMakeLists.txt: each includes
only itself and those before it. Third-party headers appear only in the module that wraps them.

Usage: check_layers.py [SOURCE_DIR]     (src/ of this repository by default)
"""
import re

import source_check

ORDER = ('base', 'tensor', 'io', 'hub', 'text', 'kernels', 'schemes', 'formats', 'device', 'model',
         'synthesis', 'quantization', 'evaluation', 'report', 'import', 'inspection', 'stream', 'plan',
         'jobs', 'library', 'cli', 'mpi')
PLACE = {module: place for place, module in enumerate(ORDER)}

# Headers that show types of a library, for their own module alone.
PRIVATE = ('kernels/onednn_product.h', 'kernels/even_rows.h')

# Loops whose operands have a type: what is above the device asks the device for them.
OPERANDS = ('kernels/matmul.h', 'kernels/attention.h', 'kernels/transpose.h', 'kernels/cholesky.h',
            'kernels/grid_error.h')

# Third-party headers, by how they begin: files (below src/) that may include them. Those whose types
# must not reach another module through a header are kept to .cc files.
WRAPPERS = {
    'dnnl': r'kernels/([^/]*\.cc|onednn_product\.h)',
    'oneapi/': r'kernels/[^/]*\.cc',
    'hwy/': r'kernels/[^/]*(\.cc|-inl\.h|every_target\.h)',
    'omp.h': r'(base|kernels)/[^/]*\.cc',
    'Eigen/': r'quantization/head_basis/[^/]*\.cc',
    'nlohmann/': r'io/json\.h',
    'pcre2': r'text/.*',
    'utf8proc': r'text/[^/]*\.cc',
    'zstd': r'text/.*',
    'snappy': r'text/parquet/.*\.cc',
    'yaml.h': r'io/yaml\.cc',
    'curl/': r'hub/[^/]*\.cc',
    'openssl/': r'hub/[^/]*\.cc',
    'CLI/': r'cli/.*',
    'mpi.h': r'mpi/[^/]*\.cc',
    'gtest/': r'.*(_test\.cc|\.h)',  # a header for tests; a program that used one would not link
    'gmock/': r'.*_test\.cc',
    'fmt/': r'.*',
    'sys/': r'.*',
    'linux/': r'base/[^/]*\.cc',
}

# Written by the build, for tests.
GENERATED = ('tests/build_paths.h',)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def own_include_problem(source, module, included):
    """What is wrong with #include "included" in a file of the module, or None."""
    if included in GENERATED:
        return None
    target = included.split('/')[0]
    if '/' not in included or not (source / included).is_file():
        return f'"{included}" is not a file below {source.name}/'
    if target == module:
        return None
    if included in PRIVATE:
        return f'"{included}" is for {target} alone'
    if included in OPERANDS and module != 'device':
        return f'"{included}" has operands of a type; ask device/ instead'
    if PLACE[target] > PLACE[module]:
        return f'{module} comes before {target} and must not include "{included}"'
    return None


def library_include_problem(path, included):
    """What is wrong with #include <included> in the file, or None."""
    for start, pattern in WRAPPERS.items():
        if included.startswith(start):
            return None if re.fullmatch(pattern, path) else f'<{included}> does not belong here'
    return f'<{included}> is a library no module wraps' if '/' in included else None


def problems(source):
    for file in sorted(source.rglob('*')):
        if file.suffix not in ('.h', '.cc'):
            continue
        path = file.relative_to(source).as_posix()
        module = path.split('/')[0]
        if module not in PLACE:
            yield f'{path}: "{module}" is not a module; the table is in check_layers.py'
            continue
        for number, line in enumerate(file.read_text(encoding='utf8').splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            if found.group(1) == '"':
                problem = own_include_problem(source, module, found.group(2))
            else:
                problem = library_include_problem(path, found.group(2))
            if problem:
                yield f'{path}:{number}: {problem}'


if __name__ == '__main__':
    source_check.run(problems)
