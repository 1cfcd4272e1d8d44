#include "model/delta_net_layout.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "model/decoder_layout.h"
#include "model/decoder_reading.h"

namespace narrow {
namespace {

constexpr int64_t kMaxHeads = 1024;
constexpr int64_t kMaxHeadSize = 1024;
constexpr int64_t kMaxTaps = 64;

}  // namespace

void ReadDeltaNet(const Json& config, std::string_view what, const DeltaNetDefaults& defaults,
                  DeltaNet::Layout layout, DecoderConfig& result) {
  DeltaNet net;
  net.key_heads =
      ReadDimension(config, "linear_num_key_heads", what, kMaxHeads, defaults.key_heads);
  net.value_heads =
      ReadDimension(config, "linear_num_value_heads", what, kMaxHeads, defaults.value_heads);
  net.key_size =
      ReadDimension(config, "linear_key_head_dim", what, kMaxHeadSize, defaults.key_size);
  net.value_size =
      ReadDimension(config, "linear_value_head_dim", what, kMaxHeadSize, defaults.value_size);
  net.taps = ReadDimension(config, "linear_conv_kernel_dim", what, kMaxTaps, defaults.taps);
  net.layout = layout;
  if (net.value_heads % net.key_heads != 0) {
    Fail(ErrorCode::kCorruptInput,
         "{}: \"linear_num_value_heads\" is {}, expected a multiple of the {} key heads", what,
         net.value_heads, net.key_heads);
  }
  result.delta_net = net;
  const int64_t period = ReadDimension(config, "full_attention_interval", what,
                                       result.layers + defaults.period, defaults.period);
  const Json* kinds = OptionalArray(config, "layer_types", what);
  if (kinds != nullptr && std::ssize(*kinds) != result.layers) {
    Fail(ErrorCode::kCorruptInput, "{}: \"layer_types\" names {} layers, the model has {}", what,
         std::ssize(*kinds), result.layers);
  }
  result.recurrent = ReadLayerKinds(config, what, {.kind = "linear_attention"}, result.layers,
                                    [=](int64_t layer) { return (layer + 1) % period != 0; });
}

void PutDeltaNet(const DecoderConfig& config, LayerSpec& spec) {
  const DeltaNet& net = *config.delta_net;
  const std::string module = LayerPrefix(spec) + "linear_attn";
  spec.attention_module = module;
  AttentionBlock block;
  block.form = net;
  block.residual_scale = spec.attention.residual_scale;
  spec.attention = block;
  std::erase_if(spec.linears, [](const LinearSpec& linear) {
    return linear.group == LinearGroup::kQueryKeyValue ||
           linear.group == LinearGroup::kAttentionOutput;
  });
  std::vector<LinearSpec> linears;
  const auto add = [&](std::string_view name, WeightRole role, LinearGroup group, int64_t rows) {
    LinearSpec& linear = linears.emplace_back();
    linear.module = fmt::format("{}.{}", module, name);
    linear.role = role;
    linear.group = group;
    linear.rows = rows;
    linear.columns = config.hidden;
    if (group == LinearGroup::kDeltaRates) linear.treatment = LinearSpec::Treatment::kAsStored;
  };
  if (net.layout == DeltaNet::Layout::kByPart) {
    add("in_proj_qkv", WeightRole::kDeltaInput, LinearGroup::kQueryKeyValue, net.mixed_width());
    add("in_proj_z", WeightRole::kDeltaGate, LinearGroup::kQueryKeyValue, net.value_width());
    add("in_proj_b", WeightRole::kDeltaRates, LinearGroup::kDeltaRates, net.value_heads);
    add("in_proj_a", WeightRole::kDeltaRates, LinearGroup::kDeltaRates, net.value_heads);
  } else {
    add("in_proj_qkvz", WeightRole::kDeltaInput, LinearGroup::kQueryKeyValue,
        net.mixed_width() + net.value_width());
    add("in_proj_ba", WeightRole::kDeltaRates, LinearGroup::kDeltaRates, 2 * net.value_heads);
  }
  add("out_proj", WeightRole::kAttentionOutput, LinearGroup::kAttentionOutput, config.hidden);
  linears.back().columns = net.value_width();
  spec.linears.insert(spec.linears.begin(), linears.begin(), linears.end());
  spec.Norm(NormPlace::kQuery) = spec.Norm(NormPlace::kKey) = std::nullopt;
  NormSpec norm = {
      .weight = module + ".norm.weight", .size = net.value_size, .epsilon = config.norm_epsilon};
  spec.Norm(NormPlace::kAttended) = norm;
  spec.parameters = {
      {ParameterRole::kConvolution, module + ".conv1d.weight", {net.mixed_width(), 1, net.taps}},
      {ParameterRole::kDecayLog, module + ".A_log", {net.value_heads}},
      {ParameterRole::kDecayBias, module + ".dt_bias", {net.value_heads}}};
}

void GateAttention(LayerSpec& spec) {
  spec.attention.form = DirectHeads{.gate = DirectHeads::OutputGate::kByHead};
  for (LinearSpec& linear : spec.linears) {
    if (linear.role == WeightRole::kQuery) linear.rows *= 2;
  }
}

}  // namespace narrow
