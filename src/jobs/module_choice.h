// Which matrices of a checkpoint are quantized, and by which scheme, from names and shapes alone.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/scheme_format.h"
#include "io/checkpoint_reader.h"
#include "jobs/recipe.h"

namespace narrow {

struct ChoiceRequest {
  Recipe recipe;  // of one rule, where the user gave a scheme
  const SchemeFormat* format = nullptr;
  std::vector<std::string> exclude_patterns;  // shell patterns of full names
  std::vector<std::string> include_patterns;  // what is quantized although it stays by default
  std::vector<SourceLinear> dequantized =
      {};  // of the checkpoint's codes, as they would be without
  // Tensors of several experts that are no modules: those of each are among `dequantized`.
  std::set<std::string> taken_apart = {};
};

// A matrix "<module>.weight".
struct ModuleChoice {
  SourceLinear linear;
  std::optional<LinearScheme> scheme;  // nothing: it stays
  std::string reason;                  // why it stays
  std::string unit;                    // modules of one unit have one scheme, and one global scale
  int place = 0;                       // within its unit

  bool quantized() const { return scheme.has_value(); }
};

struct ModuleChoices {
  std::vector<ModuleChoice> modules;  // in the order of the checkpoint
  std::vector<std::string> other;     // modules with tensors of more dimensions: they stay
  std::vector<std::string> warnings;  // sentences

  SchemeDescription Describe() const;
};

// Throws: kInvalidArgument for patterns that match nothing, and for rules that split what a server
// fuses; kUnsupported when nothing is left to quantize.
ModuleChoices ChooseModules(const CheckpointReader& checkpoint, const ChoiceRequest& request);

// What is quantized and what stays, by reason: sentences for the user.
std::vector<std::string> DescribeChoices(const ModuleChoices& choices);

}  // namespace narrow
