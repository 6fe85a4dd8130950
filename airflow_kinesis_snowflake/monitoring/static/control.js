// Starting, pausing and unpausing the DAG that drains an application.

import { el } from "./dom.js";
import { openForm } from "./form.js";
import { callAirflow } from "./places.js";

export function control(page, refresh, told) {
  const { trigger, pause, conf } = page.control;
  const { dag_id, paused } = page.schedule;
  return [
    trigger ? el("button", { type: "button", "data-key": "run", onclick: () => openForm(dag_id, { conf }, startForm(dag_id, paused), refresh) }, "Run now…") : null,
    pause ? el("button", { type: "button", "data-key": "pause", onclick: () => setPaused(dag_id, !paused, refresh, told) }, paused ? "Unpause the DAG" : "Pause the DAG") : null,
  ];
}

function startForm(dagId, paused) {
  return {
    title: `Run ${dagId} now`,
    lead: `Starts a run beside the schedule; it waits if one is under way.${paused ? " The DAG is paused, and is unpaused by it." : ""}`,
    submit: "Run",
    next: "Look at the run",
    fields: [{ name: "conf", label: "Settings", json: true, help: "The run's form as JSON, as the newest run had it." }],
  };
}

async function setPaused(dagId, paused, refresh, told) {
  try {
    await callAirflow("PATCH", `/dags/${encodeURIComponent(dagId)}?update_mask=is_paused`, { is_paused: paused });
    told(paused ? `${dagId} is paused. A run that has begun goes on.` : `${dagId} is unpaused.`);
  } catch (error) {
    told(error.message);
  }
  await refresh();
}
