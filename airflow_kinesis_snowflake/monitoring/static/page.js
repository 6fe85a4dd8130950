// Which page it is, and keeping it fresh.

import { showApplication } from "./application.js";
import { el, show } from "./dom.js";
import { readZone, timeOfDay, zoneName } from "./format.js";
import { showList } from "./list.js";
import { setBase } from "./places.js";

const REFRESH = 15000;
// Kinesis is asked once a minute, however many look at the page.
const LOOK = 60000;
const place = document.getElementById("page");
const foot = document.getElementById("foot");
if (!window.location.search) window.history.replaceState(null, "", queryAround() || "?all");
const wanted = new URLSearchParams(window.location.search);
const name = wanted.get("application");
let checked = false;
let shown = null;
let look = null;
let looked = 0;

// A link to this page from elsewhere in Airflow names the application in the address around the frame.
function queryAround() {
  try {
    return window.parent.location.search;
  } catch {
    return "";
  }
}

// Airflow keeps the user's choice here; without one the system decides.
function theme() {
  const choice = window.localStorage.getItem("theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
  else delete document.documentElement.dataset.theme;
}

async function read(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.ok) return answer.json();
  const { detail } = await answer.json().catch(() => ({}));
  if (answer.status === 401) throw new Error("Your session has ended. Reload the page and log in.");
  if (answer.status === 403) throw new Error("Airflow doesn't allow you to see this. You need to be able to read DAGs and XComs.");
  throw new Error(typeof detail === "string" ? detail : `The API server answered with status ${answer.status}.`);
}

function draw() {
  if (!shown) return;
  setBase(shown.base);
  if (name === null) showList(place, shown);
  else showApplication(place, shown, { check, refresh, fetchDays }, look);
}

function query(more) {
  return new URLSearchParams({ name: name ?? "", stream: wanted.get("stream") ?? "", arn: wanted.get("arn") ?? "", ...more });
}

function fetchDays(since, until) {
  return read(`api/history?${query({ since, until, zone: zoneName() })}`);
}

// What came since the last drain; the page doesn't wait for it.
async function lookForMore() {
  if (name === null || Date.now() - looked < LOOK) return;
  looked = Date.now();
  try {
    look = await read(`api/look?${query()}`);
  } catch {
    look = null;
  }
  draw();
}

async function refresh() {
  const path = name === null ? "api/applications" : `api/${checked ? "check" : "application"}?${query()}`;
  try {
    shown = await read(path);
    draw();
    foot.replaceChildren(`As of ${timeOfDay(shown.at)}, refreshed every ${REFRESH / 1000} s. Times are of ${zoneName()}, as in Airflow.`);
    lookForMore();
  } catch (error) {
    if (!shown) show(place, el("section", { className: "state bad", role: "alert" }, el("div", {}, el("p", { className: "sentence" }, "The page can't be shown"), el("p", {}, error.message))));
    foot.replaceChildren(el("b", { className: "warn" }, `Not refreshed: ${error.message}`));
  }
}

async function check() {
  checked = true;
  await refresh();
  checked = false;
}

async function keepFresh() {
  if (document.visibilityState === "visible" && !document.querySelector("dialog") && !shown?.checked) await refresh();
  setTimeout(keepFresh, REFRESH);
}

theme();
window.addEventListener("storage", () => {
  theme();
  readZone();
  draw();
});
window.addEventListener("resize", draw);
document.title = name === null ? document.title : `${name} – ${document.title}`;
await refresh();
setTimeout(keepFresh, REFRESH);
