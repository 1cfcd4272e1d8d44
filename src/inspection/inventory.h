// Reads what the checks look at: the configuration, all headers, and the values of the scales.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "inspection/findings.h"
#include "inspection/inspect.h"
#include "io/json.h"

namespace narrow {

struct Inventory {
  Json config;
  std::vector<InspectedTensor> tensors;  // by name
  std::map<std::string, std::size_t, std::less<>> index;
  int64_t files = 0;
  // lm_head.weight and the embedding are both stored although the configuration ties them, and
  // differ.
  bool tied_head_differs = false;

  // Null when there is no such tensor.
  const InspectedTensor* Find(std::string_view name) const {
    const auto found = index.find(name);
    return found == index.end() ? nullptr : &tensors[found->second];
  }
};

// True for the name of a tensor that holds a quantization scale.
inline bool IsScaleName(std::string_view name) { return name.ends_with("_scale"); }

// Throws as Inspect() does; everything else that is wrong becomes a finding.
Inventory ReadInventory(const std::filesystem::path& directory, Findings& findings);

}  // namespace narrow
