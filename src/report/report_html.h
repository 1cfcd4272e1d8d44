// The report of a run as a page to look at: report.html in the output directory.
#pragma once

#include <string>

#include "report/report.h"

namespace narrow {

// One file that is complete in itself: style and charts are inline, nothing is fetched and nothing
// runs. Readable in light and dark, on a telephone and on paper. What was not measured is left out.
std::string RenderReportHtml(const RunReport& report);

}  // namespace narrow
