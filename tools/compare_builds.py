#!/usr/bin/env python3
"""Compares what two builds of narrow write and print, byte by byte, without what a run measures.

Jobs of every kind run with both programs, on the same paths: tiny models of several shapes, made by
the first build, and MODEL where it is given. Removed before comparing: the members listed in
src/report/measured_members.h, and in texts for people times, rates and memory the process held,
which have their units, and what follows from them. Prints every difference, and one line for each job.

Usage: compare_builds.py OLD_NARROW NEW_NARROW [MODEL [TEXT.jsonl]]
"""
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LIST = pathlib.Path(__file__).resolve().parent.parent / 'src/report/measured_members.h'
MEASURED = set(re.findall(r'"(\w+)"', LIST.read_text(encoding='utf8').split('{', 1)[1].split('= {', 1)[1]))
# Times and rates. Memory in GiB is what the process held; plans add it to what they derive in MiB.
QUANTITY = re.compile(r'-?\d[\d,.]*(e[+-]?\d+)?\s*'
                      r'(B/s|kB/s|MB/s|MiB/s|GB/s|GiB|s|ms|min|h|days|GFLOP/s)(?![\w/])(\s*\d+ (s|min)\b)*')
# What else follows from them: lines of a plan, shares of the time, charts of time and memory.
FOLLOWS = (r'Measured here just now.*?(?=\nTime of one)', r'program, tokenizer, texts .*', r'next layer, read ahead .*', r'[\d.]+ GB free',
           r'With this flag instead.*?(?=\nMost|\nNote|\Z)', r'Most time is saved by.*', r'(?<=Peak memory)\W.*', r'(?<=<td>#</td><td>)\d+ %', r' style="width:[\d.]+%"(?=></span></td><td>#)',
           r'<h2>Time and memory.*?(?=<h2>)')
# Files that hold measurements: the marker's sizes and digests of them.
WRITTEN_TEXTS = ('narrow-report.json', 'README.md', 'report.html')
# Models that are made: the preset, and what of its config another shape has.
TINY = {
    'tiny': {},
    'tiny-tied': {'hidden_size': 96, 'intermediate_size': 160, 'num_attention_heads': 3,
                  'num_key_value_heads': 3, 'head_dim': 32, 'tie_word_embeddings': True,
                  'num_hidden_layers': 3, 'torch_dtype': 'float16', 'rope_scaling': None},
}
# Large models are planned from their config.json alone; layers, hidden, intermediate, heads.
PLANNED = {'8b': (32, 4096, 14336, 32), '405b': (126, 16384, 53248, 128)}
QUANTIZE = {
    'contract': ['--quant_scheme', 'w_fp8_a_fp8', '--kv_cache_dtype', 'fp8', '--model_export',
                 'quark_safetensors', '--no_weight_matrix_merge', '--custom_mode', 'fp8'],
    'quark': ['--kv_cache_dtype', 'fp8', '--custom_mode', 'quark'],
    'nearest': ['--quant_algo', 'none', '--head_basis', 'none'],
    'float32': ['--kv_cache_dtype', 'fp8', '--data_type', 'float32'],
    'excluded': ['--exclude_layers', '*.down_proj', '--kv_cache_dtype', 'fp8'],
    'kept': ['--keep_layers', '2', '--kv_cache_dtype', 'fp8'],
    'unevaluated': ['--skip_evaluation'],
}


def without_measured(value):
    if isinstance(value, dict):
        return {key: without_measured(inner) for key, inner in value.items() if key not in MEASURED}
    if isinstance(value, list):
        return [without_measured(inner) for inner in value]
    return QUANTITY.sub('#', value) if isinstance(value, str) else value


def comparable(path):
    """What of a file two builds have to agree on."""
    if path.suffix == '.json':
        value = without_measured(json.loads(path.read_text(encoding='utf8')))
        if path.name == 'narrow-output.json':
            value['files'] = {name: facts for name, facts in value['files'].items() if name not in WRITTEN_TEXTS}
        return json.dumps(value, indent=1)
    if path.suffix in ('.md', '.html'):
        return text(path.read_text(encoding='utf8'))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text(output):
    output = QUANTITY.sub('#', output)
    for pattern in FOLLOWS:
        output = re.sub(pattern, '#', output, flags=re.S if '.*?' in pattern else 0)
    return re.sub(r'-{4,}', '----', re.sub(r'[ \t]+', ' ', output))


def run(program, arguments, folder):
    """Output and files of one command, run where only its own files are, by a path both programs have."""
    shutil.copy(program, folder / 'narrow')
    done = subprocess.run(['./narrow', *arguments], cwd=folder, capture_output=True, text=True, check=False)
    result = {'exit status': str(done.returncode), 'standard output': text(done.stdout)}
    if done.returncode != 0:
        result['standard error'] = text(done.stderr)
    out = folder / 'out'
    for path in sorted(out.rglob('*')) if out.is_dir() else []:
        if path.is_file():
            result[path.relative_to(out).as_posix()] = comparable(path)
    shutil.rmtree(out, ignore_errors=True)
    return result


def make_model(program, name, members, folder):
    subprocess.run([program, 'synthesize', 'preset', '--preset', 'tiny'], cwd=folder, check=True,
                   capture_output=True)
    config = json.loads((folder / 'preset/config.json').read_text(encoding='utf8')) | members
    (folder / 'config.json').write_text(json.dumps(config), encoding='utf8')
    subprocess.run([program, 'synthesize', name, '--config', 'config.json'], cwd=folder, check=True,
                   capture_output=True)
    shutil.rmtree(folder / 'preset')


def describe_model(shape, folder):
    layers, hidden, intermediate, heads = shape
    folder.mkdir()
    (folder / 'config.json').write_text(json.dumps({
        'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_size': hidden,
        'intermediate_size': intermediate, 'num_hidden_layers': layers, 'num_attention_heads': heads,
        'num_key_value_heads': 8, 'vocab_size': 128256, 'rms_norm_eps': 1e-5, 'rope_theta': 500000.0,
        'max_position_embeddings': 131072, 'torch_dtype': 'bfloat16', 'hidden_act': 'silu'}), encoding='utf8')


def jobs(models, texts):
    """Yields (name, arguments)."""
    short = ['--num_calib_data', '8', '--eval_windows', '2', '--window_tokens', '256']
    for model in models:
        for name, flags in QUANTIZE.items():
            data = ['--dataset', texts] if texts else ['--dataset', 'builtin']
            sizes = short if name != 'unevaluated' else short[:2]
            common = ['--model_dir', model, '--output_dir', 'out', *data, *sizes, *flags]
            yield f'quantize {name} {model}', ['quantize', *common]
            yield f'plan {name} {model}', ['plan', *common]
        yield f'evaluate {model}', ['evaluate', '--model_dir', model, '--eval_data', 'builtin', *short[2:]]
        yield f'inspect {model}', ['inspect', model]
    for model in PLANNED:
        for name in ('contract', 'nearest', 'kept'):
            yield f'plan {name} {model}', ['plan', '--model_dir', model, '--output_dir', 'out',
                                           '--memory_budget', '12GiB', '--dataset', 'builtin', *QUANTIZE[name]]
    yield 'synthesize', ['synthesize', 'out', '--preset', 'tiny', '--seed', '7']


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    programs = [str(pathlib.Path(argument).resolve()) for argument in sys.argv[1:3]]
    given = [str(pathlib.Path(argument).resolve()) for argument in sys.argv[3:]]
    differences = 0
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root)
        for name, members in TINY.items():
            make_model(programs[0], name, members, folder)
        for name, shape in PLANNED.items():
            describe_model(shape, folder / name)
        for name, arguments in jobs([*TINY, *given[:1]], given[1] if len(given) > 1 else None):
            old, new = (run(program, arguments, folder) for program in programs)
            wrong = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            print(f'{"differs" if wrong else "same"}: {name} ({len(old)} parts, exit {old["exit status"]})')
            for key in wrong:
                lines = zip((old.get(key) or '').split('\n'), (new.get(key) or '').split('\n'))
                for before, after in [pair for pair in lines if pair[0] != pair[1]][:8]:
                    print(f'  {key}: {before[:160]!r} became {after[:160]!r}')
            differences += len(wrong)
    print(f'{differences} differences')
    sys.exit(1 if differences else 0)


if __name__ == '__main__':
    main()
