"""Makes tests/golden/comparisons.json: what checkpoints of other tools lost against their source, by PyTorch.

KL of the source's distribution from the checkpoint's, loss increase and agreement of the most probable token, window by
window, of a float32 forward of transformers: weights as vLLM runs them (FP8 with a scale per tensor goes through
float16, and fused linears take the largest scale: vLLM 0.32, w8a8_utils.py, requantize_with_max_scale), inputs and the
cache rounded as the format says.

Needs: transformers 5, torch 2.13 (CPU), numpy. SCHEMES_DIR holds source, checkpoints, calibration.json, and in tools/
the readers of their formats.
Usage: make_comparisons.py SCHEMES_DIR
"""
import json
import pathlib
import shutil
import sys
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM

schemes = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(schemes / 'tools'))
import losses as formats  # noqa: E402
import verify  # noqa: E402

NAMES = ('ct-fp8-static', 'ct-fp8-static-kv', 'ct-fp8-static-kv-default-observer', 'ct-w4a16', 'ct-nvfp4a16', 'ct-mxfp4a16', 'quark-mxfp4-weight-only')
FUSED = (('q_proj', 'k_proj', 'v_proj'), ('gate_proj', 'up_proj'))
OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'comparisons.json'


def scale_of(tensors, module):
    return formats.T(verify.f32(tensors[f'{module}.weight_scale'])).reshape(())


def served(tensors, module):
    """An FP8 weight with a scale per tensor, as vLLM holds it after loading."""
    leaf = module.rsplit('.', 1)[1]
    group = next((names for names in FUSED if leaf in names), (leaf,))
    largest = max(scale_of(tensors, module[:-len(leaf)] + name) for name in group)
    codes = formats.T(verify.f32(tensors[f'{module}.weight'])).half()
    values = codes * scale_of(tensors, module)
    return formats.FP8(values.float() / largest) * largest


def copy_of(name, place):
    """A checkpoint without links between files, which may lie there as text."""
    for path in (schemes / name).iterdir():
        source = path
        while source.stat().st_size < 256 and source.read_bytes().startswith(b'../'):
            source = source.parent / source.read_text()
        shutil.copy(source, place / path.name)


def logits_of(name, windows):
    with tempfile.TemporaryDirectory() as place:
        copy_of(name, pathlib.Path(place))
        return logits_in(pathlib.Path(place), name, windows)


def round_cache(attention, tensors, name):
    """K after its rotation, which `formats` hooks, and V, where they have scales."""
    scales = {leaf: tensors.get(f'{name}.{leaf}_scale') for leaf in 'kv'}
    if None in scales.values():
        attention.register_forward_pre_hook(lambda *_, **__: formats.STATE.clear(), with_kwargs=True)
        return
    key, value = (formats.T(verify.f32(scales[leaf])).reshape(()) for leaf in 'kv')
    attention.register_forward_pre_hook(lambda *_, **__: formats.STATE.update(k=key), with_kwargs=True)
    attention.v_proj.register_forward_hook(lambda _, __, out: formats.FP8(out / value) * value)


def logits_in(directory, name, windows):
    config = LlamaConfig.from_pretrained(directory)
    if hasattr(config, 'quantization_config'):
        del config.quantization_config
    model = LlamaForCausalLM(config).float().eval()
    tensors = verify.read(str(directory))
    kind, inputs = formats.KINDS[name.removesuffix('-default-observer')]
    state = {}
    for key in model.state_dict():
        module = key.removesuffix('.weight')
        if not key.endswith('_proj.weight'):
            state[key] = formats.T(verify.f32(tensors.get(key) or tensors['model.embed_tokens.weight']))
        elif inputs == 'fp8-static':
            state[key] = served(tensors, module)
        else:
            state[key] = formats.dequant(tensors, module, kind)
    model.load_state_dict(state)
    for module_name, module in model.named_modules():
        if inputs and isinstance(module, torch.nn.Linear) and module_name != 'lm_head':
            rounding = formats.act(inputs, tensors, module_name)
            module.register_forward_pre_hook(lambda _, args, rounding=rounding: (rounding(args[0]),))
    for index, layer in enumerate(model.model.layers):
        round_cache(layer.self_attn, tensors, f'model.layers.{index}.self_attn')
    with torch.no_grad():
        return [model(input_ids=torch.tensor([w]), use_cache=False).logits[0, :-1].double() for w in windows]


def main():
    windows = json.loads((schemes / 'calibration.json').read_text())['windows']
    original = [torch.log_softmax(logits, -1) for logits in logits_of('source', windows)]
    result = {}
    for name in NAMES:
        figures = {'window_kl': [], 'window_nll': [], 'original_window_nll': [], 'window_top1': []}
        for before, logits, window in zip(original, logits_of(name, windows), windows):
            after = torch.log_softmax(logits, -1)
            target = torch.tensor(window[1:])[:, None]
            figures['window_kl'].append((before.exp() * (before - after)).sum(-1).mean().item())
            figures['window_nll'].append(-after.gather(1, target).mean().item())
            figures['original_window_nll'].append(-before.gather(1, target).mean().item())
            figures['window_top1'].append((before.argmax(-1) == after.argmax(-1)).double().mean().item())
        result[name] = figures
        print(name, {key: sum(values) / len(values) for key, values in figures.items()})
    OUTPUT.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
