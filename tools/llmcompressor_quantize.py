#!/usr/bin/env python3
"""llm-compressor's own way from a checkpoint to a written FP8 checkpoint, rounded to nearest, as a comparison for narrow's.

Usage: llmcompressor_quantize.py MODEL_DIR DOCUMENTS.jsonl COUNT TOKENS OUTPUT_DIR
Its preset FP8: weights and inputs with a static scale per tensor; the KV cache in FP8 with static scales; all ranges as
they are (static_minmax). Calibrated on the first COUNT documents, each cut to TOKENS tokens. Prints a line of JSON:
tokens, and seconds from the loaded libraries on. Needs llmcompressor 0.14 and transformers.
"""
import json
import sys
import time

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

CACHE = {'num_bits': 8, 'type': 'float', 'strategy': 'tensor', 'symmetric': True, 'dynamic': False,
         'observer': 'static_minmax'}


def documents(path, count):
    with open(path, encoding='utf-8') as lines:
        texts = [json.loads(line)['text'] for line in lines if line.strip()]
    if len(texts) < count:
        sys.exit(f'llmcompressor_quantize.py: {path} has {len(texts)} documents, {count} were asked for')
    return texts[:count]


def main():
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    model_dir, path, count, tokens, output = sys.argv[1:]
    start = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).eval()
    samples = [tokenizer(text, truncation=True, max_length=int(tokens)).input_ids
               for text in documents(path, int(count))]
    recipe = QuantizationModifier(targets='Linear', scheme='FP8', ignore=['lm_head'], kv_cache_scheme=CACHE)
    oneshot(model=model, dataset=Dataset.from_dict({'input_ids': samples}), recipe=recipe,
            num_calibration_samples=len(samples), max_seq_length=int(tokens), shuffle_calibration_samples=False,
            pipeline='basic')
    model.save_pretrained(output, save_compressed=True)
    tokenizer.save_pretrained(output)
    print(json.dumps({'tokens': sum(map(len, samples)), 'seconds': time.monotonic() - start}))


if __name__ == '__main__':
    main()
