// What both the list and the page of an application show.

import { el } from "./dom.js";
import { clock, moment, number } from "./format.js";

export const RESET = "kinesis_state_reset";
export const CLEANUP = "kinesis_table_cleanup";
export const REPLAY = "kinesis_dead_letter_replay";
const HALF_DAY = 12 * 3_600_000;
const SYMBOLS = { good: ["✓", "fine"], busy: ["▸", "at work"], warning: ["!", "needs a look"], bad: ["✕", "needs somebody"] };

export function tone(name) {
  const [symbol, word] = SYMBOLS[name];
  return el("span", { className: `tone ${name}`, role: "img", ariaLabel: word, title: word }, symbol);
}

// How an application stands. The moment until which it does so is told in the user's time zone, and with its day
// where it isn't within the next twelve hours.
export function sentence({ sentence: text, until }, at) {
  if (until === null) return text;
  return text.replace(/^\w+/, (doing) => `${doing} until ${until - at < HALF_DAY ? clock(until) : moment(until)}`);
}

export function leases(line) {
  const parts = [line.live_leases ? `${number(line.live_leases)} live` : "", line.stale_leases ? `${number(line.stale_leases)} stale` : ""];
  return parts.filter(Boolean).join(", ") || "all free";
}

export function notice(each) {
  return el("section", { className: `notice ${each.tone}` }, tone(each.tone), el("div", {}, el("b", {}, each.text), ". ", each.advice));
}

// A table that becomes a card for each row where its columns have no room. A cell is what it holds, or that with
// a class and other properties. Roles are spelled out, because such a card would lose them.
export function table(label, heads, rows, { className = "", sort = null, plain = false } = {}) {
  return el(
    "div",
    { className: plain ? "scroll card" : "scroll", tabIndex: 0, role: "region", ariaLabel: label, "data-key": `table ${label}` },
    el(
      "table",
      { className: `stacks ${className}`, role: "table" },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads.map((head) => columnHead(head, sort)))),
      el("tbody", { role: "rowgroup" }, rows.map((row) => tableRow(heads, row))),
    ),
  );
}

function columnHead(head, sort) {
  const sorted = sort && head.by && sort.by === head.by ? (sort.down ? "descending" : "ascending") : null;
  const name = sort && head.by ? el("button", { type: "button", className: "plain", "data-key": `sort ${head.by}`, onclick: () => sort.choose(head.by) }, head.name, sorted ? el("span", { ariaHidden: "true" }, sort.down ? " ▾" : " ▴") : null) : head.name;
  return el("th", { scope: "col", role: "columnheader", className: head.numeric ? "number" : "", "aria-sort": sorted }, name);
}

function tableRow(heads, { cells, ...properties }) {
  return el(
    "tr",
    { role: "row", ...properties },
    cells.map((cell, index) => {
      const { content, className = "", ...more } = cell?.content === undefined ? { content: cell } : cell;
      const classes = [heads[index].numeric ? "number" : "", className].filter(Boolean).join(" ");
      const kind = index ? { role: "cell" } : { scope: "row", role: "rowheader" };
      return el(index ? "td" : "th", { ...kind, className: classes, "data-label": heads[index].name, ...more }, ...[content].flat());
    }),
  );
}
