// The texts of a column of a Parquet file.
#pragma once

#include <functional>
#include <optional>
#include <string_view>

#include "text/parquet/metadata.h"

namespace narrow {

// Takes the next row's text, nothing for a null; returns false to stop reading.
using TextSink = std::function<bool(std::optional<std::string_view>)>;

// The column of that name; without one, `text` or the only column that holds texts. Throws:
// kNotFound naming the columns there are; kUnsupported for a column of another type.
const ParquetColumn& FindTextColumn(const ParquetMetadata& metadata, std::string_view name,
                                    std::string_view what);

// Hands the texts of a column (BYTE_ARRAY) to `sink`, in order of the rows; they are not checked
// for UTF-8. Pages version 1 and 2, PLAIN and dictionary, plain, snappy or zstd. Memory: a page,
// packed and unpacked (at most 256 MiB each), and a dictionary. Throws: kCorruptInput for what
// contradicts itself; kUnsupported for other encodings and codecs; kIo; what the sink throws.
void ReadTexts(const ByteSource& file, const ParquetColumn& column, const TextSink& sink);

}  // namespace narrow
