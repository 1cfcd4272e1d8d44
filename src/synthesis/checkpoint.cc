#include "synthesis/checkpoint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "formats/stored_schemes.h"
#include "io/file.h"
#include "model/family.h"
#include "model/model_source.h"
#include "model/side_files.h"
#include "synthesis/byte_tokenizer.h"
#include "synthesis/synthesize.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

constexpr std::array<std::string_view, 7> kTokenizerFiles = {
    "added_tokens.json",     "chat_template.jinja",     "merges.txt", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "vocab.json"};

// config.json as it will be written.
Json MakeConfig(const SynthesizeRequest& request) {
  Json config = request.config;
  if (!config.is_object()) {
    Fail(ErrorCode::kCorruptInput, "{}: expected an object, found {}", request.config_name,
         config.type_name());
  }
  if (request.layers < 0) {
    Fail(ErrorCode::kInvalidArgument, "the number of layers should be positive, found {}",
         request.layers);
  }
  if (request.layers > 0) config["num_hidden_layers"] = request.layers;
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";
  if (!request.tokenizer_directory) {
    config["bos_token_id"] = kByteTokenizerBegin;
    config["eos_token_id"] = kByteTokenizerEnd;
  }
  return config;
}

// Tensors with what their roles say about them.
class TensorList {
 public:
  // `depth`: decoder layers of the whole model. `config`: says by which schemes linears are stored,
  // if they are not as numbers.
  TensorList(int64_t depth, const Json& config)
      : residual_gain_(1.0 / std::sqrt(2.0 * static_cast<double>(depth))) {
    if (WithoutStatedSchemes(config) == config) return;
    const Json& block = config.at("quantization_config");
    schemes_ = StoredSchemes::Parse(block);
    format_ = block.at("quant_method");
  }

  void Add(const ModelSpec& model, const DecoderConfig& config) {
    const Shape shape = {config.vocabulary, config.hidden};
    tensors_.push_back({Spec(model.embedding, shape), TensorKind::kEmbedding});
    // No outliers: nothing that reads the final norm is quantized.
    for (const NamedShape& norm : FinalNormTensors(model)) {
      tensors_.push_back({Spec(norm.name, norm.shape), KindOf(norm.name, model.final_norm)});
    }
    if (model.lm_head != model.embedding) {
      tensors_.push_back({Spec(model.lm_head, shape), TensorKind::kMatrix});
    }
  }

  void Add(const LayerSpec& layer_spec) {
    const LayerSpec layer = WithExperts(layer_spec);
    for (const std::optional<NormSpec>& norm : layer.norms) {
      if (norm) Norm(*norm);
    }
    for (const PlainTensor& tensor : PlainTensors(layer)) {
      const bool matrix = tensor.shape.size() > 1;
      tensors_.push_back(
          {Spec(tensor.name, tensor.shape), matrix ? TensorKind::kMatrix : TensorKind::kBias});
    }
    for (const LinearSpec& linear : layer.linears) Linear(layer, linear);
  }

  std::vector<TensorToFill> Take() { return std::move(tensors_); }

 private:
  static TensorSpec Spec(const std::string& name, Shape shape) {
    return {name, Dtype::kBF16, std::move(shape)};
  }

  static TensorKind KindOf(const std::string& tensor, const NormSpec& norm) {
    if (tensor == norm.bias) return TensorKind::kBias;
    return norm.offset == 0.0f ? TensorKind::kNorm : TensorKind::kNormLessOne;
  }

  void Norm(const NormSpec& norm) {
    TensorToFill tensor{Spec(norm.weight, ShapeOf(norm)), KindOf(norm.weight, norm)};
    tensor.output_place = norm.weight;
    tensors_.push_back(std::move(tensor));
    if (!norm.bias.empty()) {
      tensors_.push_back({Spec(norm.bias, ShapeOf(norm)), TensorKind::kBias});
    }
  }

  // The tensor of the norm that a block reads through; "" where there is none.
  static std::string Place(const LayerSpec& layer, NormPlace place) {
    return layer.Norm(place) ? layer.Norm(place)->weight : "";
  }

  void Linear(const LayerSpec& layer, const LinearSpec& linear) {
    TensorToFill weight{Spec(linear.weight(), {linear.rows, linear.columns})};
    if (linear.part) {  // of all experts: with the first of its parts
      if (linear.part->expert > 0 || linear.part->first_row > 0) return;
      weight.spec = Spec(linear.part->tensor, PartShape(*linear.part, linear.columns));
    }
    const std::string product = Place(layer, NormPlace::kBeforeMlp) + " gated";  // SiLU(gate) * up
    switch (linear.group) {
      case LinearGroup::kQueryKeyValue:
      case LinearGroup::kDeltaRates:
        weight.input_place = Place(layer, NormPlace::kBeforeAttention);
        break;
      case LinearGroup::kGateUp:
        weight.input_place = Place(layer, NormPlace::kBeforeMlp);
        // The product is linear in up, so larger rows of up are larger inputs of down.
        if (linear.role == WeightRole::kUp) weight.output_place = product;
        break;
      case LinearGroup::kDown:
        weight.input_place = product;
        weight.gain = residual_gain_;
        break;
      case LinearGroup::kIndexKeys:
        weight.input_place = Place(layer, NormPlace::kBeforeAttention);
        break;
      case LinearGroup::kIndexQueries:
      case LinearGroup::kQueryFromLatent:
        weight.input_place = Place(layer, NormPlace::kQueryLatent);
        break;
      case LinearGroup::kKeyValueFromLatent:
        weight.input_place = Place(layer, NormPlace::kKeyValueLatent);
        break;
      case LinearGroup::kAttentionOutput:
        weight.gain = residual_gain_;
        break;
    }
    SetScheme(linear, weight);
    if (linear.bias == Bias::kPresent) {
      TensorToFill bias{Spec(linear.bias_name(), {linear.rows}), TensorKind::kBias, weight.gain};
      if (linear.part) {
        bias.spec = Spec(linear.part->bias, {linear.part->experts, linear.part->rows});
      }
      bias.output_place = weight.output_place;
      tensors_.push_back(std::move(bias));
    }
    tensors_.push_back(std::move(weight));
  }

  void SetScheme(const LinearSpec& linear, TensorToFill& weight) const {
    if (!schemes_ || linear.part) return;
    if (linear.treatment == LinearSpec::Treatment::kAsStored) return;
    const LinearScheme* scheme = schemes_->Find(linear.module);
    if (scheme == nullptr) return;
    weight.scheme = *scheme;
    weight.format = &FindSchemeFormat(format_, *scheme);
  }

  double residual_gain_;
  std::optional<StoredSchemes> schemes_;
  std::string format_;  // of the schemes
  std::vector<TensorToFill> tensors_;
};

void CheckVocabulary(int64_t tokenizer, int64_t model, const std::string& hint) {
  if (tokenizer > model) {
    Fail(ErrorCode::kInvalidArgument,
         "the tokenizer has {} tokens, but the config's vocab_size is {}; {}", tokenizer, model,
         hint);
  }
}

// The tokenizer files to copy; none when the byte tokenizer is to be written.
SideFilePlan PlanTokenizer(const SynthesizeRequest& request, const DecoderConfig& config,
                           ProgressSink& progress) {
  if (!request.tokenizer_directory) {
    CheckVocabulary(kByteTokenizerSize, config.vocabulary, "a tokenizer of bytes needs no less");
    return {};
  }
  const Tokenizer tokenizer = Tokenizer::FromDirectory(request.tokenizer_directory->string());
  CheckVocabulary(tokenizer.vocabulary_size(), config.vocabulary, "choose one that fits");
  SideFilePlan plan = PlanSideFiles(*request.tokenizer_directory);
  for (const std::string& warning : plan.warnings) progress.Warning(warning);
  std::erase_if(plan.files, [](const SideFile& file) {
    return std::ranges::find(kTokenizerFiles, file.name) == kTokenizerFiles.end();
  });
  return plan;
}

void CheckDisk(const std::filesystem::path& directory, const std::vector<TensorToFill>& tensors) {
  int64_t needed = 0;
  for (const TensorToFill& tensor : tensors) needed += tensor.spec.bytes();
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(directory, error);
  if (!error && space.available < static_cast<std::uintmax_t>(needed)) {
    Fail(ErrorCode::kIo,
         "{}: the weights take {} bytes, the disk has {} free; make room or use fewer layers",
         directory.parent_path().string(), needed, space.available);
  }
}

}  // namespace

SynthesizeResult RunSynthesize(const SynthesizeRequest& request, ProgressSink& progress) {
  std::vector<NamedPath> read = {{"--config", request.config_file}};
  if (request.tokenizer_directory)
    read.push_back({"--tokenizer_dir", *request.tokenizer_directory});
  CheckApart(OutputPaths("the output", request.output_directory), read);
  StagedDirectory::CheckFinalPath(request.output_directory, request.existing);
  const Json json = MakeConfig(request);
  const Json plain = WithoutStatedSchemes(json);
  const ModelFamily& family = FindModelFamily(plain, request.config_name);
  const DecoderConfig config = family.parse_config(plain, request.config_name);
  // Fewer layers than the model has are its first ones, as they would be in the whole.
  const int64_t whole =
      OptionalInt(request.config, "num_hidden_layers", request.config_name).value_or(config.layers);
  const SideFilePlan tokenizer = PlanTokenizer(request, config, progress);
  TensorList list(std::max(config.layers, whole), json);
  list.Add(family.model(config), config);
  for (int64_t i = 0; i < config.layers; ++i) list.Add(family.layer(config, i));

  StagedDirectory output(request.output_directory, request.existing);
  const WeightFilesRequest files{list.Take(), request.seed, request.max_shard_bytes};
  CheckDisk(output.path(), files.tensors);
  SynthesizeResult result;
  result.layers = config.layers;
  result.tensors = static_cast<int64_t>(files.tensors.size());
  result.tensor_bytes = WriteWeightFiles(files, output.path(), progress);
  WriteFileAtomically(output.path() / "config.json", json.dump(2) + "\n");
  if (request.tokenizer_directory) {
    CopySideFiles(tokenizer, output.path());
  } else {
    WriteByteTokenizer(output.path());
  }
  OutputMarker marker;
  marker.command = "synthesize";
  output.Commit(std::move(marker));
  return result;
}

}  // namespace narrow
