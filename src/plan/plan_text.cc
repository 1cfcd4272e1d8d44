#include <algorithm>
#include <cmath>
#include <iterator>

#include "plan/plan.h"

namespace narrow {
namespace {

std::string Gigabytes(int64_t bytes) {
  const double gb = static_cast<double>(bytes) / 1e9;
  return bytes == 0 ? "-" : fmt::format("{:.{}f} GB", gb, gb < 10 ? 3 : 1);
}

std::string Duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{:.1f} h", seconds / 3600);
  return fmt::format("{:.1f} days", seconds / 86400);
}

std::string Gib(int64_t bytes) {
  return fmt::format("{:.2f} GiB", std::ceil(static_cast<double>(bytes) / 0x1p30 * 100) / 100);
}

std::string DescribePhase(const PhasePlan& phase, bool timed) {
  return fmt::format("{:<10} {:>10} {:>11} {:>11} {:>12} {:>12} {:>11} {:>10}\n", phase.name,
                     Gib(phase.memory_bytes), Gigabytes(phase.read_bytes),
                     Gigabytes(phase.written_bytes), Gigabytes(phase.spill_written_bytes),
                     Gigabytes(phase.spill_read_bytes),
                     phase.flops > 0 ? fmt::format("{:.4g} PFLOP", phase.flops * 1e-15) : "-",
                     timed ? Duration(phase.seconds) : "-");
}

void AddMemory(const JobPlan& plan, fmt::memory_buffer& text) {
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n{}\nSmallest budget that would do: {}; budget: {}\n",
                 DescribeChoice(plan.memory), Gib(plan.smallest_budget_bytes),
                 Gib(plan.budget_bytes));
  const MemoryEstimate& estimate = plan.memory.estimate;
  const auto table = [&](const char* title, const std::vector<MemoryPart>& parts) {
    if (parts.empty()) return;
    fmt::format_to(out, "{}\n", title);
    for (const MemoryPart& part : parts) {
      if (part.bytes == 0) continue;
      fmt::format_to(out, "  {:<36} {:>9.1f} MiB\n", Name(part.use),
                     static_cast<double>(part.bytes) / 0x1p20);
    }
  };
  table("Memory while layers run", estimate.layers);
  if (plan.work.shape.evaluation_tokens > 0) {
    table("Memory while losses are computed", estimate.head);
  }
}

void AddTime(const JobPlan& plan, fmt::memory_buffer& text) {
  if (!plan.rates) return;
  const auto out = std::back_inserter(text);
  const MachineRates& r = *plan.rates;
  fmt::format_to(
      out,
      "\nMeasured here just now, {} threads: products {:.0f}, whole layers {:.0f} (quantized "
      "{:.0f}), "
      "sums {:.0f},\nfactorization {:.0f}, rounding {:.0f} GFLOP/s; packing {:.2f}, unpacking and "
      "packing {:.2f}, disk reading {:.2f}, disk writing {:.2f} GB/s\n",
      plan.work.shape.threads, r.products * 1e-9, r.layer * 1e-9, r.quantized_layer * 1e-9,
      r.hessian * 1e-9, r.factoring * 1e-9, r.rounding * 1e-9, r.packing * 1e-9, r.rewriting * 1e-9,
      r.disk_read * 1e-9, r.disk_write * 1e-9);
  const auto layers = static_cast<double>(plan.work.shape.config.layers);
  for (const PhasePlan& phase : plan.phases) {
    if (phase.name != "layers") continue;
    fmt::format_to(out, "Time of one of {} layers: {}\n", plan.work.shape.config.layers,
                   Duration(phase.seconds / layers));
    for (const NamedSeconds& part : phase.parts) {
      fmt::format_to(out, "  {:<36} {:>12}\n", part.what, Duration(part.seconds / layers));
    }
  }
}

void AddAlternatives(const JobPlan& plan, fmt::memory_buffer& text) {
  if (plan.alternatives.empty()) return;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "\n{:<28} {:>16} {:>12} {:>12}\n", "With this flag instead",
                 "smallest budget", "disk", "time");
  for (const Alternative& alternative : plan.alternatives) {
    fmt::format_to(out, "  {:<26} {:>16} {:>12} {:>12}\n", alternative.flags,
                   Gib(alternative.memory_bytes), Gigabytes(alternative.disk_bytes),
                   plan.rates ? Duration(alternative.seconds) : "-");
  }
  const Alternative& best = plan.alternatives.front();
  if (plan.rates && best.seconds < plan.total.seconds) {
    fmt::format_to(out, "Most time is saved by {}: {} instead of {}\n", best.flags,
                   Duration(best.seconds), Duration(plan.total.seconds));
  }
}

Json PhaseJson(const PhasePlan& phase) {
  Json json = Json::object();
  json["name"] = phase.name;
  json["memory_bytes"] = phase.memory_bytes;
  json["read_bytes"] = phase.read_bytes;
  json["written_bytes"] = phase.written_bytes;
  json["spill_read_bytes"] = phase.spill_read_bytes;
  json["spill_written_bytes"] = phase.spill_written_bytes;
  if (phase.exchanged_bytes > 0) json["exchanged_bytes"] = phase.exchanged_bytes;
  json["flops"] = phase.flops;
  json["forward_flops"] = phase.forward_flops;
  json["seconds"] = phase.seconds;
  json["seconds_of"] = Json::object();
  for (const NamedSeconds& part : phase.parts) json["seconds_of"][part.what] = part.seconds;
  return json;
}

Json PartsJson(const std::vector<MemoryPart>& parts) {
  Json json = Json::object();
  for (const MemoryPart& part : parts) json[Name(part.use)] = part.bytes;
  return json;
}

Json MemoryJson(const JobPlan& plan) {
  Json json = Json::object();
  json["budget_bytes"] = plan.budget_bytes;
  json["smallest_budget_bytes"] = plan.smallest_budget_bytes;
  json["peak_bytes"] = plan.memory.estimate.peak_bytes;
  json["hidden_states"] =
      plan.memory.plan.hidden_states == Placement::kMemory ? "memory" : "work directory";
  json["read_ahead_bytes"] = plan.memory.plan.read_ahead_bytes;
  if (plan.work.shape.config.experts.count > 0) {
    json["expert_passes"] =
        ExpertPasses(plan.work.shape, plan.memory.plan, plan.memory.hessian_block_columns);
  }
  json["batch_rows"] = plan.memory.plan.batch_rows;
  json["head_slices"] = plan.memory.head_slices;
  json["hessian_block_columns"] = plan.memory.hessian_block_columns;
  json["embedding"] = PartsJson(plan.memory.estimate.embedding);
  json["layers"] = PartsJson(plan.memory.estimate.layers);
  json["head"] = PartsJson(plan.memory.estimate.head);
  return json;
}

Json RatesJson(const MachineRates& rates) {
  return {{"products_flops", rates.products},
          {"layer_flops", rates.layer},
          {"quantized_layer_flops", rates.quantized_layer},
          {"rewriting_bytes", rates.rewriting},
          {"hessian_flops", rates.hessian},
          {"factoring_flops", rates.factoring},
          {"rounding_flops", rates.rounding},
          {"packing_bytes", rates.packing},
          {"disk_read_bytes", rates.disk_read},
          {"disk_write_bytes", rates.disk_write}};
}

}  // namespace

std::vector<std::string> ShortPlan(const JobPlan& plan) {
  std::vector<std::string> lines = {DescribeChoice(plan.memory)};
  for (const DiskNeed& disk : plan.disks) {
    lines.push_back(fmt::format("Disk of {}: {} needed, {} free", disk.directory.string(),
                                Gigabytes(disk.needed_bytes), Gigabytes(disk.free_bytes)));
  }
  if (plan.rates) {
    lines.back() += fmt::format("; about {} to expect", Duration(plan.total.seconds));
  }
  return lines;
}

namespace {}  // namespace

std::string DescribeDownload(const DownloadPlan& download) {
  std::string text =
      fmt::format("Download: {} of {} in {} weight files{}, {} on disk{} at most",
                  Gigabytes(download.bytes), Gigabytes(download.model_bytes), download.files,
                  download.twice ? ", fetched twice (to measure what to keep, and to write)" : "",
                  Gigabytes(download.disk_bytes), download.streamed ? " (--stream_disk)" : "");
  if (download.measured_bytes > 0) {
    text += fmt::format("; about {} at {:.1f} MB/s, measured over {:.0f} MB{}",
                        Duration(download.seconds), download.bytes_per_second / 1e6,
                        static_cast<double>(download.measured_bytes) / 1e6,
                        download.streamed ? ", while the job computes" : ", before the job");
  }
  return text;
}

Json DownloadJson(const DownloadPlan& download) {
  return {{"files", download.files},
          {"model_bytes", download.model_bytes},
          {"bytes", download.bytes},
          {"disk_bytes", download.disk_bytes},
          {"streamed", download.streamed},
          {"twice", download.twice},
          {"measured_bytes", download.measured_bytes},
          {"bytes_per_second", download.bytes_per_second},
          {"seconds", download.seconds}};
}

std::string RenderPlan(const JobPlan& plan) {
  fmt::memory_buffer text;
  const auto out = std::back_inserter(text);
  const JobShape& shape = plan.work.shape;
  fmt::format_to(out,
                 "{:.2f} billion weights in {} layers; {} tokens of calibration, {} of "
                 "evaluation through {} models\n\n",
                 static_cast<double>(plan.work.weights()) / 1e9, shape.config.layers,
                 shape.calibration_tokens, shape.evaluation_tokens,
                 shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0);
  fmt::format_to(out, "{:<10} {:>10} {:>11} {:>11} {:>12} {:>12} {:>11} {:>10}\n", "phase",
                 "memory", "read", "written", "spilled", "read back", "work", "time");
  for (const PhasePlan& phase : plan.phases) {
    fmt::format_to(out, "{}", DescribePhase(phase, plan.rates.has_value()));
  }
  fmt::format_to(out, "{}", DescribePhase(plan.total, plan.rates.has_value()));
  fmt::format_to(out, "\n");
  for (const DiskNeed& disk : plan.disks) {
    fmt::format_to(out, "Disk of {}: {} needed, {} free{}\n", disk.directory.string(),
                   Gigabytes(disk.needed_bytes), Gigabytes(disk.free_bytes),
                   disk.needed_bytes > disk.free_bytes ? ": too small" : "");
  }
  if (plan.work.quantizes()) {
    fmt::format_to(out, "  the output takes {}, hidden states on disk up to {}\n",
                   Gigabytes(plan.work.output_bytes()),
                   Gigabytes(plan.work.work_directory_bytes()));
  }
  if (plan.download) fmt::format_to(out, "{}\n", DescribeDownload(*plan.download));
  AddMemory(plan, text);
  AddTime(plan, text);
  AddAlternatives(plan, text);
  for (const std::string& assumption : plan.assumptions) {
    fmt::format_to(out, "Note: {}\n", assumption);
  }
  return fmt::to_string(text);
}

Json PlanJson(const JobPlan& plan) {
  const JobShape& shape = plan.work.shape;
  Json json = Json::object();
  json["weights"] = plan.work.weights();
  json["layers"] = shape.config.layers;
  json["threads"] = shape.threads;
  json["calibration_tokens"] = shape.calibration_tokens;
  json["evaluation_tokens"] = shape.evaluation_tokens;
  json["models_evaluated"] = shape.evaluation_tokens > 0 ? 1 + shape.evaluation_variants : 0;
  json["memory"] = MemoryJson(plan);
  json["output_bytes"] = plan.work.output_bytes();
  json["work_directory_bytes"] = plan.work.work_directory_bytes();
  json["phases"] = Json::array();
  for (const PhasePlan& phase : plan.phases) json["phases"].push_back(PhaseJson(phase));
  json["total"] = PhaseJson(plan.total);
  json["disks"] = Json::array();
  for (const DiskNeed& disk : plan.disks) {
    json["disks"].push_back({{"directory", disk.directory.string()},
                             {"needed_bytes", disk.needed_bytes},
                             {"free_bytes", disk.free_bytes}});
  }
  json["rates"] = plan.rates ? RatesJson(*plan.rates) : Json(nullptr);
  json["alternatives"] = Json::array();
  for (const Alternative& alternative : plan.alternatives) {
    json["alternatives"].push_back({{"flags", alternative.flags},
                                    {"smallest_budget_bytes", alternative.memory_bytes},
                                    {"disk_bytes", alternative.disk_bytes},
                                    {"seconds", alternative.seconds}});
  }
  if (plan.download) json["download"] = DownloadJson(*plan.download);
  json["notes"] = plan.assumptions;
  return json;
}

}  // namespace narrow
