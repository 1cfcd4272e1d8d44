#include "cli/quark_flags.h"

#include <array>

namespace narrow {
namespace {

constexpr std::string_view kReload =
    "is not taken: narrow writes the finished checkpoint and keeps no intermediate format";
constexpr std::string_view kTasks =
    "is not taken: narrow measures perplexity; run task benchmarks against vLLM with the output";
constexpr std::string_view kOtherSchemes =
    "is not taken: groups come with --quant_scheme, schemes of layers with --recipe";

constexpr std::array kRefused = {
    RefusedFlag{"model_trust_remote_code", "is not taken: narrow never runs code of a checkpoint"},
    RefusedFlag{"trust_remote_code", "is not taken: narrow never runs code of a checkpoint"},
    RefusedFlag{"model_attn_implementation", "is not taken: narrow has one attention of its own"},
    RefusedFlag{"multi_device",
                "is not taken: narrow streams the model through one machine's memory"},
    RefusedFlag{"gpu_resident_blocks", "is not taken: narrow computes on the CPU"},
    RefusedFlag{"use_tp", "is not taken: narrow computes on one machine's CPU"},
    RefusedFlag{"quant_algo_config_file", "is not taken: --quant_algo gptq has no settings"},
    RefusedFlag{"pre_quantization_optimization",
                "is not taken: the weights are quantized as given"},
    RefusedFlag{"pre_optimization_config_file", "is not taken: the weights are quantized as given"},
    RefusedFlag{
        "fp8_attention_quant",
        "is not taken: --kv_cache_dtype fp8 writes the scale of the queries, too, and vLLM has no "
        "place for one of the probabilities"},
    RefusedFlag{"group_size", kOtherSchemes},
    RefusedFlag{"group_size_per_layer", kOtherSchemes},
    RefusedFlag{"layer_quant_scheme", kOtherSchemes},
    RefusedFlag{"moe_experts_second_step_config", kOtherSchemes},
    RefusedFlag{"scale_format", "is not taken: scales are float32, exact to the last bit"},
    RefusedFlag{"pack_method", "is not taken: FP8 codes are one byte each and need no packing"},
    RefusedFlag{"export_weight_format", "is not taken: the output holds real FP8 weights"},
    RefusedFlag{"params_save", kReload},
    RefusedFlag{"save_params_dir", kReload},
    RefusedFlag{"params_load", kReload},
    RefusedFlag{"json_path", kReload},
    RefusedFlag{"safetensors_path", kReload},
    RefusedFlag{"model_reload", kReload},
    RefusedFlag{"import_model_dir", kReload},
    RefusedFlag{"import_file_format", kReload},
    RefusedFlag{"file2file_quantization",
                "is not taken: narrow always goes file to file; without calibration by "
                "--skip_calibration"},
    RefusedFlag{"tasks", kTasks},
    RefusedFlag{"num_fewshot", kTasks},
    RefusedFlag{"eval_batch_size", kTasks},
    RefusedFlag{"max_eval_batch_size", kTasks},
    RefusedFlag{"num_eval_data", "is not taken: use --eval_windows N"},
    RefusedFlag{"apply_chat_template", kTasks},
    RefusedFlag{"use_mlperf_rouge", kTasks},
    RefusedFlag{"eval_data_dir", "is not taken: use --eval_data with a path"},
    RefusedFlag{"use_ppl_eval_for_kv_cache",
                "is not taken: the quantized perplexity always includes the KV cache"},
    RefusedFlag{"ppl_eval_for_kv_cache_context_size",
                "is not taken: the quantized perplexity always includes the KV cache"},
    RefusedFlag{"ppl_eval_for_kv_cache_sample_size",
                "is not taken: the quantized perplexity always includes the KV cache"},
    RefusedFlag{"ppl_eval_for_kv_cache_patch_size",
                "is not taken: the quantized perplexity always includes the KV cache"},
    RefusedFlag{"save_metrics_to_csv", "is not taken: narrow-report.json holds every figure"},
    RefusedFlag{"metrics_output_dir", "is not taken: narrow-report.json holds every figure"},
};

}  // namespace

std::span<const RefusedFlag> RefusedFlags() { return kRefused; }

}  // namespace narrow
