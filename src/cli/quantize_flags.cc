#include "cli/quantize_flags.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/version.h"
#include "cli/quark_flags.h"
#include "jobs/model_location.h"
#include "jobs/scheme_choice.h"
#include "jobs/streamed_model.h"
#include "schemes/scheme_presets.h"

namespace narrow {
namespace {

void AddSchemeFlags(CLI::App& command, QuantizeFlags& flags) {
  command
      .add_option(
          "--model_dir", flags.model_dir,
          "Hugging Face checkpoint to quantize: a directory, or org/name[@revision] of the hub")
      ->required();
  command.add_option("--output_dir", flags.output_dir,
                     "Directory to make (not with --skip_quantization)");
  command.add_flag("--overwrite", flags.overwrite,
                   "Replace an existing output directory if narrow made all that is in it");
  command.add_option(
      "--quant_scheme", flags.quant_scheme,
      fmt::format("Default: {}. In upper or lower case: {}", kDefaultSchemeName, SchemeNames()));
  command.add_option(
      "--format", flags.format,
      "Names of tensors and config block: compressed-tensors, fp8 or quark (default: "
      "what serves the scheme best)");
  command
      .add_option("--kv_cache_dtype", flags.kv_cache_dtype,
                  "fp8: quantize the KV cache too (default: it is left)")
      ->check(CLI::IsMember({"fp8"}));
  command
      .add_option("--min_kv_scale", flags.min_kv_scale, "Smallest scale of K and V (default: 0)")
      ->check(FiniteNumber(Bound::kFrom, 0, std::numeric_limits<float>::max()));
  command
      .add_option("--quant_algo", flags.quant_algo,
                  "gptq: rounding with error compensation (default, where it pays for the scheme); "
                  "none: to nearest")
      ->check(CLI::IsMember({"gptq", "none"}));
  command.add_flag("--no_weight_matrix_merge", flags.no_weight_matrix_merge,
                   "Each matrix its own weight scale (vLLM requantizes q/k/v and gate/up at load)");
  command.add_flag("--weight_matrix_merge", flags.weight_matrix_merge,
                   "q/k/v share a weight scale, and gate/up share one (the default)");
  command.add_option("--exclude_layers", flags.exclude_layers,
                     "Linear layers to leave as they are: patterns of full names ('*.down_proj')");
}

void AddDataFreeFlags(CLI::App& command, QuantizeFlags& flags) {
  command.add_flag("--skip_calibration", flags.skip_calibration,
                   "From the weights alone, rounded to nearest: no forward pass, so any "
                   "architecture, by names and shapes (implied by --quant_algo none with "
                   "--skip_evaluation and a scheme that needs no calibration)");
  command.add_option("--recipe", flags.recipe,
                     "JSON file of rules that mix schemes by patterns of module names, in place of "
                     "--quant_scheme");
  command.add_option(
      "--include_layers", flags.include_layers,
      "Linear layers to quantize although such are left by default (patterns of full "
      "names); not for the default scheme with calibration");
  command.add_flag(
      "--exact_quotient", flags.exact_quotient,
      "Round codes once, from f32, where the tools of the format round twice on a CPU; "
      "not for the default scheme with calibration");
}

void AddTextFlags(CLI::App& command, QuantizeFlags& flags) {
  command
      .add_option(
          "--keep_layers", flags.keep_layers,
          "Leave the N worst groups of linears (q/k/v, o, gate/up, down of a layer) as they "
          "are, by measured error; takes a pass of its own before")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max_kl", flags.max_kl,
                  "Leave as many of the worst groups as, by a prediction, bring the KL of the "
                  "deployed model to this; a second pass where it is above without")
      ->check(FiniteNumber(Bound::kAbove, 0, std::numeric_limits<double>::max()));
  command.add_flag("--calibrate_all_experts", flags.calibrate_all_experts,
                   "Calibrate every expert on all tokens, not on those alone that choose it");
  command.add_option(
      "--dataset", flags.dataset,
      "Calibration text: a path, pileval, wikitext2, builtin, or org/name:config:split:column of "
      "the hub (default: pileval if it is there, else builtin); JSON lines hold \"text\" or "
      "\"tokens\" (ids)");
  command
      .add_option("--num_calib_data", flags.num_calib_data,
                  "Calibration documents, the first of the text that are not empty (default: 128)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  command.add_option("--seq_len", flags.seq_len, "Tokens a text is cut to (default: 512)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command.add_option("--batch_size", flags.batch_size,
                     "Accepted for compatibility; batches never change a result");
  command.add_option("--model_export", flags.model_export,
                     "hf_format (or quark_safetensors): safetensors with config.json");
  command.add_option("--custom_mode", flags.custom_mode, "An older name of --format");
  command.add_option("--max_shard_size", flags.max_shard_size,
                     "Largest weight file (default: 5GB)");
  command
      .add_option(
          "--head_basis", flags.head_basis,
          "fitted: turn and mix the channels of every head of K and V, undone in q_proj and "
          "o_proj, to where FP8 rounds them with the least effect; own weight scales of "
          "fused matrices differ by powers of two, which survive vLLM's load (default); a LoRA "
          "adapter trained for the original model is silently wrong on the output; "
          "none: channels as they are, scales as Quark's; adapters fit")
      ->check(CLI::IsMember({"fitted", "none"}));
}

void AddJobFlags(CLI::App& command, QuantizeFlags& flags) {
  flags.memory.AddTo(command);
  command.add_option("--work_dir", flags.work_dir,
                     "Directory for the state of the run and what does not fit in memory (default: "
                     "beside the output)");
  command
      .add_option("--resume", flags.resume,
                  "auto: continue an interrupted run of the same job (default); never: start over")
      ->check(CLI::IsMember({"auto", "never"}));
  command
      .add_option("--save_interval", flags.save_interval,
                  "Seconds between saved states while hidden states are in memory (default: 60)")
      ->check(FiniteNumber(Bound::kFrom, 0, std::numeric_limits<double>::max()));
  command.add_flag(
      "--stream", flags.stream,
      "Of a model of the hub, fetch weight files while the job computes, and drop them "
      "when they are not needed any more");
  command.add_option("--stream_disk", flags.stream_disk,
                     "Disk space that --stream may take (default: 20GB)");
  command.add_flag(
      "--multi_gpu", flags.multi_gpu,
      "Accepted for compatibility; this build computes on all CPU cores, and with mpirun "
      "-n RANKS narrow-mpi quantize ... on those of several machines");
  command.add_flag("--skip_quantization", flags.skip_quantization,
                   "Only evaluate the original; writes nothing");
  command.add_flag("--skip_evaluation", flags.skip_evaluation,
                   "No perplexity, and errors of layers only where --keep_layers needs them");
  command
      .add_option("--attribution_windows", flags.attribution_windows,
                  "Evaluation windows on which the cost of weights, inputs and KV cache is told "
                  "apart; 0: none (default: 4)")
      ->check(CLI::Range(int64_t{0}, kMaxWindows));
  flags.evaluation.AddTo(command);
  flags.attention.AddTo(command);
  flags.compute.AddTo(command);
}

// Flags of Quark that are refused get an option of their own, so that they are not "unknown".
void AddRefusedFlags(CLI::App& command) {
  for (const RefusedFlag& refused : RefusedFlags()) {
    command
        .add_option_function<std::vector<std::string>>(
            "--" + std::string(refused.name),
            [&refused](const std::vector<std::string>&) {
              Fail(ErrorCode::kInvalidArgument, "--{} {}", refused.name, refused.reason);
            })
        ->expected(0, CLI::detail::expected_max_vector_size)
        ->trigger_on_parse()
        ->group("");
  }
}

// Empty: neither flag names one.
const std::string& FormatName(const QuantizeFlags& flags) {
  if (!flags.format.empty() && !flags.custom_mode.empty() && flags.format != flags.custom_mode) {
    Fail(ErrorCode::kInvalidArgument,
         "--format {} and --custom_mode {}, its older name, contradict each other; give one",
         flags.format, flags.custom_mode);
  }
  return flags.format.empty() ? flags.custom_mode : flags.format;
}

Recipe RecipeOf(const QuantizeFlags& flags) {
  return flags.recipe.empty() ? RecipeOfScheme(flags.quant_scheme) : ReadRecipe(flags.recipe);
}

bool IsByData(const QuantizeFlags& flags) {
  return narrow::IsByData(flags.quant_scheme, !flags.recipe.empty(), FormatName(flags));
}

void CheckKeepFlags(const QuantizeFlags& flags) {
  if (flags.keep_layers > 0 && flags.max_kl > 0) {
    Fail(ErrorCode::kInvalidArgument,
         "--keep_layers and --max_kl both say how much to keep; give one");
  }
  if (flags.skip_quantization && (flags.keep_layers > 0 || flags.max_kl > 0)) {
    Fail(ErrorCode::kInvalidArgument,
         "--keep_layers and --max_kl are about quantization; leave out --skip_quantization");
  }
  if (flags.skip_evaluation && flags.max_kl > 0) {
    Fail(ErrorCode::kInvalidArgument,
         "--max_kl is measured by the evaluation; leave out --skip_evaluation, or use "
         "--keep_layers");
  }
}

void CheckStreamFlags(const QuantizeFlags& flags) {
  if (!flags.stream_disk.empty() && !flags.stream) {
    Fail(ErrorCode::kInvalidArgument, "--stream_disk is about --stream; give that, too");
  }
  if (!flags.stream) return;
  if (flags.skip_quantization) {
    Fail(ErrorCode::kInvalidArgument,
         "--stream is about quantization; with --skip_quantization leave it out");
  }
  if (!IsHubModel(flags.model_dir)) {
    Fail(ErrorCode::kInvalidArgument,
         "--stream is about models of the hub, and {} is none: leave it out, or give "
         "--model_dir org/name",
         flags.model_dir);
  }
}

}  // namespace

void AddQuantizeFlags(CLI::App& command, QuantizeFlags& flags) {
  command.option_defaults()->take_last();  // as Python's argparse does
  AddSchemeFlags(command, flags);
  AddDataFreeFlags(command, flags);
  AddTextFlags(command, flags);
  AddJobFlags(command, flags);
  AddRefusedFlags(command);
}

bool IsDataFree(const QuantizeFlags& flags) {
  if (flags.skip_calibration) return true;
  if (flags.quant_algo != "none" || !flags.skip_evaluation || flags.skip_quantization ||
      !flags.kv_cache_dtype.empty()) {
    return false;
  }
  const std::vector<LinearScheme> schemes = RecipeOf(flags).Schemes();
  return std::ranges::none_of(schemes, NeedsCalibration);
}

DataFreeRequest MakeDataFreeRequest(const QuantizeFlags& flags) {
  const auto refuse = [](bool given, std::string_view flag, std::string_view why) {
    if (given) {
      Fail(ErrorCode::kInvalidArgument, "{} needs a forward pass ({}); leave it out", flag, why);
    }
  };
  refuse(!flags.kv_cache_dtype.empty(), "--kv_cache_dtype", "scales of K and V are calibrated");
  refuse(flags.skip_quantization, "--skip_quantization", "it evaluates");
  refuse(flags.keep_layers > 0 || flags.max_kl > 0, "--keep_layers or --max_kl",
         "errors are measured");
  DataFreeRequest request;
  request.job = MakeQuantizeRequest(flags);
  request.job.head_basis = HeadBasis::kOriginal;
  request.recipe = RecipeOf(flags);
  request.format = FormatName(flags);
  request.include_patterns = flags.include_layers;
  request.exact_quotient = flags.exact_quotient;
  return request;
}

void CheckQuantizeFlags(const QuantizeFlags& flags) {
  CheckStreamFlags(flags);
  if (IsDataFree(flags)) return;
  const bool data = IsByData(flags);
  if (!data && (!flags.include_layers.empty() || flags.exact_quotient)) {
    Fail(ErrorCode::kInvalidArgument,
         "--include_layers and --exact_quotient are for other schemes and --skip_calibration");
  }
  if (data && flags.no_weight_matrix_merge) {
    Fail(ErrorCode::kInvalidArgument,
         "--no_weight_matrix_merge is about one static scale per tensor; leave it out");
  }
  if (flags.model_export != "hf_format" && flags.model_export != "quark_safetensors") {
    Fail(ErrorCode::kUnsupported,
         "--model_export {}: this build writes safetensors; use hf_format or quark_safetensors",
         flags.model_export);
  }
  if (flags.weight_matrix_merge && flags.no_weight_matrix_merge) {
    Fail(ErrorCode::kInvalidArgument,
         "--weight_matrix_merge and --no_weight_matrix_merge contradict each other; give one");
  }
  if (flags.skip_quantization && flags.skip_evaluation) {
    Fail(ErrorCode::kInvalidArgument,
         "--skip_quantization and --skip_evaluation together leave nothing to do");
  }
  CheckKeepFlags(flags);
  if (!flags.skip_quantization && flags.output_dir.empty()) {
    Fail(ErrorCode::kInvalidArgument, "--output_dir is required; it names the directory to make");
  }
}

std::optional<int64_t> StreamLimit(const QuantizeFlags& flags) {
  if (!flags.stream) return std::nullopt;
  if (flags.stream_disk.empty()) return kDefaultStreamDisk;
  return ParseByteSize(flags.stream_disk, "--stream_disk");
}

QuantizeRequest MakeQuantizeRequest(const QuantizeFlags& flags) {
  QuantizeRequest request;
  request.model_directory = flags.model_dir;
  request.output_directory = flags.output_dir;
  if (flags.overwrite) request.existing = StagedDirectory::Existing::kReplace;
  if (flags.kv_cache_dtype == "fp8") request.cache = CacheScheme::kFp8;
  request.min_cache_scale = static_cast<float>(flags.min_kv_scale);
  if (flags.no_weight_matrix_merge) request.weight_scales = WeightScales::kPerMatrix;
  request.exclude_patterns = flags.exclude_layers;
  request.keep.groups = flags.keep_layers;
  if (flags.max_kl > 0) request.keep.max_kl = flags.max_kl;
  request.calibrate_all_experts = flags.calibrate_all_experts;
  if (const std::string format = FormatName(flags); !format.empty()) request.export_format = format;
  request.max_shard_bytes = ParseByteSize(flags.max_shard_size, "--max_shard_size");
  request.calibration.dataset = MakeDatasetRequest(flags.dataset, flags.evaluation.data_dir);
  request.calibration.samples = flags.num_calib_data;
  request.calibration.max_tokens = flags.seq_len;
  request.calibration.special_tokens = flags.evaluation.special_tokens();
  if (!flags.skip_evaluation) request.evaluation = flags.evaluation.Options();
  request.attribution_windows = flags.attribution_windows;
  request.attention = flags.attention.Figures();
  request.data_type = flags.compute.Apply();
  request.rope_factors = flags.compute.RopeFactorsAsked();
  request.version = kVersion;
  if (flags.quant_algo == "none") request.rounding = RoundingAlgorithm::kNearest;
  request.memory_budget_bytes = flags.memory.Budget();
  if (flags.head_basis == "none") request.head_basis = HeadBasis::kOriginal;
  if (IsByData(flags)) {
    request.schemes = QuantizeRequest::Schemes{RecipeOf(flags), FormatName(flags),
                                               flags.include_layers, flags.exact_quotient};
    if (flags.quant_algo.empty()) request.rounding = DefaultRounding(request.schemes->recipe);
    request.export_format = kDefaultExportFormat;  // whose names the scales of the cache have
    request.head_basis = HeadBasis::kOriginal;     // weights stay in the basis their codes are of
  }
  if (!flags.work_dir.empty()) request.work_directory = flags.work_dir;
  if (flags.resume == "never") request.resume = QuantizeRequest::Resume::kNever;
  request.save_interval_seconds = flags.save_interval;
  return request;
}

}  // namespace narrow
