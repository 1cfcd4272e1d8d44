#include "formats/quantized_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "kernels/group_codes.h"
#include "schemes/block_scales.h"
#include "tensor/scalar_types.h"

namespace narrow {
namespace {

using Location = CheckpointReader::TensorLocation;

// Scales of one weight are read whole; a checkpoint with more is damaged.
constexpr int64_t kMaxScaleBytes = int64_t{1} << 32;

std::vector<std::byte> ReadBytes(const CheckpointReader& checkpoint, const Location& location) {
  if (location.entry.bytes() > kMaxScaleBytes) {
    Fail(ErrorCode::kCorruptInput, "{}: {} bytes of scales are more than a weight can have",
         Quoted(location.entry.name), location.entry.bytes());
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(location.entry.bytes()));
  checkpoint.Read(location, bytes);
  return bytes;
}

template <typename T>
T Element(std::span<const std::byte> bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
  return value;
}

}  // namespace

std::array<std::string, 2> WeightNames(const std::string& module) {
  return {module + ".weight_packed", module + ".weight"};
}

const Location* FindWeight(const CheckpointReader& checkpoint, const std::string& module) {
  const auto [packed, plain] = WeightNames(module);
  const Location* found = checkpoint.Find(packed);
  return found != nullptr ? found : checkpoint.Find(plain);
}

std::vector<float> ReadScaleNumbers(const CheckpointReader& checkpoint, const Location& location) {
  const std::vector<std::byte> bytes = ReadBytes(checkpoint, location);
  const Dtype type = location.entry.dtype;
  const std::size_t count = bytes.size() / static_cast<std::size_t>(ElementBytes(type));
  std::vector<float> scales(count);
  for (std::size_t i = 0; i < count; ++i) {
    switch (type) {
      case Dtype::kF32:
        scales[i] = Element<float>(bytes, i);
        break;
      case Dtype::kBF16:
        scales[i] = ToFloat(Element<Bfloat16>(bytes, i));
        break;
      case Dtype::kF16:
        scales[i] = ToFloat(Element<Float16>(bytes, i));
        break;
      case Dtype::kF8E4M3:
        scales[i] = ToFloat(Element<Float8E4M3>(bytes, i));
        break;
      case Dtype::kU8:
        scales[i] = PowerOfTwo(Element<uint8_t>(bytes, i));
        break;
      default:
        Fail(ErrorCode::kUnsupported, "{}: scales of type {} are not known",
             Quoted(location.entry.name), Name(type));
    }
  }
  return scales;
}

struct QuantizedWeight::State {
  const CheckpointReader* checkpoint = nullptr;
  const Location* codes = nullptr;
  TensorScheme scheme;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t block_rows = 0;  // rows of one row of scales
  int64_t group = 0;       // columns of one scale
  int64_t scale_columns = 0;
  std::vector<float> scales;     // [ceil(rows / block_rows), scale_columns]
  std::vector<float> two_level;  // the same without the global scale, where there is one
  float global = 1.0f;           // what these are multiplied by
  std::vector<float> zeros;      // as scales for each row, or none
  std::vector<std::string> tensors;

  int64_t row_bytes() const { return columns * CodeBits(scheme.code) / 8; }
  bool scaled_by_row() const { return scheme.block.rows <= 1 && scheme.block.columns == 0; }

  // A row's codes times scales.
  void Decode(int64_t r, std::span<const std::byte> row, const GroupScales& by,
              std::span<float> to) const {
    switch (scheme.code) {
      case Code::kE4M3:
        return DecodeE4M3(row, by, to);
      case Code::kInt8:
        return DecodeInt8(row, by, to);
      case Code::kE2M1:
        return DecodeE2M1(row, by, to);
      case Code::kInt4:
        break;
    }
    const auto groups = static_cast<std::size_t>(scale_columns);
    DecodeInt4(row, by,
               zeros.empty()
                   ? std::span<const float>()
                   : std::span(zeros).subspan(static_cast<std::size_t>(r) * groups, groups),
               to);
  }

  // Rows from their bytes; scales_of(row): what its codes are multiplied by.
  template <class ScalesOf>
  void DecodeAll(int64_t first, std::span<const std::byte> codes_of_rows, std::span<float> values,
                 const ScalesOf& scales_of) const {
    const int64_t count = static_cast<int64_t>(values.size()) / columns;
    NARROW_CHECK(count * columns == static_cast<int64_t>(values.size()));
    NARROW_CHECK(first >= 0 && count <= rows - first);
    NARROW_CHECK(static_cast<int64_t>(codes_of_rows.size()) == count * row_bytes());
    for (int64_t r = 0; r < count; ++r) {
      Decode(
          first + r,
          codes_of_rows.subspan(static_cast<std::size_t>(r * row_bytes()),
                                static_cast<std::size_t>(row_bytes())),
          scales_of(first + r),
          values.subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns)));
    }
  }

  GroupScales Stored(const std::vector<float>& of, int64_t row) const {
    const auto groups = static_cast<std::size_t>(scale_columns);
    return {std::span(of).subspan(static_cast<std::size_t>(row / block_rows) * groups, groups),
            group};
  }
};

// Finds out how a module is kept.
class QuantizedWeight::Opener {
 public:
  Opener(const CheckpointReader& checkpoint, std::string module, const QuantizedWeightHints& hints)
      : checkpoint_(checkpoint), module_(std::move(module)), hints_(hints) {}

  const Location* Find(std::string_view leaf) const {
    const Location* found = checkpoint_.Find(fmt::format("{}.{}", module_, leaf));
    if (found != nullptr) tensors_.insert(found->entry.name);
    return found;
  }
  const Location& Get(std::string_view leaf) const {
    const Location* location = Find(leaf);
    if (location == nullptr) {
      Fail(ErrorCode::kCorruptInput, "{} is quantized, but has no {}", Quoted(module_), leaf);
    }
    return *location;
  }

  // The codes' rows and columns, with `per_element` codes an element.
  void SetCodes(State& state, const Location& codes, Code code, int64_t per_element) const {
    const Shape& shape = codes.entry.shape;
    const std::optional<int64_t> columns =
        shape.size() == 2 ? CheckedMultiply(shape[1], per_element) : std::nullopt;
    if (!columns || shape[0] <= 0 || *columns <= 0) FailShape(codes, "two dimensions");
    state.codes = &codes;
    state.rows = shape[0];
    state.columns = *columns;
    state.scheme.code = code;
  }

  [[noreturn]] static void FailShape(const Location& location, std::string_view expected) {
    Fail(ErrorCode::kCorruptInput, "{}: expected {}, found shape [{}]", Quoted(location.entry.name),
         expected, fmt::join(location.entry.shape, ", "));
  }

  // Scales of whole groups of columns for each row: [rows, columns / group].
  void SetGroups(State& state, const Location& scale) const {
    const Shape& shape = scale.entry.shape;
    if (shape.size() != 2 || shape[0] != state.rows || shape[1] <= 0 ||
        state.columns % shape[1] != 0 || (state.columns / shape[1]) % 16 != 0) {
      FailShape(scale, fmt::format("groups of the {} x {} numbers of its weight", state.rows,
                                   state.columns));
    }
    state.group = state.columns / shape[1];
    state.scale_columns = shape[1];
    state.block_rows = 1;
    state.scheme.block = {1, state.group};
    state.scales = ReadScaleNumbers(checkpoint_, scale);
  }

  // One scale, one a row, or one a block.
  void SetFloatScales(State& state, const Location& scale) const {
    const Shape& shape = scale.entry.shape;
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;  // the header's product does not overflow
    state.scales = ReadScaleNumbers(checkpoint_, scale);
    state.scale_columns = 1;
    state.group = state.columns;
    const bool per_row =
        (shape.size() == 1 || (shape.size() == 2 && shape[1] == 1)) && shape[0] == state.rows;
    const BlockShape& block = hints_.block;
    // A matrix within one block has its scale in two dimensions, a tensor of one scale does not.
    const bool in_one_block = shape.size() == 2 && elements == 1 && state.rows <= block.rows &&
                              state.columns <= block.columns && state.rows > 1;
    if (elements == 1 && !in_one_block) {
      state.block_rows = state.rows;
      state.scheme.block = {0, 0};
    } else if (per_row) {
      state.block_rows = 1;
      state.scheme.block = {1, 0};
    } else if (shape.size() == 2 && block.rows > 0 && block.columns > 0 &&
               block.columns % 16 == 0 && shape[0] == DivideRoundUp(state.rows, block.rows) &&
               shape[1] == DivideRoundUp(state.columns, block.columns)) {
      state.block_rows = block.rows;
      state.group = block.columns;
      state.scale_columns = shape[1];
      state.scheme.block = block;
    } else {
      FailShape(scale, fmt::format("one scale, {}, or one for each block of {} x {}", state.rows,
                                   block.rows, block.columns));
    }
  }

  // A multiplier or a divisor of all scales.
  void ApplyGlobal(State& state, const Location& global, bool divides) const {
    const std::vector<float> values = ReadScaleNumbers(checkpoint_, global);
    if (values.size() != 1) FailShape(global, "one number");
    state.two_level = state.scales;
    state.global = divides ? 1.0f / values[0] : values[0];
    for (float& scale : state.scales) scale = divides ? scale / values[0] : scale * values[0];
    state.scheme.scale = ScaleFormat::kE4M3WithGlobal;
  }

  // I32 [ceil(rows / 8), groups], z + 8 of row 8k + j in bits 4j .. 4j + 3 of word k.
  void SetZeros(State& state, const Location& zeros) const {
    const Shape expected = {DivideRoundUp(state.rows, 8), state.scale_columns};
    if (zeros.entry.dtype != Dtype::kI32 || zeros.entry.shape != expected) {
      FailShape(zeros, fmt::format("I32 [{}]", fmt::join(expected, ", ")));
    }
    const std::vector<std::byte> bytes = ReadBytes(checkpoint_, zeros);
    state.scheme.symmetric = false;
    state.zeros.resize(static_cast<std::size_t>(state.rows * state.scale_columns));
    for (int64_t r = 0; r < state.rows; ++r) {
      for (int64_t g = 0; g < state.scale_columns; ++g) {
        const auto word =
            Element<uint32_t>(bytes, static_cast<std::size_t>(r / 8 * state.scale_columns + g));
        state.zeros[static_cast<std::size_t>(r * state.scale_columns + g)] =
            static_cast<float>((word >> (4 * (r % 8))) & 0xF) - 8.0f;
      }
    }
  }

  // FP4: two codes a byte.
  void OpenFourBitFloats(State& state, const Location& codes) const {
    SetCodes(state, codes, Code::kE2M1, 2);
    const Location& scale = Get("weight_scale");
    SetGroups(state, scale);
    if (scale.entry.dtype == Dtype::kU8) {
      state.scheme.scale = ScaleFormat::kPowerOfTwo;
    } else if (const Location* global = Find("weight_global_scale")) {
      ApplyGlobal(state, *global, true);
    } else {
      ApplyGlobal(state, Get("weight_scale_2"), false);
    }
  }

  // INT4 in words of eight columns, the last of a row padded.
  void OpenFourBitIntegers(State& state, const Location& codes) const {
    SetCodes(state, codes, Code::kInt4, 8);
    SetGroups(state, Get("weight_scale"));
    if (const Location* zeros = Find("weight_zero_point")) SetZeros(state, *zeros);
    if (const Location* shape = Find("weight_shape")) CheckShape(state, *shape);
  }

  // I64 [2]: rows and columns, which the words, whole as they are, do not tell.
  void CheckShape(const State& state, const Location& shape) const {
    const bool fits = shape.entry.dtype == Dtype::kI64 && shape.entry.shape == Shape{2};
    if (!fits) FailShape(shape, "I64 [2]");
    const std::vector<std::byte> bytes = ReadBytes(checkpoint_, shape);
    const auto rows = Element<int64_t>(bytes, 0);
    const auto columns = Element<int64_t>(bytes, 1);
    if (rows == state.rows && columns == state.columns) return;
    Fail(ErrorCode::kCorruptInput, "{} says {} x {}, but its codes are {} x {}",
         Quoted(shape.entry.name), rows, columns, state.rows, state.columns);
  }

  void OpenBytes(State& state, const Location& codes, Code code) const {
    SetCodes(state, codes, code, 1);
    const Location* inverse = Find("weight_scale_inv");
    const Location& scale = inverse != nullptr ? *inverse : Get("weight_scale");
    if (scale.entry.dtype == Dtype::kU8) {
      SetGroups(state, scale);
      state.scheme.scale = ScaleFormat::kPowerOfTwo;
    } else {
      SetFloatScales(state, scale);
    }
  }

  // False when the module is not quantized.
  bool Open(State& state) const {
    const bool quantized = OpenTensors(state);
    state.tensors.assign(tensors_.begin(), tensors_.end());
    return quantized;
  }

 private:
  bool OpenTensors(State& state) const {
    state.checkpoint = &checkpoint_;
    if (const Location* packed = Find("weight_packed")) {
      if (packed->entry.dtype == Dtype::kI32) {
        OpenFourBitIntegers(state, *packed);
      } else {
        OpenFourBitFloats(state, *packed);
      }
      return true;
    }
    const Location* weight = Find("weight");
    if (weight == nullptr) return false;
    switch (weight->entry.dtype) {
      case Dtype::kF8E4M3:
        OpenBytes(state, *weight, Code::kE4M3);
        return true;
      case Dtype::kI8:
        OpenBytes(state, *weight, Code::kInt8);
        return true;
      case Dtype::kU8:
        OpenFourBitFloats(state, *weight);
        return true;
      case Dtype::kI32:
        Fail(ErrorCode::kUnsupported,
             "{} is kept in 32-bit words in an order that this build does not read",
             Quoted(weight->entry.name));
      default:
        return false;
    }
  }

  const CheckpointReader& checkpoint_;
  std::string module_;
  const QuantizedWeightHints& hints_;
  mutable std::set<std::string> tensors_;  // that were found
};

QuantizedWeight::QuantizedWeight(std::unique_ptr<State> state) : state_(std::move(state)) {}
QuantizedWeight::~QuantizedWeight() = default;
QuantizedWeight::QuantizedWeight(QuantizedWeight&&) noexcept = default;
QuantizedWeight& QuantizedWeight::operator=(QuantizedWeight&&) noexcept = default;

int64_t QuantizedWeight::rows() const { return state_->rows; }
int64_t QuantizedWeight::columns() const { return state_->columns; }
const TensorScheme& QuantizedWeight::scheme() const { return state_->scheme; }

std::optional<QuantizedWeight> QuantizedWeight::Open(const CheckpointReader& checkpoint,
                                                     const std::string& module,
                                                     const QuantizedWeightHints& hints) {
  auto state = std::make_unique<State>();
  if (!Opener(checkpoint, module, hints).Open(*state)) return std::nullopt;
  return QuantizedWeight(std::move(state));
}

const std::string& QuantizedWeight::codes() const { return state_->codes->entry.name; }
const std::vector<std::string>& QuantizedWeight::tensors() const { return state_->tensors; }

void QuantizedWeight::ReadRows(int64_t first, std::span<float> values) const {
  const State& state = *state_;
  const int64_t count = static_cast<int64_t>(values.size()) / state.columns;
  std::vector<std::byte> codes(static_cast<std::size_t>(count * state.row_bytes()));
  state.checkpoint->ReadPart(*state.codes, first * state.row_bytes(), codes);
  DecodeRows(first, codes, values);
}

void QuantizedWeight::DecodeRows(int64_t first, std::span<const std::byte> codes,
                                 std::span<float> values) const {
  const State& state = *state_;
  state.DecodeAll(first, codes, values,
                  [&](int64_t row) { return state.Stored(state.scales, row); });
}

void QuantizedWeight::DecodeNumbers(int64_t first, std::span<const std::byte> codes,
                                    std::span<float> numbers) const {
  const State& state = *state_;
  constexpr float kOne = 1.0f;
  state.DecodeAll(first, codes, numbers, [&](int64_t row) {
    if (state.scaled_by_row()) return GroupScales{std::span(&kOne, 1), state.columns};
    return state.Stored(state.two_level.empty() ? state.scales : state.two_level, row);
  });
}

std::vector<float> QuantizedWeight::RowScales() const {
  if (state_->scaled_by_row()) return state_->scales;
  return {state_->global};
}

std::optional<float> QuantizedWeight::FindBadScale() const {
  const auto bad = std::ranges::find_if(
      state_->scales, [](float scale) { return !(std::isfinite(scale) && scale > 0.0f); });
  if (bad == state_->scales.end()) return std::nullopt;
  return *bad;
}

}  // namespace narrow
