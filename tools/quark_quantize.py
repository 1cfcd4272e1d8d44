"""AMD Quark's own way from a checkpoint to a written FP8 checkpoint, for tools/compare_with_quark.py.

Usage: quark_quantize.py MODEL_DIR DOCUMENTS.jsonl COUNT TOKENS OUTPUT_DIR
The template of Quark for Llama, weights, inputs and KV cache in FP8 with a scale per tensor, calibrated on
the first COUNT documents, each cut to TOKENS tokens; written as safetensors. Prints a line of JSON: tokens, and
seconds from the loaded libraries on.
"""
import json
import sys
import time

import torch
from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors
from transformers import AutoModelForCausalLM, AutoTokenizer


def documents(path, count):
    with open(path, encoding='utf-8') as lines:
        texts = [json.loads(line)['text'] for line in lines if line.strip()]
    if len(texts) < count:
        sys.exit(f'quark_quantize.py: {path} has {len(texts)} documents, {count} were asked for')
    return texts[:count]


def main():
    model_dir, path, count, tokens, output = sys.argv[1:]
    start = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.bfloat16).eval()
    samples = [tokenizer(text, return_tensors='pt', truncation=True, max_length=int(tokens)).input_ids
               for text in documents(path, int(count))]
    config = LLMTemplate.get('llama').get_config(scheme='fp8', kv_cache_scheme='fp8')
    quantizer = ModelQuantizer(config)
    with torch.no_grad():
        model = quantizer.freeze(quantizer.quantize_model(model, samples))
        export_safetensors(model, output, custom_mode='fp8', weight_format='real_quantized',
                           pack_method='reorder')
    tokenizer.save_pretrained(output)
    print(json.dumps({'tokens': sum(sample.numel() for sample in samples),
                      'seconds': time.monotonic() - start}))


if __name__ == '__main__':
    main()
