#include "jobs/scheme_targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

namespace narrow {
namespace {

// The text as a regular expression that matches it alone.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || (c & 0x80) != 0;
    if (!plain) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

bool IsNumber(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == part.npos;
}

// A name with its numbers taken out: what is before its first number, that, and what follows it
// with \d+ for other numbers, ready for a regular expression. Names without numbers have neither.
struct Numbered {
  std::string before;
  std::string number;
  std::string behind;
};

Numbered TakeApart(std::string_view module) {
  Numbered result;
  std::string parent;
  while (!module.empty()) {
    const std::string_view part = module.substr(0, module.find('.'));
    module.remove_prefix(std::min(module.size(), part.size() + 1));
    if (result.number.empty() && IsNumber(part)) {
      result.before = Escaped(parent);
      result.number = part;
    } else if (result.number.empty()) {
      parent = part;
    } else {
      result.behind += "\\." + (IsNumber(part) ? std::string("\\d+") : Escaped(part));
    }
  }
  return result;
}

}  // namespace

std::vector<std::vector<std::string>> SchemeTargets(
    const std::vector<std::vector<std::string>>& modules) {
  // Kind of name -> list -> first numbers; and the list of each kind with its first number.
  std::map<std::string, std::map<std::size_t, std::set<std::string>>> kinds;
  std::map<std::string, std::set<std::size_t>> lists;
  const auto shared = [&lists](const std::string& kind, const std::string& number) {
    return lists.at(kind + "|" + number).size() > 1;
  };
  for (std::size_t list = 0; list < modules.size(); ++list) {
    for (const std::string& module : modules[list]) {
      const Numbered name = TakeApart(module);
      const std::string kind = name.before + "|" + name.behind;
      kinds[kind][list].insert(name.number);
      lists[kind + "|" + name.number].insert(list);
    }
  }
  std::vector<std::vector<std::string>> targets(modules.size());
  for (std::size_t list = 0; list < modules.size(); ++list) {
    std::set<std::string> seen;
    for (const std::string& module : modules[list]) {
      const Numbered name = TakeApart(module);
      const std::string kind = name.before + "|" + name.behind;
      const auto& by_list = kinds.at(kind);
      if (name.number.empty() || shared(kind, name.number)) {
        targets[list].push_back(module);
      } else if (seen.insert(kind).second) {
        std::string number = "\\d+";
        if (by_list.size() > 1) {
          std::set<std::string> own = by_list.at(list);
          std::erase_if(own, [&](const std::string& each) { return shared(kind, each); });
          number = fmt::format("({})", fmt::join(own, "|"));
        }
        targets[list].push_back(fmt::format("re:.*{}\\.{}{}$", name.before, number, name.behind));
      }
    }
  }
  return targets;
}

}  // namespace narrow
