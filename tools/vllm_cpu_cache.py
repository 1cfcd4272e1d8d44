"""An FP8 cache for vLLM on any CPU, for tools/check_vllm_families.py and tools/check_vllm_scales.py.

vLLM 0.32's attention for CPUs keeps an FP8 cache with AVX-512 or AMX alone, and rounds K and V towards zero as it writes
them (docs/accuracy.md), which no GPU does. Here its kernel runs over a cache in the model's type that holds E4M3 numbers
times the scale: what reading an FP8 cache gives. The scales are those that vLLM has loaded, by its own code.
"""
import os

LARGEST = 448.0


def on_grid(values, scale, towards_zero):
    """Values of an FP8 cache, dequantized."""
    import torch
    exact = (values.float() / scale).clamp(-LARGEST, LARGEST)
    codes = exact.to(torch.float8_e4m3fn)
    if towards_zero:
        too_far = codes.float().abs() > exact.abs()
        codes = torch.where(too_far, codes.view(torch.uint8) - 1, codes.view(torch.uint8)).view(torch.float8_e4m3fn)
    return (codes.float() * scale).to(values.dtype)


def hold_fp8_caches(towards_zero=False):
    """To be called before a model is loaded with kv_cache_dtype='fp8', with vLLM in this process."""
    from vllm import _custom_ops as ops
    from vllm.v1.attention.backends import cpu_attn
    isa_of, write, attend, schedule = (cpu_attn._get_attn_isa, ops.cpu_attn_reshape_and_cache,
                                       ops.cpu_attention_with_kv_cache, ops.cpu_attn_get_scheduler_metadata)
    caches = {}  # by address of what vLLM allocated: the same in the type of K and V

    def plain(cache, like):
        key = cache.data_ptr()
        if key not in caches:
            caches[key] = like.new_zeros(cache.shape)
        return caches[key]

    def get_isa(dtype, block_size, head_size=None, kv_cache_dtype=None):
        return isa_of(dtype, block_size, head_size, None)

    def write_rounded(key, value, key_cache, value_cache, slot_mapping, isa, k_scale=1.0, v_scale=1.0,
                      kv_cache_dtype='auto'):
        write(on_grid(key, k_scale, towards_zero), on_grid(value, v_scale, towards_zero), plain(key_cache, key),
              plain(value_cache, value), slot_mapping, isa)

    def attend_plain(*, query, key_cache, value_cache, k_scale=1.0, v_scale=1.0, kv_cache_dtype='auto', **others):
        attend(query=query, key_cache=plain(key_cache, query), value_cache=plain(value_cache, query), **others)

    def schedule_plain(*, kv_cache_dtype='auto', **others):
        return schedule(**others)

    cpu_attn._get_attn_isa = get_isa
    ops.cpu_attn_reshape_and_cache, ops.cpu_attention_with_kv_cache = write_rounded, attend_plain
    ops.cpu_attn_get_scheduler_metadata = schedule_plain


def set_up_vllm():
    """vLLM's environment: in this process, quiet, without a hub. To be called before it is imported."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING='0', VLLM_CPU_KVCACHE_SPACE='1', VLLM_LOGGING_LEVEL='ERROR',
                      VLLM_ALLOW_INSECURE_SERIALIZATION='1', HF_HUB_OFFLINE='1')
