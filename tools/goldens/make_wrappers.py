"""Makes tests/golden/wrappers: a tiny random checkpoint of each kind of multimodal model, and transformers' losses.

  NAME/               config.json and model.safetensors (bf16, every name and layout as save_pretrained writes it)
  NAME/reference.json tokens of windows of text, their mean losses (transformers, float32), and the names of all
                      tensors that are not the language part's
  other-NAME/, flat-NAME/  the same numbers under the names of other versions of transformers, and in the config
                      without "text_config" that came before

Needs: pip install torch==2.13.0 transformers==5.19.0 safetensors==0.8.0. Deterministic up to the last bits of
float32. Usage: make_wrappers.py [OUTPUT [HEAD]]
HEAD: channels of a head of the language part, 16 if not given; vLLM on a CPU wants 32 (tools/check_vllm_families.py).
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (Gemma3Config, Gemma3ForConditionalGeneration, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration,
                          Ministral3Config, Mistral3Config, Mistral3ForConditionalGeneration, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)

OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'wrappers'
HEAD = int(sys.argv[2]) if len(sys.argv) > 2 else 16
TEXT = {'hidden_size': 2 * HEAD, 'intermediate_size': 48, 'num_hidden_layers': 2, 'num_attention_heads': 2,
        'num_key_value_heads': 1, 'vocab_size': 96, 'max_position_embeddings': 256, 'tie_word_embeddings': False,
        'bos_token_id': 1, 'eos_token_id': 2}
SECTIONS = [HEAD // 8, HEAD * 3 // 16, HEAD * 3 // 16]


def llava():
    vision = {'model_type': 'clip_vision_model', 'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2,
              'num_attention_heads': 2, 'image_size': 16, 'patch_size': 8, 'projection_dim': 16}
    config = LlavaConfig(text_config=LlamaConfig(**TEXT), vision_config=vision, image_token_index=95,
                         tie_word_embeddings=False)
    return LlavaForConditionalGeneration(config)


def mistral3():
    rope = {'rope_type': 'yarn', 'rope_theta': 1e6, 'factor': 4.0, 'original_max_position_embeddings': 64, 'beta_fast': 32.0,
            'beta_slow': 1.0, 'mscale': 1.0, 'mscale_all_dim': 1.0, 'llama_4_scaling_beta': 0.1}
    text = Ministral3Config(**TEXT, head_dim=HEAD, rope_parameters=rope)
    vision = {'model_type': 'pixtral', 'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 2,
              'image_size': 16, 'patch_size': 8}
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision, image_token_index=95,
                                                           tie_word_embeddings=False))


def qwen2_5_vl():
    vision = {'depth': 2, 'hidden_size': 16, 'intermediate_size': 24, 'num_heads': 2, 'out_hidden_size': 2 * HEAD,
              'patch_size': 4, 'window_size': 16, 'fullatt_block_indexes': [1]}
    rope = {'type': 'mrope', 'mrope_section': SECTIONS}
    config = Qwen2_5_VLConfig(text_config={**TEXT, 'rope_scaling': rope}, vision_config=vision, image_token_id=95,
                              video_token_id=94, vision_start_token_id=93, vision_end_token_id=92,
                              tie_word_embeddings=False)
    return Qwen2_5_VLForConditionalGeneration(config)


def gemma3():
    vision = {'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 2,
              'image_size': 16, 'patch_size': 8}
    text = {**TEXT, 'head_dim': HEAD, 'query_pre_attn_scalar': 12, 'sliding_window': 16, 'tie_word_embeddings': True,
            'sliding_window_pattern': 2}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=95,
                          boi_token_index=94, eoi_token_index=93)
    return Gemma3ForConditionalGeneration(config)


def with_random_weights(model):
    generator = torch.Generator().manual_seed(16)
    for parameter in model.parameters():
        scale = 0.5 if parameter.dim() < 2 else 1.5 / parameter[0].numel() ** 0.5
        base = 1.0 if parameter.dim() < 2 else 0.0
        parameter.data = base * 0.9 + scale * torch.randn(parameter.shape, generator=generator)
    return model.to(torch.bfloat16)


def losses(model, windows):
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(windows), attention_mask=torch.ones(len(windows), len(windows[0]))).logits
    return [torch.nn.functional.cross_entropy(row[:-1].double(), torch.tensor(window[1:])).item()
            for row, window in zip(logits, windows)]


def other_layout(directory, kind, rename, config):
    """The same under other names. `rename`: pairs of beginnings."""
    def renamed(name):
        return next(new + name[len(old):] for old, new in (*rename, ('', '')) if name.startswith(old))
    source = load_file(directory / 'model.safetensors')
    target = directory.parent / f'{kind}-{directory.name}'
    target.mkdir(exist_ok=True)
    save_file({renamed(name): tensor for name, tensor in source.items()}, target / 'model.safetensors',
              metadata={'format': 'pt'})
    reference = json.loads((directory / 'reference.json').read_text())
    reference['others'] = sorted(renamed(name) for name in reference['others'])
    write(target, config, reference)


def write(directory, config, reference):
    (directory / 'config.json').write_text(json.dumps(config, indent=1) + '\n')
    (directory / 'reference.json').write_text(json.dumps(reference) + '\n')


def make(name, model, output):
    directory = output / name
    directory.mkdir(parents=True, exist_ok=True)
    model = with_random_weights(model)
    model.save_pretrained(directory)
    (directory / 'generation_config.json').unlink(missing_ok=True)
    generator = torch.Generator().manual_seed(17)
    windows = torch.randint(3, 90, (3, 40), generator=generator).tolist()
    names = load_file(directory / 'model.safetensors').keys()
    others = sorted(n for n in names if n.startswith(('visual.', 'vision_tower.', 'multi_modal_projector.')))
    reference = {'tokens': windows, 'window_nll': losses(type(model).from_pretrained(directory, dtype=torch.float32), windows), 'others': others}
    config = json.loads((directory / 'config.json').read_text())
    write(directory, config, reference)
    return directory, config


def main():
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    directory, config = make('llava', llava(), output)
    other_layout(directory, 'other', (('language_model.model.', 'model.language_model.'), ('language_model.lm_head', 'lm_head'),
                             ('vision_tower.', 'model.vision_tower.'),
                             ('multi_modal_projector.', 'model.multi_modal_projector.')), config)
    make('gemma3', gemma3(), output)
    make('mistral3', mistral3(), output)
    directory, config = make('qwen2-5-vl', qwen2_5_vl(), output)
    text = {**config['text_config'], 'model_type': 'qwen2_5_vl',
            'rope_theta': config['text_config']['rope_parameters']['rope_theta'],
            'rope_scaling': {'type': 'mrope', 'mrope_section': SECTIONS}}
    text.pop('rope_parameters')
    other_layout(directory, 'other', (('visual.', 'model.visual.'), ('model.', 'model.language_model.')), config)
    flat = {member: value for member, value in config.items() if member != 'text_config'}
    other_layout(directory, 'flat', (), {**flat, **text})


if __name__ == '__main__':
    main()
