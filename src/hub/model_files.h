// Which files of a model's repository this program reads: those of a checkpoint, not the same
// weights in other formats.
#pragma once

#include <vector>

#include "base/progress.h"
#include "hub/download.h"

namespace narrow {

struct ModelFiles {
  // Files of the top folder that are no weights, the index among them, and the chat templates.
  std::vector<const HubFile*> description;
  // What the index names, else model.safetensors, else every *.safetensors that is no adapter.
  std::vector<const HubFile*> weights;
};

// Fetches the index, where there is one, to know. Throws: as HubSnapshot::Fetch and ParseWeightMap;
// kNotFound when there is no config.json, no weights in safetensors, or not a file that the index
// names.
ModelFiles FindModelFiles(HubSnapshot& snapshot, ProgressSink& progress);

}  // namespace narrow
