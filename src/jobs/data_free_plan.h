// What a checkpoint becomes without calibration, tensor by tensor, before anything is read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint_reader.h"
#include "io/checkpoint_writer.h"
#include "jobs/module_choice.h"
#include "schemes/weight_encoder.h"

namespace narrow {

// A matrix to be quantized.
struct PlannedWeight {
  const CheckpointReader::TensorLocation* source = nullptr;
  WeightEncoder encoder;
  std::vector<PartTensor> parts;
};

// What is read and written together: a tensor that is copied, or the matrices of one global scale.
struct PlannedItem {
  const CheckpointReader::TensorLocation* copied = nullptr;
  std::vector<PlannedWeight> weights;  // none: a copy

  int64_t source_bytes() const;
  bool needs_maximum() const;
};

struct DataFreePlan {
  std::vector<PlannedItem> items;  // in the order of the files they are read from
  int64_t source_bytes = 0;
  int64_t output_bytes = 0;  // of tensors
  int64_t memory_bytes = 0;  // at most, beside the program itself and the headers

  // The tensors that an item becomes.
  static std::vector<TensorSpec> Tensors(const PlannedItem& item);
  std::vector<TensorSpec> Tensors() const;
};

// `exact_quotient`: codes from quotients in f32, rounded once, where the format's tool rounds twice
// on a CPU. `checkpoint` outlives the plan. Throws: kInvalidArgument when two tensors of the output
// would have the same name.
DataFreePlan MakeDataFreePlan(const CheckpointReader& checkpoint, const ModuleChoices& choices,
                              const SchemeFormat& format, bool exact_quotient);

// Bytes of a tensor that are read at a time, and of a unit that is kept between finding its global
// scale and its codes; larger ones are read twice.
inline constexpr int64_t kPieceBytes = int64_t{16} << 20;
inline constexpr int64_t kKeptUnitBytes = int64_t{192} << 20;

}  // namespace narrow
