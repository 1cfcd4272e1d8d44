"""Writes tokenizer_variants.jsonl: small tokenizers, one for each option, with the ids that the
`tokenizers` package gives for a few texts. Made with tokenizers 0.23.3.

    python make_tokenizer_variants.py > tokenizer_variants.jsonl
"""

import json

from tokenizers import Tokenizer

CHARACTERS = sorted(set("abcdefghilnorstuwx ABDE0123.,!-'▁é½"))
MERGES = ["h e", "l l", "he ll", "hell o", "w o", "▁ he", "▁ w", "▁w o", "a a", "aa a", "0 1",
          "n e", "ne w", ". .", "1 2", "a b", "▁ a", "a a a", "▁ ▁", "  "]
MERGES = [m for m in MERGES if m.count(" ") == 1]


def model(merges=MERGES, characters=CHARACTERS, extra=(), pairs=False, **options):
    tokens = list(extra) + list(characters) + [m.replace(" ", "", 1) for m in merges]
    vocab = {}
    for token in tokens:
        vocab.setdefault(token, len(vocab))
    merges = [m.split(" ") for m in merges] if pairs else merges
    return {"type": "BPE", "vocab": vocab, "merges": merges, **options}


def added(content, index, **flags):
    base = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": False}
    return {"id": index, "content": content, **base, **flags}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def metaspace(scheme, split_words):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split_words}


def special(name, ids):
    return {name: {"id": name, "ids": ids, "tokens": [name] * len(ids)}}


def template(pieces, tokens):
    single = [{"Sequence": {"id": "A", "type_id": 0}} if piece == "$A" else
              {"SpecialToken": {"id": piece, "type_id": 0}} for piece in pieces]
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}


LLAMA = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
BYTES = [f"<0x{b:02X}>" for b in range(256)]
TEXTS = ["", " ", "hello world", "  hello  hello ", "aaaaaaa new 0123", "a1b22c333!", "Zürich é½ zz!Z",
         "hello<x>world <x> a<x>", "<x><x>  <y> a", "...--..", "don't a-b  c", "he\nllo", "A <y>b<y> <yy> z"]


def variants():
    n = len(model()["vocab"])
    yield "plain, merges as pairs", {"model": model(pairs=True)}
    yield "unknown token", {"model": model(extra=["<unk>"], unk_token="<unk>")}
    yield "fused unknown", {"model": model(extra=["<unk>"], unk_token="<unk>", fuse_unk=True)}
    yield "fallback", {"model": model(extra=["<unk>"] + BYTES, unk_token="<unk>", byte_fallback=True)}
    yield "partial fallback", {"model": model(extra=["<unk>"] + BYTES[:0x7b], unk_token="<unk>",
                                              byte_fallback=True, fuse_unk=True)}
    yield "normalizer", {"model": model(), "normalizer": LLAMA}
    yield "regex replace", {"model": model(), "normalizer": {
        "type": "Replace", "pattern": {"Regex": "l+|x*"}, "content": "-"}}
    yield "ignore merges", {"model": model(merges=["h e"], extra=["hello", " ", "new"], ignore_merges=True),
                            "pre_tokenizer": split({"String": " "}, "Isolated")}
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            yield f"split {behavior} {invert}", {"model": model(), "pre_tokenizer": split(
                {"Regex": r"[ .l0-9]|\s|-"}, behavior, invert)}
    yield "empty matches", {"model": model(), "pre_tokenizer": split({"Regex": "l*"}, "Removed")}
    yield "possessive", {"model": model(), "pre_tokenizer": split(
        {"Regex": r"[^\S\r\n]++|\p{L}?+\p{Ll}+|^.|\w$|\d{1,2}"}, "MergedWithPrevious")}
    yield "digits", {"model": model(), "pre_tokenizer": {"type": "Digits", "individual_digits": False}}
    yield "digit", {"model": model(), "pre_tokenizer": {"type": "Digits", "individual_digits": True}}
    for scheme in ["always", "first", "never"]:
        for split_words in [False, True]:
            yield f"metaspace {scheme} {split_words}", {
                "model": model(), "pre_tokenizer": metaspace(scheme, split_words),
                "added_tokens": [added("<x>", n)]}
    yield "byte level prefix", {
        "model": model(merges=["Ġ h", "h e", "Ġ a", "l l"], characters=CHARACTERS + ["Ġ", "Ã", "©", "Ċ"],
                       extra=["<unk>"], unk_token="<unk>"),
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                          "use_regex": True}}
    yield "added", {"model": model(), "added_tokens": [
        added("<x>", n), added("<y>", n + 1), added("<yy>", n + 2), added("lo", n + 3)]}
    yield "added, stripping", {"model": model(), "added_tokens": [
        added("<x>", n, lstrip=True), added("<y>", n + 1, rstrip=True), added(" a", n + 2)]}
    yield "added, single word", {"model": model(), "added_tokens": [
        added("<x>", n, single_word=True), added("b", model()["vocab"]["b"], single_word=True)]}
    yield "added, normalized", {"model": model(), "normalizer": LLAMA, "added_tokens": [
        added("<x>", n, normalized=True), added("<y>", n + 1), added("he", model()["vocab"]["he"], normalized=True)]}
    yield "template", {"model": model(), "added_tokens": [added("<x>", n)], "post_processor": {
        "type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
            template(["<x>", "$A", "<two>"], {**special("<x>", [n]), **special("<two>", [3, 4])})]}}


def main():
    for name, parts in variants():
        spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts}
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        cases = [{"text": text, "with_special": tokenizer.encode(text).ids,
                  "without_special": tokenizer.encode(text, add_special_tokens=False).ids}
                 for text in TEXTS]
        print(json.dumps({"name": name, "tokenizer": spec, "cases": cases}, ensure_ascii=False))


if __name__ == "__main__":
    main()
