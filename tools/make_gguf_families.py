"""Tiny models of the architectures that `narrow import` knows, as llama.cpp's converter writes them.

Names and shapes are those of transformers' own modules, GGUF's names those of gguf's map; what the
converter does to numbers and metadata is written down here (source: convert_hf_to_gguf.py, 2025).
"""
import copy
import json
import math

import numpy
from gguf import GGUFWriter, MODEL_ARCH, RopeScalingType, TokenType, get_tensor_name_map
from gguf.constants import MODEL_ARCH_NAMES
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2, 'num_attention_heads': 2,
         'num_key_value_heads': 1, 'vocab_size': 20, 'max_position_embeddings': 64, 'bos_token_id': 1,
         'eos_token_id': 2, 'pad_token_id': 0}
HEAD = 8
YARN = {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 16, 'beta_fast': 24.0, 'beta_slow': 2.0}
LONG = {'rope_type': 'longrope', 'short_factor': [1.0, 1.5, 2.0], 'long_factor': [1.25, 2.5, 4.0]}
MINISTRAL = {**YARN, 'mscale': 1.0, 'mscale_all_dim': 1.0, 'llama_4_scaling_beta': 0.125}
SOME_SLIDE = ['full_attention', 'sliding_attention']

# GGUF's name (of the file; OLMo 3 is an olmo2 there): model_type, members of the config, members of the config that the import must give.
FAMILIES = {
    'qwen2': ('qwen2', {'rope_theta': 1e6, 'rope_scaling': YARN, 'tie_word_embeddings': True},
              ['hidden_act', 'rms_norm_eps', 'use_sliding_window']),
    'qwen3': ('qwen3', {'head_dim': HEAD, 'rope_theta': 1e6}, ['attention_bias', 'hidden_act', 'rms_norm_eps']),
    'granite': ('granite', {'attention_multiplier': 0.25, 'embedding_multiplier': 12.0, 'logits_scaling': 8.0,
                            'residual_multiplier': 0.22},
                ['attention_multiplier', 'embedding_multiplier', 'logits_scaling', 'residual_multiplier', 'hidden_act']),
    'smollm3': ('smollm3', {}, ['no_rope_layer_interval', 'use_sliding_window']),
    'gemma': ('gemma', {'head_dim': HEAD}, ['hidden_activation', 'rms_norm_eps']),
    'gemma2': ('gemma2', {'head_dim': HEAD, 'query_pre_attn_scalar': HEAD, 'sliding_window': 32},
               ['attn_logit_softcapping', 'final_logit_softcapping', 'hidden_activation', 'layer_types',
                'query_pre_attn_scalar', 'sliding_window']),
    'gemma3': ('gemma3_text', {'head_dim': HEAD, 'query_pre_attn_scalar': HEAD, 'sliding_window': 32, 'rope_theta': 1e6,
                               'rope_local_base_freq': 1e4, 'rope_scaling': {'rope_type': 'linear', 'factor': 8.0}},
               ['final_logit_softcapping', 'hidden_activation', 'layer_types', 'query_pre_attn_scalar',
                'rope_local_base_freq', 'sliding_window']),
    'phi3': ('phi3', {'partial_rotary_factor': 0.75, 'original_max_position_embeddings': 16, 'rope_scaling': LONG,
                      'sliding_window': 48},
             ['original_max_position_embeddings', 'partial_rotary_factor', 'sliding_window']),
    'olmo2': ('olmo2', {}, ['attention_bias', 'rms_norm_eps']),
    'starcoder2': ('starcoder2', {'use_bias': True}, ['hidden_act', 'norm_epsilon', 'use_bias']),
    'nemotron': ('nemotron', {'head_dim': HEAD, 'partial_rotary_factor': 0.5},
                 ['hidden_act', 'norm_eps', 'partial_rotary_factor']),
    'command-r': ('cohere', {'logit_scale': 0.25, 'use_qk_norm': True}, ['layer_norm_eps', 'logit_scale', 'use_qk_norm']),
    'cohere2': ('cohere2', {'head_dim': HEAD, 'logit_scale': 0.25, 'sliding_window': 32, 'layer_types': [
        'sliding_attention', 'sliding_attention']}, ['layer_norm_eps', 'layer_types', 'logit_scale', 'sliding_window']),
    'olmo3': ('olmo3', {'sliding_window': 32, 'layer_types': SOME_SLIDE},
              ['attention_bias', 'layer_types', 'rms_norm_eps', 'sliding_window']),
    'glm4': ('glm4', {'head_dim': HEAD, 'attention_bias': True, 'partial_rotary_factor': 0.5},
             ['attention_bias', 'hidden_act', 'partial_rotary_factor', 'rms_norm_eps']),
    'ernie4_5': ('ernie4_5', {'head_dim': HEAD}, ['hidden_act', 'rms_norm_eps', 'use_bias']),
    'seed_oss': ('seed_oss', {'head_dim': HEAD, 'attention_bias': True},
                 ['attention_bias', 'attention_out_bias', 'hidden_act', 'mlp_bias', 'rms_norm_eps']),
    'exaone4': ('exaone4', {'sliding_window': 32, 'layer_types': SOME_SLIDE},
                ['hidden_act', 'layer_types', 'rms_norm_eps', 'sliding_window']),
    'hunyuan-dense': ('hunyuan_v1_dense', {'head_dim': HEAD}, ['attention_bias', 'hidden_act', 'rms_norm_eps']),
    'mistral3': ('ministral3', {'head_dim': HEAD, 'rope_theta': 1e6, 'rope_scaling': MINISTRAL},
                 ['hidden_act', 'rms_norm_eps', 'sliding_window']),
    'stablelm': ('stablelm', {'use_qkv_bias': True, 'partial_rotary_factor': 0.25},
                 ['hidden_act', 'layer_norm_eps', 'partial_rotary_factor', 'use_qkv_bias']),
}
ADDS_ONE = ('gemma', 'gemma2', 'gemma3', 'nemotron')
PAIRS_ROWS = ('granite', 'smollm3', 'mistral3')
COMMON = (*SIZES, 'tie_word_embeddings')


def pair_rows(array, heads):
    rows = array.shape[0]
    return array.reshape(heads, 2, rows // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def metadata(writer, name, config, members):
    """TextModel.set_gguf_parameters and what the classes of the families add."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    rope = config.rope_parameters
    rope = rope.get('full_attention', rope)
    writer.add_rope_freq_base(rope['rope_theta'])
    if rope['rope_type'] == 'linear':
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope['factor'])
    if rope['rope_type'] == 'yarn':
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope['factor'])
        writer.add_rope_scaling_orig_ctx_len(rope['original_max_position_embeddings'])
        writer.add_rope_scaling_yarn_beta_fast(rope['beta_fast'])
        writer.add_rope_scaling_yarn_beta_slow(rope['beta_slow'])
    for member in ('rms_norm_eps', 'norm_eps'):
        if hasattr(config, member):
            writer.add_layer_norm_rms_eps(getattr(config, member))
    for member in ('layer_norm_eps', 'norm_epsilon', 'norm_eps'):
        if hasattr(config, member):
            writer.add_layer_norm_eps(getattr(config, member))
            break
    if 'head_dim' in members:
        writer.add_key_length(HEAD)
        writer.add_value_length(HEAD)
    if name == 'granite':
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_logit_scale(config.logits_scaling)
        writer.add_residual_scale(config.residual_multiplier)
    if name in ('gemma2', 'gemma3', 'phi3', 'cohere2', 'olmo3', 'exaone4'):
        writer.add_sliding_window(config.sliding_window)
    if name in ('olmo3', 'exaone4'):
        writer.add_sliding_window_pattern([kind == 'sliding_attention' for kind in config.layer_types])
    if name == 'mistral3':
        writer.add_rope_scaling_yarn_log_mul(rope['mscale_all_dim'])
        writer.add_attn_temperature_scale(rope['llama_4_scaling_beta'])
    if name == 'gemma2':
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if name in ('phi3', 'nemotron', 'glm4', 'stablelm'):
        writer.add_rope_dimension_count(int(HEAD * members['partial_rotary_factor']))
    if name == 'phi3':
        original = config.original_max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(
            math.sqrt(1 + math.log(config.max_position_embeddings / original) / math.log(original)))
        for kind in ('long', 'short'):
            writer.add_tensor(f'rope_factors_{kind}.weight', numpy.array(LONG[f'{kind}_factor'], '<f4'))
    if name in ('command-r', 'cohere2'):
        writer.add_logit_scale(config.logit_scale)
        writer.add_rope_scaling_type(RopeScalingType.NONE)


def tokenizer(writer, name):
    pieces = name.startswith('gemma') or name == 'phi3'
    tokens = ['<pad>', '<s>', '</s>', '<unk>'] + list('abcd') + (['▁', '  '] if pieces else ['Ġ', 'ĠĠ']) + ['ab', 'cd']
    tokens += [str(i) for i in range(SIZES['vocab_size'] - len(tokens))]
    kinds = [TokenType.CONTROL] * 4 + [TokenType.NORMAL] * (len(tokens) - 4)
    writer.add_tokenizer_model('llama' if pieces else 'gpt2')
    writer.add_token_list(tokens)
    if pieces:
        kinds[3] = TokenType.UNKNOWN
        kinds[tokens.index('  ')] = TokenType.USER_DEFINED
        writer.add_token_scores([-float(i) for i in range(len(tokens))])
        writer.add_unk_token_id(3)
        writer.add_add_space_prefix(name == 'phi3')
    else:
        writer.add_tokenizer_pre('qwen2')
        writer.add_token_merges(['a b', 'c d', 'Ġ Ġ'])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


def write_family(path, name, model_type, members, value, **split):
    config = AutoConfig.for_model(model_type, **copy.deepcopy({**SIZES, **members}))
    architecture = 'olmo2' if name == 'olmo3' else name
    arch = {n: a for a, n in MODEL_ARCH_NAMES.items()}[architecture]
    names = get_tensor_name_map(MODEL_ARCH(arch), config.num_hidden_layers)
    writer = GGUFWriter(path, architecture, **split)
    metadata(writer, name, config, members)
    tokenizer(writer, name)
    tensors = []
    state = AutoModelForCausalLM.from_config(config).state_dict()
    for seed, (full, tensor) in enumerate(state.items()):
        if full == 'lm_head.weight' and config.tie_word_embeddings:
            continue
        shape = list(tensor.shape)
        tensors.append([full, shape, seed])
        stored = value(seed, shape[0] if len(shape) > 1 else 1, shape[-1]).reshape(shape)
        if full.endswith('norm.weight') and name in ADDS_ONE:
            stored = stored + 1
        if name in PAIRS_ROWS and ('q_proj' in full or 'k_proj' in full):
            stored = pair_rows(stored, config.num_attention_heads if 'q_proj' in full else config.num_key_value_heads)
        module, part = full.rsplit('.', 1)
        kind = numpy.float16 if len(shape) > 1 and 'norm' not in full else numpy.float32
        writer.add_tensor(f'{names.get_name(module)}.{part}', stored.astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config, tensors


def write(directory, value):
    rows = []
    for name, (model_type, members, expected) in FAMILIES.items():
        config, tensors = write_family(directory / f'{name}.gguf', name, model_type, members, value)
        given = {**config.to_dict(), **members}
        known = {member: given[member] for member in (*COMMON, *expected) if member in given}
        known['head_dim'] = HEAD
        rope = config.rope_parameters
        known['rope_theta'] = rope.get('full_attention', rope)['rope_theta']
        rows.append({'name': name, 'model_type': model_type, 'config': known,
                     'rope_scaling': members.get('rope_scaling'), 'tensors': tensors})
    # The same as qwen3.gguf in three files.
    model_type, members, _ = FAMILIES['qwen3']
    write_family(directory / 'split.gguf', 'qwen3', model_type, members, value, split_max_tensors=10)
    text = ',\n'.join(json.dumps(row, separators=(',', ':')) for row in rows)
    (directory / 'architectures.json').write_text(f'[\n{text}\n]\n', encoding='utf8')
