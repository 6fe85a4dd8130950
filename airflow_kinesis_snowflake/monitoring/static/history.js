// Which runs are shown: the last sixty, or those of some days.

import { el } from "./dom.js";
import { counted, day, moment } from "./format.js";

const DAY = 86400000;
const SPANS = [["", "Last 60 runs"], ["1", "Today"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["days", "Days…"]];
const STALE = 5 * 60000;

// What the user chose, and what was read for it; it outlives a refresh.
const chosen = { span: "", since: "", until: "", read: null, readAt: 0, asked: "", error: "" };

export function spanPicker(fetchDays, again) {
  const choose = (change) => {
    Object.assign(chosen, change);
    read(fetchDays, again, true);
  };
  const select = el(
    "select",
    { "data-key": "span", onchange: (event) => choose({ span: event.target.value }) },
    SPANS.map(([value, text]) => el("option", { value, selected: value === chosen.span }, text)),
  );
  const date = (name, label) => el("label", {}, `${label} `, el("input", { type: "date", value: chosen[name], "data-key": name, onchange: (event) => choose({ [name]: event.target.value }) }));
  read(fetchDays, again, false);
  return el(
    "div",
    { className: "picker" },
    el("label", {}, "Show ", select),
    chosen.span === "days" ? [date("since", "from"), date("until", "to")] : null,
  );
}

// Runs and columns to show: those read for the chosen days, else those of the page.
export function shownRuns(page) {
  const read = chosen.span ? chosen.read : null;
  return read ?? { columns: page.columns, runs: page.runs, runs_in_all: page.runs.length };
}

export function spanNote() {
  if (!chosen.span) return "";
  if (chosen.error) return chosen.error;
  if (!chosen.read) return chosen.asked ? "Reading…" : "Choose the first and the last day.";
  const cut = chosen.read.oldest_read ? `; older ones than of ${moment(chosen.read.oldest_read)} are too many to be read at once, choose fewer days` : "";
  return `${counted(chosen.read.runs_in_all, "run")}, as of ${moment(chosen.readAt)}${cut}.`;
}

function days() {
  if (chosen.span === "days") return chosen.since && chosen.until ? [chosen.since, chosen.until] : null;
  const now = Date.now();
  return [day(now - (Number(chosen.span) - 1) * DAY), day(now)];
}

async function read(fetchDays, again, changed) {
  const wanted = chosen.span ? days() : null;
  const key = wanted ? wanted.join() : "";
  const fresh = key === chosen.asked && Date.now() - chosen.readAt < STALE;
  if (!fresh && key !== chosen.asked) chosen.read = null;
  chosen.asked = key;
  if (changed) again();
  if (!wanted || fresh) return;
  chosen.readAt = Date.now();
  try {
    const found = await fetchDays(...wanted);
    if (chosen.asked !== key) return;
    Object.assign(chosen, { read: found, error: "" });
  } catch (error) {
    chosen.error = error.message;
  }
  again();
}
