#include "io/wrapped_names.h"

#include <array>
#include <string_view>

#include "base/error.h"
#include "io/json.h"

namespace narrow {
namespace {

constexpr const char* kPeft =
    "the model is wrapped by peft and its adapter is not merged: save what merge_and_unload() "
    "returns";
constexpr const char* kUnwrap =
    "the state of a wrapper was saved: save_pretrained of the model inside ({0}) writes the right "
    "names";
constexpr const char* kMultimodal =
    "it is the language model of a multimodal one, but config.json is not: take the config.json of "
    "the whole model, or save the language model alone with save_pretrained";

// Parts of names that wrappers of PyTorch and peft put before or between those of a model.
struct Wrapper {
  std::string_view part;
  const char* step;  // {0} is where the wrapper keeps the model
  const char* inside;
};
constexpr std::array kWrappers = {
    Wrapper{"base_model.model.", kPeft, ""},
    Wrapper{"base_layer.", kPeft, ""},
    Wrapper{"modules_to_save.default.", kPeft, ""},
    Wrapper{"_orig_mod.", kUnwrap, "model._orig_mod of torch.compile"},
    Wrapper{"_fsdp_wrapped_module.", kUnwrap, "model.module of FSDP"},
    Wrapper{"_checkpoint_wrapped_module.", kUnwrap, "the module of the checkpoint wrapper"},
    Wrapper{"_forward_module.", kUnwrap, "the model of the Lightning module"},
    Wrapper{"module.", kUnwrap, "model.module of DataParallel, DDP or DeepSpeed"},
    Wrapper{"language_model.", kMultimodal, ""},
};

// `name` without the parts of wrappers, and the first of these.
std::string Unwrapped(std::string name, const Wrapper*& wrapper) {
  for (const Wrapper& candidate : kWrappers) {
    for (std::size_t at = 0; (at = name.find(candidate.part, at)) != std::string::npos;) {
      if (at > 0 && name[at - 1] != '.') {
        at += candidate.part.size();
        continue;
      }
      name.erase(at, candidate.part.size());
      if (wrapper == nullptr) wrapper = &candidate;
    }
  }
  return name;
}

}  // namespace

std::optional<std::string> ExplainName(const std::string& stored, const std::string& name) {
  const Wrapper* wrapper = nullptr;
  if (Unwrapped(stored, wrapper) == name && wrapper != nullptr) {
    return fmt::format(fmt::runtime(wrapper->step), wrapper->inside);
  }
  if (stored.ends_with("." + name)) {
    return fmt::format("every name begins with {}: save the model with save_pretrained",
                       Quoted(stored.substr(0, stored.size() - name.size())));
  }
  if (name.ends_with("." + stored)) {
    return fmt::format(
        "the model was saved without {}, as AutoModel does: save it with AutoModelForCausalLM",
        Quoted(name.substr(0, name.size() - stored.size())));
  }
  return std::nullopt;
}

std::string UnknownTensorHint(const std::string& name) {
  for (const std::string_view part :
       {".lora_A.", ".lora_B.", ".lora_embedding_", ".lora_magnitude_"}) {
    if (name.find(part) != std::string::npos) {
      return "; it is part of an adapter that is not merged: save what peft's merge_and_unload() "
             "returns";
    }
  }
  const Wrapper* wrapper = nullptr;
  Unwrapped(name, wrapper);
  if (wrapper == nullptr) return "";
  return "; " + fmt::format(fmt::runtime(wrapper->step), wrapper->inside);
}

}  // namespace narrow
