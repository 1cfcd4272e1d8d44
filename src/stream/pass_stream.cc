#include "stream/pass_stream.h"

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

}  // namespace narrow
