"""Makes tests/golden/model_free.json: digests of what llm-compressor's model_free_ptq makes of the family checkpoints.

For every family and scheme that it can save: CRC-32 over the tensors in order of their names, of each its name,
type, shape and bytes. What is left out, by parts of names: what narrow leaves or scales otherwise on purpose
(docs/schemes.md): experts in one piece, which the tool cuts up, and matrices that vLLM loads as one, to which it
gives global scales of their own.

Needs: pip install llmcompressor==0.14.0.1 (torch 2.13, CPU).
Usage: make_model_free.py FAMILIES_DIR WORK_DIR     (WORK_DIR keeps the checkpoints; those that are there are taken)
"""
import json
import pathlib
import shutil
import struct
import sys
import zlib

SCHEMES = ('FP8_DYNAMIC', 'FP8_BLOCK', 'W8A8', 'W4A16', 'W4A16_ASYM', 'MXFP4', 'MXFP4A16', 'MXFP8', 'NVFP4A16')
IGNORED = ['re:.*embed_tokens.*', 're:.*lm_head$', 're:.*norm.*', r're:.*\.gate$', r're:.*\.router$',
           r're:.*\.router\..*', 're:.*shared_expert_gate$', r're:.*\.indexer\..*', 're:.*conv1d$']
OTHERWISE = {'NVFP4A16': ('.experts.', '.shared_expert', '.q_a_proj.', '.kv_a_proj_with_mqa.', '.in_proj_',
                          '.feed_forward.'),
             'FP8_BLOCK': ('.self_attn.q_proj.', '.self_attn.k_proj.', '.self_attn.v_proj.')}
OUTPUT = pathlib.Path(__file__).resolve().parents[2] / 'tests' / 'golden' / 'model_free.json'


def tensors(directory):
    for file in directory.glob('*.safetensors'):
        raw = file.read_bytes()
        length = struct.unpack('<Q', raw[:8])[0]
        for name, facts in json.loads(raw[8:8 + length]).items():
            if name != '__metadata__':
                begin, end = facts['data_offsets']
                yield name, facts['dtype'], facts['shape'], raw[8 + length + begin:8 + length + end]


def digest(directory, excluded):
    crc = 0
    for name, dtype, shape, data in sorted(tensors(directory)):
        if not any(part in name for part in excluded):
            crc = zlib.crc32(data, zlib.crc32(f'{name} {dtype} {",".join(map(str, shape))}\n'.encode(), crc))
    return f'{crc:08x}'


def quantize(source, output, scheme):
    """Whether the tool can save it."""
    if output.is_dir():
        return any(output.glob('*.safetensors'))
    from llmcompressor import model_free_ptq
    try:
        model_free_ptq(str(source), str(output), scheme=scheme, ignore=IGNORED, max_workers=1, device='cpu')
        return True
    except ValueError:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        return False


def main(families, work):
    result = {}
    for source in sorted(families.glob('tiny-*')):
        whole_experts = any(len(shape) > 2 and 'expert' in name for name, _, shape, _ in tensors(source))
        for scheme in SCHEMES:
            output = work / source.name / scheme
            if not quantize(source, output, scheme):
                continue
            excluded = list(OTHERWISE.get(scheme, ())) + (['.experts'] if whole_experts else [])
            result[f'{source.name} {scheme}'] = {'without': excluded, 'crc32': digest(output, excluded)}
    lines = [f' {json.dumps(key)}: {json.dumps(value)}' for key, value in result.items()]
    OUTPUT.write_text('{\n' + ',\n'.join(lines) + '\n}\n')


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
