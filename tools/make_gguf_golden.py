"""Makes the reference files of the GGUF importer's tests with the Python package gguf.

  src/import/testdata/blocks.bin   for each type: its number (u32), count of blocks (u32), the bytes
                                   of the blocks, and their values as the package decodes them (f32)
  src/import/testdata/llama.gguf   a Llama of two layers whose numbers follow Value() below, with q
                                   and k in GGUF's order of rows and a byte-level tokenizer
  src/import/testdata/NAME.gguf    a model of two layers of each architecture of make_gguf_families.py,
                                   and architectures.json: what its checkpoint should hold

Needs: pip install gguf==0.19.0 transformers==5.19.0 torch. Deterministic.
Usage: make_gguf_golden.py
"""
import pathlib

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

import make_gguf_families

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / 'src' / 'import' / 'testdata'
BLOCKS = 3
# Where the blocks of a type hold f16 scales: random bits would make most of them huge or NaN.
SCALES = {'F16': (0,), 'Q4_0': (0,), 'Q4_1': (0, 2), 'Q5_0': (0,), 'Q5_1': (0, 2), 'Q8_0': (0,),
          'Q2_K': (80, 82), 'Q3_K': (108,), 'Q4_K': (0, 2), 'Q5_K': (0, 2), 'Q6_K': (208,)}

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, HEAD, VOCABULARY = 2, 32, 48, 4, 2, 8, 40


def write_blocks(path):
    random = numpy.random.default_rng(20)
    with path.open('wb') as file:
        for name in ('F32', 'F16', 'BF16', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q2_K', 'Q3_K',
                     'Q4_K', 'Q5_K', 'Q6_K'):
            kind = GGMLQuantizationType[name]
            elements, size = GGML_QUANT_SIZES[kind]
            count = BLOCKS if elements > 1 else 64
            blocks = random.integers(0, 256, (count, size), dtype=numpy.uint8)
            if name == 'F32':
                blocks = random.normal(size=(count, 1)).astype('<f4').view(numpy.uint8)
            if name == 'BF16':
                blocks[:, 1] = blocks[:, 1] & 0x80 | 0x3F
            for place in SCALES.get(name, ()):
                scale = random.normal(scale=0.02, size=(count, 1)).astype('<f2')
                blocks[:, place:place + 2] = scale.view(numpy.uint8)
            values = dequantize(blocks.reshape(-1), kind).astype('<f4')
            assert values.size == count * elements and numpy.isfinite(values).all()
            file.write(numpy.array([int(kind), count], '<u4').tobytes())
            file.write(blocks.tobytes())
            file.write(values.tobytes())


def value(seed, rows, columns):
    """Numbers that f16 and bf16 both hold exactly, in Hugging Face's order of rows."""
    row, column = numpy.indices((rows, columns))
    return (((row * 31 + column * 17 + seed * 13) % 255 - 127) / 64).astype('<f4')


def interleave(matrix, heads):
    """Rows of q and k as GGUF stores them: pair i of a head is rows 2i and 2i + 1."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_model(path):
    writer = GGUFWriter(path, 'llama')
    writer.add_name('Tiny')
    writer.add_license('mit')
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_scaling_type(RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(2.5)
    tokens = ['<s>', '</s>'] + [chr(ord('a') + i) for i in range(26)] + ['Ġ', '<extra>', 'ab', 'Ġc']
    tokens += [str(i) for i in range(VOCABULARY - len(tokens))]
    kinds = [TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (VOCABULARY - 2)
    kinds[tokens.index('<extra>')] = TokenType.USER_DEFINED
    writer.add_tokenizer_model('gpt2')
    writer.add_tokenizer_pre('smollm')
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(['a b', 'Ġ c'])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template('{{ messages }}')

    seed = 0

    def add(name, rows, columns, heads=0, kind=numpy.float16):
        nonlocal seed
        matrix = value(seed, rows, columns)
        seed += 1
        if heads:
            matrix = interleave(matrix, heads)
        if rows == 1:
            matrix = matrix[0]
        writer.add_tensor(name, matrix.astype(kind))

    add('token_embd.weight', VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f'blk.{layer}.'
        add(prefix + 'attn_norm.weight', 1, HIDDEN, kind=numpy.float32)
        add(prefix + 'attn_q.weight', HEADS * HEAD, HIDDEN, HEADS)
        add(prefix + 'attn_k.weight', KV_HEADS * HEAD, HIDDEN, KV_HEADS)
        add(prefix + 'attn_v.weight', KV_HEADS * HEAD, HIDDEN)
        add(prefix + 'attn_output.weight', HIDDEN, HEADS * HEAD)
        add(prefix + 'ffn_norm.weight', 1, HIDDEN, kind=numpy.float32)
        add(prefix + 'ffn_gate.weight', FEED_FORWARD, HIDDEN)
        add(prefix + 'ffn_up.weight', FEED_FORWARD, HIDDEN)
        add(prefix + 'ffn_down.weight', HIDDEN, FEED_FORWARD)
    add('output_norm.weight', 1, HIDDEN, kind=numpy.float32)
    add('output.weight', VOCABULARY, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


OUTPUT.mkdir(parents=True, exist_ok=True)
write_blocks(OUTPUT / 'blocks.bin')
write_model(OUTPUT / 'llama.gguf')
make_gguf_families.write(OUTPUT, value)
