"""A real Airflow on this machine, for the demo and the end-to-end test, and a client of its REST API."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import requests

from local.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLE_DAGS = REPOSITORY / "airflow_kinesis_snowflake" / "example_dags"
AIRFLOW = Path(sys.executable).with_name("airflow")
USER = "admin"
HEALTH_PATH = "/api/v2/monitor/health"
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")
FINAL_STATES = frozenset({"success", "failed"})


@dataclass(frozen=True)
class Part:
    """One process of Airflow.

    :param name: name of the process and of its log.
    :param arguments: of the command ``airflow``.
    :param env: environment variables for this part alone.
    :param ready: a text; what is started after this part waits until this part has logged it.
    """

    name: str
    arguments: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: str = ""


class LocalAirflow:
    """Scheduler, DAG processor, triggerer and API server, as ``airflow standalone`` runs them.

    Unlike that command, everything listens on 127.0.0.1 only, on a free port, and nothing is left behind: the
    home folder with the SQLite database and the logs is temporary, and no process outlives this program.
    A context manager: when the block begins, all parts are healthy.

    :param env: further environment variables, such as ``AIRFLOW_CONN_*`` and ``AIRFLOW_VAR_*``.
    :param dags: the folder with DAG files.
    :param more_parts: what runs beside those, such as Celery workers.
    :param program: the command ``airflow`` of the environment to run; by default of this program's own.
    :raises ProcessFailedError: a part didn't start; the message ends with the tail of its log.
    """

    url: str
    password: str
    home: Path
    env: dict[str, str]

    def __init__(
        self,
        *,
        env: Mapping[str, str],
        dags: Path = EXAMPLE_DAGS,
        more_parts: Sequence[Part] = (),
        program: Path = AIRFLOW,
    ) -> None:
        self._extra_env = env
        self._dags = dags
        self._more_parts = more_parts
        self._program = program
        self._running = contextlib.ExitStack()
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as starting:
            self.home = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="local-airflow-")))
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self.password = self._write_password()
            env = self.env = self._environment()
            subprocess.run([self._program, "db", "migrate"], env=env, check=True, capture_output=True)
            for part in (*standalone(port), *self._more_parts):
                process = starting.enter_context(
                    Process(
                        part.name,
                        [self._program, *part.arguments],
                        folder=self.home,
                        env=env | dict(part.env),
                        grace=20,
                    )
                )
                process.wait_for_text(part.ready, timeout=300)
                self._processes[part.name] = process
            process.wait_until(self._healthy, timeout=300)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def api(self) -> AirflowApi:
        """Return a client that is logged in."""
        return AirflowApi.log_in(self.url, user=USER, password=self.password)

    def wait_until_noticed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Return when the scheduler knows that a try of a task is over, or waits for a person.

        A task that is answered before the scheduler has noticed that it waits fails (Airflow 3.3).

        :raises ProcessFailedError: it didn't notice in two minutes.
        """
        finished = f"TaskInstance Finished: dag_id={dag_id}, task_id={task_id}, run_id={run_id},"
        self._processes["scheduler"].wait_for_text(finished, timeout=120)

    def _write_password(self) -> str:
        password = secrets.token_urlsafe(9)
        (self.home / "passwords.json").write_text(json.dumps({USER: password}))
        return password

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "false",
            **self._extra_env,
        }

    def _healthy(self) -> bool | None:
        try:
            health = requests.get(self.url + HEALTH_PATH, timeout=10).json()
        except (requests.ConnectionError, requests.Timeout):
            return None
        return all(health[component]["status"] == "healthy" for component in COMPONENTS) or None


def standalone(port: int) -> tuple[Part, ...]:
    """Return what ``airflow standalone`` runs.

    :param port: of the API server, which comes first so that it stops last.
    """
    return (
        Part("api-server", ["api-server", "--host", "127.0.0.1", "--port", str(port)]),
        Part("scheduler", ["scheduler", "--skip-serve-logs"]),
        Part("dag-processor", ["dag-processor"]),
        Part("triggerer", ["triggerer", "--skip-serve-logs"]),
    )


class RunFailedError(RuntimeError):
    """A run of a DAG didn't end well."""


@dataclass(frozen=True)
class AirflowApi:
    """The few calls of Airflow's REST API that the demo and the tests need."""

    url: str
    token: str

    @classmethod
    def log_in(cls, url: str, *, user: str, password: str) -> Self:
        """Return a client that acts for this user."""
        answer = requests.post(f"{url}/auth/token", json={"username": user, "password": password}, timeout=60)
        answer.raise_for_status()
        return cls(url=url, token=answer.json()["access_token"])

    def wait_for_dag(self, dag_id: str, *, timeout: float = 120) -> None:
        """Return when the DAG processor has found this DAG.

        :param timeout: seconds.
        :raises RuntimeError: a DAG file can't be imported; the message holds the traceback.
        """

        def found() -> bool | None:
            errors = self._call("GET", "/importErrors")["import_errors"]
            if errors:
                raise RuntimeError("\n".join(error["stack_trace"] for error in errors))
            dags = self._call("GET", "/dags", params={"dag_id_pattern": dag_id, "exclude_stale": "false"})
            return any(dag["dag_id"] == dag_id for dag in dags["dags"]) or None

        wait_until(found, timeout=timeout, what=f"DAG {dag_id}")

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of the DAG and return its id."""
        run = self._call(
            "POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf or {})}
        )
        return str(run["dag_run_id"])

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float = 180) -> None:
        """Return when the run has ended well.

        :param timeout: seconds.
        :raises RunFailedError: it failed, or hasn't ended by then; the message holds its tasks' logs.
        """

        what = f"run {run_id} of DAG {dag_id}"
        try:
            state = wait_until(lambda: self.final_state(dag_id, run_id), timeout=timeout, what=what)
        except TimeoutError as error:
            raise RunFailedError(f"{error}\n{self._logs(dag_id, run_id)}") from None
        if state != "success":
            raise RunFailedError(f"{what}: {state}\n{self._logs(dag_id, run_id)}")

    def final_state(self, dag_id: str, run_id: str) -> str | None:
        """Return how the run has ended; None while it hasn't."""
        state = str(self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
        return state if state in FINAL_STATES else None

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """End a run; tasks of it that run are stopped."""
        self._call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def _logs(self, dag_id: str, run_id: str) -> str:
        tasks = sorted(self.task_instances(dag_id, run_id), key=lambda task: task["start_date"] or "~")
        return "\n".join(
            f"{task['task_id']}: {task['state']}\n{self._readable_log(task)}"
            for task in tasks
            if task["state"] != "success"
        )

    def _readable_log(self, task_instance: Mapping[str, Any]) -> str:
        events = map(json.loads, self.log(task_instance).splitlines())
        return "\n".join(line for event in events for line in lines_of(event))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run, mapped ones too."""
        answer = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return list(answer["task_instances"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG."""
        return list(self._call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"])

    def links(self, task_instance: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the links of a task instance, by name."""
        params = {"map_index": task_instance["map_index"]}
        links = self._call("GET", f"{task_path(task_instance)}/links", params=params)["extra_links"]
        return dict(links)

    def log(self, task_instance: Mapping[str, Any]) -> str:
        """Return the log of the last try of a task instance, one event to a line."""
        path = f"{task_path(task_instance)}/logs/{task_instance['try_number']}"
        events = self._call("GET", path, params={"map_index": task_instance["map_index"]})["content"]
        return "\n".join(json.dumps(event) for event in events)

    def xcom(self, task_instance: Mapping[str, Any], *, key: str = "return_value") -> Any:
        """Return what a task instance has pushed under this key."""
        params = {"map_index": task_instance["map_index"], "deserialize": "true"}
        return self._call("GET", f"{task_path(task_instance)}/xcomEntries/{key}", params=params)["value"]

    def mark_failed(self, task_instance: Mapping[str, Any]) -> None:
        """Fail a task instance; one that runs is stopped."""
        path = f"{task_path(task_instance)}/{task_instance['map_index']}"
        self._call("PATCH", path, json={"new_state": "failed"})

    def clear(self, task_instance: Mapping[str, Any]) -> None:
        """Run a task instance again; one that runs is stopped before."""
        task = [task_instance["task_id"], task_instance["map_index"]]
        body = {
            "dag_run_id": task_instance["dag_run_id"],
            "task_ids": [task],
            "only_failed": False,
            "dry_run": False,
        }
        self._call("POST", f"/dags/{task_instance['dag_id']}/clearTaskInstances", json=body)

    def answer(self, task_instance: Mapping[str, Any], option: str) -> None:
        """Choose an option (such as ``Approve``) for a task that waits for a person."""
        path = f"{task_path(task_instance)}/{task_instance['map_index']}/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [option], "params_input": {}})

    def add_connection(self, connection_id: str, connection: Mapping[str, Any]) -> None:
        """Make an Airflow connection.

        :param connection: as Airflow's JSON format has it; ``extra`` may be an object.
        """
        body = {**connection, "connection_id": connection_id, "extra": json.dumps(connection.get("extra"))}
        self._call("POST", "/connections", json=body)

    def set_variable(self, key: str, value: str) -> None:
        """Make an Airflow Variable."""
        self._call("POST", "/variables", json={"key": key, "value": value})

    def _call(self, method: str, path: str, **request: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        answer = requests.request(method, f"{self.url}/api/v2{path}", headers=headers, timeout=60, **request)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()


def lines_of(event: Mapping[str, Any]) -> list[str]:
    """Return an event of a task's log as a person reads it; of tracebacks, the errors."""
    errors = event.get("error_detail") or ()
    return [
        f"  {event.get('level', ''):8} {event['event']}",
        *(f"           {error['exc_type']}: {error['exc_value']}" for error in errors),
    ]


def task_path(task_instance: Mapping[str, Any]) -> str:
    """Return the path of a task instance in the API."""
    return "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}".format_map(task_instance)


def wait_until(answer: Callable[[], T | None], *, timeout: float, what: str) -> T:
    """Ask again and again until there is an answer.

    :param answer: returns None while there is none.
    :param timeout: seconds.
    :param what: named in the error.
    :raises TimeoutError: there was none in time.
    """
    deadline = time.monotonic() + timeout
    while (result := answer()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: still waiting after {timeout:g} seconds.")
        time.sleep(0.3)
    return result


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
