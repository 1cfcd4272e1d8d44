#include "inspection/side_checks.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"
#include "io/model_directory.h"
#include "io/output_marker.h"

namespace narrow {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxReportBytes = int64_t{64} << 20;

bool Has(const fs::path& directory, const char* name) {
  std::error_code error;
  return fs::is_regular_file(directory / name, error);
}

void CheckTokenizer(const fs::path& directory, Findings& findings) {
  const char* kind = "tokenizers";
  if (Has(directory, "tokenizer.json")) {
    if (!Has(directory, "tokenizer_config.json")) {
      findings.Warning(kind,
                       "there is no tokenizer_config.json beside tokenizer.json: a server guesses "
                       "the tokenizer's class and special tokens, and has no chat template unless "
                       "chat_template.jinja is there");
    }
    return;
  }
  for (const char* name : {"tokenizer.model", "vocab.json", "tiktoken.model", "tekken.json"}) {
    if (!Has(directory, name)) continue;
    findings.Warning(
        kind, fmt::format("there is no tokenizer.json, only {}: vLLM converts it at load, "
                          "narrow does not read it; AutoTokenizer's save_pretrained makes one",
                          name));
    return;
  }
  findings.Warning(kind,
                   "there is no tokenizer (tokenizer.json, tokenizer.model or vocab.json): vLLM "
                   "serves the checkpoint only with --tokenizer");
}

// As the marker or, without one, the report of the job says; "" when neither does. Both are for
// people and for narrow: nobody loads a damaged one.
std::string HeadBasisOf(const fs::path& directory) {
  try {
    if (const auto marker = ReadOutputMarker(directory); marker && marker->head_basis) {
      return *marker->head_basis;
    }
    if (!Has(directory, "narrow-report.json")) return "";
    const Json report =
        ReadJsonFile((directory / "narrow-report.json").string(), {.max_bytes = kMaxReportBytes});
    const Json* strategy = OptionalObject(report, "strategy", "narrow-report.json");
    if (strategy == nullptr) return "";
    return OptionalString(*strategy, "head_basis", "narrow-report.json").value_or("");
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

void CheckSideFiles(const fs::path& directory, Findings& findings) {
  CheckTokenizer(directory, findings);
  std::error_code error;
  std::vector<std::string> dangling;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string note = DanglingLinkNote(entry->path());
    if (!note.empty()) dangling.push_back(Quoted(entry->path().filename().string() + note));
  }
  std::sort(dangling.begin(), dangling.end());
  for (const std::string& link : dangling) {
    findings.Warning("links that lead nowhere", link + " is missing");
  }
  if (const auto adapter = AdapterRemark(directory)) findings.Warning("adapters", *adapter);
}

std::optional<std::string> BasisNote(const fs::path& directory) {
  if (HeadBasisOf(directory) != "fitted") return std::nullopt;
  return "made with --head_basis fitted: q, k, v and o are in a basis of their own, in which an "
         "adapter (LoRA) trained for the original model is silently wrong; to serve adapters, "
         "quantize with --head_basis none";
}

}  // namespace narrow
