#include "jobs/module_choice.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "jobs/scheme_targets.h"
#include "model/module_names.h"
#include "schemes/weight_encoder.h"

namespace narrow {
namespace {

constexpr std::string_view kWeight = ".weight";

bool IsWeightType(Dtype type) {
  return type == Dtype::kBF16 || type == Dtype::kF16 || type == Dtype::kF32;
}

// What of the rules a stay is by: the user's wish wins over names, sizes over both.
enum class Cause { kNone, kName, kUser, kSize };

class Chooser {
 public:
  Chooser(const CheckpointReader& checkpoint, const ChoiceRequest& request)
      : checkpoint_(checkpoint), request_(request) {}

  ModuleChoices Choose() {
    for (const CheckpointReader::TensorLocation& location : checkpoint_.tensors()) {
      Take(location.entry);
    }
    for (const SourceLinear& linear : request_.dequantized) Take(linear);
    CheckPatterns(request_.exclude_patterns, "--exclude_layers");
    CheckPatterns(request_.include_patterns, "--include_layers");
    for (const RecipeRule& rule : request_.recipe.rules) {
      if (request_.recipe.rules.size() > 1) CheckPatterns(rule.modules, "--recipe");
    }
    for (auto& [unit, members] : units_) Settle(members);
    for (const auto& [experts, members] : experts_) CheckExperts(members);
    Warn();
    if (std::ranges::none_of(choices_.modules, &ModuleChoice::quantized)) {
      Fail(ErrorCode::kUnsupported, "no matrix of {} is left to quantize: {}",
           checkpoint_.directory().string(),
           choices_.modules.empty()
               ? std::string("there are no two-dimensional BF16, F16 or F32 weights")
               : fmt::format("{} stays because: {}", choices_.modules.front().linear.module,
                             choices_.modules.front().reason));
    }
    return std::move(choices_);
  }

 private:
  using Members = std::vector<std::size_t>;  // places in choices_.modules

  void Take(const SafetensorsEntry& entry) {
    const bool weight = entry.name.ends_with(kWeight);
    const std::string module =
        entry.name.substr(0, weight ? entry.name.size() - kWeight.size() : entry.name.rfind('.'));
    if (request_.taken_apart.contains(entry.name)) return;
    if (entry.shape.size() > 2 && IsWeightType(entry.dtype)) {
      if (std::ranges::find(choices_.other, module) == choices_.other.end()) {
        choices_.other.push_back(module);
      }
      return;
    }
    if (!weight || entry.shape.size() != 2 || !IsWeightType(entry.dtype)) return;
    Take(SourceLinear{module, entry.shape[0], entry.shape[1], entry.dtype});
  }

  void Take(const SourceLinear& linear) {
    ModuleChoice choice;
    choice.linear = linear;
    const std::string& module = linear.module;
    const std::optional<FusedPlace> place = FusedPlaceOf(module);
    choice.unit = place ? place->fused : module;
    choice.place = place ? place->place : 0;
    causes_.push_back(ChooseByName(choice));
    const std::size_t number = choices_.modules.size();
    units_[choice.unit].push_back(number);
    if (const std::string experts = ExpertsOf(module); !experts.empty()) {
      experts_[experts].push_back(number);
    }
    choices_.modules.push_back(std::move(choice));
  }

  Cause ChooseByName(ModuleChoice& choice) const {
    const std::string& module = choice.linear.module;
    if (const std::string* pattern = FirstMatch(request_.exclude_patterns, module)) {
      choice.reason = "--exclude_layers " + *pattern;
      return Cause::kUser;
    }
    const auto reason = ReasonToStay(module, choice.linear.rows, checkpoint_.config());
    if (reason && FirstMatch(request_.include_patterns, module) == nullptr) {
      choice.reason = *reason;
      return Cause::kName;
    }
    const RecipeRule* rule = request_.recipe.Find(module);
    if (rule == nullptr || !rule->scheme) {
      choice.reason = "the recipe leaves it";
      return Cause::kUser;
    }
    choice.scheme = rule->scheme;
    if (const auto problem =
            SizeProblem(rule->scheme->weight, choice.linear.rows, choice.linear.columns)) {
      choice.reason = *problem;
      return Cause::kSize;
    }
    return Cause::kNone;
  }

  void CheckPatterns(const std::vector<std::string>& patterns, std::string_view flag) const {
    for (const std::string& pattern : patterns) {
      const bool matched = std::ranges::any_of(choices_.modules, [&](const ModuleChoice& choice) {
        return FirstMatch({pattern}, choice.linear.module) != nullptr;
      });
      if (matched || choices_.modules.empty()) continue;
      Fail(ErrorCode::kInvalidArgument, "{}: {} matches no matrix of the model (one is {})", flag,
           pattern, choices_.modules.back().linear.module);
    }
  }

  // Rows that a server keeps apart in the fused matrix, in its order.
  std::vector<int64_t> PartRows(const Members& members) const {
    if (members.size() == 1) {
      const SourceLinear& linear = choices_.modules[members.front()].linear;
      return StoredParts(linear.module, linear.rows, checkpoint_.config());
    }
    std::vector<int64_t> rows;
    for (const std::size_t member : members) rows.push_back(choices_.modules[member].linear.rows);
    return rows;
  }

  // Why a server could not load the parts of a fused matrix.
  std::optional<std::string> LoadProblem(const Members& members) const {
    const ModuleChoice& first = choices_.modules[members.front()];
    const TensorScheme& weight = first.scheme->weight;
    const std::vector<int64_t> rows = PartRows(members);
    const bool experts = !ExpertsOf(first.linear.module).empty();
    int64_t multiple = weight.block.rows > 1 ? weight.block.rows : 1;
    if (!weight.symmetric) multiple = 8;  // rows of a word of zero points
    // A format that takes one scheme alone has no check of its own for a ragged last part.
    const bool last_too =
        experts || !weight.symmetric || (rows.size() > 1 && !request_.format->several_schemes);
    const std::size_t checked = last_too ? rows.size() : rows.size() - 1;
    for (std::size_t i = 0; i < checked; ++i) {
      if (rows[i] % multiple == 0) continue;
      return fmt::format("{} rows of a {} are no multiple of {}", rows[i],
                         rows.size() > 1 ? "part of a fused matrix" : "matrix", multiple);
    }
    if (experts && first.linear.columns % std::max<int64_t>(1, weight.block.columns) != 0) {
      return fmt::format("{} columns of an expert are no multiple of {}", first.linear.columns,
                         weight.block.columns);
    }
    return std::nullopt;
  }

  // A unit is quantized as a whole, in one scheme, or stays.
  void Settle(Members& members) {
    std::ranges::sort(members, {}, [&](std::size_t m) { return choices_.modules[m].place; });
    const auto cause = [&](Cause wanted) {
      return std::ranges::find(members, wanted, [&](std::size_t m) { return causes_[m]; });
    };
    const auto user = cause(Cause::kUser), name = cause(Cause::kName), none = cause(Cause::kNone);
    const auto size = cause(Cause::kSize);
    const auto stays = user != members.end() ? user : name;
    const auto wanted = none != members.end() ? none : size;
    if (stays != members.end() && wanted != members.end()) {
      FailSplit(choices_.modules[*stays], choices_.modules[*wanted]);
    }
    if (stays != members.end()) return;
    CheckOneScheme(members);
    std::string problem;
    if (size != members.end()) {
      problem = choices_.modules[*size].reason;
    } else if (const auto load = LoadProblem(members)) {
      problem = *load;
    }
    if (problem.empty()) return;
    for (const std::size_t member : members) {
      ModuleChoice& choice = choices_.modules[member];
      choice.scheme.reset();
      choice.reason = problem;
      causes_[member] = Cause::kSize;
    }
  }

  [[noreturn]] static void FailSplit(const ModuleChoice& stays, const ModuleChoice& wanted) {
    Fail(ErrorCode::kInvalidArgument,
         "{} would stay ({}), but not {}; servers load the two into one matrix and refuse, or "
         "misread, a checkpoint that quantizes only one: leave both or none",
         stays.linear.module, stays.reason, wanted.linear.module);
  }

  void CheckOneScheme(const Members& members) const {
    const ModuleChoice& first = choices_.modules[members.front()];
    for (const std::size_t member : members) {
      const ModuleChoice& other = choices_.modules[member];
      if (other.scheme == first.scheme) continue;
      Fail(ErrorCode::kInvalidArgument,
           "--recipe gives {} and {} different schemes; servers load them as one and take the "
           "first one's scheme for all without a word: give them the same",
           first.linear.module, other.linear.module);
    }
  }

  // All experts of a layer are loaded into one tensor.
  void CheckExperts(const Members& members) {
    Members quantized, others;
    for (const std::size_t member : members) {
      (choices_.modules[member].quantized() ? quantized : others).push_back(member);
    }
    if (quantized.empty()) return;
    CheckOneScheme(quantized);
    if (others.empty()) return;
    const ModuleChoice& other = choices_.modules[others.front()];
    if (causes_[others.front()] != Cause::kSize) {
      FailSplit(other, choices_.modules[quantized.front()]);
    }
    for (const std::size_t member : quantized) {
      choices_.modules[member].scheme.reset();
      choices_.modules[member].reason = "another matrix of its experts stays: " + other.reason;
      causes_[member] = Cause::kSize;
    }
  }

  void Warn() {
    int64_t left = 0, left_bytes = 0, all_bytes = 0;
    const ModuleChoice* example = nullptr;
    for (std::size_t i = 0; i < choices_.modules.size(); ++i) {
      const SourceLinear& linear = choices_.modules[i].linear;
      const int64_t bytes = linear.rows * linear.columns * ElementBytes(linear.type);
      all_bytes += bytes;
      if (causes_[i] != Cause::kSize) continue;
      example = &choices_.modules[i];
      ++left;
      left_bytes += bytes;
    }
    if (example != nullptr) {
      choices_.warnings.push_back(fmt::format(
          "{} matrices ({:.0f} % of the matrices' bytes) stay as they are because of their sizes: "
          "{} because {}",
          left, 100.0 * static_cast<double>(left_bytes) / static_cast<double>(all_bytes),
          example->linear.module, example->reason));
    }
    if (!choices_.other.empty()) {
      choices_.warnings.push_back(fmt::format(
          "tensors of three or more dimensions are copied as they are, those of experts among "
          "them: {} of {}",
          choices_.other.front(), choices_.other.size()));
    }
  }

  const CheckpointReader& checkpoint_;
  const ChoiceRequest& request_;
  ModuleChoices choices_;
  std::vector<Cause> causes_;  // of choices_.modules
  std::map<std::string, Members> units_;
  std::map<std::string, Members> experts_;
};

}  // namespace

ModuleChoices ChooseModules(const CheckpointReader& checkpoint, const ChoiceRequest& request) {
  return Chooser(checkpoint, request).Choose();
}

SchemeDescription ModuleChoices::Describe() const {
  SchemeDescription description;
  std::vector<std::vector<std::string>> members;
  for (const ModuleChoice& choice : modules) {
    if (!choice.scheme) {
      if (choice.reason != "embedding") description.ignored.push_back(choice.linear.module);
      continue;
    }
    const auto group = std::ranges::find(description.groups, *choice.scheme, &SchemeGroup::scheme);
    const std::size_t place = static_cast<std::size_t>(group - description.groups.begin());
    if (group == description.groups.end()) {
      description.groups.push_back({*choice.scheme, {}});
      members.emplace_back();
    }
    members[place].push_back(choice.linear.module);
  }
  for (const std::string& module : other) description.ignored.push_back(module);
  // A tied head has no tensor, but a server builds one.
  if (std::ranges::none_of(description.ignored,
                           [](const std::string& name) { return name.ends_with("lm_head"); })) {
    description.ignored.push_back("lm_head");
  }
  if (description.groups.size() > 1) {
    const std::vector<std::vector<std::string>> targets = SchemeTargets(members);
    for (std::size_t i = 0; i < targets.size(); ++i) description.groups[i].targets = targets[i];
  }
  return description;
}

std::vector<std::string> DescribeChoices(const ModuleChoices& choices) {
  struct Kind {
    int64_t count = 0;
    int64_t bytes = 0;
    std::string example;
  };
  std::map<std::string, Kind> stays;
  Kind quantized;
  for (const ModuleChoice& choice : choices.modules) {
    Kind& kind = choice.quantized() ? quantized : stays[choice.reason];
    ++kind.count;
    kind.bytes += choice.linear.rows * choice.linear.columns * ElementBytes(choice.linear.type);
    if (kind.example.empty()) kind.example = choice.linear.module;
  }
  std::vector<std::string> lines = {
      fmt::format("Quantizing {} matrices of {:.1f} MB (the first: {})", quantized.count,
                  static_cast<double>(quantized.bytes) * 1e-6, quantized.example)};
  for (const auto& [reason, kind] : stays) {
    lines.push_back(fmt::format("Staying: {} of {:.1f} MB, {} (the first: {})", kind.count,
                                static_cast<double>(kind.bytes) * 1e-6, reason, kind.example));
  }
  return lines;
}

}  // namespace narrow
