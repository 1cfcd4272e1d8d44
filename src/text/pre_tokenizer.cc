#include "text/pre_tokenizer.h"

#include "text/byte_level.h"
#include "text/utf8.h"

namespace narrow {

// Joins matches and the text between them as a behaviour of Split asks, and passes each finished
// part to the next step. Source: NormalizedString::split of `tokenizers`.
class PreTokenizer::Joiner {
 public:
  Joiner(const PreTokenizer& owner, std::size_t next_step, std::string_view text, Position position,
         Behavior behavior, const Sink& sink)
      : owner_(owner),
        next_step_(next_step),
        text_(text),
        position_(position),
        behavior_(behavior),
        sink_(sink) {}

  // Ranges come in order and touch each other; they may be empty.
  void Add(TextRange range, bool is_match) {
    switch (behavior_) {
      case Behavior::kRemoved:
        if (!is_match) Emit(range);
        return;
      case Behavior::kIsolated:
        Emit(range);
        return;
      case Behavior::kMergedWithPrevious:
        Hold(range, is_match && !held_match_);
        break;
      case Behavior::kMergedWithNext:
        Hold(range, !is_match && held_match_);
        break;
      case Behavior::kContiguous:
        Hold(range, is_match == held_match_);
        break;
    }
    held_match_ = is_match;
  }

  void Finish() {
    if (holding_) Emit(held_);
    holding_ = false;
  }

 private:
  void Hold(TextRange range, bool join) {
    if (holding_ && join) {
      held_.end = range.end;
      return;
    }
    Finish();
    held_ = range;
    holding_ = true;
  }

  void Emit(TextRange range) {
    if (range.empty()) return;
    const auto begin = static_cast<std::size_t>(range.begin);
    owner_.Run(next_step_, text_.substr(begin, static_cast<std::size_t>(range.end) - begin),
               begin == 0 ? position_ : Position::kInside, sink_);
  }

  const PreTokenizer& owner_;
  std::size_t next_step_;
  std::string_view text_;
  Position position_;
  Behavior behavior_;
  const Sink& sink_;
  TextRange held_;
  bool holding_ = false;
  bool held_match_ = false;
};

void PreTokenizer::Run(std::size_t step, std::string_view text, Position position,
                       const Sink& sink) const {
  if (step == steps_.size()) return sink(text);
  const Step& current = steps_[step];
  if (const auto* split = std::get_if<RegexSplit>(&current)) {
    Joiner joiner(*this, step + 1, text, position, split->behavior, sink);
    return RunRegex(*split, text, joiner);
  }
  if (const auto* split = std::get_if<ClassSplit>(&current)) {
    Joiner joiner(*this, step + 1, text, position, split->behavior, sink);
    return RunClass(*split, text, joiner);
  }
  if (const auto* metaspace = std::get_if<Metaspace>(&current)) {
    return Run(step + 1, MarkSpaces(*metaspace, text, position), position, sink);
  }
  if (std::holds_alternative<Spelling>(current)) {
    return Run(step + 1, SpellBytes(text), position, sink);
  }
  if (text.starts_with(' ')) return Run(step + 1, text, position, sink);
  std::string prefixed(1, ' ');
  prefixed += text;
  Run(step + 1, prefixed, position, sink);
}

void PreTokenizer::RunRegex(const RegexSplit& split, std::string_view text, Joiner& joiner) const {
  MatchIterator matches(split.pattern, text);
  int64_t end = 0;
  while (const auto match = matches.Next()) {
    if (match->begin > end) joiner.Add({end, match->begin}, split.invert);
    joiner.Add(*match, !split.invert);
    end = match->end;
  }
  const auto size = static_cast<int64_t>(text.size());
  if (end < size) joiner.Add({end, size}, split.invert);
  joiner.Finish();
}

void PreTokenizer::RunClass(const ClassSplit& split, std::string_view text, Joiner& joiner) const {
  const auto size = static_cast<int64_t>(text.size());
  int64_t begin = 0;
  int64_t next = 0;
  for (int64_t i = 0; i < size; i = next) {
    next = i + Utf8Length(text[static_cast<std::size_t>(i)]);
    if (!split.contains(DecodeUtf8(text, i))) continue;
    if (begin < i) joiner.Add({begin, i}, false);
    joiner.Add({i, next}, true);
    begin = next;
  }
  if (begin < size) joiner.Add({begin, size}, false);
  joiner.Finish();
}

std::string PreTokenizer::MarkSpaces(const Metaspace& step, std::string_view text,
                                     Position position) const {
  std::string marked;
  marked.reserve(text.size() + text.size() / 2 + step.replacement.size());
  const bool wanted = step.prepend == Prepend::kAlways ||
                      (step.prepend == Prepend::kFirst && position == Position::kStart);
  if (wanted && !text.starts_with(' ') && !text.starts_with(step.replacement)) {
    marked = step.replacement;
  }
  for (const char c : text) {
    if (c == ' ') {
      marked += step.replacement;
    } else {
      marked += c;
    }
  }
  return marked;
}

}  // namespace narrow
