// All applications, those that need somebody first.

import { dismiss, dismissed, restore } from "./dismissed.js";
import { el, show } from "./dom.js";
import { openForm } from "./form.js";
import { NONE, ago, bytes, counted, duration, moment, number } from "./format.js";
import { CLEANUP, leases, notice, sentence, table, tone } from "./parts.js";
import { toApplication } from "./places.js";

const HEADS = [
  { name: "Application", by: "application" },
  { name: "Health", by: "health" },
  { name: "Behind", by: "lag", numeric: true },
  { name: "Per minute", by: "records_per_minute", numeric: true },
  { name: "Last drain", by: "last_ended" },
  { name: "Dead letters", by: "dead_letters", numeric: true },
  { name: "Leases", by: "live_leases" },
  { name: "Check", by: "findings" },
];
const TONES = ["bad", "warning", "busy", "good"];
const FILTERS = [["", "all"], ["needy", "those that need a look"], ["busy", "those that drain"], ["good", "those that are caught up"]];
// Of these the largest is what one looks for; of the others the first of the alphabet.
const DOWNWARDS = new Set(["lag", "records_per_minute", "last_ended", "dead_letters", "live_leases", "findings"]);
const PLACE = "kinesis-snowflake-list";

// What the user chose; it outlives a refresh, and a visit of an application.
const chosen = { by: "health", down: false, search: "", tone: "", dismissed: false, ...remembered() };

function remembered() {
  try {
    return JSON.parse(window.sessionStorage.getItem(PLACE)) ?? {};
  } catch {
    return {};
  }
}

export function showList(place, answer) {
  const again = (change) => {
    Object.assign(chosen, change);
    window.sessionStorage.setItem(PLACE, JSON.stringify(chosen));
    showList(place, answer);
  };
  const form = answer.forms[CLEANUP];
  const kept = answer.applications.filter((line) => chosen.dismissed || !dismissed(line));
  const lines = sorted(kept.filter(wanted));
  const sort = { by: chosen.by, down: chosen.down, choose: (by) => again({ by, down: by === chosen.by ? !chosen.down : DOWNWARDS.has(by) }) };
  show(
    place,
    el(
      "header",
      { className: "bar" },
      el("div", {}, el("h1", {}, "Kinesis to Snowflake"), el("p", { className: "lead" }, headline(kept))),
      form ? el("button", { type: "button", "data-key": "cleanup", onclick: () => openForm(CLEANUP, form) }, "Clean up old tables…") : null,
    ),
    answer.notices.map(notice),
    answer.applications.length ? [tools(answer, sort, again), table("Applications", HEADS, lines.map((line) => row(line, answer.at, again)), { className: "list", sort, plain: true })] : nothing(),
    answer.applications.length && !lines.length ? el("p", { className: "quiet" }, "No application matches.") : null,
  );
}

function wanted(line) {
  const needy = ["bad", "warning"].includes(line.health.tone);
  if (chosen.tone && (chosen.tone === "needy" ? !needy : line.health.tone !== chosen.tone)) return false;
  const text = [line.application, line.stream, line.table, line.dag_id, line.health.sentence].join(" ").toLowerCase();
  return chosen.search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

function sorted(lines) {
  const value = { health: (line) => TONES.indexOf(line.health.tone), application: (line) => line.application.toLowerCase() }[chosen.by] ?? ((line) => line[chosen.by] ?? -1);
  const order = chosen.down ? -1 : 1;
  // What is equal stays in the order of the server: what needs somebody first, then by name.
  return [...lines].sort((one, other) => order * (value(one) < value(other) ? -1 : Number(value(one) > value(other))));
}

function tools(answer, sort, again) {
  const gone = answer.applications.filter(dismissed).length;
  return el(
    "div",
    { className: "tools", role: "search" },
    el("label", {}, "Find ", el("input", { type: "search", value: chosen.search, placeholder: "application, stream, table or DAG", "data-key": "search", oninput: (event) => again({ search: event.target.value }) })),
    el("label", {}, "Show ", el("select", { "data-key": "tone", onchange: (event) => again({ tone: event.target.value }) }, FILTERS.map(([value, text]) => el("option", { value, selected: value === chosen.tone }, text)))),
    el("label", { className: "stacked" }, "Sort by ", el("select", { "data-key": "sort", onchange: (event) => sort.choose(event.target.value) }, HEADS.map(({ name, by }) => el("option", { value: by, selected: by === chosen.by }, name.toLowerCase())))),
    gone ? el("button", { type: "button", "data-key": "dismissed", "aria-pressed": String(chosen.dismissed), onclick: () => again({ dismissed: !chosen.dismissed }) }, chosen.dismissed ? "Hide what was dismissed" : `Show ${number(gone)} dismissed`) : null,
  );
}

function headline(lines) {
  if (!lines.length) return "No application yet";
  const needy = lines.filter((line) => ["bad", "warning"].includes(line.health.tone)).length;
  const busy = lines.filter((line) => line.health.tone === "busy").length;
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
    el("p", {}, "An application shows up here once a task that drains it has begun, in a DAG that you may read."),
    el("p", {}, "What to do now: unpause or trigger the DAG that drains your stream."),
  );
}

function row(line, now, again) {
  const unknown = (value) => (line.state_read ? value : "unknown");
  return {
    className: line.health.tone,
    "data-application": line.application,
    cells: [
      { content: [toApplication(line, line.application), el("div", { className: "quiet" }, line.place ? `${line.stream} (${line.place})` : line.stream)] },
      { className: "stand", content: el("div", {}, tone(line.health.tone), el("div", {}, el("div", {}, sentence(line.health, now)), line.health.reason ? el("div", { className: "reason" }, line.health.reason) : null, el("div", { className: "quiet" }, line.health.advice), line.gone ? dismissal(line, again) : null)) },
      line.lag === null ? NONE : duration(line.lag),
      { content: [`${number(line.records_per_minute)} records`, el("div", { className: "quiet" }, bytes(line.bytes_per_minute))] },
      { content: ago(line.last_ended, now), title: moment(line.last_ended) },
      { content: number(line.dead_letters), className: line.dead_letters ? "warn" : "" },
      { content: unknown(leases(line)), className: line.stale_leases ? "warn" : "" },
      { content: unknown(line.findings ? counted(line.findings, "finding") : "all well"), className: line.findings || !line.state_read ? "warn" : "" },
    ],
  };
}

function dismissal(line, again) {
  const act = (each) => () => {
    each(line);
    again({});
  };
  return dismissed(line)
    ? el("button", { type: "button", className: "plain", "data-key": `restore ${line.application}`, onclick: act(restore) }, "Show it again")
    : el("button", { type: "button", className: "plain", "data-key": `dismiss ${line.application}`, ariaLabel: `Dismiss ${line.application}`, onclick: act(dismiss) }, "Dismiss");
}
