// A model of the hub whose weights are fetched while a job reads them, or whose headers alone are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hub/shard_store.h"
#include "jobs/data_free.h"
#include "jobs/quantize.h"
#include "plan/plan.h"

namespace narrow {

// A model whose description is in the hub's cache. `given` is a name (IsHubModel).
struct HubModel {
  std::shared_ptr<HubSnapshot> snapshot;
  std::vector<const HubFile*> weights;  // of the snapshot's listing
  std::string revision;                 // "org/name@main is COMMIT"
};
// Fetches the description. The commit is the one that the state of an interrupted run of `request`
// is of, if there is such a state of the same name. Throws: as LocateModel, but the cache does not
// stand in for the hub.
HubModel OpenHubModel(const std::string& given, const QuantizeRequest& request,
                      ProgressSink& progress);

inline constexpr int64_t kDefaultStreamDisk = 20'000'000'000;

// RunQuantize and RunDataFree on the model `given`, a directory or a name. With `limit_bytes` (for
// names) its weight files lie beside the work directory, in DIRECTORY.shards, only while they are
// needed, so many bytes of them at most; they stay when the run can be continued. Throws: as
// LocateModel, ShardStore, RunQuantize and RunDataFree; before weights are fetched what can be
// refused without.
RunReport RunQuantize(QuantizeRequest request, const std::string& given,
                      std::optional<int64_t> limit_bytes, ProgressSink& progress);
DataFreeResult RunDataFree(DataFreeRequest request, const std::string& given,
                           std::optional<int64_t> limit_bytes, ProgressSink& progress);

// Headers over the network, for a plan: what else is read is fetched each time.
void ReadHeadersFromHub(const HubModel& model, QuantizeRequest& request);

// What fetching the weights takes, from a measurement of two seconds at most. `limit_bytes`: of
// --stream_disk; nothing: they all go to the cache.
DownloadPlan PlanDownload(const HubModel& model, const QuantizeRequest& request,
                          std::optional<int64_t> limit_bytes);

}  // namespace narrow
