// Texts of the hub by name: pileval, wikitext2, org/name:config:split:column.
#pragma once

#include <cstdint>

#include "base/progress.h"
#include "jobs/quantize.h"
#include "text/dataset.h"

namespace narrow {

// Where the request names a data set of the hub that does not lie on this machine, fetches what it
// takes, and sets `request.found`:
// - pileval: of mit-han-lab/pile-val-backup, val.jsonl.zst, the start that holds `documents` (all
//   of it for evaluation);
// - wikitext2: of Salesforce/wikitext, wikitext-2-raw-v1, the test split for evaluation and the
//   train split for calibration;
// - org/name[@revision][:config[:split[:column]]]: its Parquet files of that config (default: the
//   folder data, or the only one) and split (default: as for wikitext2), in order, until there are
//   `documents` (0: all).
// A path that exists and a file of --data_dir come first. Without a source nothing is fetched: the
// default set is taken from the hub's cache if it lies there. Throws: as HubSnapshot::Fetch;
// kNotFound naming the configs and splits there are.
void FetchDataset(DatasetRequest& request, DatasetUse use, int64_t documents,
                  ProgressSink& progress);

// Both texts of a job.
void FetchDatasets(QuantizeRequest& request, ProgressSink& progress);

}  // namespace narrow
