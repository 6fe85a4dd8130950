// The forms that start the maintenance DAGs. Airflow checks the permissions and the values.

import { el } from "./dom.js";
import { callAirflow, runPath, toAirflow } from "./places.js";

const FORMS = {
  kinesis_table_cleanup: {
    title: "Clean up tables of old applications",
    lead: "Starts the DAG kinesis_table_cleanup. It lists the checkpoint tables that nobody uses; it deletes only without a dry run, and after an approval.",
    submit: "Start",
    next: "Look at what it found",
    where: "/required_actions",
    fields: [
      { name: "dry_run", label: "Dry run: only list", check: true },
      { name: "used", label: "In use", list: true, help: "Applications to keep, whatever else. Filled in with those on this page." },
      { name: "named", label: "Named", list: true, help: "Applications whose tables may go although another program made them." },
      { name: "backup_folder", label: "Backup folder", help: "Where tables are saved before they are deleted." },
    ],
  },
  kinesis_dead_letter_replay: {
    title: "Replay dead letters",
    lead: "Starts the DAG kinesis_dead_letter_replay, with the settings of the newest drain. What lands is deleted from the dead letters in the same transaction; what still fails stays, with its new reason.",
    submit: "Replay",
    next: "Look at the run",
    fields: [
      { name: "application_name", label: "Application", fixed: true },
      { name: "stream_name", label: "Stream", fixed: true },
      { name: "table", label: "Landing table", fixed: true },
      { name: "reason", label: "Reason", help: "Only those with this text in their reason. Empty: all." },
      { name: "column", label: "Column", help: "Only those that this column refused. Empty: all." },
      { name: "failed_since", label: "Failed since", help: "ISO-8601 with a time zone. Empty: all." },
      { name: "failed_until", label: "Failed until", help: "ISO-8601 with a time zone. Empty: up to now." },
    ],
  },
};

// The fields that depend on the methods come from the server, which knows the methods.
export function resetForm(ofMethods) {
  return {
    title: "Reset where shards are read",
    lead: "Starts the DAG kinesis_state_reset. It shows a plan, shard by shard; nothing changes before somebody approves it.",
    submit: "Make the plan",
    next: "Look at the plan, then approve or reject it",
    where: "/required_actions",
    fields: [
      { name: "application_name", label: "Application", fixed: true },
      { name: "stream_name", label: "Stream", fixed: true },
      ...ofMethods,
      { name: "table", label: "Landing table", help: "Where duplicates are counted and offsets are looked up." },
      { name: "backup_folder", label: "Backup folder", help: "Where the rows are saved first. Empty: the Variable kinesis_state_reset_backup_folder." },
      { name: "aws_conn_id", label: "AWS connection" },
      { name: "region_name", label: "AWS region" },
      { name: "snowflake_conn_id", label: "Snowflake connection" },
    ],
  };
}

export function openForm(dagId, values, content = FORMS[dagId], started = () => {}) {
  const { title, lead, submit, next, fields, where = "" } = content;
  const inputs = new Map(fields.map((field) => [field, input(field, values[field.name])]));
  const rows = [...inputs].map(([field, each]) => [field, row(field, each)]);
  const result = el("div", { className: "result", role: "status" });
  const start = el("button", { type: "submit", className: "main" }, submit);
  const form = el(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        start.disabled = true;
        result.replaceChildren(el("p", { className: "quiet" }, "Starting…"));
        try {
          // What the chosen method doesn't take is left out, though it was filled in.
          const read = Object.fromEntries(rows.map(([field, each]) => [field.name, each.hidden ? null : valueOf(field, inputs.get(field))]));
          const run = await trigger(dagId, fields[0].json ? read.conf : { ...values, ...read });
          const path = runPath(dagId, run.dag_run_id);
          result.replaceChildren(el("p", {}, el("b", {}, "The run has begun. "), toAirflow(path + where, next), ...(where ? [" · ", toAirflow(path, "open the run")] : [])));
          started();
        } catch (error) {
          start.disabled = false;
          result.replaceChildren(el("p", { className: "warn" }, error.message));
        }
      },
    },
    el("h2", { id: "form-title" }, title),
    el("p", { className: "quiet" }, lead),
    el("div", { className: "fields" }, rows.map(([, each]) => each)),
    result,
    el("div", { className: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Close"), start),
  );
  const dialog = el("dialog", { "aria-labelledby": "form-title", onclose: () => dialog.remove() }, form);
  const method = form.elements.namedItem("method");
  const fit = () => rows.forEach(([field, each]) => (each.hidden = Boolean(field.when?.length) && !field.when.includes(method.value)));
  method?.addEventListener("change", fit);
  fit();
  document.body.append(dialog);
  dialog.showModal();
  const first = [...inputs].find(([field]) => !field.fixed);
  first?.[1].focus();
}

function input(field, value) {
  if (field.json) return el("textarea", { name: field.name, rows: 6, spellcheck: false, value: JSON.stringify(value ?? {}, null, 2) });
  if (field.options?.length) return el("select", { name: field.name }, field.options.map((option) => el("option", { value: option, selected: option === value }, option)));
  if (field.list) return el("textarea", { name: field.name, rows: 3, value: (value ?? []).join("\n") });
  if (field.check) return el("input", { name: field.name, type: "checkbox", checked: Boolean(value) });
  return el("input", { name: field.name, type: "text", value: value ?? "", readOnly: Boolean(field.fixed) });
}

function valueOf(field, each) {
  if (field.json) return object(each.value);
  if (field.check) return each.checked;
  if (field.list) return each.value.split("\n").map((line) => line.trim()).filter(Boolean);
  return each.value.trim();
}

function object(text) {
  let value;
  try {
    value = JSON.parse(text.trim() || "{}");
  } catch (error) {
    throw new Error(`The settings aren't JSON: ${error.message}`);
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error("The settings must be an object, such as {}");
  return value;
}

function row(field, each) {
  each.id = `field-${field.name}`;
  const help = field.help ? el("span", { className: "quiet", id: `help-${field.name}` }, field.help) : null;
  if (help) each.setAttribute("aria-describedby", help.id);
  return el("div", { className: field.check ? "row check" : "row" }, el("label", { htmlFor: each.id }, field.label), each, help);
}

async function trigger(dagId, conf) {
  const path = `/dags/${encodeURIComponent(dagId)}`;
  const given = Object.fromEntries(Object.entries(conf).filter(([, value]) => value !== "" && value !== null));
  const dag = await callAirflow("GET", path);
  if (dag.is_paused) await callAirflow("PATCH", `${path}?update_mask=is_paused`, { is_paused: false });
  return callAirflow("POST", `${path}/dagRuns`, { logical_date: null, conf: given });
}
