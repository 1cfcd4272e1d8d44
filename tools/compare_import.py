"""Compares what `narrow import` makes of a GGUF file with what transformers makes of it.

    compare_import.py build/narrow FILE.gguf [--count 20000] [--seed 1]

Tensors: narrow's checkpoint, loaded by transformers, against the GGUF file, loaded by transformers
in float32 and rounded to bf16: equal bit for bit. Config: every member both have. Tokenizer: the ids
of generated strings (compare_tokenizers.py), with the tokens that transformers makes of the file.
Ends with 1 if something differs. Needs transformers, torch, tokenizers, accelerate and gguf.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import compare_tokenizers
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def tensors_that_differ(directory, gguf):
    ours = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    ours_state, theirs_state = ours.state_dict(), theirs.state_dict()
    wrong = sorted(ours_state.keys() ^ theirs_state.keys())
    for name in ours_state.keys() & theirs_state.keys():
        if not torch.equal(ours_state[name].view(torch.int16), theirs_state[name].to(torch.bfloat16).view(torch.int16)):
            wrong.append(name)
    print(f'{len(theirs_state)} tensors; {len(wrong)} differ: {wrong[:5]}')
    return len(wrong), ours.config.to_dict(), theirs.config.to_dict()


def equal(a, b):
    """Numbers of the file are f32; ours are their shortest decimals."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and abs(a - b) <= 1e-6 * abs(b)
    return a == b


def members_that_differ(ours, theirs):
    beside = {'_name_or_path', 'architectures', 'dtype', 'quantization_config', 'transformers_version',
              'unk_token_id', 'name_or_path'}
    wrong = [name for name in sorted(ours.keys() & theirs.keys()) if name not in beside
             and not equal(ours[name], theirs[name])]
    for name in wrong:
        print(f'config {name}: {ours[name]}, transformers {theirs[name]}')
    return len(wrong)


def texts_that_differ(narrow, directory, gguf, count, seed):
    reference = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).backend_tokenizer
    rng = random.Random(seed)
    texts = [compare_tokenizers.text(rng) for _ in range(count)]
    found = compare_tokenizers.narrow_ids(narrow, directory, texts, False)
    if isinstance(found, str):
        sys.exit(found)
    expected = [reference.encode(line, add_special_tokens=False).ids for line in texts]
    wrong = [i for i in range(count) if found[i] != expected[i]]
    print(f'{count} texts, {sum(map(len, expected))} tokens; {len(wrong)} texts differ')
    for i in wrong[:3]:
        print(f'    {ascii(texts[i])}: {found[i]}, expected {expected[i]}')
    return len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('narrow')
    parser.add_argument('gguf', type=pathlib.Path)
    parser.add_argument('--count', type=int, default=20000)
    parser.add_argument('--seed', type=int, default=1)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name) / 'model'
        subprocess.run([flags.narrow, 'import', str(flags.gguf), str(directory)], check=True)
        print(json.dumps({'architecture': json.loads((directory / 'config.json').read_text())['architectures']}))
        wrong, ours, theirs = tensors_that_differ(directory, flags.gguf)
        wrong += members_that_differ(ours, theirs)
        wrong += texts_that_differ(flags.narrow, directory, flags.gguf, flags.count, flags.seed)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
