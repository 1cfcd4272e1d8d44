"""Makes tests/golden/expert_ranges.json: the largest magnitude of what each routed expert of a random model reads.

Runs the windows of a golden's reference.json through transformers in float32, with the experts one after the other
(experts_implementation "eager"), and watches the products whose weights are an expert's: those of gate and up, and of down.
{family: {layer: {"gate_up": [of each expert], "down": [...]}}}; null where no token chose the expert.

Needs: pip install torch==2.13.0 transformers==5.19.0 safetensors==0.8.0.
Usage: make_expert_ranges.py FAMILIES     (the folder with tiny-<name>/)
"""
import json
import pathlib
import sys

import torch
import transformers

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'expert_ranges.json'
NAMES = ('qwen2-moe', 'qwen3-moe', 'olmoe', 'mixtral', 'minimax-m2', 'glm4-moe', 'qwen3-next', 'deepseek-v3')


def key(weight):
    return tuple(weight.reshape(-1)[:16].tolist())


def ranges(directory):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation='eager', experts_implementation='eager').eval()
    places, found = {}, {}
    for name, module in model.named_modules():
        if not name.endswith('experts') or not hasattr(module, 'gate_up_proj'):
            continue
        layer = name.split('layers.')[1].split('.')[0]
        found[layer] = {}
        for what, weights in (('gate_up', module.gate_up_proj), ('down', module.down_proj)):
            found[layer][what] = [None] * len(weights)
            for expert, weight in enumerate(weights):
                places[key(weight)] = (found[layer][what], expert)
    linear = torch.nn.functional.linear

    def watching(x, weight, bias=None):
        place = places.get(key(weight))
        if place and len(x):
            of_experts, expert = place
            of_experts[expert] = max(float(x.abs().max()), of_experts[expert] or 0.0)
        return linear(x, weight, bias)

    torch.nn.functional.linear = watching
    try:
        with torch.no_grad():
            for window in json.loads((directory / 'reference.json').read_text())['tokens']:
                model(torch.tensor([window]))
    finally:
        torch.nn.functional.linear = linear
    assert found and all(any(x for x in of['gate_up']) for of in found.values()), directory
    return {layer: {what: [x if x is None else float(f'{x:.9g}') for x in values] for what, values in of.items()}
            for layer, of in found.items()}


def main():
    families = pathlib.Path(sys.argv[1])
    content = {'made_by': {'transformers': transformers.__version__, 'torch': torch.__version__.split('+')[0]},
               'families': {name: ranges(families / f'tiny-{name}') for name in NAMES}}
    OUTPUT.write_text(json.dumps(content, separators=(',', ':')).replace('},"', '},\n"') + '\n', encoding='utf8')
    print(f'{OUTPUT.name}: {OUTPUT.stat().st_size} bytes')


if __name__ == '__main__':
    main()
