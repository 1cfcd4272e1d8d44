#!/usr/bin/env python3
"""Loss and divergence of FP8 checkpoints of one Llama, in PyTorch and float32: a check of narrow's evaluation.

What is rounded is what vLLM 0.32 rounds on a GPU. Weights are as they are after its load: fused modules go through
float16 and are requantized to their largest scale. Inputs of linears, K after the rotation, and V are E4M3 at the
checkpoint's scales. With attention in FP8 so are the queries after the rotation, at their scale (1.0 where there is
none), and the probabilities: block of keys after block, 2^8 stands for the largest of a row so far, and the row's
sum is that of the unrounded ones. Between layers nothing is rounded. The scales are read in both spellings, `fp8`
and `quark`.

For each arithmetic it prints what compare_checkpoints.py prints; ratios are against the first checkpoint. Needs
torch, transformers, safetensors and tokenizers.

Usage: evaluate_fp8_attention.py ORIGINAL NAME=FP8_DIR... --text FILE [--windows 24] [--tokens 2048] [--spread]
       [--skip_documents N] [--attention fp8,bf16] [--key_block 512]
--key_block: keys of a block, of which narrow takes 512; 0: all of them at once, so that probabilities are rounded
relative to the final maximum. Several, as 32,512,0, are evaluated one beside the other.
"""
import argparse
import json
import math
import pathlib

import torch
from safetensors import safe_open
from tokenizers import Tokenizer

import compare_checkpoints

ROWS = 256  # of attention and of logits at once
LARGEST = 448.0  # of E4M3
FUSED = (('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), ('self_attn.o_proj',),
         ('mlp.gate_proj', 'mlp.up_proj'), ('mlp.down_proj',))


def to_grid(x, scale):
    """The E4M3 numbers nearest to x / scale, as float32."""
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float()


def read_tensors(directory):
    tensors = {}
    for path in sorted(pathlib.Path(directory).glob('*.safetensors')):
        with safe_open(path, 'pt') as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


class Checkpoint:
    """A Llama whose rotary embedding is not scaled, ready to run."""

    def __init__(self, config, directory):
        self.config, self.tensors = config, read_tensors(directory)
        self.heads, self.keys = config['num_attention_heads'], config['num_key_value_heads']
        self.size = config.get('head_dim') or config['hidden_size'] // self.heads
        rope = config.get('rope_parameters') or {'rope_theta': config.get('rope_theta', 10000.0)}
        if rope.get('rope_type', 'default') != 'default' or config.get('rope_scaling'):
            raise SystemExit('evaluate_fp8_attention.py: rotary embeddings with scaling are not written here')
        self.frequencies = rope['rope_theta'] ** (-torch.arange(0, self.size, 2).double() / self.size)
        self.linears = {}
        for layer in range(config['num_hidden_layers']):
            for group in FUSED:
                self.load([f'model.layers.{layer}.{module}' for module in group])

    def load(self, modules):
        weights = [self.tensors[module + '.weight'] for module in modules]
        if weights[0].dtype != torch.float8_e4m3fn:
            self.linears.update({m: (w.float(), None, None) for m, w in zip(modules, weights)})
            return
        scales = [self.tensors[module + '.weight_scale'].float() for module in modules]
        largest = max(scales)
        of_input = max(self.tensors[module + '.input_scale'].float() for module in modules)
        for module, codes, scale in zip(modules, weights, scales):
            if len(modules) > 1:
                codes = to_grid((codes.half() * scale.half()).float(), largest)
            else:
                codes = codes.float()
            self.linears[module] = (codes, float(largest), float(of_input))

    def scale_in_attention(self, layer, letter):
        for name in (f'self_attn.{letter}_scale', f'self_attn.{letter}_proj.output_scale'):
            if f'model.layers.{layer}.{name}' in self.tensors:
                return float(self.tensors[f'model.layers.{layer}.{name}'])
        if letter != 'q':
            raise SystemExit(f'evaluate_fp8_attention.py: layer {layer} has no scale of {letter}')
        return 1.0


class Network:
    """A checkpoint in an arithmetic of attention: 'original' (nothing is rounded in it), 'bf16' (K and V are), 'fp8'."""

    def __init__(self, checkpoint, attention, key_block):
        self.checkpoint, self.attention, self.key_block = checkpoint, attention, key_block
        self.config, self.tensors = checkpoint.config, checkpoint.tensors

    def linear(self, module, x):
        weight, scale, of_input = self.checkpoint.linears[module]
        if scale is None:
            return x @ weight.T
        return to_grid(x, of_input) @ weight.T * (scale * of_input)

    def norm(self, name, x):
        inverse = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config['rms_norm_eps'])
        return x * inverse * self.tensors[name].float()

    def rotated(self, x):
        """x: [tokens, heads, size]."""
        angles = torch.outer(torch.arange(x.shape[0]).double(), self.checkpoint.frequencies)
        cosine, sine = angles.cos().float()[:, None], angles.sin().float()[:, None]
        first, second = x.chunk(2, -1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)

    def attend(self, layer, x):
        tokens, module, model = x.shape[0], f'model.layers.{layer}.self_attn.', self.checkpoint
        q = self.rotated(self.linear(module + 'q_proj', x).view(tokens, model.heads, model.size))
        k = self.rotated(self.linear(module + 'k_proj', x).view(tokens, model.keys, model.size))
        v = self.linear(module + 'v_proj', x).view(tokens, model.keys, model.size)
        of_scores, of_values = 1 / math.sqrt(model.size), 1.0
        if self.attention != 'original':
            of_keys, of_values = (model.scale_in_attention(layer, letter) for letter in 'kv')
            k, v, of_scores = to_grid(k, of_keys), to_grid(v, of_values), of_scores * of_keys
        if self.attention == 'fp8':
            of_queries = model.scale_in_attention(layer, 'q')
            q, of_scores = to_grid(q, of_queries), of_scores * of_queries
        q = q.transpose(0, 1) * of_scores  # [heads, tokens, size]
        k, v = (y.transpose(0, 1).repeat_interleave(model.heads // model.keys, 0) for y in (k, v))
        out = torch.empty_like(q)
        for first in range(0, tokens, ROWS):
            last = min(first + ROWS, tokens)
            out[:, first:last] = self.attend_rows(q[:, first:last], k[:, :last], v[:, :last], first)
        return self.linear(module + 'o_proj', out.transpose(0, 1).reshape(tokens, -1) * of_values)

    def attend_rows(self, q, k, v, first):
        """Queries from token `first` on, over the keys up to the last of them."""
        tokens, step = k.shape[1], self.key_block or k.shape[1]
        maximum = torch.full((*q.shape[:2], 1), -math.inf)
        total, sums = torch.zeros_like(maximum), torch.zeros_like(q)
        for begin in range(0, tokens, step):
            end = min(begin + step, tokens)
            scores = q @ k[:, begin:end].transpose(1, 2)
            later = torch.arange(begin, end)[None] > torch.arange(first, first + q.shape[1])[:, None]
            scores.masked_fill_(later, -math.inf)
            before, maximum = maximum, torch.maximum(maximum, scores.amax(-1, keepdim=True))
            p = scores.sub_(maximum).exp_()
            correction = torch.exp(before - maximum)
            total = total * correction + p.sum(-1, keepdim=True)
            if self.attention == 'fp8':
                p = to_grid(p, 2.0 ** -8) / 256
            sums = sums * correction + p @ v[:, begin:end]
        return sums / total

    def hidden(self, window):
        x = self.tensors['model.embed_tokens.weight'].float()[window]
        for layer in range(self.config['num_hidden_layers']):
            name = f'model.layers.{layer}.'
            x = x + self.attend(layer, self.norm(name + 'input_layernorm.weight', x))
            y = self.norm(name + 'post_attention_layernorm.weight', x)
            gate, up = self.linear(name + 'mlp.gate_proj', y), self.linear(name + 'mlp.up_proj', y)
            x = x + self.linear(name + 'mlp.down_proj', torch.nn.functional.silu(gate) * up)
        return self.norm('model.norm.weight', x)

    def log_probabilities(self, hidden):
        head = self.tensors.get('lm_head.weight', self.tensors['model.embed_tokens.weight'])
        return torch.log_softmax(hidden @ head.float().T, -1)


def measure(networks, window):
    """Loss, KL and agreement of each network on one window, the original first."""
    targets, sums = window[1:], {name: {'loss': 0.0, 'kl': 0.0, 'top1': 0.0} for name in networks}
    hidden = {name: network.hidden(window)[:-1] for name, network in networks.items()}
    for first in range(0, len(targets), ROWS):
        block, reference = slice(first, first + ROWS), None
        for name, network in networks.items():
            logits = network.log_probabilities(hidden[name][block])
            reference = logits if reference is None else reference
            values = {'loss': -logits.gather(1, targets[block, None]),
                      'kl': (reference.exp() * (reference - logits)).sum(-1),
                      'top1': reference.argmax(-1) == logits.argmax(-1)}
            for key, value in values.items():
                sums[name][key] += value.double().sum().item() / len(targets)
    return sums


def read_arguments():
    parser = argparse.ArgumentParser(usage=__doc__.split('Usage: ')[1].split('\n--key')[0])
    parser.add_argument('original')
    parser.add_argument('checkpoints', nargs='+')
    parser.add_argument('--text', required=True)
    parser.add_argument('--skip_documents', type=int, default=0)
    parser.add_argument('--windows', type=int, default=24)
    parser.add_argument('--tokens', type=int, default=2048)
    parser.add_argument('--spread', action='store_true')
    parser.add_argument('--attention', default='fp8,bf16')
    parser.add_argument('--key_block', default='512')
    return parser, parser.parse_args()


def main():
    parser, arguments = read_arguments()
    text = compare_checkpoints.read_text(arguments.text, arguments.skip_documents)
    ids = Tokenizer.from_file(arguments.original + '/tokenizer.json').encode(text).ids
    windows = compare_checkpoints.cut(ids, arguments.tokens, arguments.windows, arguments.spread)
    if not windows:
        parser.error(f'the text has {len(ids)} tokens: not one window of {arguments.tokens}')
    config = json.loads((pathlib.Path(arguments.original) / 'config.json').read_text(encoding='utf8'))
    networks = {'original': Network(Checkpoint(config, arguments.original), 'original', 0)}
    groups = {}  # names of networks that are compared with each other
    for item in arguments.checkpoints:
        name, _, directory = item.partition('=')
        checkpoint = Checkpoint(config, directory)
        for attention in arguments.attention.split(','):
            for block in arguments.key_block.split(',') if attention == 'fp8' else ['512']:
                full = f'{name} {attention}' + (f' {block}' if ',' in arguments.key_block else '')
                networks[full] = Network(checkpoint, attention, int(block))
                groups.setdefault((attention, block), []).append(full)
    with torch.no_grad():
        measured = [measure(networks, window) for window in windows]
    for names in groups.values():
        compare_checkpoints.report(names, measured)


if __name__ == '__main__':
    main()
