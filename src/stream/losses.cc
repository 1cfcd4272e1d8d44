#include "stream/losses.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked_math.h"
#include "base/interrupt.h"
#include "base/parallel.h"
#include "base/ranks.h"
#include "device/operations.h"
#include "evaluation/token_comparison.h"
#include "model/stored_layer.h"
#include "stream/head_packer.h"

namespace narrow {
namespace {

constexpr int64_t kWorstTokens = 20;

// The last token of a window has no target in it.
std::span<const TokenOutcome> PredictedTokens(const std::vector<TokenOutcome>& outcomes,
                                              const Sequence& sequence) {
  return std::span(outcomes).subspan(static_cast<std::size_t>(sequence.first),
                                     static_cast<std::size_t>(sequence.count - 1));
}

double MeanLoss(std::span<const TokenOutcome> outcomes) {
  const double sum = std::accumulate(
      outcomes.begin(), outcomes.end(), 0.0,
      [](double total, const TokenOutcome& outcome) { return total + outcome.nll; });
  return sum / static_cast<double>(outcomes.size());
}

void CheckLosses(const std::vector<TokenOutcome>& outcomes,
                 const std::vector<Sequence>& sequences) {
  for (std::size_t window = 0; window < sequences.size(); ++window) {
    const auto tokens = PredictedTokens(outcomes, sequences[window]);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (std::isfinite(tokens[i].nll)) continue;
      Fail(ErrorCode::kNumeric,
           "the loss of token {} of evaluation window {} is {}: its logits became NaN or infinite; "
           "check the final norm and the head",
           i, window, tokens[i].nll);
    }
  }
}

class LossPass {
 public:
  LossPass(const LossRequest& request, ProgressSink& progress)
      : request_(request),
        own_batches_(OwnBatches(request.parts)),
        vocabulary_(request.head.config->vocabulary),
        progress_(progress),
        networks_(request.hidden.size(),
                  std::vector<NetworkState>(static_cast<std::size_t>(request.tokens->size()))) {
    AddHead(request.head);
    if (request.variants_head) AddHead(*request.variants_head);
    if (request.partial_hidden.empty()) return;
    NARROW_CHECK(request.partial_ranks.size() == request.partial_sequences.size());
    int64_t tokens = 0;
    for (const int64_t index : request.partial_sequences) {
      partial_.sequences.push_back({tokens, Whole(index).count});
      tokens += Whole(index).count;
    }
    partial_.networks.assign(1 + request.partial_hidden.size(),
                             std::vector<NetworkState>(static_cast<std::size_t>(tokens)));
  }

  Losses Run() {
    const bool kept = request_.head.kept != nullptr;
    const int64_t slice_rows =
        kept ? vocabulary_ : HeadSliceRows(vocabulary_, request_.head_slice_rows);
    const int64_t slices = DivideRoundUp(vocabulary_, slice_rows);
    int64_t own_tokens = 0;
    for (const Batch& batch : own_batches_) own_tokens += batch.rows;
    progress_.BeginPhase("Losses", own_tokens * slices, slices == 1 ? "tokens" : "slice-tokens");
    for (int64_t first = 0; first < vocabulary_; first += slice_rows) {
      std::vector<PackedWeights> slice;
      for (Head& head : heads_) {
        if (!kept)
          slice.push_back(LoadSlice(head, {first, std::min(slice_rows, vocabulary_ - first)}));
      }
      for (std::size_t i = 0; i < heads_.size(); ++i) {
        heads_[i].logits.rows = kept ? heads_[i].model.kept : &slice[i];
      }
      AddSlice(first);
    }
    progress_.EndPhase();
    ShareStates();
    return Summarize();
  }

 private:
  using States = std::vector<NetworkState>;

  struct Head {
    ModelHead model;
    std::string tensor;
    LogitHead logits;  // of the slice that is here
  };

  void AddHead(const ModelHead& head) {
    NARROW_CHECK((head.kept != nullptr) == (request_.head.kept != nullptr));
    NARROW_CHECK(head.config->vocabulary == vocabulary_ &&
                 head.config->hidden == request_.head.config->hidden);
    const ModelSpec spec = head.family->model(*head.config);
    heads_.push_back({head, spec.lm_head, {nullptr, {spec.logit_scale, spec.logit_softcap}}});
  }
  // The original's for the first network.
  const Head& HeadOf(std::size_t network) const {
    return network == 0 ? heads_.front() : heads_.back();
  }

  // Rows of one network, and where their states are.
  struct Rows {
    Rows(HiddenStore* store, const Batch& rows, std::span<NetworkState> all)
        : Rows(store, rows, all, rows.first_row) {}
    Rows(HiddenStore* store, const Batch& rows, std::span<NetworkState> all, int64_t first)
        : hidden(store->Take(rows)),
          states(
              all.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows.rows))) {}
    MatrixView<float> hidden;
    std::span<NetworkState> states;
  };

  const Sequence& Whole(int64_t index) const {
    return request_.tokens->sequences[static_cast<std::size_t>(index)];
  }

  // All tokens of all networks by one slice of the heads.
  void AddSlice(int64_t first_token) {
    for (const Batch& batch : own_batches_) {
      ThrowIfStopRequested(request_.how_to_continue);
      std::vector<Rows> networks;
      for (std::size_t n = 0; n < networks_.size(); ++n) {
        networks.push_back({request_.hidden[n], batch, networks_[n]});
      }
      AddBatch(first_token, batch, networks);
      progress_.Advance(batch.rows);
    }
    for (std::size_t i = 0; i < partial_.sequences.size(); ++i) {
      if (request_.partial_ranks[i] != JobRanks().rank()) continue;
      ThrowIfStopRequested(request_.how_to_continue);
      AddPartial(first_token, i);
    }
  }

  // One of the partial sequences, by the original and the variants that saw it.
  void AddPartial(int64_t first_token, std::size_t index) {
    const Sequence& whole = Whole(request_.partial_sequences[index]);
    const Batch batch = {whole.first, whole.count, {}};
    const Sequence& part = partial_.sequences[index];
    const Batch part_batch = {part.first, part.count, {}};
    const auto states = [&](std::size_t network) { return std::span(partial_.networks[network]); };
    std::vector<Rows> networks = {{request_.hidden[0], batch, states(0), part.first}};
    for (std::size_t n = 0; n < request_.partial_hidden.size(); ++n) {
      networks.push_back({request_.partial_hidden[n], part_batch, states(n + 1), part.first});
    }
    AddBatch(first_token, batch, networks);
  }

  PackedWeights LoadSlice(const Head& head, const RowRange& range) const {
    const CheckpointReader& checkpoint = *head.model.checkpoint;
    const Dtype dtype = checkpoint.Get(head.tensor).entry.dtype;
    HeadPacker packer(*head.model.config, request_.compute, dtype, range.count);
    const auto pack = [&](int64_t, std::span<const std::byte> rows) {
      CheckFinite(dtype, rows, head.tensor);
      packer.Add(rows);
    };
    if (request_.copy_to != nullptr && &head == &heads_.front()) {
      request_.copy_to->CopyRows(head.tensor, range, pack);
    } else {
      ReadInChunks(checkpoint, head.tensor, range, pack);
    }
    return std::move(packer).Take();
  }

  // The same tokens by several networks, the original first; `batch` counts in the whole text.
  void AddBatch(int64_t first_token, const Batch& batch, const std::vector<Rows>& networks) {
    std::vector<LogitHead> heads;
    for (std::size_t n = 0; n < networks.size(); ++n) heads.push_back(HeadOf(n).logits);
    ParallelFor(DivideRoundUp(batch.rows, kLossTileRows), [&](int64_t tile) {
      const int64_t first = tile * kLossTileRows;
      const int64_t rows = std::min(kLossTileRows, batch.rows - first);
      OperandBuffer memory;
      const Operands all =
          memory.Reserve(request_.compute, static_cast<int64_t>(networks.size()) * rows,
                         request_.head.config->hidden);
      std::vector<ConstOperands> normed;
      std::vector<std::span<NetworkState>> states;
      for (std::size_t n = 0; n < networks.size(); ++n) {
        const Operands view = all.RowBlock(static_cast<int64_t>(n) * rows, rows);
        HeadOf(n).model.final_norm->Apply(networks[n].hidden.RowBlock(first, rows), view);
        normed.push_back(view);
        states.push_back(networks[n].states.subspan(static_cast<std::size_t>(first),
                                                    static_cast<std::size_t>(rows)));
      }
      AddLogits(heads, first_token, normed, Targets(batch.first_row + first, rows), states);
    });
  }

  // The token after each row; of the last row of all, any.
  std::vector<int32_t> Targets(int64_t first_row, int64_t rows) const {
    std::vector<int32_t> targets(static_cast<std::size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t next = std::min(first_row + i + 1, request_.tokens->size() - 1);
      targets[static_cast<std::size_t>(i)] =
          request_.tokens->tokens[static_cast<std::size_t>(next)];
    }
    return targets;
  }

  // Copies between the states of a rank's tokens, those of its parts one after the other, and
  // their places. `move` takes both.
  template <typename Move>
  void ForStatesOf(int rank, States& states, bool partial, const Move& move) {
    std::size_t at = 0;
    const auto take = [&](const Sequence& rows, int owner) {
      if (owner != rank) return;
      const auto count = static_cast<std::size_t>(rows.count);
      move(std::span(states).subspan(static_cast<std::size_t>(rows.first), count), at);
      at += count;
    };
    if (partial) {
      for (std::size_t i = 0; i < partial_.sequences.size(); ++i) {
        take(partial_.sequences[i], request_.partial_ranks[i]);
      }
    } else {
      for (const Part& part : request_.parts) {
        take({part.batch.first_row, part.batch.rows}, part.rank);
      }
    }
  }

  void Share(States& states, bool partial) {
    Ranks& ranks = JobRanks();
    if (ranks.count() == 1) return;
    States own;
    ForStatesOf(ranks.rank(), states, partial,
                [&](std::span<const NetworkState> rows, std::size_t) {
                  own.insert(own.end(), rows.begin(), rows.end());
                });
    ranks.InTurn(std::as_bytes(std::span(own)), [&](int rank, std::span<const std::byte> bytes) {
      const auto* shown = reinterpret_cast<const NetworkState*>(bytes.data());
      ForStatesOf(rank, states, partial, [&](std::span<NetworkState> rows, std::size_t at) {
        NARROW_CHECK((at + rows.size()) * sizeof(NetworkState) <= bytes.size());
        std::copy_n(shown + at, rows.size(), rows.begin());
      });
    });
  }

  void ShareStates() {
    for (States& states : networks_) Share(states, false);
    for (States& states : partial_.networks) Share(states, true);
  }

  static std::vector<TokenOutcome> Outcomes(const States& original, const States& network) {
    std::vector<TokenOutcome> outcomes;
    outcomes.reserve(network.size());
    for (std::size_t token = 0; token < network.size(); ++token) {
      outcomes.push_back(OutcomeOf(original[token], network[token]));
    }
    return outcomes;
  }

  static DivergenceSummary SummarizeVariant(const States& original, const States& variant,
                                            const std::vector<Sequence>& sequences) {
    const std::vector<TokenOutcome> before = Outcomes(original, original);
    const std::vector<TokenOutcome> after = Outcomes(original, variant);
    std::vector<WindowOutcomes> windows;
    for (const Sequence& sequence : sequences) {
      windows.push_back({PredictedTokens(before, sequence), PredictedTokens(after, sequence)});
    }
    return SummarizeDivergence(windows, kWorstTokens);
  }

  void SummarizePartial(Losses& losses) const {
    if (partial_.networks.empty()) return;
    std::vector<Sequence> whole;
    for (const int64_t index : request_.partial_sequences) whole.push_back(Whole(index));
    for (std::size_t n = 1; n < partial_.networks.size(); ++n) {
      losses.partial.push_back(
          SummarizeVariant(partial_.networks[0], partial_.networks[n], partial_.sequences));
    }
    const std::size_t last = networks_.size() - static_cast<std::size_t>(request_.partial_of_last);
    for (std::size_t n = last; n < networks_.size(); ++n) {
      losses.partial.push_back(SummarizeVariant(networks_[0], networks_[n], whole));
    }
  }

  Losses Summarize() const {
    Losses losses;
    const std::vector<Sequence>& sequences = request_.tokens->sequences;
    const std::vector<TokenOutcome> original = Outcomes(networks_[0], networks_[0]);
    CheckLosses(original, sequences);
    for (const Sequence& sequence : sequences) {
      losses.window_nll.push_back(MeanLoss(PredictedTokens(original, sequence)));
    }
    for (std::size_t n = 1; n < networks_.size(); ++n) {
      losses.variants.push_back(SummarizeVariant(networks_[0], networks_[n], sequences));
    }
    SummarizePartial(losses);
    int64_t rows = static_cast<int64_t>(networks_.size()) * request_.tokens->size();
    for (const States& states : partial_.networks) rows += std::ssize(states);
    losses.flops = rows * 2 * request_.head.config->hidden * vocabulary_;
    return losses;
  }

  const LossRequest& request_;
  const std::vector<Batch> own_batches_;
  const int64_t vocabulary_;
  ProgressSink& progress_;
  std::vector<Head> heads_;  // the original's, and that of the variants where it is another
  std::vector<std::vector<NetworkState>> networks_;  // by network, then by token
  // Of the partial sequences: the original, then the variants; its sequences lie end to end.
  struct {
    std::vector<Sequence> sequences;
    std::vector<std::vector<NetworkState>> networks;
  } partial_;
};

}  // namespace

int64_t HeadSliceRows(int64_t vocabulary, int64_t rows) {
  const int64_t panels = DivideRoundUp(vocabulary, kVocabularySlice);
  const int64_t at_most = std::clamp<int64_t>(rows / kVocabularySlice, 1, panels);
  const int64_t slices = rows >= vocabulary ? 1 : DivideRoundUp(panels, at_most);
  return std::min(vocabulary, DivideRoundUp(panels, slices) * kVocabularySlice);
}

int64_t LossNormBytes(int64_t networks, int64_t hidden, ComputeType compute) {
  return networks * kLossTileRows * hidden * OperandBytes(compute);
}

int64_t LossLogitBytes() {  // see AddLogits
  return 3 * kLossTileRows * kVocabularySlice * static_cast<int64_t>(sizeof(float));
}

int64_t LossTokenBytes(int64_t tokens) {
  return tokens * static_cast<int64_t>(sizeof(NetworkState) + sizeof(TokenOutcome));
}

Losses ComputeLosses(const LossRequest& request, ProgressSink& progress) {
  return LossPass(request, progress).Run();
}

}  // namespace narrow
