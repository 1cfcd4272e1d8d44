// Collects findings; a mistake made in every layer is reported a few times and then counted.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "inspection/inspect.h"

namespace narrow {

class Findings {
 public:
  static constexpr int64_t kMaxPerKind = 8;

  // `kind` names the sort of mistake, in the plural ("missing tensors").
  void Error(const std::string& kind, std::string text) {
    Add(Severity::kError, kind, std::move(text));
  }
  void Warning(const std::string& kind, std::string text) {
    Add(Severity::kWarning, kind, std::move(text));
  }

  int64_t count() const { return count_; }

  // All findings, errors first, in the order they were made.
  std::vector<Finding> Take() {
    std::vector<Finding> all;
    for (const Severity severity : {Severity::kError, Severity::kWarning}) {
      for (const Finding& finding : findings_) {
        if (finding.severity == severity) all.push_back(finding);
      }
      for (const auto& [kind, count] : counts_) {
        if (kind.first != severity || count <= kMaxPerKind) continue;
        all.push_back(
            {severity, "and " + std::to_string(count - kMaxPerKind) + " more " + kind.second});
      }
    }
    return all;
  }

 private:
  void Add(Severity severity, const std::string& kind, std::string text) {
    ++count_;
    if (++counts_[{severity, kind}] <= kMaxPerKind) {
      findings_.push_back({severity, std::move(text)});
    }
  }

  int64_t count_ = 0;
  std::vector<Finding> findings_;
  std::map<std::pair<Severity, std::string>, int64_t> counts_;
};

}  // namespace narrow
