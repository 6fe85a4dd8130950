// Lag and throughput of drains: two rows of one chart, a column per drain or span of time, the newest to the right.

import { rove, svg, el } from "./dom.js";
import { bytes, clock, counted, date, duration, moment, number } from "./format.js";
import { runPath, toAirflow } from "./places.js";

const LEFT = 76;
const RIGHT = 22;
const TOP = 16;
const LAG = 96;
const GAP = 34;
const FLOW = 84;
const BOTTOM = 24;
// From here on the days matter, not the hours.
const LONG = 2 * 86400000;
const NICE_LAGS = [1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400].map((s) => s * 1000);

function ceiling(values, steps) {
  const most = Math.max(...values, 0);
  const step = steps.find((each) => each >= most);
  if (step) return step;
  const size = 10 ** Math.floor(Math.log10(most));
  return Math.ceil(most / size) * size;
}

function told(column) {
  const lag = column.lag === null ? "" : `, ${column.run ? "" : "up to "}${duration(column.lag)} behind at ${column.run ? "its" : "their"} end`;
  const letters = column.dead_letters ? `, ${counted(column.dead_letters, "dead letter")}` : "";
  const loaded = `${counted(column.records, "record")} (${bytes(column.bytes)})`;
  if (!column.run) {
    const failed = column.failed ? `, ${number(column.failed)} failed` : "";
    return `From ${moment(column.started)}: ${counted(column.runs, "drain")}${failed}, ${loaded}${lag}${letters}`;
  }
  const took = column.ended ? ` in ${duration(column.ended - column.started)}` : "";
  return `${moment(column.started)}: ${column.state}, ${loaded}${took}${lag}${letters}`;
}

function axis(y, height, top, label, text) {
  return [
    svg("text", { x: 0, y: y - 6, class: "axis title" }, text),
    svg("line", { x1: LEFT, x2: "100%", y1: y, y2: y, class: "grid" }),
    svg("line", { x1: LEFT, x2: "100%", y1: y + height, y2: y + height, class: "grid base" }),
    svg("text", { x: LEFT - 8, y: y + 10, class: "axis", "text-anchor": "end" }, label(top)),
    svg("text", { x: LEFT - 8, y: y + height, class: "axis", "text-anchor": "end" }, "0"),
  ];
}

export function chart(drains, width, readout) {
  if (!drains.length) return el("p", { className: "quiet" }, "No drain has begun then.");
  const label = drains.at(-1).started - drains[0].started > LONG ? date : clock;
  const column = (width - LEFT - RIGHT) / Math.max(drains.length, 12);
  const at = (index) => LEFT + column * (index + 0.5);
  const topLag = ceiling(drains.map((each) => each.lag ?? 0), NICE_LAGS);
  const topFlow = ceiling(drains.map((each) => each.per_minute ?? 0), [10]);
  const lagY = (lag) => TOP + LAG * (1 - lag / topLag);
  const flowTop = TOP + LAG + GAP;
  const bar = Math.max(2, Math.min(22, column * 0.62));
  const points = drains.map((run, index) => [at(index), run.lag]).filter(([, lag]) => lag !== null);
  const path = points.map(([x, lag], index) => `${index ? "L" : "M"}${x},${lagY(lag)}`).join("");
  const every = Math.ceil(48 / column);
  const columns = drains.map((run, index) => {
    const flow = run.per_minute ?? 0;
    const height = Math.max(flow > 0 ? 1.5 : 0, (FLOW * flow) / topFlow);
    return svg(
      "g",
      { class: `drain ${run.state}`, tabindex: index === drains.length - 1 ? 0 : -1, role: "img", "aria-label": told(run), "data-key": `run ${run.run?.join(" ") ?? run.started}` },
      svg("rect", { x: at(index) - column / 2, y: 0, width: column, height: flowTop + FLOW, class: "hit" }),
      svg("rect", { x: at(index) - bar / 2, y: flowTop + FLOW - height, width: bar, height, class: "flow" }),
      run.lag === null ? null : svg("circle", { cx: at(index), cy: lagY(run.lag), r: 3, class: "point" }),
      run.state === "failed" ? svg("text", { x: at(index), y: flowTop + FLOW - height - 4, class: "cross", "text-anchor": "middle" }, "✕") : null,
      index % every === (drains.length - 1) % every
        ? svg("text", { x: at(index), y: flowTop + FLOW + 16, class: "axis", "text-anchor": "middle" }, label(run.started))
        : null,
    );
  });
  const tell = (run) => readout.replaceChildren(told(run), ...(run.run ? [" · ", toAirflow(runPath(...run.run), "open the run")] : []));
  columns.forEach((each, index) => {
    each.addEventListener("focus", () => tell(drains[index]));
    each.addEventListener("mouseenter", () => tell(drains[index]));
  });
  rove(columns, (item, key) => columns[columns.indexOf(item) + ({ ArrowLeft: -1, ArrowRight: 1 }[key] ?? NaN)]);
  tell(drains.at(-1));
  const area = points.length > 1 ? `${path}L${points.at(-1)[0]},${TOP + LAG}L${points[0][0]},${TOP + LAG}Z` : "";
  return svg(
    "svg",
    { class: "chart", width, height: flowTop + FLOW + BOTTOM, role: "group", "aria-label": "Lag and throughput of drains; arrow keys go from one to the next" },
    ...axis(TOP, LAG, topLag, duration, "Behind at the end of the drain"),
    ...axis(flowTop, FLOW, topFlow, number, "Records a minute while draining"),
    svg("path", { d: area, class: "area" }),
    svg("path", { d: path, class: "lag" }),
    ...columns,
  );
}
