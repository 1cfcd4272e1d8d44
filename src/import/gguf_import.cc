#include "import/gguf_import.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "import/config_json.h"
#include "import/dequantize.h"
#include "import/gguf_model.h"
#include "import/gguf_set.h"
#include "import/metadata.h"
#include "import/tokenizer_json.h"
#include "import/tokenizer_source.h"
#include "io/checkpoint_writer.h"
#include "io/file.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/paths.h"
#include "kernels/elementwise.h"
#include "text/tokenizer.h"

namespace narrow {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;  // decoded at a time, in whole rows or heads

// The row of GGUF's head that is row `row` of Hugging Face's. Source: the inverse of permute() in
// llama.cpp's convert_hf_to_gguf.py.
int64_t InterleavedRow(int64_t row, int64_t head_rows) {
  const int64_t half = head_rows / 2;
  return row < half ? 2 * row : 2 * (row - half) + 1;
}

// Decodes the rows of one tensor and writes them in Hugging Face's order.
class TensorConverter {
 public:
  TensorConverter(const ImportedTensor& tensor, CheckpointWriter& writer)
      : file_(*tensor.source.file),
        tensor_(tensor),
        writer_(writer),
        source_(*tensor.source.tensor) {
    // A bias has one value a row.
    columns_ = source_.shape.size() == 1 && tensor.interleaved_rows > 0 ? 1 : source_.shape.back();
    rows_ = 1;
    for (const int64_t size : source_.shape) rows_ *= size;
    rows_ /= columns_;
    const GgufTypeInfo& info = Info(source_.type);
    row_bytes_ = columns_ / info.block_elements * info.block_bytes;
  }

  void Convert() {
    const int64_t unit = std::max<int64_t>(tensor_.interleaved_rows, 1);
    const int64_t chunk = std::max<int64_t>(kChunkElements / columns_ / unit, 1) * unit;
    for (int64_t first = 0; first < rows_; first += chunk) {
      ConvertRows(first, std::min(chunk, rows_ - first));
    }
  }

 private:
  void ConvertRows(int64_t first, int64_t count) {
    packed_.resize(static_cast<std::size_t>(count * row_bytes_));
    rounded_.resize(static_cast<std::size_t>(count * columns_));
    const int64_t begin = source_.begin + first * row_bytes_;
    file_.ReadAt(begin, packed_);
    file_.DropCache(begin, count * row_bytes_);
    ParallelFor(count, [&](int64_t row) { ConvertRow(row); });
    writer_.WritePart(tensor_.name, first * columns_ * static_cast<int64_t>(sizeof(Bfloat16)),
                      std::as_bytes(std::span(rounded_)));
  }

  void ConvertRow(int64_t row) {
    const int64_t head_rows = tensor_.interleaved_rows;
    const int64_t from =
        head_rows == 0 ? row
                       : row / head_rows * head_rows + InterleavedRow(row % head_rows, head_rows);
    const auto columns = static_cast<std::size_t>(columns_);
    std::vector<float> values(columns);
    Dequantize(source_.type,
               std::span(packed_).subspan(static_cast<std::size_t>(from * row_bytes_),
                                          static_cast<std::size_t>(row_bytes_)),
               values);
    if (tensor_.offset != 0) {
      for (float& value : values) value -= tensor_.offset;
    }
    const auto out = std::span(rounded_).subspan(static_cast<std::size_t>(row) * columns, columns);
    ConvertToBfloat16(values, out);
    for (const Bfloat16 value : out) {
      if (std::isfinite(ToFloat(value))) continue;
      Fail(ErrorCode::kNumeric, "{}: tensor {} holds NaN, infinity or a value beyond BF16's range",
           file_.path().string(), source_.name);
    }
  }

  const InputFile& file_;
  const ImportedTensor& tensor_;
  CheckpointWriter& writer_;
  const GgufTensor& source_;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  int64_t row_bytes_ = 0;
  std::vector<std::byte> packed_;
  std::vector<Bfloat16> rounded_;
};

void CheckVocabulary(const GgufModel& model, const TokenizerSource& tokenizer,
                     const std::string& what) {
  const auto tokens = static_cast<int64_t>(tokenizer.tokens.size());
  if (tokens == model.vocabulary) return;
  Fail(ErrorCode::kCorruptInput, "{}: {} tokens, but token_embd.weight has {} rows", what, tokens,
       model.vocabulary);
}

// A model card that carries the license on; nothing when the file names none.
std::optional<std::string> Readme(const GgufMetadata& metadata) {
  const std::optional<std::string> license = metadata.OptionalString("general.license");
  if (!license || license->empty()) return std::nullopt;
  const bool plain = std::all_of(license->begin(), license->end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
  });
  // One line of printable ASCII, without the quotation marks.
  std::string name = Quoted(metadata.OptionalString("general.name").value_or("Imported model"));
  name = name.substr(1, name.size() - 2);
  return fmt::format(
      "---\nlicense: {}\n---\n# {}\n\nImported from a GGUF file with `narrow import`; "
      "weights in BF16.\n",
      plain ? *license : JsonLiteral(*license), name);
}

void WriteText(const std::filesystem::path& path, const std::string& text) {
  OutputFile file(path);
  file.WriteAt(0, std::as_bytes(std::span(text)));
  file.Close();
}

ImportResult WriteWeights(const std::vector<ImportedTensor>& tensors, const ImportOptions& options,
                          const std::filesystem::path& directory, ProgressSink& progress) {
  std::vector<TensorSpec> specs;
  for (const ImportedTensor& tensor : tensors) {
    specs.push_back({tensor.name, Dtype::kBF16, tensor.source.tensor->shape});
  }
  ShardPlan plan = PlanShards(std::move(specs), options.max_shard_bytes);
  const ImportResult result = {std::ssize(tensors), plan.total_tensor_bytes};
  progress.BeginPhase("import", plan.total_tensor_bytes, "bytes");
  CheckpointWriter writer(directory, std::move(plan));
  for (const ImportedTensor& tensor : tensors) {
    ThrowIfStopRequested("nothing was left behind; run the import again");
    TensorConverter(tensor, writer).Convert();
    progress.Advance(TensorSpec{tensor.name, Dtype::kBF16, tensor.source.tensor->shape}.bytes());
  }
  writer.Finish();
  progress.EndPhase();
  return result;
}

}  // namespace

ImportResult ImportGguf(const std::filesystem::path& gguf, const std::filesystem::path& directory,
                        const ImportOptions& options, ProgressSink& progress) {
  CheckApart(OutputPaths("the output", directory), std::vector<NamedPath>{{"the GGUF file", gguf}});
  StagedDirectory::CheckFinalPath(directory, options.existing);
  const std::string what = gguf.string();
  const GgufSet set(gguf);
  const GgufMetadata metadata(set.header(), what);
  const GgufTensors sources(set.tensors(), what);
  GgufModel model = ReadGgufModel(metadata, sources);
  const std::vector<ImportedTensor> tensors = MapTensors(model, sources);
  ReadRopeFactors(sources, model);
  const TokenizerSource tokenizer =
      ReadTokenizerSource(metadata, options.pre_tokenizer, model.architecture->pieces);
  const Json config_json = ConfigJson(metadata, model, tokenizer);
  CheckVocabulary(model, tokenizer, what);
  const std::string tokenizer_json = TokenizerJson(tokenizer, what).dump(1);
  Tokenizer::FromJson(tokenizer_json, what);  // refuses what could not be used afterwards

  StagedDirectory staged(directory, options.existing);
  WriteText(staged.path() / "config.json", config_json.dump(2) + "\n");
  WriteText(staged.path() / "generation_config.json",
            GenerationConfigJson(tokenizer).dump(2) + "\n");
  WriteText(staged.path() / "tokenizer.json", tokenizer_json);
  WriteText(staged.path() / "tokenizer_config.json",
            TokenizerConfigJson(tokenizer, model.context).dump(2) + "\n");
  if (const std::optional<std::string> readme = Readme(metadata)) {
    WriteText(staged.path() / "README.md", *readme);
  }
  const ImportResult result = WriteWeights(tensors, options, staged.path(), progress);
  OutputMarker marker;
  marker.command = "import";
  staged.Commit(std::move(marker));
  return result;
}

}  // namespace narrow
