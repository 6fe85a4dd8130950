// Numbers with their units, as the sentences of the page have them.

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SMALL = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const SIZES = ["B", "kB", "MB", "GB", "TB"];
export const NONE = "–";

// Airflow keeps the time zone that the user chose for its pages here; without one it is the browser's.
let zone;
readZone();

export function readZone() {
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  try {
    const chosen = JSON.parse(window.localStorage.getItem("timezone")) ?? own;
    zone = new Intl.DateTimeFormat("en", { timeZone: chosen }).resolvedOptions().timeZone;
  } catch {
    zone = own;
  }
}

export function zoneName() {
  return zone;
}

export function duration(millis) {
  if (millis === null || millis === undefined) return NONE;
  let seconds = Math.max(0, Math.floor(millis / 1000));
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(seconds / size);
    seconds %= size;
    if (count) parts.push(`${count} ${unit}`);
    if (parts.length && (parts.length === 2 || !count || unit === "min")) break;
  }
  return parts.join(" ") || "0 s";
}

export function ago(then, now) {
  if (then === null || then === undefined) return NONE;
  return now - then < 1000 ? "just now" : `${duration(now - then)} ago`;
}

export function number(value) {
  if (value === null || value === undefined) return NONE;
  return value > 0 && value < 10 && !Number.isInteger(value) ? SMALL.format(value) : WHOLE.format(value);
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let size = 0;
  while (value >= 1000 && size < SIZES.length - 1) [value, size] = [value / 1000, size + 1];
  return `${number(value < 100 ? Math.round(value * 10) / 10 : value)} ${SIZES[size]}`;
}

export function counted(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export function moment(millis) {
  if (millis === null || millis === undefined) return NONE;
  return new Date(millis).toLocaleString("en-GB", { timeZone: zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function clock(millis) {
  return new Date(millis).toLocaleTimeString("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" });
}

export function date(millis) {
  return new Date(millis).toLocaleDateString("en-GB", { timeZone: zone, day: "numeric", month: "short" });
}

export function timeOfDay(millis) {
  return new Date(millis).toLocaleTimeString("en-GB", { timeZone: zone });
}

// A day as programs write it, 2026-01-31.
export function day(millis) {
  return new Date(millis).toLocaleDateString("en-CA", { timeZone: zone });
}

// A shard id without what all of them begin with.
export function shortShard(shardId) {
  return shardId.replace(/^shardId-0*(?=\d)/, "Shard ");
}
