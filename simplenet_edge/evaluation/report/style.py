"""The report's style sheet: light and dark, from a phone to a wide screen, with nothing fetched from elsewhere."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1b1f24; --soft: #5b6470; --line: #dfe3e8;
  --good: #2f6fde; --defective: #e0620d; --ok: #1f7a3a; --ng: #c4281c; --warn: #fff4d6; --warn-line: #e0a800; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1216; --card: #191e24; --ink: #e7eaee; --soft: #98a2ae; --line: #2d343c;
    --good: #6fa8ff; --defective: #ff9a4d; --ok: #63d383; --ng: #ff7b72; --warn: #33290d; --warn-line: #b58900; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 40px 0 4px; }
p { margin: 4px 0 12px; max-width: 75ch; }
.soft, figcaption, .card small { color: var(--soft); }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(155px, 1fr)); margin: 20px 0; }
.card, .panel, figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.card { padding: 12px 14px; }
.card span { display: block; font-size: .85rem; color: var(--soft); }
.card strong { display: block; font-size: 1.75rem; line-height: 1.3; font-weight: 650; }
.card small { display: block; line-height: 1.35; }
.columns { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.columns.three { grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.panel { padding: 14px 16px; overflow-x: auto; }
.panel h3 { font-size: 1rem; margin: 0 0 8px; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 10px 14px; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { padding: 7px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
td.wrong { color: var(--ng); font-weight: 600; }
td.path { white-space: normal; overflow-wrap: anywhere; text-align: left; }
.gallery { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
figure { margin: 0; padding: 10px; }
.views { display: grid; gap: 6px; grid-template-columns: repeat(3, 1fr); }
.views img { width: 100%; height: auto; display: block; border-radius: 4px; }
.views span { font-size: .75rem; color: var(--soft); }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: center; font-size: .85rem;
  margin-bottom: 8px; }
figcaption b { color: var(--ink); }
figcaption .name { overflow-wrap: anywhere; }
.verdict { font-weight: 700; border: 1.5px solid; border-radius: 5px; padding: 0 6px; }
.verdict.ok { color: var(--ok); } .verdict.ng { color: var(--ng); }
.scale { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; font-size: .85rem; color: var(--soft); }
.scale i { width: 160px; height: 10px; border-radius: 5px; border: 1px solid var(--line); }
@media (max-width: 480px) { .views { grid-template-columns: repeat(2, 1fr); } h1 { font-size: 1.35rem; }
  main { padding: 16px 12px 32px; } .card strong { font-size: 1.5rem; } }
.chart { display: block; width: 100%; max-width: 520px; height: auto; margin: 0 auto; }
.chart text { fill: var(--soft); font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
.chart .label { fill: var(--ink); }
.chart .grid { stroke: var(--line); }
.chart .axis { stroke: var(--soft); }
.chart .bar { fill-opacity: .85; }
.chart .bar.good { fill: var(--good); } .chart .bar.defective { fill: var(--defective); }
.chart .threshold { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 3; }
.chart .threshold-label { fill: var(--ink); font-weight: 600; }
.chart .area { fill: var(--good); fill-opacity: .12; }
.chart .curve { fill: none; stroke: var(--good); stroke-width: 2.2; stroke-linejoin: round; }
.chart .chance { stroke: var(--soft); stroke-dasharray: 3 4; }
.chart .point { fill: var(--defective); stroke: var(--card); stroke-width: 2; }
.key { font-size: .85rem; color: var(--soft); margin: 0 0 4px; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 5px 0 12px; }
.key i:first-child { margin-left: 0; }
.key .good { background: var(--good); } .key .defective { background: var(--defective); }
"""
