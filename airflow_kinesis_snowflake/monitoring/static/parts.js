// What both the list and the page of an application show.

import { el } from "./dom.js";
import { number } from "./format.js";

export const RESET = "kinesis_state_reset";
export const CLEANUP = "kinesis_table_cleanup";
const SYMBOLS = { good: ["✓", "fine"], busy: ["▸", "at work"], warning: ["!", "needs a look"], bad: ["✕", "needs somebody"] };

export function tone(name) {
  const [symbol, word] = SYMBOLS[name];
  return el("span", { className: `tone ${name}`, role: "img", ariaLabel: word, title: word }, symbol);
}

export function leases(line) {
  const parts = [line.live_leases ? `${number(line.live_leases)} live` : "", line.stale_leases ? `${number(line.stale_leases)} stale` : ""];
  return parts.filter(Boolean).join(", ") || "all free";
}
