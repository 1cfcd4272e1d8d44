#include "cli/download_command.h"

#include <memory>
#include <string>

#include "base/error.h"
#include "cli/progress_display.h"
#include "cli/standard_output.h"
#include "io/json.h"
#include "jobs/model_location.h"

namespace narrow {

void AddDownloadCommand(CLI::App& program, std::function<int()>& run) {
  CLI::App& command = *program.add_subcommand(
      "download",
      "Fetch a model of the Hugging Face hub into the cache that Python's huggingface_hub has, "
      "too, "
      "and print its directory: what the other commands do with --model_dir org/name");
  const auto name = std::make_shared<std::string>();
  command.add_option("name", *name, "org/name, or org/name@revision")->required();
  command.callback([name, &run] {
    run = [name] {
      if (!IsHubModel(*name)) {
        Fail(ErrorCode::kInvalidArgument,
             "{} is no name of a repository (or there is a file of that name here); expected "
             "org/name or org/name@revision",
             Quoted(*name));
      }
      ProgressDisplay progress(ProgressDisplay::StandardError());
      Print(LocateModel(*name, ModelPart::kAll, progress).string() + "\n");
      return 0;
    };
  });
}

}  // namespace narrow
