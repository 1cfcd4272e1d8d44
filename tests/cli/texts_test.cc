// What is done with the documents of a text: those that are empty, too few, of another type, with
// special tokens of their own, or token ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/cli/interrupted_job.h"

namespace narrow {
namespace {

using testing::HasSubstr;
using testing::Not;

class Texts : public testing::Test {
 protected:
  void SetUp() override { WriteTinyModel(Path("model"), {}); }

  std::string Path(const std::string& name) const { return (scratch_.path() / name).string(); }
  std::string Put(const std::string& name, const std::string& contents) const {
    WriteFile(Path(name), contents);
    return Path(name);
  }

  // {"text": ...} of the texts, a line each.
  static std::string TextLines(const std::vector<std::string>& texts) {
    std::string lines;
    for (const std::string& text : texts) lines += Json({{"text", text}}).dump() + "\n";
    return lines;
  }
  static std::string TokenLines(const std::vector<std::vector<int32_t>>& documents) {
    std::string lines;
    for (const auto& ids : documents) lines += Json({{"tokens", ids}}).dump() + "\n";
    return lines;
  }
  // Ids of the tiny model's vocabulary that depend on the seed, after the begin of text.
  static std::vector<int32_t> Ids(int64_t count, uint32_t seed) {
    std::vector<int32_t> ids = {256};
    while (std::ssize(ids) < count) {
      seed = seed * 1664525u + 1013904223u;
      ids.push_back(static_cast<int32_t>(seed >> 24));
    }
    return ids;
  }

  CommandResult Calibrate(const std::string& output, const std::string& lines,
                          const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "quantize",  "--model_dir",         Path("model"),       "--output_dir", Path(output),
        "--dataset", Put("c.jsonl", lines), "--skip_evaluation", "--overwrite"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(arguments);
  }
  Json Calibration(const std::string& output) const {
    return ReadJsonFile(Path(output) + "/narrow-report.json").at("calibration");
  }
  CommandResult Evaluate(const std::string& text, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"evaluate", "--model_dir", Path("model"), "--eval_data",
                                          text,       "--json",      Path("e.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunNarrow(arguments);
  }
  // Of token ids, a window a line.
  Json EvaluateIds(const std::vector<std::vector<int32_t>>& windows,
                   const std::vector<std::string>& more = {}) const {
    const CommandResult result = Evaluate(Put("e.jsonl", TokenLines(windows)), more);
    EXPECT_EQ(result.status, 0) << result.error;
    return ReadJsonFile(Path("e.json"));
  }
  static void ExpectRefused(const CommandResult& result, ErrorCode code,
                            const std::string& message) {
    EXPECT_EQ(result.status, static_cast<int>(code)) << result.error;
    EXPECT_THAT(result.LastErrorLine(), HasSubstr(message));
  }

  ScratchDirectory scratch_;
};

TEST_F(Texts, FewerDocumentsThanAskedForAreSaidEverywhere) {
  const CommandResult result = Calibrate("out", TextLines({"hello world", "good bye"}));
  ASSERT_EQ(result.status, 0) << result.error;
  const std::string said = "c.jsonl has 2 documents, fewer than the 128 asked for";
  EXPECT_THAT(result.error, HasSubstr("warning: " + said));
  EXPECT_THAT(result.output, HasSubstr("2 of 128 samples"));
  EXPECT_EQ(Calibration("out").at("samples_asked"), 128);
  for (const char* file : {"narrow-report.json", "report.html"}) {
    EXPECT_THAT(ReadFile(Path("out") + "/" + file), HasSubstr(said)) << file;
  }
  EXPECT_THAT(ReadFile(Path("out") + "/README.md"), HasSubstr("2 of 128 samples"));
  const CommandResult enough =
      Calibrate("out", TextLines({"hello world", "good bye"}), {"--num_calib_data", "2"});
  EXPECT_THAT(enough.error, Not(HasSubstr("fewer than")));
  EXPECT_THAT(enough.output, HasSubstr("c.jsonl, 2 samples"));
}

TEST_F(Texts, FewerWindowsThanAskedForAreSaid) {
  const std::string text = Put("e.txt", std::string(199, 'x'));
  const std::vector<std::string> flags = {"--window_tokens", "100", "--eval_windows"};
  const auto with = [&](const char* windows) {
    std::vector<std::string> more = flags;
    more.push_back(windows);
    return Evaluate(text, more).error;
  };
  EXPECT_THAT(with("3"), HasSubstr("warning: e.txt has 2 windows, fewer than the 3 asked for"));
  EXPECT_THAT(with("2"), Not(HasSubstr("warning")));
}

TEST_F(Texts, EmptyDocumentsArePassedOverAndCounted) {
  const std::string lines = TextLines({"", " \n", "\t", "hello world", "", "good bye", ""});
  const CommandResult result = Calibrate("out", lines, {"--num_calib_data", "2"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("warning: 4 empty documents of c.jsonl were passed over"));
  EXPECT_EQ(Calibration("out").at("samples"), 2);
  EXPECT_EQ(Calibration("out").at("empty_documents"), 4);
  EXPECT_EQ(Calibration("out").at("tokens"), 12 + 9);  // with the begin of text
  ExpectRefused(Calibrate("none", TextLines({"", " "})), ErrorCode::kCorruptInput,
                "there is no text in it; all 2 documents are empty");
}

TEST_F(Texts, OtherMembersMayBeNanAndTextsMayNotBeNull) {
  const CommandResult result =
      Calibrate("out", "{\"text\": \"hello\", \"score\": NaN, \"tokens\": -Infinity}\n");
  EXPECT_EQ(result.status, 0) << result.error;
  ExpectRefused(Calibrate("out", "{\"text\": \"a\"}\n{\"text\": null}\n"), ErrorCode::kCorruptInput,
                "c.jsonl, line 2: \"text\" is null");
  ExpectRefused(Calibrate("out", "{\"content\": \"a\"}\n"), ErrorCode::kCorruptInput,
                "c.jsonl, line 1: \"text\" is missing");
  ExpectRefused(Calibrate("out", "{\"text\": NaN}\n"), ErrorCode::kCorruptInput,
                "c.jsonl, line 1: \"text\" should be a string, found");
  ExpectRefused(Calibrate("out", "{\"tokens\": [1, NaN]}\n"), ErrorCode::kCorruptInput,
                "c.jsonl, line 1: token 2 should be a whole number");
}

TEST_F(Texts, TwoBeginsOfTextAreSaidAndCanBeLeftOut) {
  const std::string lines =
      TextLines({"<|begin|>hello world", "plain text", "<|begin|>user: hi<|end|>"});
  const std::vector<std::string> three = {"--num_calib_data", "3"};
  const CommandResult twice = Calibrate("twice", lines, three);
  ASSERT_EQ(twice.status, 0) << twice.error;
  EXPECT_THAT(twice.error,
              HasSubstr("warning: 2 of 3 samples of c.jsonl start with \"<|begin|>\" twice"));
  EXPECT_THAT(twice.error, HasSubstr("--no_special_tokens"));
  const CommandResult once =
      Calibrate("once", lines, {"--num_calib_data", "3", "--no_special_tokens"});
  ASSERT_EQ(once.status, 0) << once.error;
  EXPECT_THAT(once.error, Not(HasSubstr("twice")));
  EXPECT_EQ(Calibration("once").at("tokens"), Calibration("twice").at("tokens").get<int>() - 3);

  const std::string text = Put("e.txt", "<|begin|>" + std::string(98, 'x'));
  const std::vector<std::string> flags = {"--window_tokens", "99"};
  const CommandResult evaluated = Evaluate(text, flags);
  EXPECT_THAT(evaluated.error, HasSubstr("1 of 1 texts of e.txt start with \"<|begin|>\" twice"));
  EXPECT_EQ(ReadJsonFile(Path("e.json")).at("tokens"), 99);
  const double with_two = ReadJsonFile(Path("e.json")).at("perplexity");
  EXPECT_THAT(Evaluate(text, {"--window_tokens", "99", "--no_special_tokens"}).error,
              Not(HasSubstr("twice")));
  const double with_one = ReadJsonFile(Path("e.json")).at("perplexity");
  EXPECT_NE(with_one, with_two);
  std::vector<int32_t> ids(99, 'x');
  ids.front() = 256;
  const Json expected = EvaluateIds({ids});
  EXPECT_EQ(expected.at("perplexity"), with_one);
  ids.insert(ids.begin(), 256);
  EXPECT_THAT(
      Evaluate(Put("e.jsonl", TokenLines({ids}))).error,
      HasSubstr("1 of 1 windows of e.jsonl start with token 256 (the begin of text) twice"));
}

// What narrow tokenize prints is a data set, and one without a tokenizer.
TEST_F(Texts, IdsAreCalibratedOnAsTheirTextsAre) {
  const std::vector<std::string> texts = {"hello world", "",
                                          "f\xC3\xBC"
                                          "nf <|end|>",
                                          "good bye"};
  const std::vector<std::string> flags = {"--num_calib_data", "3", "--kv_cache_dtype", "fp8"};
  const CommandResult of_texts = Calibrate("texts", TextLines(texts), flags);
  ASSERT_EQ(of_texts.status, 0) << of_texts.error;
  const CommandResult ids =
      RunNarrow({"tokenize", "--model_dir", Path("model"), "--input_file", Path("c.jsonl")});
  ASSERT_EQ(ids.status, 0) << ids.error;
  std::filesystem::remove(Path("model") + "/tokenizer.json");
  // The begin of text alone is what tokenize makes of the empty text.
  std::string lines = ids.output;
  lines.replace(lines.find("[256]\n"), 6, "[]\n");
  const CommandResult of_ids = Calibrate("ids", lines, flags);
  ASSERT_EQ(of_ids.status, 0) << of_ids.error;
  EXPECT_EQ(Calibration("texts"), Calibration("ids"));
  EXPECT_TRUE(ReadFile(Path("texts") + "/model.safetensors") ==
              ReadFile(Path("ids") + "/model.safetensors"));
}

TEST_F(Texts, SamplesOfIdsAreNotCut) {
  const std::string lines = TokenLines({Ids(300, 1), Ids(20, 2)});
  ASSERT_EQ(Calibrate("whole", lines, {"--seq_len", "8"}).status, 0);
  EXPECT_EQ(Calibration("whole").at("tokens"), 320);
}

// Windows of ids have the losses they have alone, and count by their tokens.
TEST_F(Texts, WindowsOfIdsAreTakenAsTheyAre) {
  std::filesystem::remove(Path("model") + "/tokenizer.json");
  const std::vector<std::vector<int32_t>> windows = {Ids(2, 1), Ids(700, 2), Ids(33, 3)};
  double sum = 0;
  std::vector<double> losses;
  int64_t predicted = 0;
  for (const auto& ids : windows) {
    const Json alone = EvaluateIds({ids});
    losses.push_back(alone.at("window_nll").at(0));
    EXPECT_NEAR(alone.at("perplexity").get<double>(), std::exp(losses.back()),
                1e-12 * std::exp(losses.back()));
    sum += losses.back() * static_cast<double>(ids.size() - 1);
    predicted += std::ssize(ids) - 1;
  }
  const CommandResult result =
      Evaluate(Put("e.jsonl", TokenLines(windows)), {"--window_tokens", "8"});
  ASSERT_EQ(result.status, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("(3 windows of 2 to 700 tokens of e.jsonl)"));
  const Json together = ReadJsonFile(Path("e.json"));
  EXPECT_EQ(together.at("window_nll").get<std::vector<double>>(), losses);
  const double expected = std::exp(sum / static_cast<double>(predicted));
  EXPECT_NEAR(together.at("perplexity").get<double>(), expected, 1e-12 * expected);
  EXPECT_EQ(together.at("tokens"), 735);
  EXPECT_EQ(together.at("window_tokens"), 700);
  EXPECT_EQ(together.at("shortest_window_tokens"), 2);
  const Json first = EvaluateIds(windows, {"--eval_windows", "2", "--eval_window_order", "first"});
  EXPECT_EQ(first.at("window_nll").get<std::vector<double>>(),
            std::vector<double>(losses.begin(), losses.begin() + 2));
}

TEST_F(Texts, WindowsOfIdsAreMeasuredBesideTheirQuantizedNetwork) {
  std::filesystem::remove(Path("model") + "/tokenizer.json");
  const std::vector<std::vector<int32_t>> windows = {Ids(90, 1), Ids(7, 2), Ids(33, 3)};
  const std::string text = Put("e.jsonl", TokenLines(windows));
  const CommandResult result =
      RunNarrow({"quantize", "--model_dir", Path("model"), "--output_dir", Path("out"), "--dataset",
                 text, "--eval_data", text, "--num_calib_data", "3"});
  ASSERT_EQ(result.status, 0) << result.error;
  const Json evaluation = ReadJsonFile(Path("out") + "/narrow-report.json").at("evaluation");
  const auto exp_of_mean = [&](const char* network) {
    double sum = 0;
    for (std::size_t w = 0; w < windows.size(); ++w) {
      sum += evaluation.at("window_nll").at(network).at(w).get<double>() *
             static_cast<double>(windows[w].size() - 1);
    }
    return std::exp(sum / (130 - 3));
  };
  for (const char* network : {"original", "quantized"}) {
    EXPECT_NEAR(evaluation.at("perplexity").at(network).get<double>(), exp_of_mean(network), 1e-9);
  }
  // The worst tokens are shown as the ids they are.
  for (const Json& worst : evaluation.at("worst_tokens")) {
    const auto window = worst.at("window").get<std::size_t>();
    const auto position = worst.at("position").get<std::size_t>();
    EXPECT_EQ(worst.at("token"), fmt::format("{}", windows[window][position]));
  }
  const double original = evaluation.at("perplexity").at("original");
  EXPECT_NEAR(EvaluateIds(windows).at("perplexity").get<double>(), original, 1e-9 * original);
}

TEST_F(Texts, IdsThatAreNoneAreRefusedWithTheirLine) {
  const std::string good = "{\"tokens\": [256, 1, 2]}\n\n";
  const std::pair<const char*, const char*> cases[] = {
      {"[1, 258]", "line 3 gives token id 258, but the model's vocabulary has 258 entries"},
      {"[1, -1]", "line 3: token 2 should be a whole number"},
      {"[1, 1.0]", "line 3: token 2 should be a whole number"},
      {"[1, \"a\"]", "line 3: token 2 should be a whole number"},
      {"[1, 4294967296]", "line 3: token 2 should be a whole number"},
      {"{\"text\": \"a\"}", "line 3: is text, but line 1 is token ids"},
      {"{\"text\": \"a\", \"tokens\": [1, 2]}", "line 3: has \"text\" and \"tokens\""}};
  for (const auto& [line, message] : cases) {
    SCOPED_TRACE(line);
    ExpectRefused(Calibrate("out", good + line), ErrorCode::kCorruptInput, message);
    ExpectRefused(Evaluate(Put("e.jsonl", good + line)), ErrorCode::kCorruptInput, message);
  }
  for (const char* window : {"[]", "[5]"}) {
    ExpectRefused(Evaluate(Put("e.jsonl", good + window)), ErrorCode::kCorruptInput,
                  "line 3: a window needs at least 2 tokens, found");
  }
  EXPECT_EQ(Calibrate("out", "[5]\n").status, 0);  // one token shows what it shows
  EXPECT_FALSE(std::filesystem::exists(Path("e.json")));
}

TEST_F(Texts, TextsNeedATokenizer) {
  std::filesystem::remove(Path("model") + "/tokenizer.json");
  ExpectRefused(Calibrate("out", TextLines({"a"})), ErrorCode::kNotFound, "tokenizer.json");
  ExpectRefused(Evaluate(Put("e.txt", "some text")), ErrorCode::kNotFound, "tokenizer.json");
}

// A tokenizer that cannot be used is none: the ids do without.
TEST_F(Texts, IdsDoNotNeedATokenizerThatCanBeRead) {
  Put("model/tokenizer.json", R"({"model": {"type": "Unigram", "vocab": []}})");
  EXPECT_EQ(EvaluateIds({Ids(30, 1)}).at("windows"), 1);
  EXPECT_EQ(Calibrate("out", TokenLines({Ids(30, 1)})).status, 0);
}

// A job on windows of ids that is stopped; the same ids cut into other windows are another job.
class ResumedIds : public InterruptedJob {
 protected:
  std::vector<std::string> Arguments(const std::string& output,
                                     const std::vector<std::string>& more) const override {
    std::vector<std::string> arguments = InterruptedJob::Arguments(output, more);
    for (const char* flag : {"--dataset", "--eval_data"}) {
      *(std::find(arguments.begin(), arguments.end(), flag) + 1) = Path("ids.jsonl");
    }
    return arguments;
  }
  // `lengths` of one run of ids.
  void WriteIds(const std::vector<int64_t>& lengths) const {
    std::string lines;
    int64_t next = 0;
    for (const int64_t length : lengths) {
      Json ids = Json::array();
      for (int64_t i = 0; i < length; ++i) {
        ids.push_back(next * next % 251);
        ++next;
      }
      lines += ids.dump() + "\n";
    }
    WriteFile(Path("ids.jsonl"), lines);
  }
};

TEST_F(ResumedIds, ContinuesWithTheWindowsItBeganWith) {
  WriteIds({700, 3, 1200, 90, 400});
  ASSERT_EQ(Run("reference").status, 0);
  StopAfterLayer("output", 2, SIGTERM);
  ASSERT_GE(LayersDone("output"), 2);
  WriteIds({703, 1200, 90, 2, 398});
  ExpectRefused(Run("output"), ErrorCode::kInvalidArgument, "belongs to another job");
  WriteIds({700, 3, 1200, 90, 400});
  const CommandResult last = Run("output");
  ASSERT_EQ(last.status, 0) << last.error;
  EXPECT_THAT(last.error, HasSubstr("Continuing after layer "));
  ExpectSameResult("reference", "output");
}

// By hand: the ids of each window, the begin of text in front, the last one dropped.
TEST_F(Texts, WindowsMayBeginWithTheBeginOfText) {
  std::vector<int32_t> ids = Ids(60, 3);
  std::string text;
  for (std::size_t i = 1; i < ids.size(); ++i) text += static_cast<char>(ids[i] = 32 + ids[i] % 90);
  const std::string path = Put("e.txt", text);
  std::vector<std::vector<int32_t>> plain;
  std::vector<std::vector<int32_t>> begun;
  for (int i = 0; i < 3; ++i) {
    const auto first = ids.begin() + 20 * i;
    plain.emplace_back(first, first + 20);
    begun.emplace_back(first, first + 20);
    if (i == 0) continue;
    begun.back().insert(begun.back().begin(), 256);
    begun.back().pop_back();
  }
  const std::string length = "20";
  const auto losses = [&](const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"--window_tokens", length};
    flags.insert(flags.end(), more.begin(), more.end());
    const CommandResult result = Evaluate(path, flags);
    EXPECT_EQ(result.status, 0) << result.error;
    const bool always = more.size() > 1 && more[1] == "always";
    EXPECT_EQ(result.output.find("begin of text first") != std::string::npos, always);
    EXPECT_EQ(ReadJsonFile(Path("e.json")).contains("window_bos"), always);
    return ReadJsonFile(Path("e.json")).at("window_nll");
  };
  const Json as_text = EvaluateIds(plain).at("window_nll");
  const Json with_begin = EvaluateIds(begun).at("window_nll");
  EXPECT_NE(as_text, with_begin);
  EXPECT_EQ(losses({}), as_text);
  EXPECT_EQ(losses({"--window_bos", "never"}), as_text);
  EXPECT_EQ(losses({"--window_bos", "always"}), with_begin);
  // Windows of ids stay as they are.
  EXPECT_EQ(EvaluateIds(plain, {"--window_bos", "always"}).at("window_nll"), as_text);
}

}  // namespace
}  // namespace narrow
