#include "import/byte_pair_vocabulary.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/utf8.h"

namespace narrow {
namespace {

// Looking for the pairs of a piece takes the square of its length.
constexpr std::size_t kMaxPieceBytes = 1024;

struct PiecePair {
  std::string_view left;
  std::string_view right;
  double score = 0;  // of the joined piece
};

// Added tokens are cut out of the text before pieces are joined, so no pair leads to one or uses
// one. Pairs of one piece come in order of the left piece's id; where ids rank, the longest left
// piece first.
std::vector<PiecePair> FindPairs(const TokenizerSource& source, const std::string& what) {
  std::unordered_map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < source.tokens.size(); ++id) {
    if (!source.Added(static_cast<int64_t>(id))) ids.emplace(source.tokens[id], id);
  }
  const bool by_id = source.order == PieceOrder::kIds;
  std::vector<PiecePair> pairs;
  for (std::size_t id = 0; id < source.tokens.size(); ++id) {
    const std::string_view piece = source.tokens[id];
    if (!ids.contains(piece)) continue;
    if (piece.size() > kMaxPieceBytes) {
      Fail(ErrorCode::kUnsupported, "{}: a SentencePiece token of {} bytes; at most {} are handled",
           what, piece.size(), kMaxPieceBytes);
    }
    const auto first = static_cast<std::ptrdiff_t>(pairs.size());
    for (std::size_t cut = Utf8Length(piece[0]); cut < piece.size();
         cut += static_cast<std::size_t>(Utf8Length(piece[cut]))) {
      const std::string_view left = piece.substr(0, cut);
      const std::string_view right = piece.substr(cut);
      if (!ids.contains(left) || !ids.contains(right)) continue;
      pairs.push_back({left, right, by_id ? -static_cast<double>(id) : (*source.scores)[id]});
    }
    std::sort(pairs.begin() + first, pairs.end(), [&](const PiecePair& a, const PiecePair& b) {
      return by_id ? a.left.size() > b.left.size() : ids.at(a.left) < ids.at(b.left);
    });
  }
  return pairs;
}

Json SentencePieceMerges(const TokenizerSource& source, const std::string& what) {
  std::vector<PiecePair> pairs = FindPairs(source, what);
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const PiecePair& a, const PiecePair& b) { return a.score > b.score; });
  Json merges = Json::array();
  for (const PiecePair& pair : pairs) {
    merges.push_back(std::string(pair.left) + ' ' + std::string(pair.right));
  }
  return merges;
}

}  // namespace

Json VocabularyJson(const TokenizerSource& source) {
  auto count = static_cast<int64_t>(source.tokens.size());
  while (count > 0 && source.Added(count - 1)) --count;
  Json vocabulary = Json::object();
  // Through the sequence underneath: the map's own insertion searches all keys, which are known to
  // be distinct.
  auto& members = vocabulary.get_ref<Json::object_t&>();
  for (int64_t id = 0; id < count; ++id) {
    static_cast<Json::object_t::Container&>(members).emplace_back(source.Token(id), id);
  }
  return vocabulary;
}

Json MergesJson(const TokenizerSource& source, const std::string& what) {
  if (source.kind == TokenizerKind::kSentencePiece) return SentencePieceMerges(source, what);
  Json merges = Json::array();
  for (const std::string& merge : *source.merges) {
    const std::size_t space = merge.find(' ');
    if (space == merge.npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != merge.npos) {
      Fail(ErrorCode::kCorruptInput, "{}: merge {} is not two words", what, Quoted(merge));
    }
    merges.push_back(merge);
  }
  return merges;
}

}  // namespace narrow
