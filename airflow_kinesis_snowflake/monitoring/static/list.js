// All applications, those that need somebody first.

import { el, show } from "./dom.js";
import { openForm } from "./form.js";
import { NONE, ago, bytes, counted, duration, moment, number } from "./format.js";
import { CLEANUP, leases, tone } from "./parts.js";
import { toApplication } from "./places.js";

const COLUMNS = ["Application", "How it stands", "Behind", "Per minute", "Last drain", "Dead letters", "Leases", "Check"];
const NUMBERS = new Set(["Behind", "Per minute", "Dead letters"]);

export function showList(place, answer) {
  const form = answer.forms[CLEANUP];
  show(
    place,
    el(
      "header",
      { className: "bar" },
      el("div", {}, el("h1", {}, "Kinesis to Snowflake"), el("p", { className: "lead" }, headline(answer.applications))),
      form ? el("button", { type: "button", "data-key": "cleanup", onclick: () => openForm(CLEANUP, form) }, "Clean up old tables…") : null,
    ),
    answer.applications.length ? table(answer) : nothing(),
  );
}

function headline(lines) {
  if (!lines.length) return "No application yet";
  const needy = lines.filter((line) => ["bad", "warning"].includes(line.standing.tone)).length;
  const busy = lines.filter((line) => line.standing.tone === "busy").length;
  const parts = [
    needy ? `${number(needy)} ${needy === 1 ? "needs" : "need"} a look` : "",
    busy ? `${number(busy)} draining` : "",
    lines.length - needy - busy ? `${number(lines.length - needy - busy)} caught up` : "",
  ];
  return `${counted(lines.length, "application")}: ${parts.filter(Boolean).join(", ")}`;
}

function nothing() {
  return el(
    "section",
    { className: "card empty" },
    el("h2", {}, "Nothing has been drained yet"),
    el("p", {}, "An application shows up here once a task with KinesisToSnowflakeOperator has begun, in a DAG that you may read."),
    el("p", {}, "What to do now: unpause or trigger the DAG that drains your stream."),
  );
}

function table(answer) {
  return el(
    "div",
    { className: "card scroll", tabIndex: 0, role: "region", ariaLabel: "Applications", "data-key": "applications" },
    el(
      "table",
      { className: "list" },
      el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", { scope: "col", className: NUMBERS.has(name) ? "number" : "" }, name)))),
      el("tbody", {}, answer.applications.map((line) => row(line, answer.at))),
    ),
  );
}

function row(line, now) {
  const unknown = (value) => (line.state_read ? value : "unknown");
  const cell = (value, className = "") => el("td", { className }, value);
  return el(
    "tr",
    { className: line.standing.tone, "data-application": line.application },
    el("th", { scope: "row" }, toApplication(line, line.application), el("div", { className: "quiet" }, line.stream)),
    el("td", { className: "stand" }, el("div", {}, tone(line.standing.tone), el("div", {}, el("div", {}, line.standing.sentence), el("div", { className: "quiet" }, line.standing.advice)))),
    cell(line.lag === null ? NONE : duration(line.lag), "number"),
    el("td", { className: "number" }, `${number(line.records_per_minute)} records`, el("div", { className: "quiet" }, bytes(line.bytes_per_minute))),
    el("td", { title: moment(line.last_ended) }, ago(line.last_ended, now)),
    cell(number(line.dead_letters), line.dead_letters ? "number warn" : "number"),
    cell(unknown(leases(line)), line.stale_leases ? "warn" : ""),
    cell(unknown(line.findings ? counted(line.findings, "finding") : "all well"), line.findings || !line.state_read ? "warn" : ""),
  );
}
