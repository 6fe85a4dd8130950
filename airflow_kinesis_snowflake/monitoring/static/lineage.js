// The family of the shards: parents to the left, children to the right; where each stands comes from the server.

import { rove, svg } from "./dom.js";
import { duration, shortShard } from "./format.js";

const BOX = { width: 148, height: 40, gapX: 56, gapY: 12 };
const CELL = { width: 16, height: 16, gapX: 5, gapY: 5 };
const PAD = 6;
const INDENT = 18;

export const STATUS = {
  stuck: "stuck",
  damaged: "damaged row",
  abandoned: "lease expired",
  behind: "behind",
  reading: "being read",
  waiting: "waits for parent",
  idle: "caught up",
  ended: "read to its end",
};

// With a width, shards stand below each other in the order of their generations, and are as wide as there is room.
export function lineage(drawing, shards, selected, select, width = 0) {
  const byId = new Map(shards.map((shard) => [shard.shard_id, shard]));
  const stacked = drawing.boxes && width > 0;
  const { place, size, extent } = stacked ? stack(drawing, width) : grid(drawing);
  const kin = relatives(drawing.lines, selected);
  const lines = drawing.lines
    .filter(([parent, child]) => drawing.boxes || (kin.has(parent) && kin.has(child)))
    .map(([parent, child]) => {
      const [from, to] = [place.get(parent), place.get(child)];
      const near = kin.has(parent) && kin.has(child);
      const className = near ? "line near" : "line";
      if (stacked) return svg("path", { class: className, d: `M${from.x + INDENT / 2},${from.y + size.height}V${to.y + size.height / 2}H${to.x}` });
      const [x1, y1] = [from.x + size.width, from.y + size.height / 2];
      const [x2, y2] = [to.x, to.y + size.height / 2];
      const bend = Math.max(14, (x2 - x1) / 2);
      return svg("path", { class: className, d: `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}` });
    });
  const chosen = byId.has(selected) ? selected : drawing.places[0]?.shard_id;
  const nodes = drawing.places.map((each) => {
    const shard = byId.get(each.shard_id);
    const { x, y } = place.get(each.shard_id);
    const lag = shard.lag === null ? "" : `, ${duration(shard.lag)} behind`;
    const kind = shard.open ? "open" : "closed";
    return svg(
      "g",
      {
        class: `shard ${shard.status} ${kind}${each.shard_id === selected ? " selected" : ""}`,
        transform: `translate(${x},${y})`,
        tabindex: each.shard_id === chosen ? 0 : -1,
        role: "button",
        "aria-pressed": String(each.shard_id === selected),
        "aria-label": `${shard.shard_id}: ${STATUS[shard.status]}${lag}`,
        "data-key": `shard ${each.shard_id}`,
        "data-shard": each.shard_id,
        onclick: () => select(each.shard_id),
        onkeydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          select(each.shard_id);
        },
      },
      svg("title", {}, `${shard.shard_id}: ${shard.why}`),
      svg("rect", { width: stacked ? extent.width - PAD - x : size.width, height: size.height, rx: drawing.boxes ? 5 : 3 }),
      ...(drawing.boxes ? labels(shard) : []),
    );
  });
  rove(nodes, (item, key) => neighbour(nodes, place, item, key));
  return svg(
    "svg",
    {
      class: drawing.boxes ? "lineage boxes" : "lineage cells",
      width: extent.width,
      height: extent.height,
      role: "group",
      "aria-label": "Shards and their descent; arrow keys go from shard to shard",
    },
    ...lines,
    ...nodes,
  );
}

// One generation to a column, or to several of cells.
function grid(drawing) {
  const size = drawing.boxes ? BOX : CELL;
  const stepX = size.width + size.gapX;
  const stepY = size.height + size.gapY;
  const place = new Map(drawing.places.map((each) => [each.shard_id, { x: PAD + each.column * stepX, y: PAD + each.row * stepY, ...each }]));
  return { size, place, extent: { width: 2 * PAD + drawing.columns * stepX - size.gapX, height: 2 * PAD + drawing.rows * stepY - size.gapY } };
}

function stack(drawing, width) {
  const step = BOX.height + BOX.gapY;
  const indent = Math.min(INDENT, (width - BOX.width) / Math.max(1, drawing.columns));
  const ordered = [...drawing.places].sort((one, other) => one.column - other.column || one.row - other.row);
  const place = new Map(ordered.map((each, index) => [each.shard_id, { ...each, x: PAD + each.column * indent, y: PAD + index * step, column: 0, row: index }]));
  return { size: BOX, place, extent: { width, height: 2 * PAD + ordered.length * step - BOX.gapY } };
}

function labels(shard) {
  const lag = shard.lag !== null && shard.lag >= 1000 ? `, ${duration(shard.lag)}` : "";
  return [
    svg("rect", { class: "mark", width: 5, height: BOX.height, rx: 2 }),
    svg("text", { x: 14, y: 17, class: "name" }, shortShard(shard.shard_id)),
    svg("text", { x: 14, y: 32, class: "doing" }, STATUS[shard.status] + (shard.status === "waiting" ? "" : lag)),
  ];
}

// A shard, its ancestors and its descendants.
function relatives(lines, selected) {
  const kin = new Set([selected]);
  for (const [near, far] of [[1, 0], [0, 1]]) {
    const pending = [selected];
    while (pending.length) {
      const each = pending.pop();
      for (const line of lines) {
        if (line[near] === each && !kin.has(line[far])) {
          kin.add(line[far]);
          pending.push(line[far]);
        }
      }
    }
  }
  return kin;
}

function neighbour(nodes, place, item, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
  if (!dx && !dy) return null;
  const here = place.get(item.dataset.shard);
  let best = null;
  let least = Infinity;
  for (const node of nodes) {
    const there = place.get(node.dataset.shard);
    const [x, y] = [there.column - here.column, there.row - here.row];
    if (x * dx + y * dy <= 0 || (dy && x)) continue;
    const distance = dx ? Math.abs(x) * 1000 + Math.abs(y) : Math.abs(y);
    if (distance < least) [best, least] = [node, distance];
  }
  return best;
}
