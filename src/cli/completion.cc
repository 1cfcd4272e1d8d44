#include "cli/completion.h"

#include <fmt/format.h>

#include <memory>
#include <string_view>
#include <vector>

#include "cli/standard_output.h"

namespace narrow {
namespace {

struct Flag {
  std::string name;  // "--model_dir"
  std::string description;
  bool takes_value = false;
  std::vector<std::string> choices;  // of its value; empty: anything
};

// The list in a type such as "TEXT:{gptq,none}", as CLI11's IsMember writes it.
std::vector<std::string> ChoicesOf(const std::string& type) {
  std::vector<std::string> choices;
  const std::size_t begin = type.find(":{");
  if (begin == type.npos || !type.ends_with('}')) return choices;
  std::string_view rest(type);
  rest = rest.substr(begin + 2, rest.size() - begin - 3);
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    choices.emplace_back(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return choices;
}

std::vector<Flag> FlagsOf(const CLI::App& app) {
  std::vector<Flag> flags;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    for (const std::string& name : option->get_lnames()) {
      flags.push_back({"--" + name, option->get_description(), option->get_items_expected_max() > 0,
                       ChoicesOf(option->get_type_name())});
    }
  }
  return flags;
}

// What may stand in place of the first argument that is no flag; empty: a file.
std::vector<std::string> PositionalChoices(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) return ChoicesOf(option->get_type_name());
  }
  return {};
}

std::string Names(const std::vector<Flag>& flags) {
  std::string names;
  for (const Flag& flag : flags) names += (names.empty() ? "" : " ") + flag.name;
  return names;
}

std::vector<const CLI::App*> CommandsOf(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App*) { return true; });
}

// `text` for a description of _arguments or _describe, inside single quotes.
std::string ZshText(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\'') {
      escaped += "'\\''";
    } else {
      if (c == '[' || c == ']' || c == ':' || c == '\\') escaped += '\\';
      escaped += c;
    }
  }
  return escaped;
}

std::string ZshArgument(const std::vector<std::string>& choices) {
  if (choices.empty()) return ":value:_files";
  return fmt::format(":value:({})", fmt::join(choices, " "));
}

std::string ZshArguments(const CLI::App& app) {
  std::string text = "      _arguments";
  for (const Flag& flag : FlagsOf(app)) {
    text += fmt::format(" \\\n        '{}[{}]{}'", flag.name, ZshText(flag.description),
                        flag.takes_value ? ZshArgument(flag.choices) : std::string());
  }
  return text + fmt::format(" \\\n        '*{}'\n", ZshArgument(PositionalChoices(app)));
}

}  // namespace

std::string BashCompletion(const CLI::App& program) {
  std::string commands;
  std::string values;
  std::string flags;
  for (const CLI::App* command : CommandsOf(program)) {
    const std::string& name = command->get_name();
    commands += name + " ";
    const std::vector<Flag> known = FlagsOf(*command);
    for (const Flag& flag : known) {
      if (flag.choices.empty()) continue;
      values += fmt::format("    '{} {}') words='{}' ;;\n", name, flag.name,
                            fmt::join(flag.choices, " "));
    }
    flags += fmt::format("    '{} -'*) words='{}' ;;\n", name, Names(known));
    const std::vector<std::string> choices = PositionalChoices(*command);
    if (choices.empty()) continue;
    flags += fmt::format("    '{} '*) words='{}' ;;\n", name, fmt::join(choices, " "));
  }
  return fmt::format(
      "# bash completion for narrow, made by: narrow completion bash\n"
      "_narrow() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} words=''\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    words='{}{}'\n"
      "  else\n"
      "    case \"${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}\" in\n"
      "{}"
      "    *) case \"${{COMP_WORDS[1]}} $current\" in\n"
      "{}"
      "    esac ;;\n"
      "    esac\n"
      "  fi\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
      "}}\n"
      "complete -o default -F _narrow narrow\n",
      commands, Names(FlagsOf(program)), values, flags);
}

std::string ZshCompletion(const CLI::App& program) {
  std::string commands;
  std::string cases;
  for (const CLI::App* command : CommandsOf(program)) {
    commands +=
        fmt::format("    '{}:{}'\n", command->get_name(), ZshText(command->get_description()));
    cases += fmt::format("    {})\n{}      ;;\n", command->get_name(), ZshArguments(*command));
  }
  std::string own;
  for (const Flag& flag : FlagsOf(program)) {
    own += fmt::format(" '{}[{}]'", flag.name, ZshText(flag.description));
  }
  return fmt::format(
      "#compdef narrow\n"
      "# zsh completion for narrow, made by: narrow completion zsh\n"
      "_narrow() {{\n"
      "  local -a commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    _arguments{}\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $command in\n{}  esac\n"
      "}}\n"
      "_narrow \"$@\"\n",
      commands, own, cases);
}

void AddCompletionCommand(CLI::App& program, std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "completion", "Print what a shell reads to complete commands and flags of narrow");
  const auto shell = std::make_shared<std::string>();
  command.add_option("shell", *shell, "Shell that reads it")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh"}));
  command.callback([shell, &program, &run] {
    run = [shell, &program] {
      Print(*shell == "bash" ? BashCompletion(program) : ZshCompletion(program));
      return 0;
    };
  });
}

}  // namespace narrow
