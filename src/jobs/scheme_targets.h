// The modules of several schemes as patterns that a compressed-tensors config names them by.
#pragma once

#include <string>
#include <vector>

namespace narrow {

// For each list of full module names its patterns: regular expressions ("re:.*layers\.\d+\.mlp\.
// down_proj$") where the numbers in the names tell nothing, with the numbers of the layers where
// they tell all, full names elsewhere. No pattern matches a module of another list.
std::vector<std::vector<std::string>> SchemeTargets(
    const std::vector<std::vector<std::string>>& modules);

}  // namespace narrow
