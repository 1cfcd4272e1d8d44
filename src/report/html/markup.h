// Pieces of an HTML page. Arguments named `text` are escaped; those named `html` are not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace narrow {

// Text that can stand between tags and in quoted attributes: markup characters become references,
// control characters and bytes that are no UTF-8 become visible.
std::string EscapeHtml(std::string_view text);

// "<tag>escaped text</tag>".
std::string Element(std::string_view tag, std::string_view text);

// A table that scrolls sideways where the page is narrow. Cells are HTML. The first `text_columns`
// columns are text, flush left; the others figures, flush right.
std::string HtmlTable(const std::vector<std::string>& header_html,
                      const std::vector<std::vector<std::string>>& rows_html,
                      std::size_t text_columns);

// A section with a heading, and an introduction if there is one.
std::string Section(std::string_view heading_text, std::string_view introduction_text,
                    std::string_view html);

// A whole document, complete in itself: nothing is fetched, nothing runs.
std::string HtmlPage(std::string_view title_text, std::string_view body_html);

}  // namespace narrow
