// One application: how it stands, what it did, its shards.

import { chart, perMinute } from "./chart.js";
import { el, show } from "./dom.js";
import { openForm } from "./form.js";
import { NONE, ago, bytes, counted, duration, moment, number, shortShard } from "./format.js";
import { STATUS, lineage } from "./lineage.js";
import { CLEANUP, RESET, leases, tone } from "./parts.js";
import { runPath, toAirflow, toConsole, toTask } from "./places.js";

const URGENCY = Object.keys(STATUS);
// One of these is chosen to begin with.
const URGENT = new Set(["stuck", "damaged", "abandoned"]);
const ROWS = 60;

// What the user chose; it outlives a refresh.
const chosen = { shard: undefined, filter: "", all: false };

export function showApplication(place, page, check) {
  const again = () => showApplication(place, page, check);
  const select = (shardId) => {
    chosen.shard = chosen.shard === shardId ? null : shardId;
    again();
  };
  if (chosen.shard === undefined) chosen.shard = page.shards.find((shard) => URGENT.has(shard.status))?.shard_id;
  const line = page.line;
  const links = Object.entries(page.links).map(([text, href]) => toConsole(href, `${text} ↗`));
  show(
    place,
    el("nav", {}, el("a", { href: "?all", "data-key": "all" }, "← All applications")),
    el(
      "header",
      { className: "bar" },
      el("div", {}, el("h1", {}, line.application), el("p", { className: "route" }, "Stream ", el("b", {}, line.stream), " → table ", el("b", {}, line.table || "not known yet")), el("p", { className: "links" }, links)),
      el("div", { className: "buttons" }, buttons(page, check)),
    ),
    state(line),
    line.notices.map(notice),
    facts(page),
    runsCard(page, place),
    drawingOf(page, select),
    page.line.state_read && page.shards.length ? shardTable(page, select, again) : null,
    drainTable(page),
  );
}

function state(line) {
  return el(
    "section",
    { className: `state ${line.standing.tone}`, role: "status" },
    tone(line.standing.tone),
    el("div", {}, el("p", { className: "sentence" }, line.standing.sentence), el("p", {}, el("b", {}, "What to do now: "), line.standing.advice)),
  );
}

function notice(each) {
  return el("section", { className: `notice ${each.tone}` }, tone(each.tone), el("div", {}, el("b", {}, each.text), ". ", each.advice));
}

function buttons(page, check) {
  const button = (key, text, onclick) => el("button", { type: "button", "data-key": key, onclick }, text);
  return [
    button("check", page.checked ? "Check again with Kinesis" : "Check with Kinesis", check),
    page.forms[RESET] ? button("reset", "Reset…", () => openForm(RESET, page.forms[RESET])) : null,
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

function drawingOf(page, select) {
  const shard = page.shards.find((each) => each.shard_id === chosen.shard);
  const used = new Set(page.shards.map((each) => each.status));
  if (!page.line.state_read) return el("section", { className: "card" }, el("h2", {}, "Shards"), el("p", { className: "quiet" }, "Unknown while DynamoDB can't be read."));
  if (!page.shards.length) return el("section", { className: "card" }, el("h2", {}, "Shards"), el("p", { className: "quiet" }, "No shard has a row yet: the first drain makes them."));
  return el(
    "section",
    { className: "card" },
    el("h2", {}, "Shards"),
    el("p", { className: "quiet" }, `${page.shards_text}. Parents stand to the left of their children; choose a shard to see who holds it and where it is.`),
    el("div", { className: "split" }, el("div", { className: "scroll drawing" }, lineage(page.drawing, page.shards, chosen.shard, select)), shard ? details(shard, page, select) : null),
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
    ["Checkpoint", shard.checkpoint ? el("code", {}, shard.checkpoint) : shard.start_at ? `none yet; starts at ${shard.start_at}` : "none yet"],
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
    el("h3", {}, shard.shard_id),
    el("dl", {}, pairs.map(([name, value]) => [el("dt", {}, name), el("dd", {}, ...[value].flat())]).flat()),
    form ? el("button", { type: "button", "data-key": "reset shard", onclick: () => openForm(RESET, { ...form, shards: [shard.shard_id] }) }, "Reset this shard…") : null,
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
  const heads = [["Shard"], ["Status"], ["Behind", 1], ["Checkpoint written", 1], ["Held by"], ["Lease"], ["Records", 1], ["Dead letters", 1], ["Last touched", 1]];
  return el(
    "section",
    { className: "card" },
    el(
      "div",
      { className: "bar" },
      el("h2", {}, "Every shard"),
      el("label", {}, "Find ", el("input", { type: "search", value: chosen.filter, placeholder: "shard, status or worker", "data-key": "filter", oninput: (event) => { chosen.filter = event.target.value; again(); } })),
    ),
    el(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Every shard", "data-key": "shards" },
      el(
        "table",
        { className: "shards" },
        el("thead", {}, el("tr", {}, heads.map(([name, numeric]) => el("th", { scope: "col", className: numeric ? "number" : "" }, name)))),
        el("tbody", {}, rows.map((shard) => shardRow(shard, select))),
      ),
    ),
    rows.length < matches.length ? el("button", { type: "button", "data-key": "more", onclick: () => { chosen.all = true; again(); } }, `Show all ${number(matches.length)}`) : null,
    matches.length ? null : el("p", { className: "quiet" }, "No shard matches."),
  );
}

function shardRow(shard, select) {
  const cell = (value, className = "") => el("td", { className }, value);
  const old = (value) => (value === null ? NONE : `${duration(value)} ago`);
  return el(
    "tr",
    { className: shard.shard_id === chosen.shard ? "selected" : "" },
    el("th", { scope: "row" }, el("button", { type: "button", className: "plain", "data-key": `row ${shard.shard_id}`, onclick: () => select(shard.shard_id) }, shard.shard_id)),
    el("td", { title: shard.why }, el("span", { className: `key ${shard.status}` }, STATUS[shard.status])),
    cell(duration(shard.lag), "number"),
    cell(old(shard.age), "number"),
    el("td", { title: shard.owner ?? "" }, holder(shard, true)),
    cell(lease(shard), shard.lease_left !== null && shard.lease_left < 0 ? "warn" : ""),
    cell(number(shard.records), "number"),
    cell(number(shard.dead_letters), shard.dead_letters ? "number warn" : "number"),
    cell(old(shard.touched), "number"),
  );
}

function runsCard(page, place) {
  const readout = el("p", { className: "readout", "aria-live": "polite" });
  const width = Math.max(320, (place.clientWidth || 960) - 42);
  return el("section", { className: "card" }, el("h2", {}, "Lag and throughput"), readout, el("div", { className: "scroll" }, chart(page.runs, width, readout)));
}

function drainTable(page) {
  const heads = [["Began"], ["State"], ["Took", 1], ["Records", 1], ["Records/min", 1], ["Volume", 1], ["Behind at its end", 1], ["Dead letters", 1], ["Workers", 1], [""]];
  return el(
    "section",
    { className: "card" },
    el("h2", {}, "Recent drains"),
    el(
      "div",
      { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Recent drains", "data-key": "drains" },
      el("table", {}, el("thead", {}, el("tr", {}, heads.map(([name, numeric]) => el("th", { scope: "col", className: numeric ? "number" : "" }, name)))), el("tbody", {}, page.runs.map(drainRow))),
    ),
  );
}

function drainRow(run) {
  const cell = (value, className = "number") => el("td", { className }, value);
  const over = run.started && run.ended;
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, toAirflow(runPath(run.dag_id, run.run_id), run.started ? moment(run.started) : run.run_id)),
    cell(el("span", { className: `run ${run.state}` }, run.state), ""),
    cell(over ? duration(run.ended - run.started) : NONE),
    cell(number(run.records)),
    cell(number(perMinute(run))),
    cell(bytes(run.bytes)),
    cell(duration(run.lag)),
    cell(number(run.dead_letters), run.dead_letters ? "number warn" : "number"),
    cell(number(run.workers)),
    el("td", { className: "warn" }, run.trouble ? toTask(run.dag_id, run.run_id, ...run.trouble, "log of the failure") : "", run.gaps ? ` ${counted(run.gaps, "gap")}` : ""),
  );
}
