"""Makes tests/golden/families: a tiny random checkpoint of each family that the shared goldens do not have.

  NAME/               config.json and model.safetensors (bf16)
  NAME/reference.json of transformers in float32: tokens of windows of text and their mean losses, the largest
                      magnitude of every linear's input, and of K and V in the cache of each layer

Needs: pip install torch==2.13.0 transformers==5.19.0 safetensors==0.8.0. Deterministic up to the last bits of
float32. Usage: make_families.py [OUTPUT]
"""
import json
import pathlib
import sys

import torch
from make_wrappers import losses, with_random_weights, write
from transformers import CohereConfig, CohereForCausalLM, DynamicCache, StableLmConfig, StableLmForCausalLM

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'families'
SIZES = {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 2, 'num_attention_heads': 2,
         'num_key_value_heads': 1, 'vocab_size': 96, 'max_position_embeddings': 256, 'bos_token_id': 1, 'eos_token_id': 2,
         'pad_token_id': 0}

MODELS = {
    # Command R+: every head of q and k is normed with a weight of its own.
    'cohere-norms': lambda: CohereForCausalLM(CohereConfig(**SIZES, use_qk_norm=True, logit_scale=0.25)),
    'stablelm': lambda: StableLmForCausalLM(StableLmConfig(**SIZES, use_qkv_bias=True, tie_word_embeddings=False)),
}


def ranges(model, windows):
    """The largest magnitudes of the inputs of linears, and of K and V in the cache."""
    inputs = {}

    def watch(name):
        def hook(_, given):
            inputs[name] = max(inputs.get(name, 0.0), given[0].abs().max().item())
        return hook

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in model.named_modules()
             if isinstance(module, torch.nn.Linear)]
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.tensor(windows), past_key_values=cache, use_cache=True)
    for hook in hooks:
        hook.remove()
    return inputs, [[layer.keys.abs().max().item(), layer.values.abs().max().item()] for layer in cache.layers]


def main():
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    for name, make in MODELS.items():
        directory = output / name
        directory.mkdir(parents=True, exist_ok=True)
        with_random_weights(make()).save_pretrained(directory)
        (directory / 'generation_config.json').unlink(missing_ok=True)
        windows = torch.randint(3, 90, (3, 40), generator=torch.Generator().manual_seed(17)).tolist()
        config = json.loads((directory / 'config.json').read_text())
        model = MODELS[name]().from_pretrained(directory, dtype=torch.float32, attn_implementation='eager')
        inputs, cache = ranges(model.eval(), windows)
        write(directory, config, {'tokens': windows, 'window_nll': losses(model, windows), 'input_amax': inputs,
                                  'cache_amax': cache})


if __name__ == '__main__':
    main()
