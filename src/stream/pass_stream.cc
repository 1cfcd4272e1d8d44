#include "stream/pass_stream.h"

#include <algorithm>
#include <utility>

namespace narrow {

PassStream MakePassStream(const PassRequest& request, Use use, const Network& network,
                          const TokenStream& tokens, const std::string& name,
                          std::vector<Part> parts) {
  const DecoderConfig& config = request.config;
  const auto store = [&](const std::string& suffix) {
    return HiddenStore(tokens.size(), config.hidden, request.plan.hidden_states,
                       request.work_directory / ("hidden-" + name + suffix));
  };
  std::vector<Batch> own = OwnBatches(parts);
  PassStream stream = {name,           use,       &network, &tokens, std::move(parts),
                       std::move(own), store(""), {},       {},      {}};
  if (config.experts.count == 0) return stream;
  stream.inputs.emplace(store("-inputs"));
  const auto routes = static_cast<std::size_t>(tokens.size() * config.experts.per_token);
  stream.experts.resize(routes);
  stream.weights.resize(routes);
  return stream;
}

PassStream* FindStream(std::list<PassStream>& streams, Use use) {
  const auto found = std::ranges::find(streams, use, &PassStream::use);
  return found == streams.end() ? nullptr : &*found;
}

std::vector<HiddenStore*> HiddenOf(std::list<PassStream>& streams, Use use) {
  std::vector<HiddenStore*> hidden;
  for (PassStream& stream : streams) {
    if (stream.use == use) hidden.push_back(&stream.hidden);
  }
  return hidden;
}

std::string_view NameOfLayers(const PassRequest& request) {
  if (request.judged) return "Comparing layers";
  if (!request.quantization) return "Evaluating layers";
  if (request.output == nullptr && request.evaluation == nullptr) return "Measuring errors";
  return request.evaluation != nullptr ? "Calibrating, quantizing, evaluating"
                                       : "Calibrating, quantizing";
}

int64_t LongestSequence(const PassRequest& request) {
  int64_t longest = 0;
  for (const TokenStream* stream : {request.calibration, request.evaluation, request.probe}) {
    if (stream != nullptr) longest = std::max(longest, stream->longest());
  }
  return longest;
}

}  // namespace narrow
