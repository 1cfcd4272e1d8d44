"""Compares `narrow tokenize` with the `tokenizers` package (0.23) on generated strings, kind by kind.

For every normalizer, pre-tokenizer, behaviour and model option it writes a small tokenizer.json,
generates strings, encodes them with both programs, with special tokens and without, and counts the
strings whose ids differ. Ends with 1 if there is one.

    compare_tokenizers.py build/narrow [--count 10000] [--seed 1] [--only PART] [--directory DIR ...]

--directory: compare on the tokenizer.json of a directory instead.
--golden FILE KEY: the ids of a directory against those that FILE's JSON lines hold under KEY.
--write FILE: no comparison; a few strings of every kind with the package's ids, as tests read them
              (src/text/testdata/tokenizer_kinds.json was made with --count 2 and tokenizers 0.23.3).
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SPACES = ' \t\n\r\v\f\x1c\x85\xa0\u1680\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff'
MARKS = '\u0300\u0301\u0308\u0327\u0345\u05b0\u0651\u093c\u09be\u0e31\u1ab0\u20dd\u3099\ufe0f\U0001d165'
NEWER = '\u0898\u1acf\u1c89\u1df6\ua7cb\ua7f2\uab69\U00010780\U00011930\U00011935\U00011938\U00016ea0'
WORDS = ('hello the world The HELLO don\'t we\'ll I\'D it\'s new newline straße İstanbul ΣΊΣΥΦΟΣ ΑΣ ẞ '
         'naïve Å Ǆ ǅ ﬁnd ﷺ ㎏ ½ ² ① Ⅷ ﾊﾞ がぎ 各 각 한국어 中文字 日本語の 你好 ภาษาไทย ދިވެހި नमस्ते क़ '
         'العربية שָׁלוֹם Привет ёж a1b2 foo_bar snake-case x=y++ f(x){} "q" «q» …').split()
DIGITS = '0123456789 12 345 6789 0123456 ٠١٢ ४५ ５６ 一二 ³ ¼ Ⅳ 𝟘 ௧௦'.split()
PUNCTUATION = '! " # $ % & \' ( ) * + , - . / : ; < = > ? @ [ \\ ] ^ _ ` { | } ~ ... -- ?! “ ” — · ، 。 、 ‿ ⸺ € © ¿ § ᙭'.split()
EMOJI = '😀 👩‍👩‍👧 👍🏽 🇩🇪 ❤️ 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 𓂀'.split()
ADDED = ['<x>', '<y>', '<Zé>', '[W]', ' sp', 'añ']


def any_character(rng):
    while True:
        c = rng.choice((rng.randrange(0x250), rng.randrange(0x3100), rng.randrange(0x10000),
                        rng.randrange(0x20000), rng.randrange(0x110000)))
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def text(rng):
    pools = (WORDS, WORDS, list(SPACES), [' ', ' ', '  ', '\n\n'], list(MARKS), DIGITS, PUNCTUATION, EMOJI,
             ADDED, list(NEWER), list('abcdeABCDE'))
    parts = []
    for _ in range(rng.randrange(1, 14)):
        pool = rng.randrange(len(pools) + 2)
        if pool < len(pools):
            parts.append(rng.choice(pools[pool]))
        elif pool == len(pools):
            parts.append(any_character(rng))
        else:
            parts.append(chr(rng.randrange(0x20)))
        if rng.random() < 0.3:
            parts.append(' ')
    return ''.join(parts)


def train(byte_level, size, count):
    """A model whose tokens reach across every border, so that each way to split shows in the ids."""
    rng = random.Random(99)
    tokenizer = Tokenizer(models.BPE())
    alphabet = []
    if byte_level:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False,
                                  max_token_length=12)
    pieces = [w for w in WORDS + DIGITS + PUNCTUATION + EMOJI + ADDED] + [' ', '▁', ' ', '  ', '\n']
    tokenizer.train_from_iterator((''.join(rng.choice(pieces) for _ in range(8))
                                   for _ in range(count)), trainer)
    model = json.loads(tokenizer.to_str())['model']
    return {'type': 'BPE', 'vocab': model['vocab'], 'merges': model['merges']}


def with_tokens(model, tokens, **options):
    vocab = dict(model['vocab'])
    for token in tokens:
        vocab.setdefault(token, len(vocab))
    return {**model, 'vocab': vocab, **options}


def affixed(model, prefix, suffix):
    """The model with its tokens once more as later and as last ones of a word."""
    tokens = list(model['vocab'])
    vocab = {t: i for i, t in enumerate(tokens)}
    for token in tokens:
        for name in (prefix + token, token + suffix, prefix + token + suffix):
            vocab.setdefault(name, len(vocab))
    merges = []
    for merge in model['merges']:
        left, right = merge if isinstance(merge, list) else merge.split(' ')
        for start, end in (('', ''), ('', suffix), (prefix, ''), (prefix, suffix)):
            pair = [start + left, prefix + right + end]
            if pair not in merges and pair[0] + pair[1][len(prefix):] in vocab:
                merges.append(pair)
    return {'type': 'BPE', 'vocab': vocab, 'merges': merges, 'continuing_subword_prefix': prefix or None,
            'end_of_word_suffix': suffix or None}


def added(content, index, **flags):
    base = {'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': False}
    return {'id': index, 'content': content, **base, **flags}


def sequence(member, *items):
    return {'type': 'Sequence', member: list(items)}


def split(pattern, behavior='Isolated', invert=False, kind='Regex'):
    return {'type': 'Split', 'pattern': {kind: pattern}, 'behavior': behavior, 'invert': invert}


def byte_level(prefix=False, regex=True):
    return {'type': 'ByteLevel', 'add_prefix_space': prefix, 'trim_offsets': True, 'use_regex': regex}


def metaspace(**members):
    return {'type': 'Metaspace', 'replacement': '▁', **members}


def punctuation(behavior='Isolated'):
    return {'type': 'Punctuation', 'behavior': behavior}


def digits(individual=True):
    return {'type': 'Digits', 'individual_digits': individual}


BEHAVIORS = ('Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous')
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r'\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}', r'\p{Ll}\p{Lm}\p{Lo}\p{M}'
TEKKEN = (rf'[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*|\p{{N}}|'
          r' ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+')
DEEPSEEK = (r'[!"#$%&' + "'" + r'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|'
            r' ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+')
KIMI = (r'[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+'
        r'|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+')


def normalizers():
    for name in ('NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents', 'ByteLevel'):
        yield name, {'type': name}
    for left, right in ((True, True), (True, False), (False, True), (False, False)):
        yield f'Strip {left} {right}', {'type': 'Strip', 'strip_left': left, 'strip_right': right}
    yield 'Prepend', {'type': 'Prepend', 'prepend': '▁'}
    yield 'Replace String', {'type': 'Replace', 'pattern': {'String': ' '}, 'content': '▁'}
    yield 'Replace Regex', {'type': 'Replace', 'pattern': {'Regex': r' {2,}|[0-9]|\p{M}'}, 'content': 'ne'}
    yield 'Replace String of no characters', {'type': 'Replace', 'pattern': {'String': ''}, 'content': 'e'}
    steps = [{'type': 'NFD'}, {'type': 'Lowercase'}, {'type': 'StripAccents'},
             {'type': 'Strip', 'strip_left': True, 'strip_right': True}, {'type': 'Prepend', 'prepend': ' '}]
    yield 'Sequence', sequence('normalizers', *steps)
    yield 'Sequence of none', sequence('normalizers')


def byte_splitters():
    """Pre-tokenizers over the byte-level vocabulary."""
    for prefix in (False, True):
        for regex in (False, True):
            yield f'ByteLevel {prefix} {regex}', byte_level(prefix, regex)
    for behavior in BEHAVIORS:
        yield f'Punctuation {behavior}, ByteLevel', sequence('pretokenizers', punctuation(behavior), byte_level())
    falcon = (punctuation('Contiguous'), byte_level(), digits(False), split('[0-9][0-9][0-9]'))
    yield 'Falcon', sequence('pretokenizers', *falcon)
    yield 'ByteLevel, Split, Metaspace', sequence('pretokenizers', byte_level(True), split('Ġ', 'MergedWithPrevious'),
                                                  metaspace(prepend_scheme='always', split=True))
    yield 'ByteLevel twice', sequence('pretokenizers', byte_level(True, False), byte_level(False, True))
    yield 'Digits, ByteLevel', sequence('pretokenizers', digits(), byte_level())
    yield 'BertPreTokenizer, ByteLevel', sequence('pretokenizers', {'type': 'BertPreTokenizer'}, byte_level(False, False))
    for name, pattern in (('Qwen2', QWEN), ('Tekken', TEKKEN), ('DeepSeek', DEEPSEEK), ('Kimi', KIMI)):
        yield f'Split {name}', sequence('pretokenizers', split(pattern), byte_level(False, False))
    yield 'Split DeepSeek 3', sequence('pretokenizers', split(r'\p{N}{1,3}'), split('[一-龥぀-ゟ゠-ヿ]+'),
                                       split(DEEPSEEK), byte_level(False, False))


def character_splitters():
    """Pre-tokenizers over the vocabulary of characters."""
    yield 'null', None
    for scheme in ('always', 'first', 'never'):
        for cut in (True, False):
            yield f'Metaspace {scheme} {cut}', metaspace(prepend_scheme=scheme, split=cut)
    yield 'Metaspace as it was', metaspace(add_prefix_space=True, str_rep='▁')
    yield 'Metaspace after Split', sequence('pretokenizers', split(r'\d|\s{2,}', 'Removed'),
                                            metaspace(prepend_scheme='first', split=True))
    for individual in (True, False):
        yield f'Digits {individual}', digits(individual)
    for behavior in BEHAVIORS:
        yield f'Punctuation {behavior}', punctuation(behavior)
    for name in ('Whitespace', 'WhitespaceSplit', 'BertPreTokenizer'):
        yield name, {'type': name}
    yield 'CharDelimiterSplit', {'type': 'CharDelimiterSplit', 'delimiter': 'e'}
    yield 'FixedLength', {'type': 'FixedLength', 'length': 3}
    for behavior in BEHAVIORS:
        for invert in (False, True):
            yield f'Split String {behavior} {invert}', split(' ', behavior, invert, 'String')
            yield f'Split Regex {behavior} {invert}', split(r'\s+|[\p{N}\p{P}]|\p{Lu}\p{Ll}*', behavior, invert)
    yield 'Split String of no characters', split('', 'Isolated', False, 'String')
    yield 'Split classes', split(r'[\W\d]+|[^\w\S]|[\p{L}&&[^a-z]]+|[[:punct:]]|[\P{L}\n]|\h+', 'Isolated')
    yield 'Split properties', split(r'\p{Lu}+|\p{Ll}|\p{Lm}|\p{Lt}+|\p{Lo}+|\p{Sc}|\p{S}+|\p{Z}|\p{Cc}|\p{Nd}+|\p{P}{1,2}', 'Isolated')
    yield 'Split scripts', split(r'\p{Han}+|\p{Hiragana}+|\p{Katakana}+|\p{Hangul}|\p{Cyrillic}+|\p{Thai}', 'Isolated')
    yield 'Split anchors', split(r'(?<=\d)(?=(?:\d{3})+\b)|^.|\w$|\b\w{2}\b|(?i)HE|\A\s|\s\z', 'Isolated')


def models_of(byte_model, character_model):
    """Options of BPE; (model, pre-tokenizer)."""
    bytes_ = [f'<0x{b:02X}>' for b in range(256)]
    small = {**character_model, 'vocab': {t: i for i, t in enumerate(sorted(
        t for t in character_model['vocab'] if len(t) == 1 and ord(t) < 0x250))}, 'merges': []}
    yield 'unk_token', with_tokens(small, ['<unk>'], unk_token='<unk>'), None
    yield 'fuse_unk', with_tokens(small, ['<unk>'], unk_token='<unk>', fuse_unk=True), {'type': 'WhitespaceSplit'}
    yield 'byte_fallback', with_tokens(small, ['<unk>'] + bytes_, unk_token='<unk>', byte_fallback=True), None
    yield 'byte_fallback, some, fuse_unk', with_tokens(small, ['<unk>'] + bytes_[:0xC8], unk_token='<unk>', fuse_unk=True,
                                                       byte_fallback=True), None
    yield 'merges as strings', {**byte_model, 'merges': [' '.join(m) for m in byte_model['merges']]}, byte_level()
    yield 'ignore_merges', {**byte_model, 'merges': byte_model['merges'][:40], 'ignore_merges': True}, byte_level()
    yield 'dropout 0', {**character_model, 'dropout': 0.0}, None
    yield 'continuing_subword_prefix', affixed(character_model, '##', ''), {'type': 'Whitespace'}
    yield 'end_of_word_suffix', affixed(character_model, '', '</w>'), {'type': 'WhitespaceSplit'}
    yield 'both affixes', affixed(character_model, '@@', '</w>'), punctuation()
    yield 'end_of_word_suffix, ByteLevel', affixed(byte_model, '', '</w>'), byte_level()
    yield 'continuing_subword_prefix, ByteLevel, unk_token', with_tokens(
        affixed(byte_model, '##', ''), ['<unk>'], unk_token='<unk>'), byte_level()


def added_tokens(vocab):
    ids, following = {}, len(vocab)
    for token in ADDED:
        ids[token] = vocab.get(token, following)
        following += token not in vocab
    yield 'plain', [added(t, i) for t, i in ids.items()]
    for flag in ('lstrip', 'rstrip', 'single_word', 'normalized', 'special'):
        yield flag, [added(t, i, **{flag: True}) for t, i in ids.items()]
    yield 'every flag', [added(t, i, lstrip=n % 2 == 0, rstrip=n % 3 == 0, single_word=n % 4 == 1,
                               normalized=n % 2 == 1, special=n == 0) for n, (t, i) in enumerate(ids.items())]


def processors():
    pieces = [{'SpecialToken': {'id': 'B', 'type_id': 0}}, {'Sequence': {'id': 'A', 'type_id': 0}},
              {'SpecialToken': {'id': 'E', 'type_id': 0}}]
    tokens = {n: {'id': n, 'ids': ids, 'tokens': [n] * len(ids)} for n, ids in (('B', [1]), ('E', [2, 3]))}
    template = {'type': 'TemplateProcessing', 'single': pieces, 'pair': [], 'special_tokens': tokens}
    roberta = {'type': 'RobertaProcessing', 'sep': ['E', 2], 'cls': ['B', 1], 'trim_offsets': True,
               'add_prefix_space': False}
    yield 'TemplateProcessing', template
    yield 'BertProcessing', {'type': 'BertProcessing', 'sep': ['E', 2], 'cls': ['B', 1]}
    yield 'RobertaProcessing', roberta
    yield 'ByteLevel', byte_level()
    yield 'Sequence', sequence('processors', byte_level(), template)


def kinds(byte_model, character_model):
    """(name, names of its model for --write, members of tokenizer.json)."""
    b, c = 'byte_model', 'character_model'
    for name, item in normalizers():
        yield f'normalizer {name}', b if name == 'ByteLevel' else c, {'normalizer': item}
        if name in ('NFC', 'Lowercase'):
            yield f'normalizer {name}, ByteLevel', b, {'normalizer': item, 'pre_tokenizer': byte_level()}
    for name, item in normalizers():
        yield f'normalizer {name}, Metaspace first', c, {'normalizer': item, 'pre_tokenizer': metaspace(
            prepend_scheme='first', split=True)}
    for name, item in byte_splitters():
        yield f'pre-tokenizer {name}', b, {'pre_tokenizer': item}
    for name, item in character_splitters():
        yield f'pre-tokenizer {name}', c, {'pre_tokenizer': item}
    for name, model, splitter in models_of(byte_model, character_model):
        yield f'model {name}', None, {'model': model, 'pre_tokenizer': splitter}
    for name, tokens in added_tokens(character_model['vocab']):
        yield f'added tokens, {name}', c, {'added_tokens': tokens}
        lower = sequence('normalizers', {'type': 'NFD'}, {'type': 'Lowercase'}, {'type': 'Prepend', 'prepend': '▁'})
        yield f'added tokens, {name}, normalizer, Metaspace', c, {
            'added_tokens': tokens, 'normalizer': lower, 'pre_tokenizer': metaspace(prepend_scheme='first', split=True)}
    for name, item in processors():
        yield f'post-processor {name}', b, {'pre_tokenizer': byte_level(), 'post_processor': item}


def whole(members, model):
    return {'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': [], 'normalizer': None,
            'pre_tokenizer': None, 'post_processor': None, 'decoder': None, 'model': model, **members}


def narrow_ids(narrow, directory, texts, special):
    with tempfile.NamedTemporaryFile('w', suffix='.jsonl', encoding='utf8') as lines:
        for line in texts:
            lines.write(json.dumps({'text': line}, ensure_ascii=False) + '\n')
        lines.flush()
        command = [narrow, 'tokenize', '--model_dir', str(directory), '--input_file', lines.name]
        done = subprocess.run(command + ([] if special else ['--no_special_tokens']), capture_output=True, text=True,
                              check=False)
    if done.returncode != 0:
        return done.stderr.strip()
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(narrow, directory, texts):
    """(tokens, texts that differ, the first of them with both answers or narrow's error)."""
    reference = Tokenizer.from_file(str(directory / 'tokenizer.json'))
    reference.no_truncation()
    reference.no_padding()
    tokens, wrong, example = 0, set(), ''
    for special in (True, False):
        found = narrow_ids(narrow, directory, texts, special)
        if isinstance(found, str):
            return tokens, len(texts), found
        if len(found) != len(texts):
            return tokens, len(texts), f'{len(found)} lines for {len(texts)} texts'
        for i, (line, ids) in enumerate(zip(texts, found)):
            expected = reference.encode(line, add_special_tokens=special).ids
            tokens += len(expected)
            if ids != expected:
                wrong.add(i)
                example = example or f'{ascii(line)}: {ids}, expected {expected}'
    return tokens, len(wrong), example


def compare_golden(narrow, directory, file, key):
    lines = [json.loads(line) for line in pathlib.Path(file).read_text(encoding='utf8').splitlines()]
    wrong = 0
    for member, special in (('with_special', True), ('without_special', False)):
        rows = [line for line in lines if key in line.get(member, {})]
        found = narrow_ids(narrow, directory, [line['text'] for line in rows], special)
        if isinstance(found, str):
            sys.exit(found)
        wrong += sum(ids != line[member][key] for ids, line in zip(found, rows))
        print(f'{key}, {member}: {len(rows)} strings')
    print(f'{wrong} differ')
    return 1 if wrong else 0


def tiny(model, characters, size):
    """The part of a model over a few characters."""
    vocab = [t for t in model['vocab'] if set(t) <= set(characters)][:size]
    merges = [m for m in model['merges'] if {m[0], m[1], m[0] + m[1]} <= set(vocab)]
    return {'type': 'BPE', 'vocab': {t: i for i, t in enumerate(vocab)}, 'merges': merges}


def write(path, count, seed):
    table = {'byte_model': train(True, 330, 300), 'character_model': train(False, 330, 300)}
    rng = random.Random(seed)
    rows = [row for row in kinds(*table.values()) if row[1] and (
        not row[0].startswith('added') or 'every' in row[0] or 'normalized' in row[0]) and (
            not row[0].endswith('Metaspace first') or 'Strip True True' in row[0] or 'Regex' in row[0])]
    small = [tiny(table[key], 'abdehlnortw, .ĠÃŁ', 48) for key in table]
    for name, model, splitter in models_of(*small):
        if 'fix' in name:  # the other options stand in tokenizer_variants.jsonl
            rows.append((f'model {name}', None, {'model': model, 'pre_tokenizer': splitter}))
    lines = []
    for name, key, members in rows:
        reference = Tokenizer.from_str(json.dumps(whole(members, table.get(key, {}))))
        bare = Tokenizer.from_str(json.dumps(whole({}, table.get(key) or members['model'])))
        start = '  ' if name.endswith('Metaspace first') else ''
        lines_of_kind = [start + text(rng) for _ in range(100)]  # those where the kind makes a difference first
        lines_of_kind.sort(key=lambda line: reference.encode(line).ids == bare.encode(line).ids)
        cases = []
        for line in lines_of_kind[:count]:
            ids = [reference.encode(line, add_special_tokens=special).ids for special in (True, False)]
            cases.append([line, ids[0]] + ([ids[1]] if ids[0] != ids[1] else []))
        lines.append({'name': name, 'model': key, 'members': members, 'cases': cases})
    head = {key: table[key] for key in table}
    compact = {'ensure_ascii': False, 'separators': (',', ':')}
    path.write_text(json.dumps(head, **compact)[:-1] + ',"kinds":[\n' +
                    ',\n'.join(json.dumps(line, **compact) for line in lines) + '\n]}\n', encoding='utf8')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('narrow', nargs='?')
    parser.add_argument('--count', type=int, default=10000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--only', default='')
    parser.add_argument('--directory', action='append', type=pathlib.Path, default=[])
    parser.add_argument('--golden', nargs=2)
    parser.add_argument('--write', type=pathlib.Path)
    flags = parser.parse_args()
    if flags.write:
        return write(flags.write, flags.count, flags.seed)
    if flags.golden:
        return compare_golden(flags.narrow, flags.directory[0], *flags.golden)
    rng = random.Random(flags.seed)
    total = 0
    print(f'{"kind":60} {"strings":>8} {"tokens":>9} {"differ":>7}')

    def show(name, directory):
        texts = [text(rng) for _ in range(flags.count)]
        tokens, wrong, example = compare(flags.narrow, directory, texts)
        print(f'{name:60} {len(texts):8} {tokens:9} {wrong:7}', f'\n    {example}' if example else '', flush=True)
        return wrong

    for directory in flags.directory:
        total += show(str(directory), directory)
    with tempfile.TemporaryDirectory() as name:
        path = pathlib.Path(name)
        byte_model, character_model = train(True, 1500, 4000), train(False, 2500, 4000)
        table = {'byte_model': byte_model, 'character_model': character_model}
        for kind, model, members in () if flags.directory else kinds(byte_model, character_model):
            if flags.only not in kind:
                continue
            spec = whole(members, table[model] if model else members['model'])
            (path / 'tokenizer.json').write_text(json.dumps(spec, ensure_ascii=False), encoding='utf8')
            total += show(kind, path)
    print(f'{total} strings differ')
    return 1 if total else 0


if __name__ == '__main__':
    sys.exit(main())
