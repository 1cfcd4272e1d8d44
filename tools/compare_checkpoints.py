#!/usr/bin/env python3
"""Compares FP8 checkpoints of one model with the original and with each other on the same windows.

The arithmetic is not narrow's: EVALUATOR is a Python file with quantized_model(original_dir,
fp8_dir, deployed) and install_kv_quantization(), which run a checkpoint as vLLM would in PyTorch.
Attention is that of all families whose layers call transformers' attention functions, windows and
caps of the scores included. Needs torch, transformers and tokenizers.

Usage: compare_checkpoints.py --evaluator FILE --text FILE [options] ORIGINAL NAME=FP8_DIR...

The text: a .raw file holds rows as WikiText's are released; of a .jsonl file the "text" members
count, joined by a blank line, after the first --skip_documents. Losses are in nats per token;
--window_bos puts the first token of the text at the start of each window, whose last one gives
way. What follows a sign is one standard error over windows, of paired differences and of ratios (by
the delta method) too. Ratios are against the first checkpoint.
"""
import argparse
import importlib.util
import json
import math

import torch
from tokenizers import Tokenizer
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.models.llama import modeling_llama

ROWS = 256  # of attention and of logits at once: bounds memory


def load_evaluator(path):
    spec = importlib.util.spec_from_file_location("evaluator", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_text(path, skip_documents):
    with open(path, encoding="utf8", newline="") as file:
        text = file.read()
    if path.endswith(".jsonl"):
        documents = [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
        return "\n\n".join(documents[skip_documents:])
    if path.endswith(".raw"):
        return "\n\n".join("" if row == " " else row + "\n" for row in text.split("\n")[:-1])
    return text


def cut(ids, tokens, count, spread, bos=False):
    total = len(ids) // tokens
    count = min(count, total)
    chosen = [i * total // count if spread else i for i in range(count)]
    windows = [ids[i * tokens : (i + 1) * tokens] for i in chosen]
    if bos:
        windows = [w if i == 0 else [ids[0], *w[:-1]] for i, w in zip(chosen, windows)]
    return [torch.tensor(window) for window in windows]


def causal_attention(module, query, key, value, attention_mask, scaling, dropout=0.0,
                     sliding_window=None, softcap=None, **kwargs):
    """Eager attention of one sequence in blocks of queries, without the half that is masked."""
    tokens = query.shape[2]
    groups = module.num_key_value_groups
    key, value = (modeling_llama.repeat_kv(x, groups) for x in (key, value))
    output = torch.empty_like(query)
    for first in range(0, tokens, ROWS):
        last = min(first + ROWS, tokens)
        block = query[:, :, first:last]
        begin = max(0, first + 1 - sliding_window) if sliding_window else 0
        weights = torch.matmul(block, key[:, :, begin:last].transpose(2, 3)) * scaling
        if softcap:
            weights = torch.tanh(weights / softcap) * softcap
        distance = torch.arange(first, last)[:, None] - torch.arange(begin, last)[None]
        hidden = (distance < 0) | (distance >= (sliding_window or tokens))
        weights.masked_fill_(hidden, float("-inf"))
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
        output[:, :, first:last] = torch.matmul(weights, value[:, :, begin:last])
    return output.transpose(1, 2).contiguous(), None


def hidden_states(model, window):
    return model.model(window[None]).last_hidden_state[0, :-1]


def measure(models, window):
    """Of each network of `models`, the original first: loss, KL and agreement on one window."""
    states = {name: hidden_states(model, window) for name, model in models.items()}
    targets = window[1:]
    sums = {name: {"loss": 0.0, "kl": 0.0, "top1": 0.0} for name in models}
    for first in range(0, len(targets), ROWS):
        block = slice(first, first + ROWS)
        reference = None
        for name, model in models.items():
            logits = torch.log_softmax(model.lm_head(states[name][block]).float(), -1)
            if reference is None:
                reference, probabilities, best = logits, logits.exp(), logits.argmax(-1)
            loss = -logits.gather(1, targets[block, None])
            kl = (probabilities * (reference - logits)).sum(-1)
            same = best == logits.argmax(-1)
            for key, values in (("loss", loss), ("kl", kl), ("top1", same)):
                sums[name][key] += values.double().sum().item() / len(targets)
    return sums


def mean(values):
    return sum(values) / len(values)


def standard_error(values):
    center = mean(values)
    squares = sum((value - center) ** 2 for value in values)
    return math.sqrt(squares / max(1, len(values) - 1) / len(values))


def percent(numerators, denominators):
    ratio = mean(numerators) / mean(denominators)
    residuals = [n - ratio * d for n, d in zip(numerators, denominators)]
    error = standard_error(residuals) / abs(mean(denominators))
    return f"{100 * ratio:.1f} ± {100 * error:.1f} %"


def report(names, windows):
    original = [window["original"]["loss"] for window in windows]
    print(f"{'original':16} perplexity {math.exp(mean(original)):.4f}, {len(windows)} windows")
    increases, divergences = {}, {}
    for name in names:
        losses = [window[name]["loss"] for window in windows]
        increase = increases[name] = [a - b for a, b in zip(losses, original)]
        kl = divergences[name] = [window[name]["kl"] for window in windows]
        top1 = mean([window[name]["top1"] for window in windows])
        print(
            f"{name:16} perplexity {math.exp(mean(losses)):.4f}"
            f"  loss {mean(increase):+.5f} ± {standard_error(increase):.5f}"
            f"  KL {mean(kl):.5f} ± {standard_error(kl):.5f}  top-1 {100 * top1:.1f} %"
        )
    for name in names[1:]:
        loss = percent(increases[name], increases[names[0]])
        kl = percent(divergences[name], divergences[names[0]])
        print(f"{name} against {names[0]}: loss {loss}, KL {kl}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("original", metavar="ORIGINAL")
    parser.add_argument("checkpoints", nargs="+", metavar="NAME=FP8_DIR")
    parser.add_argument("--evaluator", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--skip_documents", type=int, default=0)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--window_bos", action="store_true")
    parser.add_argument("--spread", action="store_true", help="windows evenly over the text")
    parser.add_argument("--pseudo", action="store_true", help="every matrix at its own scale")
    arguments = parser.parse_args()

    text = read_text(arguments.text, arguments.skip_documents)
    tokenizer = Tokenizer.from_file(arguments.original + "/tokenizer.json")
    ids = tokenizer.encode(text).ids
    windows = cut(ids, arguments.tokens, arguments.windows, arguments.spread,
                  arguments.window_bos)
    if not windows:
        parser.error(f"the text has {len(ids)} tokens: not one window of {arguments.tokens}")
    evaluator = load_evaluator(arguments.evaluator)
    modeling_llama.eager_attention_forward = causal_attention
    evaluator.install_kv_quantization()  # around the one of modeling_llama
    AttentionInterface.register("in_blocks", lambda *all, **named: modeling_llama.eager_attention_forward(*all, **named))
    original = AutoModelForCausalLM.from_pretrained(arguments.original, dtype=torch.bfloat16)
    models = {"original": original.eval()}
    for item in arguments.checkpoints:
        name, _, directory = item.partition("=")
        models[name] = evaluator.quantized_model(
            arguments.original, directory, not arguments.pseudo
        )
    for model in models.values():
        model.set_attn_implementation("in_blocks")
    with torch.no_grad():
        report(list(models)[1:], [measure(models, window) for window in windows])


if __name__ == "__main__":
    main()
