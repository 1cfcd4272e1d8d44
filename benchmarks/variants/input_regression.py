#!/usr/bin/env python3
"""How much of the error that rounding its inputs to FP8 makes in the output of a linear could be
taken back by other weights: the regression of the original output onto the rounded input, on the
tokens it is fitted to. Needs torch and transformers.

Usage: input_regression.py MODEL TEXT.jsonl [DOCUMENTS]     (48 documents of 512 tokens at most)
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def power_of_two_scale(x):
    return 2.0 ** torch.ceil(torch.log2(x.abs().max() / 448))


class Moments:
    """Sums over tokens of x x', x e' and e e', e the error of rounding x."""

    def __init__(self):
        self.inputs = self.mixed = self.errors = 0

    def add(self, module, arguments):
        x = arguments[0].reshape(-1, arguments[0].shape[-1]).float()
        scale = power_of_two_scale(x)
        e = (x / scale).to(torch.float8_e4m3fn).float() * scale - x
        self.inputs = self.inputs + (x.T @ x).double()
        self.mixed = self.mixed + (x.T @ e).double()
        self.errors = self.errors + (e.T @ e).double()

    def share_left(self, weights):
        """Squared error of the best weights over that of the given ones."""
        ridge = torch.eye(len(self.inputs)) * 1e-9 * self.inputs.diagonal().mean()
        inputs = self.inputs + ridge
        rounded = inputs + self.mixed + self.mixed.T + self.errors
        cross = weights @ (inputs + self.mixed)
        best = torch.linalg.solve(rounded, cross.T).T
        left = (weights @ inputs * weights).sum() - (best * cross).sum()
        return (left / (weights @ self.errors * weights).sum()).item()


def groups(layer):
    attention, mlp = layer.self_attn, layer.mlp
    return {
        "q/k/v": (attention.q_proj, attention.k_proj, attention.v_proj),
        "o": (attention.o_proj,),
        "gate/up": (mlp.gate_proj, mlp.up_proj),
        "down": (mlp.down_proj,),
    }


def main():
    directory, text = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 48
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with open(text, encoding="utf8") as lines:
        documents = [json.loads(line)["text"] for line, _ in zip(lines, range(count))]
    moments = []
    for layer in model.model.layers:
        moments.append({name: Moments() for name in groups(layer)})
        for name, linears in groups(layer).items():
            linears[0].register_forward_pre_hook(moments[-1][name].add)
    with torch.no_grad():
        for document in documents:
            ids = tokenizer(document, return_tensors="pt", truncation=True, max_length=512)
            model(ids.input_ids)
        for name in moments[0]:
            shares = []
            for layer, of_layer in zip(model.model.layers, moments):
                weights = torch.cat([linear.weight for linear in groups(layer)[name]]).double()
                shares.append(of_layer[name].share_left(weights))
            mean = sum(shares) / len(shares)
            print(f"{name:8} {100 * mean:.1f} % left, between {min(shares):.3f} and {max(shares):.3f}")


if __name__ == "__main__":
    main()
