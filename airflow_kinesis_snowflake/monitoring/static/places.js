// Links to elsewhere. Airflow shows this page in a frame that may neither open windows nor leave itself, so
// the link is followed by the document around it, which is Airflow's own.

import { el } from "./dom.js";

let base = "";

export function setBase(path) {
  base = path;
}

function around() {
  try {
    return window.parent !== window && window.parent.document ? window.parent.document : null;
  } catch {
    return null;
  }
}

function follow(event) {
  const outside = around();
  if (!outside) return;
  event.preventDefault();
  const link = event.currentTarget;
  const twin = outside.createElement("a");
  twin.href = link.href;
  twin.rel = "noopener noreferrer";
  if (link.target === "_blank" || event.ctrlKey || event.metaKey) twin.target = "_blank";
  outside.body.append(twin);
  twin.click();
  twin.remove();
}

function link(href, target, children, key) {
  return el("a", { href, target, rel: "noopener noreferrer", onclick: follow, "data-key": key }, ...children);
}

export function toConsole(href, ...children) {
  return link(href, "_blank", children);
}

export function runPath(dagId, runId) {
  return `/dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
}

export function toAirflow(path, ...children) {
  return link(base + path, "", children, path);
}

export function toTask(dagId, runId, taskId, mapIndex, ...children) {
  const mapped = mapIndex < 0 ? "" : `/mapped/${mapIndex}`;
  return toAirflow(`${runPath(dagId, runId)}/tasks/${encodeURIComponent(taskId)}${mapped}`, ...children);
}

export function toApplication(line, ...children) {
  const arn = line.place ? { arn: line.arn } : {};
  const query = new URLSearchParams({ application: line.application, stream: line.stream, ...arn });
  return el("a", { href: `?${query}`, "data-key": `?${query}` }, ...children);
}

// Calls Airflow's REST API as the user who looks at the page, so that Airflow decides what is allowed.
export async function callAirflow(method, path, body) {
  const answer = await fetch(`${base}/api/v2${path}`, {
    method,
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(problem(answer.status, content.detail));
  return content;
}

function problem(status, detail) {
  if (status === 401) return "Your session has ended. Reload the page and log in.";
  if (status === 403) return "Airflow doesn't allow you to do this.";
  const said = typeof detail === "string" ? detail : JSON.stringify(detail ?? "");
  return `Airflow refused it (status ${status}): ${said}`;
}
