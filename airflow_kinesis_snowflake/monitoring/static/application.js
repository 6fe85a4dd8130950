// One application: how it stands, what it did, its shards.

import { chart } from "./chart.js";
import { control } from "./control.js";
import { copyButton } from "./copy.js";
import { el, show } from "./dom.js";
import { openForm, resetForm } from "./form.js";
import { NONE, ago, bytes, counted, duration, moment, number, shortShard } from "./format.js";
import { shownRuns, spanNote, spanPicker } from "./history.js";
import { lettersCard } from "./letters.js";
import { STATUS, lineage } from "./lineage.js";
import { CLEANUP, RESET, leases, notice, sentence, table, tone } from "./parts.js";
import { runPath, toAirflow, toConsole, toTask } from "./places.js";

const URGENCY = Object.keys(STATUS);
// One of these is chosen to begin with.
const URGENT = new Set(["stuck", "damaged", "abandoned"]);
const ROWS = 60;
const DRAINS = 20;
const NARROW = 700;

// What the user chose; it outlives a refresh.
const chosen = { shard: undefined, filter: "", all: false, allDrains: false, told: "" };

// What the page can do: check with Kinesis, refresh, fetch the runs of some days; and what came since the last drain.
export function showApplication(place, page, acts, look) {
  const again = () => showApplication(place, page, acts, look);
  const select = (shardId) => {
    chosen.shard = chosen.shard === shardId ? null : shardId;
    again();
  };
  const told = (text) => {
    chosen.told = text;
    again();
  };
  if (chosen.shard === undefined) chosen.shard = page.shards.find((shard) => URGENT.has(shard.status))?.shard_id;
  const line = page.line;
  const links = Object.entries(page.links).map(([text, href]) => toConsole(href, `${text} ↗`));
  const picker = spanPicker(acts.fetchDays, again);
  show(
    place,
    el("nav", { ariaLabel: "Applications" }, el("a", { href: "?all", "data-key": "all" }, "← All applications")),
    el(
      "header",
      { className: "bar" },
      el("div", {}, el("div", { className: "named" }, el("h1", {}, line.application), copyButton(line.application, "the application's name")), el("p", { className: "route" }, "Stream ", el("b", {}, line.stream), line.place && ` (${line.place})`, " → table ", el("b", {}, line.table || "not known yet")), el("p", { className: "links" }, links)),
      el("div", { className: "buttons" }, control(page, acts.refresh, told), buttons(page, acts.check)),
    ),
    chosen.told ? el("p", { className: "quiet told", role: "status" }, chosen.told) : null,
    state(page, fresh(look, line)),
    notices(page, look).map(notice),
    facts(page),
    runsCard(place, page, picker),
    lettersCard(page),
    drawingOf(page, select, place),
    page.line.state_read && page.shards.length ? shardTable(page, select, again) : null,
    drainTable(page, again),
    thresholds(page.thresholds),
  );
}

function state({ line: { health }, at }, look) {
  const [dagId, runId, taskId, mapIndex] = health.log ?? [];
  const name = mapIndex < 0 ? taskId : `${taskId}[${mapIndex}]`;
  return el(
    "section",
    { className: `state ${health.tone}`, role: "status" },
    tone(health.tone),
    el(
      "div",
      {},
      el("p", { className: "sentence" }, sentence(health, at)),
      health.reason ? el("p", { className: "reason" }, health.reason, " ", copyButton(health.reason, "the reason")) : null,
      health.log ? el("p", {}, toTask(dagId, runId, taskId, mapIndex, `Open the log of ${name}`)) : null,
      look ? el("p", { className: "since" }, el("b", {}, "Since then: "), `${look.text} Looked at ${moment(look.at)}.`) : null,
      el("p", {}, el("b", {}, "What to do now: "), health.advice),
    ),
  );
}

// A look from before the last drain ended says nothing about what came since.
function fresh(look, line) {
  if (!look || line.health.tone === "busy") return null;
  return line.last_ended !== null && look.at < line.last_ended ? null : look;
}

function notices(page, look) {
  const known = new Set(page.line.notices.map((each) => each.text));
  return [...page.notices, ...(look?.notices ?? []).filter((each) => !known.has(each.text)), ...page.line.notices];
}

function buttons(page, check) {
  const button = (key, text, onclick) => el("button", { type: "button", "data-key": key, onclick }, text);
  return [
    button("check", page.checked ? "Check again with Kinesis" : "Check with Kinesis", check),
    page.forms[RESET] ? button("reset", "Reset…", () => openForm(RESET, page.forms[RESET], resetForm(page.reset_fields))) : null,
    page.forms[CLEANUP] ? button("cleanup", "Clean up tables…", () => openForm(CLEANUP, page.forms[CLEANUP])) : null,
  ];
}

function facts(page) {
  const { line, schedule, at } = page;
  const arrow = { growing: "growing", shrinking: "shrinking", steady: "steady" }[line.trend] ?? "";
  const due = schedule.due === null ? "" : schedule.due > at ? `next in ${duration(schedule.due - at)}` : `due ${ago(schedule.due, at)}`;
  const known = (value) => (line.state_read ? value : "unknown");
  return el(
    "section",
    { className: "facts", ariaLabel: "Figures" },
    fact("Behind", duration(line.lag), arrow),
    fact("Records a minute", number(line.records_per_minute), "last hour, average"),
    fact("Volume a minute", bytes(line.bytes_per_minute), "last hour, average"),
    fact("Last drain", ago(line.last_ended, at), moment(line.last_ended)),
    fact("Leases", known(leases(line)), known(`${counted(Object.keys(page.workers).length, "worker")} signed in`)),
    fact("Dead letters", number(line.dead_letters), `in ${counted(page.runs.length, "drain")}`),
    fact("State check", known(line.findings ? counted(line.findings, "finding") : "all well"), page.checked ? "with Kinesis" : "of the table"),
    fact("Schedule", schedule.paused ? "paused" : schedule.text || "by hand", due, toAirflow(`/dags/${encodeURIComponent(schedule.dag_id)}`, schedule.dag_id)),
  );
}

function fact(name, value, more, ...rest) {
  return el("div", { className: "fact" }, el("span", { className: "name" }, name), el("span", { className: "value" }, value), el("span", { className: "quiet" }, more), ...rest);
}

function drawingOf(page, select, place) {
  const shard = page.shards.find((each) => each.shard_id === chosen.shard);
  const used = new Set(page.shards.map((each) => each.status));
  if (!page.line.state_read) return el("section", { className: "card" }, el("h2", {}, "Shards"), el("p", { className: "quiet" }, "Unknown while DynamoDB can't be read."));
  if (!page.shards.length) return el("section", { className: "card" }, el("h2", {}, "Shards"), el("p", { className: "quiet" }, "No shard has a row yet: the first drain makes them."));
  const narrow = place.clientWidth < NARROW;
  const where = narrow ? "Children stand below their parents" : "Parents stand to the left of their children";
  return el(
    "section",
    { className: "card" },
    el("h2", {}, "Shards"),
    el("p", { className: "quiet" }, `${page.shards_text}. ${where}; choose a shard to see who holds it and where it is.`),
    el("div", { className: "split" }, el("div", { className: "scroll drawing" }, lineage(page.drawing, page.shards, chosen.shard, select, narrow ? inner(place) : 0)), shard ? details(shard, page, select) : null),
    el("p", { className: "legend" }, URGENCY.filter((each) => used.has(each)).map((each) => el("span", { className: `key ${each}` }, STATUS[each])), page.drawing.boxes ? "dashed: closed, takes no more records" : null),
  );
}

function details(shard, page, select) {
  const relative = (ids) => (ids.length ? ids.map((id) => el("button", { type: "button", className: "plain", "data-key": `kin ${id}`, disabled: !page.shards.some((each) => each.shard_id === id), onclick: () => select(id) }, shortShard(id))) : [NONE]);
  const pairs = [
    ["Now", shard.why],
    ["Held by", holder(shard)],
    ["Lease", lease(shard)],
    ["Behind", duration(shard.lag)],
    ["Checkpoint", shard.checkpoint ? [el("code", {}, shard.checkpoint), copyButton(shard.checkpoint, "the checkpoint")] : shard.start_at ? `none yet; starts at ${shard.start_at}` : "none yet"],
    ["Written", shard.age === null ? NONE : `${duration(shard.age)} ago (the record at the checkpoint)`],
    ["Last touched", shard.touched === null ? NONE : `${duration(shard.touched)} ago`],
    ["Loaded", `${counted(shard.records, "record")}, ${counted(shard.dead_letters, "dead letter")} in the drains below`],
    ["Parents", relative(shard.parents)],
    ["Children", relative(shard.children)],
  ];
  const form = page.forms[RESET];
  return el(
    "aside",
    { className: `details ${shard.status}`, ariaLabel: "The chosen shard", "aria-live": "polite" },
    el("div", { className: "named" }, el("h3", {}, shard.shard_id), copyButton(shard.shard_id, "the shard's id")),
    el("dl", {}, pairs.map(([name, value]) => [el("dt", {}, name), el("dd", {}, ...[value].flat())]).flat()),
    form ? el("button", { type: "button", "data-key": "reset shard", onclick: () => openForm(RESET, { ...form, shards: [shard.shard_id] }, resetForm(page.reset_fields)) }, "Reset this shard…") : null,
  );
}

function holder(shard, brief = false) {
  if (!shard.owner) return "nobody";
  if (!shard.holder) return shard.owner;
  const { dag_id, run_id, task_id, map_index, name } = shard.holder;
  return toTask(dag_id, run_id, task_id, map_index, brief ? name : `${name} of ${run_id}`);
}

function lease(shard) {
  if (!shard.owner) return "free";
  if (shard.lease_left === null) return "held without an end";
  return shard.lease_left >= 0 ? `live, ${duration(shard.lease_left)} left` : `expired ${duration(-shard.lease_left)} ago`;
}

function shardTable(page, select, again) {
  const wanted = chosen.filter.trim().toLowerCase();
  const matches = page.shards
    .filter((shard) => !wanted || `${shard.shard_id} ${STATUS[shard.status]} ${shard.owner ?? ""}`.toLowerCase().includes(wanted))
    .sort((one, other) => URGENCY.indexOf(one.status) - URGENCY.indexOf(other.status) || (other.lag ?? -1) - (one.lag ?? -1) || (one.shard_id < other.shard_id ? -1 : 1));
  const rows = chosen.all ? matches : matches.slice(0, ROWS);
  return el(
    "section",
    { className: "card" },
    el(
      "div",
      { className: "bar" },
      el("h2", {}, "Every shard"),
      el("label", {}, "Find ", el("input", { type: "search", value: chosen.filter, placeholder: "shard, status or worker", "data-key": "filter", oninput: (event) => { chosen.filter = event.target.value; again(); } })),
    ),
    table("Every shard", SHARD_HEADS, rows.map((shard) => shardRow(shard, select)), { className: "shards" }),
    rows.length < matches.length ? el("button", { type: "button", "data-key": "more", onclick: () => { chosen.all = true; again(); } }, `Show all ${number(matches.length)}`) : null,
    matches.length ? null : el("p", { className: "quiet" }, "No shard matches."),
  );
}

const SHARD_HEADS = [{ name: "Shard" }, { name: "Status" }, { name: "Behind", numeric: true }, { name: "Checkpoint written", numeric: true }, { name: "Held by" }, { name: "Lease" }, { name: "Records", numeric: true }, { name: "Dead letters", numeric: true }, { name: "Last touched", numeric: true }];

function shardRow(shard, select) {
  const old = (value) => (value === null ? NONE : `${duration(value)} ago`);
  return {
    className: shard.shard_id === chosen.shard ? "selected" : "",
    cells: [
      el("button", { type: "button", className: "plain", "data-key": `row ${shard.shard_id}`, onclick: () => select(shard.shard_id) }, shard.shard_id),
      { content: el("span", { className: `key ${shard.status}` }, STATUS[shard.status]), title: shard.why },
      duration(shard.lag),
      old(shard.age),
      { content: holder(shard, true), title: shard.owner ?? "" },
      { content: lease(shard), className: shard.lease_left !== null && shard.lease_left < 0 ? "warn" : "" },
      number(shard.records),
      { content: number(shard.dead_letters), className: shard.dead_letters ? "warn" : "" },
      old(shard.touched),
    ],
  };
}

// The width of what lies in a card.
function inner(place) {
  return Math.max(240, (place.clientWidth || 960) - 34);
}

function runsCard(place, page, picker) {
  const readout = el("p", { className: "readout", "aria-live": "polite" });
  const { columns } = shownRuns(page);
  return el(
    "section",
    { className: "card" },
    el("div", { className: "bar" }, el("h2", {}, "Lag and throughput"), picker),
    el("p", { className: "quiet" }, spanNote()),
    readout,
    chart(columns, inner(place), readout),
  );
}

const DRAIN_HEADS = [{ name: "Began" }, { name: "State" }, { name: "Took", numeric: true }, { name: "Records", numeric: true }, { name: "Records a minute", numeric: true }, { name: "Volume", numeric: true }, { name: "Behind at its end", numeric: true }, { name: "Dead letters", numeric: true }, { name: "Workers", numeric: true }, { name: "Trouble" }];

function drainTable(page, again) {
  const { runs, runs_in_all } = shownRuns(page);
  const rows = chosen.allDrains ? runs : runs.slice(0, DRAINS);
  return el(
    "section",
    { className: "card" },
    el("h2", {}, "Drains"),
    runs.length < runs_in_all ? el("p", { className: "quiet" }, `The newest ${number(runs.length)} of ${counted(runs_in_all, "run")}.`) : null,
    table("Drains", DRAIN_HEADS, rows.map(drainRow), { className: "drains" }),
    rows.length < runs.length ? el("button", { type: "button", "data-key": "more drains", onclick: () => { chosen.allDrains = true; again(); } }, `Show all ${number(runs.length)}`) : null,
  );
}

function drainRow(run) {
  const over = run.started && run.ended;
  const minutes = over ? Math.max((run.ended - run.started) / 60000, 1 / 60) : null;
  return {
    cells: [
      toAirflow(runPath(run.dag_id, run.run_id), run.started ? moment(run.started) : run.run_id),
      el("span", { className: `run ${run.state}` }, run.state),
      over ? duration(run.ended - run.started) : NONE,
      number(run.records),
      minutes ? number(run.records / minutes) : NONE,
      bytes(run.bytes),
      duration(run.lag),
      { content: number(run.dead_letters), className: run.dead_letters ? "warn" : "" },
      number(run.workers),
      { content: trouble(run), className: run.trouble || run.gaps ? "warn wide" : "" },
    ],
  };
}

function trouble(run) {
  const parts = [
    run.trouble ? toTask(run.dag_id, run.run_id, ...run.trouble, "log of the failure") : null,
    run.reason ? el("div", { className: "quiet" }, run.reason) : null,
    run.gaps ? ` ${counted(run.gaps, "gap")}` : null,
  ].filter(Boolean);
  return parts.length ? parts : NONE;
}

function thresholds(each) {
  const seconds = (value) => duration(value * 1000);
  const unread = each.unread_seconds === null ? "" : `, unread for ${seconds(each.unread_seconds)}`;
  return el(
    "p",
    { className: "quiet" },
    `Thresholds: caught up to ${seconds(each.caught_up_seconds)}, alert above ${seconds(each.lag_seconds)} of lag, ${each.retention_percent} % of the retention, ${counted(each.dead_letters, "dead letter")}${unread}. The Variable kinesis_snowflake_thresholds sets them.`,
  );
}
