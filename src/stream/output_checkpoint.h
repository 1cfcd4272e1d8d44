// The quantized checkpoint being written, tensor by tensor, into a staged directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "formats/description.h"
#include "formats/registry.h"
#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "model/family.h"
#include "quantization/layer_quantizer.h"

namespace narrow {

struct OutputOptions {
  const ExportFormat* format = nullptr;
  int64_t max_shard_bytes = 5'000'000'000;
};

// What the checkpoint will hold, known before any work.
QuantizedCheckpointDescription DescribeOutput(const ModelFamily& family,
                                              const DecoderConfig& config,
                                              const LayerQuantizationOptions& quantization);

// Rows of a tensor [rows, ...].
struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};

// Thread-compatible.
class OutputCheckpoint {
 public:
  // Plans every tensor of the output: embedding, layers, final norm, head, and what stands beside
  // the decoder, in this order.
  OutputCheckpoint(const CheckpointReader& source, const ModelFamily& family,
                   const DecoderConfig& config, const LayerQuantizationOptions& quantization,
                   const OutputOptions& options, const std::filesystem::path& directory);

  // For a run that continues an earlier one in the same directory: the embedding and the first
  // `layers` layers were written by it.
  void AssumeWritten(int64_t layers);
  // Makes what was written so far durable.
  void Flush();
  Traffic traffic() const { return writer_.traffic(); }  // of CheckpointWriter
  int64_t total_tensor_bytes() const { return plan_.total_tensor_bytes; }

  // Codes of rows of a quantized linear, from its first row to its last (a CodeSink).
  void WriteCodes(const LinearSpec& linear, int64_t first_row, std::span<const std::byte> codes);
  // Bytes of a tensor of a linear that is quantized by a scheme that is data (a PartSink).
  void WritePart(const LinearSpec& linear, LinearPart part, int64_t offset,
                 std::span<const std::byte> bytes);
  // The scales of a layer that was quantized.
  void WriteScales(const LayerSpec& layer, const LayerFacts& facts);
  // What of a layer, or of an expert, stays as it is.
  void WriteUnchangedOf(const LoadedLayer& layer);
  // Bytes of a tensor that stays as it is, from its first to its last (a StoredBytesSink).
  void WriteUnchanged(const std::string& name, int64_t offset, std::span<const std::byte> bytes);
  // Copies a tensor unchanged, and shows every chunk (whole rows) to `tap` on the way, so that a
  // tensor that is also computed with is read once. `tap` may be empty.
  using ChunkTap = std::function<void(int64_t first_row, std::span<const std::byte> rows)>;
  void Copy(const std::string& name, const ChunkTap& tap);
  // The same for some rows; the ranges of a tensor come in order and leave no row out.
  void CopyRows(const std::string& name, const RowRange& range, const ChunkTap& tap);
  // Throws: kInternal naming a tensor that was planned and not written.
  void Finish();

 private:
  // In the type that was planned for it.
  void WriteScale(const TensorSpec& tensor, float scale);

  const CheckpointReader& source_;
  const ExportFormat& format_;
  std::optional<SchemeAssignment> schemes_;
  Dtype dequantized_ = Dtype::kBF16;
  ShardPlan plan_;
  std::string embedding_;
  std::vector<std::vector<TensorSpec>> layer_tensors_;
  CheckpointWriter writer_;
};

// Reads rows of a tensor [rows, ...] in chunks of whole rows, of about 32 MiB, and shows them in
// order, numbered as in the tensor.
void ReadInChunks(const CheckpointReader& source, const std::string& name, const RowRange& range,
                  const OutputCheckpoint::ChunkTap& tap);
// Memory that takes of so many bytes.
int64_t ChunkBytes(int64_t bytes);

}  // namespace narrow
