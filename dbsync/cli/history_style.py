"""The style sheet of the history page: light and dark, for a screen, a phone and paper, without outside resources."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #fff; --ink: #1b2430; --soft: #5b6675; --line: #e1e5ea; --plain: #eceff3;
  --good: #116b3c; --good-back: #e0f3e7; --bad: #a11d24; --bad-back: #fbe6e6;
  --refused: #7a5000; --refused-back: #fbf0d5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #11161c; --card: #191f27; --ink: #e7ebf0; --soft: #9aa6b4; --line: #2b343f; --plain: #262e38;
    --good: #7fd6a2; --good-back: #173524; --bad: #ff9d9d; --bad-back: #47191c;
    --refused: #f0c674; --refused-back: #3d2f10;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0; }
.soft, .path, .count, small, footer { color: var(--soft); }
.path { overflow-wrap: anywhere; font-size: .9rem; }
.count { font-weight: 400; font-size: .95rem; margin-left: .4rem; }
small { display: block; font-size: .82rem; font-weight: 400; overflow-wrap: anywhere; }
code { font: .9em ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }

dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: .15rem 0 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }

table {
  width: 100%; margin-top: .75rem; border-collapse: separate; border-spacing: 0;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
th, td { text-align: left; vertical-align: top; padding: .55rem .8rem; border-bottom: 1px solid var(--line); }
th {
  position: sticky; top: 0; background: var(--card); border-radius: .6rem .6rem 0 0;
  font-size: .8rem; font-weight: 600; color: var(--soft); white-space: nowrap;
}
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; unicode-bidi: isolate; }
tr:last-child td { border-bottom: 0; }
.word, .when { white-space: nowrap; }
strong { font-weight: 600; }
.number { text-align: right; white-space: nowrap; }

.badge {
  display: inline-block; padding: 0 .5rem; border-radius: .4rem; background: var(--plain);
  font-size: .82rem; font-weight: 600; white-space: nowrap;
}
.good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
.refused { color: var(--refused); background: var(--refused-back); }
.none { margin-top: .75rem; padding: 1.1rem; border: 1px dashed var(--line); border-radius: .6rem; }
footer { margin-top: 2.5rem; font-size: .85rem; }

@media screen and (max-width: 46rem) {
  main { padding: 1.5rem .9rem 3rem; }
  dl { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  dl div { padding: .6rem .7rem; }
  dd { font-size: 1.05rem; }
  table, tbody, tr, td { display: block; }
  table { background: none; border: 0; }
  thead { display: none; }
  tr {
    margin: .6rem 0; padding: .45rem .8rem;
    background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  }
  td { display: grid; grid-template-columns: 7.2rem minmax(0, 1fr); gap: .5rem; padding: .2rem 0; border: 0; }
  td::before { content: attr(data-label); color: var(--soft); font-size: .82rem; font-weight: 400; }
  td:empty { display: none; }
  .number { text-align: left; white-space: normal; }
}
@media print {
  :root {
    --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --plain: #fff;
    --good: #000; --good-back: #fff; --bad: #000; --bad-back: #fff; --refused: #000; --refused-back: #fff;
  }
  body { font-size: 9.5pt; }
  main { max-width: none; padding: 0; }
  th { position: static; }
  h2 { break-after: avoid; }
  tr, dl div { break-inside: avoid; }
  .badge { padding: 0; }
  th, td { padding: .3rem .4rem; }
}
"""
