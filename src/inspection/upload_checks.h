// What a checkpoint needs beside being right, to be found and used by others on the Hugging Face
// hub.
#pragma once

#include <filesystem>

#include "inspection/findings.h"
#include "inspection/inventory.h"

namespace narrow {

// Errors: metadata of the card that the hub refuses, and no card at all. Warnings: what the card
// does not say (license, base_model, library_name, pipeline_tag, results), a missing
// generation_config.json, and files that neither loaders nor people look for.
// Source: hub-docs, modelcard.md; huggingface_hub 2.4, repocard_data.py.
void CheckForUpload(const std::filesystem::path& directory, const Inventory& inventory,
                    Findings& findings);

}  // namespace narrow
