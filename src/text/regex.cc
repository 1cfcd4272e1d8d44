#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>

#include "base/error.h"
#include "io/json.h"
#include "text/utf8.h"

namespace narrow {
namespace {

constexpr std::size_t kMaxPatternBytes = 65536;
constexpr uint32_t kMatchLimit = 10'000'000;  // backtracking steps, PCRE2's own default
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr std::size_t kJitStackBytes = 32 * 1024;
constexpr std::size_t kMaxJitStackBytes = 16 * 1024 * 1024;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof buffer) < 0) return "unknown PCRE2 error";
  return reinterpret_cast<const char*>(buffer);
}

// What a match works in; one a thread, since making it costs more than a match.
class MatchWorkspace {
 public:
  MatchWorkspace()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(kJitStackBytes, kMaxJitStackBytes, nullptr)) {
    NARROW_CHECK(data_ != nullptr && context_ != nullptr);
    pcre2_set_match_limit(context_, kMatchLimit);
    pcre2_set_heap_limit(context_, kHeapLimitKib);
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~MatchWorkspace() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }
  MatchWorkspace(const MatchWorkspace&) = delete;
  MatchWorkspace& operator=(const MatchWorkspace&) = delete;
  pcre2_match_data* data() { return data_; }
  pcre2_match_context* context() { return context_; }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

MatchWorkspace& Workspace() {
  thread_local MatchWorkspace workspace;
  return workspace;
}

std::string EscapeLiteral(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) {
      escaped += "\\x{0}";
      continue;
    }
    const bool word = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                      (byte >= 'A' && byte <= 'Z') || byte >= 0x80;
    if (!word) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

struct Regex::Code {
  ~Code() { pcre2_code_free(compiled); }
  pcre2_code* compiled = nullptr;
  bool jit = false;
  std::string pattern;
};

Regex::Regex(std::string_view pattern) : Regex(pattern, TranslateOniguruma(pattern)) {}

Regex Regex::Literal(std::string_view text) { return Regex(text, EscapeLiteral(text)); }

Regex::Regex(std::string_view original, const std::string& translated) {
  if (translated.size() > kMaxPatternBytes) {
    Fail(ErrorCode::kUnsupported, "regular expression of {} bytes; at most {} are supported",
         translated.size(), kMaxPatternBytes);
  }
  auto code = std::make_shared<Code>();
  code->pattern = original;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                 &error, &offset, nullptr);
  if (code->compiled == nullptr) {
    const bool known_limit = error == PCRE2_ERROR_UNKNOWN_UNICODE_PROPERTY ||
                             error == PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH ||
                             error == PCRE2_ERROR_PATTERN_TOO_LARGE;
    Fail(known_limit ? ErrorCode::kUnsupported : ErrorCode::kCorruptInput,
         "regular expression {} does not compile: {}", Quoted(original), ErrorText(error));
  }
  code->jit = pcre2_jit_compile(code->compiled, PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

std::optional<TextRange> Regex::Find(std::string_view text, int64_t from) const {
  MatchWorkspace& workspace = Workspace();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
  const int count =
      code_->jit
          ? pcre2_jit_match(code_->compiled, subject, text.size(), static_cast<PCRE2_SIZE>(from), 0,
                            workspace.data(), workspace.context())
          : pcre2_match(code_->compiled, subject, text.size(), static_cast<PCRE2_SIZE>(from),
                        PCRE2_NO_UTF_CHECK, workspace.data(), workspace.context());
  if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (count < 0) {
    Fail(ErrorCode::kUnsupported,
         "regular expression {} gave up {} bytes into a text of {} bytes: {}",
         Quoted(code_->pattern), from, text.size(), ErrorText(count));
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(workspace.data());
  // \K inside a lookahead can put the start behind the end.
  if (range[0] > range[1]) {
    Fail(ErrorCode::kUnsupported, "regular expression {} matches backwards",
         Quoted(code_->pattern));
  }
  return TextRange{static_cast<int64_t>(range[0]), static_cast<int64_t>(range[1])};
}

std::optional<TextRange> MatchIterator::Next() {
  const auto size = static_cast<int64_t>(text_.size());
  while (position_ <= size) {
    const std::optional<TextRange> match = regex_.Find(text_, position_);
    if (!match) break;
    if (match->empty() && match->end == last_end_) {
      position_ += position_ < size ? Utf8Length(text_[static_cast<std::size_t>(position_)]) : 1;
      continue;
    }
    position_ = match->end;
    last_end_ = match->end;
    return match;
  }
  position_ = size + 1;
  return std::nullopt;
}

}  // namespace narrow
