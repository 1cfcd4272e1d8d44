// How the report page looks, on paper and in the dark.
#pragma once

#include <string_view>

namespace narrow {

inline constexpr std::string_view kReportStyle = R"(
:root { color-scheme: light dark; --page: #f7f6f3; --card: #ffffff; --ink: #1d1c1a; --soft: #66635c;
  --line: #e3e0d9; --first: #2160c4; --second: #bf5b0b; --band: #dfe7f4; --warn: #fdf1dd; }
@media (prefers-color-scheme: dark) { :root { --page: #151514; --card: #1e1e1c; --ink: #ebe9e3;
  --soft: #a5a198; --line: #373530; --first: #78acff; --second: #f29a50; --band: #2b3648;
  --warn: #3a2d16; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 8px; }
h3 { font-size: .95rem; margin: 20px 0 8px; }
p { margin: 0 0 12px; max-width: 75ch; overflow-wrap: anywhere; }
.soft, figcaption, .note { color: var(--soft); font-size: .9rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px;
  margin: 18px 0 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; }
.tile b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
.verdict { border-left: 4px solid var(--first); padding-left: 12px; margin-top: 16px; }
.warnings { background: var(--warn); }
.warnings li, li { overflow-wrap: anywhere; margin-bottom: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
th small { display: block; font-weight: 400; }
th.text, td.text { text-align: left; }
td.text:first-child, th.text:first-child { padding-left: 0; }
.quote { display: block; min-width: 260px; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { background: var(--second); color: var(--card); border-radius: 3px; padding: 0 2px;
  white-space: pre-wrap; }
pre { overflow-x: auto; margin: 0; font-size: .85rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.bar { display: block; height: 10px; min-width: 2px; background: var(--first);
  border-radius: 2px; margin-top: 6px; }
.track { display: block; width: 300px; }
.note { margin: 10px 0; }
figure { margin: 16px 0 0; }
figcaption { margin-bottom: 2px; }
.key { display: inline-flex; align-items: center; gap: 6px; margin-right: 14px; color: var(--ink); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 8px 20px; }
.grid figure { margin: 4px 0 0; }
svg { display: block; width: 100%; height: auto; font-size: 12px; }
.wide svg { min-width: 760px; }
svg text { fill: var(--soft); }
.rule { stroke: var(--line); } .axis { stroke: var(--soft); }
.s0 { stroke: var(--first); fill: none; stroke-width: 1.75; }
.s1 { stroke: var(--second); fill: none; stroke-width: 1.75; stroke-dasharray: 5 3; }
.d0 { fill: var(--first); } .d1 { fill: var(--card); stroke: var(--second); stroke-width: 1.5; }
.band { fill: var(--band); }
.hit { fill: transparent; } .hit:hover { fill: var(--soft); fill-opacity: .14; }
details { margin-top: 8px; } summary { cursor: pointer; }
@media (max-width: 600px) { main { padding: 16px 10px 40px; } section { padding: 14px 12px; }
  th, td { padding: 5px 6px; } td.text { white-space: normal; }
  .tiles { grid-template-columns: repeat(2, 1fr); } .tile { padding: 10px 12px; }
  .tile b { font-size: 1.2rem; } .quote { min-width: 200px; } .track { width: 100px; } }
@media print { section { break-inside: avoid; } }
)";

}  // namespace narrow
