#include "report/html/markup.h"

#include <fmt/format.h>

#include "report/html/style.h"
#include "text/text_format.h"

namespace narrow {

std::string EscapeHtml(std::string_view text) {
  std::string html;
  for (const char c : PrintableText(ReadableUtf8(text))) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

std::string Element(std::string_view tag, std::string_view text) {
  return fmt::format("<{0}>{1}</{0}>\n", tag, EscapeHtml(text));
}

std::string HtmlTable(const std::vector<std::string>& header_html,
                      const std::vector<std::vector<std::string>>& rows_html,
                      std::size_t text_columns) {
  const auto row = [&](std::string_view tag, const std::vector<std::string>& cells) {
    std::string html = "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      html += fmt::format("<{0}{1}>{2}</{0}>", tag, i < text_columns ? " class=\"text\"" : "",
                          cells[i]);
    }
    return html + "</tr>\n";
  };
  std::string html =
      "<div class=\"scroll\"><table>\n<thead>" + row("th", header_html) + "</thead>\n";
  html += "<tbody>\n";
  for (const std::vector<std::string>& cells : rows_html) html += row("td", cells);
  return html + "</tbody>\n</table></div>\n";
}

std::string Section(std::string_view heading_text, std::string_view introduction_text,
                    std::string_view html) {
  std::string section = "<section>\n" + Element("h2", heading_text);
  if (!introduction_text.empty()) section += Element("p", introduction_text);
  section += html;
  return section + "</section>\n";
}

std::string HtmlPage(std::string_view title_text, std::string_view body_html) {
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n";
  html += Element("title", title_text);
  html += fmt::format("<style>{}</style>\n</head>\n<body>\n<main>\n", kReportStyle);
  html += body_html;
  return html + "</main>\n</body>\n</html>\n";
}

}  // namespace narrow
