"""Writes tokenizer_configs.json: files that may lie beside a tokenizer.json, and the ids transformers'
AutoTokenizer gives for a few texts. Made with transformers 5.19.0 and tokenizers 0.23.

    python make_tokenizer_configs.py > tokenizer_configs.json
"""

import json
import pathlib
import tempfile

from transformers import AutoTokenizer

TOKENS = ["<unk>", "<s>", "</s>"] + list("abcdehlorw <>/|xyzpims_") + ["he", "hel", "hell", "hello"]
MODEL = {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS)}, "unk_token": "<unk>",
         "merges": ["h e", "he l", "hel l", "hell o"]}
TEXTS = ["hello <s> world</s>", " <x> hello<x>  <y> he<pad>", "a <|im|> b<|im|><|im_s|>hello <unk> d", "hello<z> <z>"]
SIZE = len(TOKENS)


def added(content, **flags):
    base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **base, **flags}


def tokenizer(*tokens):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [
        {"id": i, **token} for i, token in tokens], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": None, "model": MODEL}


FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
START, END = (1, added("<s>")), (2, added("</s>"))
CASES = {
    "no configuration": {"tokenizer.json": tokenizer(START, END), "tokenizer_config.json": FAST},
    "listed there alone": {"tokenizer.json": tokenizer(START), "tokenizer_config.json": {
        **FAST, "added_tokens_decoder": {"2": added("</s>"), str(SIZE + 1): added("<y>", special=False),
                                         str(SIZE): added("<x>", lstrip=True, rstrip=True)}}},
    "other flags there": {"tokenizer.json": tokenizer(START, (SIZE, added("<x>"))), "tokenizer_config.json": {
        **FAST, "added_tokens_decoder": {"1": added("<s>", lstrip=True), str(SIZE): added("<x>", rstrip=True)}}},
    "named there alone": {"tokenizer.json": tokenizer(), "tokenizer_config.json": {
        **FAST, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "additional_special_tokens": ["<|im|>", "<|im_s|>"]}},
    "named objects": {"tokenizer.json": tokenizer(), "tokenizer_config.json": {
        **FAST, "bos_token": {"__type": "AddedToken", **added("<s>", rstrip=True)},
        "pad_token": {"__type": "AddedToken", **added("<x>", lstrip=True)}}},
    "older files": {"tokenizer.json": tokenizer(START), "tokenizer_config.json": FAST,
                    "added_tokens.json": {"<|im|>": SIZE + 1, "<|im_s|>": SIZE, "<z>": SIZE + 2},
                    "special_tokens_map.json": {"eos_token": added("</s>", lstrip=True), "pad_token": "<|im|>"}},
    "older files beside a list": {"tokenizer.json": tokenizer(START), "added_tokens.json": {"<z>": SIZE},
                                  "tokenizer_config.json": {**FAST, "added_tokens_decoder": {"1": added("<s>")}}},
}


def main():
    rows = []
    for name, files in CASES.items():
        with tempfile.TemporaryDirectory() as directory:
            for file, content in files.items():
                (pathlib.Path(directory) / file).write_text(json.dumps(content), encoding="utf8")
            reference = AutoTokenizer.from_pretrained(directory)
            cases = [[text, reference.encode(text, add_special_tokens=False)] for text in TEXTS]
        content = {file: value for file, value in files.items() if file != "tokenizer.json"}
        rows.append({"name": name, "added_tokens": files["tokenizer.json"]["added_tokens"], "files": content,
                     "cases": cases})
    print(json.dumps({"model": MODEL}, ensure_ascii=False)[:-1] + ', "kinds": [\n' +
          ",\n".join(json.dumps(row) for row in rows) + "\n]}")


if __name__ == "__main__":
    main()
