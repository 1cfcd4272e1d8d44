#!/usr/bin/env python3
"""Perplexity and divergence of FP8 checkpoints of one Llama, in PyTorch: a check of narrow's evaluation by other code.

Every network is computed in float32, rounded only where vLLM 0.32 rounds on a GPU: weights as they are after its
load (fused modules through float16 and requantized to their largest scale), inputs of linears, K after the rotation
and V to E4M3 at the checkpoint's scales; and with attention in FP8 the queries after the rotation, at their scale
(1.0 where there is none), and the probabilities, of which the largest so far counts 2^8, block after block of keys;
their sum is that of the unrounded ones. Reads both spellings of the scales, `fp8` and `quark`.

Prints for each checkpoint and arithmetic what tools/compare_checkpoints.py prints, with ratios against the first
checkpoint in the same arithmetic. Needs torch, safetensors and tokenizers.

Usage: evaluate_fp8.py ORIGINAL NAME=FP8_DIR... --text FILE [--windows 24] [--tokens 2048] [--spread]
       [--skip_documents N] [--attention fp8,bf16] [--key_block 512]
--key_block: keys of a block; 0: all of a query at once, so that probabilities are rounded relative to the final
maximum. narrow takes 512, vLLM's Triton kernel 32.
"""
import argparse
import json
import math
import pathlib

import torch
from safetensors import safe_open
from tokenizers import Tokenizer

import compare_checkpoints

QUERY_BLOCK = 256
LARGEST = 448.0  # of E4M3
FUSED = (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ("self_attn.o_proj",),
         ("mlp.gate_proj", "mlp.up_proj"), ("mlp.down_proj",))


def to_grid(x, scale):
    """The E4M3 numbers nearest to x / scale, as float32."""
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float()


def read_tensors(directory):
    tensors = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


class Network:
    """A Llama of rotary embeddings without scaling. `attention`: None (nothing is rounded in it), "bf16" (the cache
    is), "fp8"."""

    def __init__(self, config, tensors, attention, key_block):
        self.config, self.tensors, self.attention, self.key_block = config, tensors, attention, key_block
        self.heads, self.keys = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = config.get("head_dim") or config["hidden_size"] // self.heads
        rope = config.get("rope_parameters") or {"rope_type": "default", "rope_theta": config["rope_theta"]}
        assert rope.get("rope_type", "default") == "default" and not config.get("rope_scaling"), "rotary scaling"
        self.frequencies = rope["rope_theta"] ** (-torch.arange(0, self.size, 2).double() / self.size)
        self.linears = {}
        for layer in range(config["num_hidden_layers"]):
            for group in FUSED:
                self.load([f"model.layers.{layer}.{module}" for module in group])

    def load(self, modules):
        weights = [self.tensors[module + ".weight"] for module in modules]
        if weights[0].dtype != torch.float8_e4m3fn:
            self.linears.update({m: (w.float(), None, None) for m, w in zip(modules, weights)})
            return
        scales = [self.tensors[module + ".weight_scale"].float() for module in modules]
        largest = max(scales)
        given = max(self.tensors[module + ".input_scale"].float() for module in modules)
        for module, codes, scale in zip(modules, weights, scales):
            if len(modules) > 1:  # through float16, as the loader dequantizes
                codes = to_grid((codes.half() * scale.half()).float(), largest)
                scale = largest
            self.linears[module] = (codes.float(), float(scale), float(given))

    def linear(self, module, x):
        weight, scale, given = self.linears[module]
        if scale is None:
            return x @ weight.T
        return to_grid(x, given) @ weight.T * (scale * given)

    def norm(self, name, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"]) * \
            self.tensors[name].float()

    def rotated(self, x):  # [tokens, heads, size]
        angles = torch.outer(torch.arange(x.shape[0]).double(), self.frequencies)
        cosine, sine = angles.cos().float()[:, None], angles.sin().float()[:, None]
        first, second = x.chunk(2, -1)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)

    def attention_scale(self, layer, letter):
        for name in (f"self_attn.{letter}_scale", f"self_attn.{letter}_proj.output_scale"):
            if f"model.layers.{layer}.{name}" in self.tensors:
                return float(self.tensors[f"model.layers.{layer}.{name}"])
        assert letter == "q", f"layer {layer} has no scale of {letter}"
        return 1.0

    def attend(self, layer, x):
        tokens, module = x.shape[0], f"model.layers.{layer}.self_attn."
        q = self.rotated(self.linear(module + "q_proj", x).view(tokens, self.heads, self.size))
        k = self.rotated(self.linear(module + "k_proj", x).view(tokens, self.keys, self.size))
        v = self.linear(module + "v_proj", x).view(tokens, self.keys, self.size)
        score, value = 1 / math.sqrt(self.size), 1.0
        if self.attention is not None:
            key, value = self.attention_scale(layer, "k"), self.attention_scale(layer, "v")
            k, v, score = to_grid(k, key), to_grid(v, value), score * key
        if self.attention == "fp8":
            query = self.attention_scale(layer, "q")
            q, score = to_grid(q, query), score * query
        shared = self.heads // self.keys
        q = q.transpose(0, 1)  # [heads, tokens, size]
        k, v = (y.transpose(0, 1).repeat_interleave(shared, 0) for y in (k, v))
        out = torch.empty_like(q)
        for first in range(0, tokens, QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, tokens)
            out[:, first:last] = self.attend_block(q[:, first:last] * score, k[:, :last], v[:, :last], first)
        return self.linear(module + "o_proj", out.transpose(0, 1).reshape(tokens, -1) * value)

    def attend_block(self, q, k, v, first):
        """Queries from token `first` on, over keys up to the last of them."""
        last, step = k.shape[1], self.key_block or k.shape[1]
        maximum = torch.full(q.shape[:2] + (1,), -math.inf)
        total, sums = torch.zeros_like(maximum), torch.zeros_like(q)
        for begin in range(0, last, step):
            end = min(begin + step, last)
            scores = q @ k[:, begin:end].transpose(1, 2)
            later = torch.arange(begin, end)[None] > torch.arange(first, first + q.shape[1])[:, None]
            scores.masked_fill_(later, -math.inf)
            before, maximum = maximum, torch.maximum(maximum, scores.amax(-1, keepdim=True))
            p = torch.exp(scores - maximum)
            correction = torch.exp(before - maximum)
            total = total * correction + p.sum(-1, keepdim=True)
            if self.attention == "fp8":
                p = to_grid(p, 2.0 ** -8) / 256
            sums = sums * correction + p @ v[:, begin:end]
        return sums / total

    def hidden(self, window):
        x = self.tensors["model.embed_tokens.weight"].float()[window]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            x = x + self.attend(layer, self.norm(name + "input_layernorm.weight", x))
            y = self.norm(name + "post_attention_layernorm.weight", x)
            gate, up = self.linear(name + "mlp.gate_proj", y), self.linear(name + "mlp.up_proj", y)
            x = x + self.linear(name + "mlp.down_proj", torch.nn.functional.silu(gate) * up)
        return self.norm("model.norm.weight", x)

    def logits(self, hidden):
        head = self.tensors.get("lm_head.weight", self.tensors["model.embed_tokens.weight"])
        return torch.log_softmax(hidden @ head.float().T, -1)


def measure(networks, window):
    """Loss, KL and agreement of each network on one window, the original first."""
    targets, sums = window[1:], {name: {"loss": 0.0, "kl": 0.0, "top1": 0.0} for name in networks}
    hidden = {name: network.hidden(window)[:-1] for name, network in networks.items()}
    for first in range(0, len(targets), QUERY_BLOCK):
        block, reference = slice(first, first + QUERY_BLOCK), None
        for name, network in networks.items():
            logits = network.logits(hidden[name][block])
            reference = logits if reference is None else reference
            values = {"loss": -logits.gather(1, targets[block, None]),
                      "kl": (reference.exp() * (reference - logits)).sum(-1),
                      "top1": reference.argmax(-1) == logits.argmax(-1)}
            for key, value in values.items():
                sums[name][key] += value.double().sum().item() / len(targets)
    return sums


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n--key")[0])
    parser.add_argument("original")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--text", required=True)
    parser.add_argument("--skip_documents", type=int, default=0)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--attention", default="fp8,bf16")
    parser.add_argument("--key_block", type=int, default=512)
    arguments = parser.parse_args()
    text = compare_checkpoints.read_text(arguments.text, arguments.skip_documents)
    ids = Tokenizer.from_file(arguments.original + "/tokenizer.json").encode(text).ids
    windows = compare_checkpoints.cut(ids, arguments.tokens, arguments.windows, arguments.spread)
    if not windows:
        parser.error(f"the text has {len(ids)} tokens: not one window of {arguments.tokens}")
    config = json.loads((pathlib.Path(arguments.original) / "config.json").read_text(encoding="utf8"))
    networks = {"original": Network(config, read_tensors(arguments.original), None, 0)}
    for item in arguments.checkpoints:
        name, _, directory = item.partition("=")
        tensors = read_tensors(directory)
        for attention in arguments.attention.split(","):
            networks[f"{name} {attention}"] = Network(config, tensors, attention, arguments.key_block)
    with torch.no_grad():
        measured = [measure(networks, window) for window in windows]
    for attention in arguments.attention.split(","):
        names = [name for name in networks if name.endswith(" " + attention)]
        compare_checkpoints.report(names, measured)


if __name__ == "__main__":
    main()
