// Dead letters of an application: how many of which reason, how to look at them, and how to replay them.

import { copyButton, snippet } from "./copy.js";
import { el } from "./dom.js";
import { openForm } from "./form.js";
import { counted, number } from "./format.js";
import { REPLAY, table } from "./parts.js";

export function lettersCard(page) {
  const { letters } = page;
  if (!letters) return null;
  const form = page.forms[REPLAY];
  const replay = (values) => openForm(REPLAY, { ...form, ...values });
  return el(
    "section",
    { className: "card" },
    el(
      "div",
      { className: "bar" },
      el("h2", {}, "Dead letters"),
      form ? el("button", { type: "button", "data-key": "replay", onclick: () => replay({}) }, "Replay…") : null,
    ),
    el("p", { className: "quiet" }, letters.count ? `${counted(letters.count, "record")} that couldn't be loaded, in the drains below. Each is kept with its reason and payload.` : "None in the drains below."),
    letters.reasons.length ? reasons(letters, form ? replay : null) : null,
    fold("sql", "SQL: how many of which reason, older ones too", snippet(letters.reasons_sql, "the SQL for reasons")),
    fold("records", "SQL: the newest hundred, with their payloads", snippet(letters.records_sql, "the SQL for records")),
    fold("operator", "Replay them in a DAG of your own", [
      letters.objects.length ? el("p", { className: "quiet" }, `Airflow doesn't keep what ${letters.objects.join(" and ")} of the drain is: write it as the drain has it.`) : null,
      snippet(letters.operator, "the task that replays"),
    ]),
  );
}

function reasons(letters, replay) {
  const heads = [{ name: "Reason" }, { name: "Records", numeric: true }, { name: "Actions" }];
  const rows = letters.reasons.map(([reason, count]) => ({
    cells: [
      reason,
      number(count),
      el("div", { className: "buttons" }, copyButton(reason, `the reason ${reason}`), replay ? el("button", { type: "button", className: "plain", "data-key": `replay ${reason}`, onclick: () => replay({ reason }) }, "Replay these…") : null),
    ],
  }));
  return table("Reasons of dead letters", heads, rows, { className: "wraps" });
}

// What is open stays open when the page is refreshed.
const open = new Set();

function fold(key, title, content) {
  const summary = el("summary", { "data-key": `fold ${key}` }, title);
  const ontoggle = (event) => (event.target.open ? open.add(key) : open.delete(key));
  return el("details", { open: open.has(key), ontoggle }, summary, ...[content].flat());
}
