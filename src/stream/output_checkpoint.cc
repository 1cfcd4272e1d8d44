#include "stream/output_checkpoint.h"

#include <algorithm>
#include <vector>

#include "io/config_dtype.h"
#include "model/cache_scales.h"
#include "model/stored_layer.h"

namespace narrow {
namespace {

constexpr int64_t kChunkBytes = int64_t{32} << 20;

QuantizedLinear Describe(const LinearSpec& linear) {
  return {linear.module, linear.rows, linear.columns};
}

AttentionModule DescribeAttention(const LayerSpec& layer) {
  AttentionModule attention;
  attention.name = layer.attention_module;
  attention.query_projection = ModuleOf(layer, WeightRole::kQuery);
  attention.key_projection = ModuleOf(layer, WeightRole::kKey);
  attention.value_projection = ModuleOf(layer, WeightRole::kValue);
  return attention;
}

// What fits the linear of this role in every layer: the last part of its name.
std::string PatternOf(const LayerSpec& layer, WeightRole role) {
  const std::string module = ModuleOf(layer, role);
  return fmt::format("*{}", module.substr(module.rfind('.') + 1));
}

// The linears that an inference engine fuses, in Quark's order, of all kinds of layers.
WeightMergeGroups FusedGroups(const std::vector<LayerSpec>& layers) {
  WeightMergeGroups groups;
  for (const LinearGroup id : {LinearGroup::kGateUp, LinearGroup::kQueryKeyValue}) {
    for (const LayerSpec& layer : layers) {
      if (!HasGroup(layer, id)) continue;
      const GroupSpec group = GroupOf(layer, id);
      if (group.linears.size() == 1) continue;
      std::vector<std::string> patterns;
      for (const LinearSpec& linear : group.linears) {
        patterns.push_back(PatternOf(layer, linear.role));
      }
      if (id == LinearGroup::kGateUp) std::ranges::reverse(patterns);
      if (std::ranges::count(groups, patterns) == 0) groups.push_back(std::move(patterns));
    }
  }
  return groups;
}

TensorSpec SameTensor(const CheckpointReader& source, const std::string& name) {
  const SafetensorsEntry& entry = source.Get(name).entry;
  return {entry.name, entry.dtype, entry.shape};
}

int64_t RowCount(const SafetensorsEntry& entry) { return entry.shape.empty() ? 1 : entry.shape[0]; }

// A weight as it is computed with: as it is stored, or dequantized.
TensorSpec WeightTensor(const CheckpointReader& source, const LinearSpec& linear,
                        Dtype dequantized) {
  const CheckpointReader::TensorLocation* stored = source.Find(linear.weight());
  const bool plain = stored != nullptr && ElementBytes(stored->entry.dtype) > 1;
  return {
      linear.weight(), plain ? stored->entry.dtype : dequantized, {linear.rows, linear.columns}};
}

// By the type of the weights they are beside.
std::vector<PartTensor> PartsOf(const CheckpointReader& source, const LinearSpec& linear,
                                const SchemeAssignment& schemes, Dtype dequantized) {
  const SourceLinear described = {linear.module, linear.rows, linear.columns,
                                  WeightTensor(source, linear, dequantized).dtype};
  return schemes.format->tensors(described, schemes.of_modules.at(linear.module));
}

// F32; by schemes that are data one number in the type of the weights, as their tools write it.
AttentionScaleTensors ScaleTensorsOf(const CheckpointReader& source, const LayerSpec& layer,
                                     const std::optional<SchemeAssignment>& schemes,
                                     const ExportFormat& format, Dtype dequantized) {
  AttentionScaleTensors scales = format.attention_scale_tensors(DescribeAttention(layer));
  if (!schemes) return scales;
  const Dtype type = WeightTensor(source, layer.linears.front(), dequantized).dtype;
  for (TensorSpec* tensor : {&scales.query_scale, &scales.key_scale, &scales.value_scale}) {
    tensor->dtype = type;
    tensor->shape = {1};
  }
  return scales;
}

// What one layer becomes in the output.
std::vector<TensorSpec> LayerTensors(const CheckpointReader& source, const LayerSpec& layer,
                                     const LayerQuantizationOptions& quantization,
                                     const ExportFormat& format) {
  std::vector<TensorSpec> tensors;
  const auto add_norms = [&](std::span<const NormPlace> places) {
    for (const NamedShape& norm : NormTensors(layer, places)) {
      tensors.push_back(SameTensor(source, norm.name));
    }
  };
  // A tensor of all experts is listed with the first of its parts.
  std::set<std::string> listed;
  const auto add_once = [&](const std::string& name) {
    if (listed.insert(name).second) tensors.push_back(SameTensor(source, name));
  };
  const auto add_stored = [&](const LinearSpec& linear) {
    add_once(linear.part ? linear.part->tensor : linear.weight());
    if (linear.bias == Bias::kPresent) {
      add_once(linear.part ? linear.part->bias : linear.bias_name());
    }
  };
  add_norms(kAttentionNorms);
  for (const PlainTensor& tensor : PlainTensors(layer)) {
    tensors.push_back(SameTensor(source, tensor.name));
  }
  for (const LinearSpec& linear : layer.linears) {
    if (quantization.excluded.contains(linear.module)) {
      if (linear.part) {
        add_stored(linear);
        continue;
      }
      tensors.push_back(WeightTensor(source, linear, quantization.dequantized));
    } else if (quantization.schemes) {
      for (PartTensor& part :
           PartsOf(source, linear, *quantization.schemes, quantization.dequantized)) {
        tensors.push_back(std::move(part.tensor));
      }
    } else {
      LinearTensors added = format.linear_tensors(Describe(linear));
      tensors.push_back(std::move(added.weight));
      tensors.push_back(std::move(added.weight_scale));
      tensors.push_back(std::move(added.input_scale));
    }
    if (linear.bias == Bias::kPresent) tensors.push_back(SameTensor(source, linear.bias_name()));
  }
  if (quantization.cache == CacheScheme::kFp8 && layer.caches()) {
    AttentionScaleTensors scales =
        ScaleTensorsOf(source, layer, quantization.schemes, format, quantization.dequantized);
    tensors.push_back(std::move(scales.query_scale));
    tensors.push_back(std::move(scales.key_scale));
    tensors.push_back(std::move(scales.value_scale));
  }
  add_norms(kMlpNorms);
  return tensors;
}

std::vector<TensorSpec> PlanTensors(const CheckpointReader& source, const ModelFamily& family,
                                    const DecoderConfig& config,
                                    const LayerQuantizationOptions& quantization,
                                    const ExportFormat& format) {
  const ModelSpec model = family.model(config);
  std::vector<TensorSpec> tensors = {SameTensor(source, model.embedding)};
  for (int64_t i = 0; i < config.layers; ++i) {
    for (TensorSpec& tensor :
         LayerTensors(source, WithExperts(family.layer(config, i)), quantization, format)) {
      tensors.push_back(std::move(tensor));
    }
  }
  for (const NamedShape& norm : FinalNormTensors(model)) {
    tensors.push_back(SameTensor(source, norm.name));
  }
  if (model.lm_head != model.embedding) tensors.push_back(SameTensor(source, model.lm_head));
  for (const OtherTensor& other : config.others) tensors.push_back(SameTensor(source, other.name));
  return tensors;
}

}  // namespace

QuantizedCheckpointDescription DescribeOutput(const ModelFamily& family,
                                              const DecoderConfig& config,
                                              const LayerQuantizationOptions& quantization) {
  QuantizedCheckpointDescription description;
  description.own_head = config.lm_head == DecoderConfig::LmHead::kOwn;
  description.architecture = family.architecture;
  description.model_dtype = DtypeName(config.dtype);
  description.min_kv_scale = quantization.min_cache_scale;
  const std::vector<LayerSpec> layers = LayersOf(family, config);
  if (quantization.weight_scales == WeightScales::kPerFusedGroup && !quantization.schemes) {
    description.weight_merge_groups = FusedGroups(layers);
  }
  if (quantization.cache == CacheScheme::kFp8) {
    description.kv_cache = KvCacheQuantization::kFp8;
    const auto cached = std::ranges::find_if(layers, &LayerSpec::caches);
    if (cached != layers.end()) {
      description.cache_patterns = {PatternOf(*cached, WeightRole::kKey),
                                    PatternOf(*cached, WeightRole::kValue)};
    }
  }
  for (const LayerSpec& without_experts : layers) {
    const LayerSpec layer = WithExperts(without_experts);
    for (const PlainTensor& tensor : PlainTensors(layer)) {
      constexpr std::string_view kWeight = ".weight";
      if (!tensor.name.ends_with(kWeight)) continue;
      description.excluded_linears.push_back(
          tensor.name.substr(0, tensor.name.size() - kWeight.size()));
    }
    for (const LinearSpec& linear : layer.linears) {
      if (quantization.excluded.contains(linear.module) && linear.part) {
        if (linear.part->expert > 0 || linear.role != WeightRole::kDown) continue;
        description.excluded_linears.push_back(layer.experts->module);  // of all of them
      } else if (quantization.excluded.contains(linear.module)) {
        description.excluded_linears.push_back(linear.module);
      } else {
        description.linears.push_back(Describe(linear));
      }
    }
    if (description.kv_cache == KvCacheQuantization::kFp8 && layer.caches()) {
      description.attention.push_back(DescribeAttention(layer));
    }
  }
  description.excluded_linears.push_back(family.model(config).lm_head_module);
  for (const OtherTensor& other : config.others) {
    if (!other.linear.empty()) description.excluded_linears.push_back(other.linear);
  }
  return description;
}

OutputCheckpoint::OutputCheckpoint(const CheckpointReader& source, const ModelFamily& family,
                                   const DecoderConfig& config,
                                   const LayerQuantizationOptions& quantization,
                                   const OutputOptions& options,
                                   const std::filesystem::path& directory)
    : source_(source),
      format_(*options.format),
      schemes_(quantization.schemes),
      dequantized_(quantization.dequantized),
      plan_(PlanShards(PlanTensors(source, family, config, quantization, *options.format),
                       options.max_shard_bytes)),
      embedding_(family.model(config).embedding),
      writer_(directory, plan_) {
  for (int64_t i = 0; i < config.layers; ++i) {
    layer_tensors_.push_back(
        LayerTensors(source, WithExperts(family.layer(config, i)), quantization, *options.format));
  }
}

void OutputCheckpoint::AssumeWritten(int64_t layers) {
  writer_.AssumeWritten(embedding_);
  for (int64_t i = 0; i < layers; ++i) {
    for (const TensorSpec& tensor : layer_tensors_[static_cast<std::size_t>(i)]) {
      writer_.AssumeWritten(tensor.name);
    }
  }
}

void OutputCheckpoint::Flush() { writer_.Flush(); }

void OutputCheckpoint::WriteScale(const TensorSpec& tensor, float scale) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.bytes()));
  StoreRow(tensor.dtype, std::span(&scale, 1), bytes);
  writer_.Write(tensor.name, bytes);
}

void OutputCheckpoint::WritePart(const LinearSpec& linear, LinearPart part, int64_t offset,
                                 std::span<const std::byte> bytes) {
  const std::vector<PartTensor> parts = PartsOf(source_, linear, *schemes_, dequantized_);
  const auto found = std::ranges::find(parts, part, &PartTensor::part);
  NARROW_CHECK(found != parts.end());
  writer_.WritePart(found->tensor.name, offset, bytes);
}

void OutputCheckpoint::WriteCodes(const LinearSpec& linear, int64_t first_row,
                                  std::span<const std::byte> codes) {
  const std::string name = format_.linear_tensors(Describe(linear)).weight.name;
  writer_.WritePart(name, first_row * linear.columns, codes);
}

void OutputCheckpoint::WriteScales(const LayerSpec& layer, const LayerFacts& facts) {
  for (const LinearFacts& fact : facts.linears) {
    if (schemes_) break;  // they came with their parts
    const auto linear = std::ranges::find(layer.linears, fact.module, &LinearSpec::module);
    NARROW_CHECK(linear != layer.linears.end());
    const LinearTensors tensors = format_.linear_tensors(Describe(*linear));
    WriteScale(tensors.weight_scale, fact.weight_scale);
    WriteScale(tensors.input_scale, fact.input_scale);
  }
  if (facts.cache) {
    const AttentionScaleTensors scales =
        ScaleTensorsOf(source_, layer, schemes_, format_, dequantized_);
    WriteScale(scales.query_scale, facts.cache->query_scale);
    WriteScale(scales.key_scale, facts.cache->key_scale);
    WriteScale(scales.value_scale, facts.cache->value_scale);
  }
}

void OutputCheckpoint::WriteUnchangedOf(const LoadedLayer& layer) {
  // Parts of a tensor of all experts are written as the expert's, whatever their order in it.
  std::set<std::string> parts;
  for (const LinearSpec& linear : layer.spec().linears) {
    if (!linear.part || layer.runnable().Linear(linear.group).scales()) continue;
    const RowRange expert = {linear.part->expert, 1};
    for (const std::string& name : {linear.part->tensor, linear.part->bias}) {
      if (!name.empty() && parts.insert(name).second) CopyRows(name, expert, {});
    }
  }
  layer.CopyUnchanged(
      [this](const std::string& tensor, int64_t offset, std::span<const std::byte> bytes) {
        WriteUnchanged(tensor, offset, bytes);
      });
}

void OutputCheckpoint::WriteUnchanged(const std::string& name, int64_t offset,
                                      std::span<const std::byte> bytes) {
  writer_.WritePart(name, offset, bytes);
}

void OutputCheckpoint::Copy(const std::string& name, const ChunkTap& tap) {
  CopyRows(name, {0, RowCount(source_.Get(name).entry)}, tap);
}

void OutputCheckpoint::CopyRows(const std::string& name, const RowRange& range,
                                const ChunkTap& tap) {
  const SafetensorsEntry& entry = source_.Get(name).entry;
  const int64_t row_bytes = entry.bytes() / std::max<int64_t>(1, RowCount(entry));
  ReadInChunks(source_, name, range, [&](int64_t first_row, std::span<const std::byte> rows) {
    writer_.WritePart(name, first_row * row_bytes, rows);
    if (tap) tap(first_row, rows);
  });
}

void OutputCheckpoint::Finish() { writer_.Finish(); }

int64_t ChunkBytes(int64_t bytes) { return std::min(kChunkBytes, bytes); }

void ReadInChunks(const CheckpointReader& source, const std::string& name, const RowRange& range,
                  const OutputCheckpoint::ChunkTap& tap) {
  const CheckpointReader::TensorLocation& location = source.Get(name);
  if (range.count == 0) return;
  const int64_t row_bytes = location.entry.bytes() / RowCount(location.entry);
  const int64_t chunk_rows =
      std::clamp<int64_t>(kChunkBytes / std::max<int64_t>(1, row_bytes), 1, range.count);
  AlignedBuffer<std::byte> chunk(chunk_rows * row_bytes);
  for (int64_t done = 0; done < range.count; done += chunk_rows) {
    const int64_t count = std::min(chunk_rows, range.count - done);
    const auto bytes = chunk.span().subspan(0, static_cast<std::size_t>(count * row_bytes));
    source.ReadPart(location, (range.first + done) * row_bytes, bytes);
    tap(range.first + done, bytes);
  }
}

}  // namespace narrow
