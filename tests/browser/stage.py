"""Made-up applications, shown by the page's own files and view: what a local service can't be brought to."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request

from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView, StateFinding
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.monitoring.app import static
from airflow_kinesis_snowflake.monitoring.drains import (
    Application,
    DrainTaskInstance,
    Failure,
    Settings,
    ShardSummary,
    TaskProgress,
    TaskReport,
    columns_of,
    runs_of,
)
from airflow_kinesis_snowflake.monitoring.health import Schedule
from airflow_kinesis_snowflake.monitoring.state_reader import Reading
from airflow_kinesis_snowflake.monitoring.view import (
    CLEANUP_DAG,
    REPLAY_DAG,
    RESET_DAG,
    ApplicationSnapshot,
    list_of,
    page_of,
    run_line,
)
from airflow_kinesis_snowflake.stream.positions import Position
from local.airflow import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOW = 1_767_225_600_000
MINUTE = 60_000
HOUR = 60 * MINUTE
HOSTILE = "<img src=x onerror=alert(1)>"
MAINTENANCE = frozenset({RESET_DAG, CLEANUP_DAG, REPLAY_DAG})
REASON = (
    "AccessDeniedError: Grant INSERT on table RAW.KINESIS.REFUNDS to the role LOADER. Snowflake refused COPY "
    "INTO with error 003001 (connection snowflake_default)."
)


def shard_id(number: int) -> str:
    return f"shardId-{number:012d}"


def shard(number: int, **facts: Any) -> ShardView:
    """A shard that was caught up when the last drain ended."""
    usual: dict[str, Any] = {
        "row": True,
        "checkpoint": Position(f"4966{number:048d}"),
        "written": NOW - 4 * MINUTE,
        "last_update": NOW - 3 * MINUTE,
        "millis_behind": 0,
    }
    parents = tuple(shard_id(parent) for parent in facts.pop("parents", ()))
    return ShardView(shard_id=shard_id(number), parents=parents, **(usual | facts))


def drains(
    application: Application, lags: Sequence[int], *, records: int = 90_000, **done: Any
) -> list[DrainTaskInstance]:
    """A drain every ten minutes, the newest first; with the lag at the end of each."""
    settings = Settings(application.name, application.stream, "RAW.KINESIS.EVENTS", region_name="eu-west-1")
    found = []
    for index, lag in enumerate(lags):
        took = 40_000 + 11_000 * ((index * 7) % 5)
        ended = NOW - 3 * MINUTE - index * 10 * MINUTE
        loaded = records * (10 + (index * 5) % 7) // 10
        report = TaskReport(
            application.name,
            application.stream,
            "RAW.KINESIS.EVENTS",
            records=loaded,
            bytes=loaded * 240,
            millis_behind_latest=lag,
            shards={name: replace_lag(each, lag) for name, each in done.items()},
        )
        found.append(
            DrainTaskInstance(
                dag_id=f"drain_{application.stream}",
                task_id="drain",
                run_id=f"scheduled__{ended}",
                run_number=1000 - index,
                state="success",
                started=ended - took,
                ended=ended,
                report=report,
                settings=settings,
                links={"Kinesis stream": "https://eu-west-1.console.aws.amazon.com/kinesis/home"},
            )
        )
    return found


def failed() -> ApplicationSnapshot:
    """The last drain failed and said why; the ones before it put records aside."""
    application = Application("refunds-to-snowflake", "refunds")
    good = drains(application, [2_000] * 12, records=4_000)
    put_aside = replace(
        good[0],
        report=TaskReport(
            application.name, application.stream, "RAW.KINESIS.REFUNDS", records=4_000, bytes=900_000,
            dead_letters=41, millis_behind_latest=2_000,
            reasons={"not JSON: it begins with 0x1f, as gzip does": 38, "column AMOUNT: not a number": 3},
        ),
    )  # fmt: skip
    bad = replace(
        good[0], state="failed", report=None, failure=Failure(REASON), run_number=1001,
        run_id="scheduled__now", started=NOW - 5 * MINUTE, ended=NOW - 4 * MINUTE, map_index=2,
    )  # fmt: skip
    drained = [bad, replace(put_aside, started=NOW - 11 * MINUTE, ended=NOW - 10 * MINUTE), *good[1:]]
    return material("refunds-to-snowflake", "refunds", [], [shard(0)], drains=drained)


def following() -> ApplicationSnapshot:
    """A drain stays and loads what arrives."""
    application = Application("prices-to-snowflake", "prices")
    past = drains(application, [1_000] * 6)
    progress = TaskProgress(
        application.name,
        application.stream,
        at="2025-12-31T23:59:55+00:00",
        records=12_345,
        millis_behind_latest=0,
        following_until="2026-01-01T00:30:00+00:00",
    )
    now = replace(past[0], run_id="now", state="running", ended=None, report=None, progress=progress)
    return material(application.name, application.stream, [], [shard(0)], drains=[now, *past[1:]])


def held() -> ApplicationSnapshot:
    """Another consumer had the shards."""
    application = Application("fraud", "fraud")
    report = TaskReport(
        application.name, application.stream, "RAW.KINESIS.FRAUD",
        held_by_others={"openflow-6f1c": 3}, millis_behind_latest=0,
    )  # fmt: skip
    found = [replace(each, report=report) for each in drains(application, [0] * 3)]
    return material("fraud", "fraud", [], [shard(n) for n in range(3)], drains=found)


def retired() -> ApplicationSnapshot:
    return material(
        "legacy-to-snowflake", "legacy", [2_000] * 3, [shard(0)], schedule=Schedule("drain_legacy", gone=True)
    )


def replace_lag(done: ShardSummary, lag: int) -> ShardSummary:
    return (
        done
        if done.millis_behind_latest is not None
        else ShardSummary(done.records, millis_behind_latest=lag)
    )


def reading(application: Application, shards: Sequence[ShardView], *findings: StateFinding) -> Reading:
    inspection = Inspection(
        application=application.name,
        stream=application.stream,
        at=NOW,
        table_created=NOW - 1000 * HOUR,
        table_status="ACTIVE",
        protected=False,
        stream_created=None,
        retention_seconds=0,
        shards=tuple(shards),
        workers={},
        findings=findings,
    )
    return Reading(inspection)


def material(
    name: str, stream: str, lags: Sequence[int], shards: Sequence[ShardView] | None, **more: Any
) -> ApplicationSnapshot:
    application = Application(name, stream)
    return ApplicationSnapshot(
        application=application,
        drains=more.get("drains") or drains(application, lags, **more.get("done", {})),
        reading=(
            Reading(
                unreadable="Try again. dynamodb:DescribeTable on table 'payments' in eu-west-1 failed: "
                "Could not connect to the endpoint"
            )
            if shards is None
            else reading(application, shards, *more.get("findings", ()))
        ),
        schedule=more.get("schedule", Schedule(f"drain_{stream}", "*/10 * * * *", due=NOW + 7 * MINUTE)),
    )  # fmt: skip


def resharded() -> ApplicationSnapshot:
    """Behind and growing; a split, a merge, and a shard that makes no headway."""
    run = "scheduled__2026-01-01T00:00:00+00:00"
    owner = f"drain_orders/{run}/drain/{{}}#1-5f0c"
    shards = [
        shard(0, ended=True, last_update=NOW - 8 * HOUR, written=NOW - 9 * HOUR),
        shard(1, ended=True, last_update=NOW - 8 * HOUR, written=NOW - 9 * HOUR),
        shard(2, ended=True, last_update=NOW - 8 * HOUR, written=NOW - 9 * HOUR),
        shard(3, parents=(0,), millis_behind=70_000 * 60),
        shard(4, parents=(0,), ended=True, last_update=NOW - 5 * HOUR),
        shard(5, parents=(1, 2), millis_behind=7_800_000, written=NOW - 9_000_000),
        shard(6, parents=(4,), millis_behind=4 * MINUTE),
        shard(7, parents=(4,), millis_behind=20_000),
        shard(8, parents=(5,), checkpoint=None, written=None, millis_behind=None, start_at="TRIM_HORIZON"),
        shard(9, parents=(5,), checkpoint=None, written=None, millis_behind=None, start_at="TRIM_HORIZON"),
    ]
    shards[6] = replace(shards[6], lease_owner=owner.format(0), lease_expiry=NOW + 21_000)
    stuck = ShardSummary(0, millis_behind_latest=7_800_000)
    done = {shard_id(5): stuck, shard_id(3): ShardSummary(700), shard_id(6): ShardSummary(700)}
    lags = [7_800_000, 6_100_000, 4_900_000, 4_000_000, 2_000_000, 900_000, 300_000, *[4_000] * 20]
    return material("orders-to-snowflake", "orders", lags, shards, done=done)


def abandoned() -> ApplicationSnapshot:
    shards = [
        shard(n, lease_owner=f"drain_clicks/scheduled__1/drain/{n % 2}#1-aa", lease_expiry=NOW - 4 * MINUTE,
              millis_behind=90_000 * (n + 1))
        for n in range(6)
    ]  # fmt: skip
    return material("clicks-to-snowflake", "clicks", [400_000] * 24, shards)


def wide(count: int = 500) -> ApplicationSnapshot:
    """Half of 500 shards were split long ago; one is stuck."""
    olds = [shard(n, ended=True) for n in range(count // 3)]
    news = [shard(n, parents=((n - count // 3) // 2,)) for n in range(count // 3, count)]
    news[7] = replace(news[7], readable=False)
    return material("telemetry-to-snowflake", "telemetry", [3_000] * 60, [*olds, *news])


def materials() -> list[ApplicationSnapshot]:
    finding = StateFinding(
        shard_id(0), "its last worker left with the outcome of a commit unknown", "None needed"
    )
    return [
        resharded(),
        abandoned(),
        wide(),
        material("audit", "audit", [2_000] * 12, [shard(0)]),
        material("payments", "payments", [1_000] * 12, None),
        failed(),
        following(),
        held(),
        retired(),
        material(HOSTILE, "hostile", [1_000] * 3, [replace(shard(0), shard_id=HOSTILE)], findings=[finding]),
    ]


class Stage:
    """What the page is told.

    :ivar listed: the applications in the list
    :ivar came: what a look into the stream finds
    :ivar asked: what Airflow's API was asked: method, path and body
    """

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.materials = {each.application.name: each for each in materials()}
        self.listed = [name for name in self.materials if name != HOSTILE]
        self.came = ("yes", f"There is something to drain: {shard_id(0)} has records.")
        self.asked: list[tuple[str, str, Any]] = []

    def app(self) -> FastAPI:
        app = FastAPI()
        app.get("/")(lambda: static("index.html"))
        app.get("/static/{name}")(static)
        app.get("/api/applications")(self.list)
        app.get("/api/application")(self.page)
        app.get("/api/check")(self.page)
        app.get("/api/look")(self.look)
        app.get("/api/history")(self.history)
        app.get("/api/v2/dags/{dag_id}")(lambda dag_id: {"dag_id": dag_id, "is_paused": False})
        app.patch("/api/v2/dags/{dag_id}")(self.airflow)
        app.post("/api/v2/dags/{dag_id}/dagRuns")(self.airflow)
        return app

    async def airflow(self, request: Request) -> dict[str, Any]:
        self.asked.append((request.method, request.url.path, await request.json()))
        return {"dag_run_id": "manual__now"}

    def list(self) -> dict[str, Any]:
        lines = list_of([self.materials[name] for name in self.listed], now=NOW)
        return {
            "at": NOW,
            "base": "",
            "notices": [],
            "applications": [as_json(line) for line in lines],
            "forms": {},
        }

    def page(self, name: str) -> dict[str, Any]:
        shown = page_of(self.materials[name], now=NOW, dags=MAINTENANCE, applications=[*self.materials])
        control = {"trigger": True, "pause": True, "conf": {"workers": 2}}
        return {"at": NOW, "base": "", "checked": False, "notices": [], "control": control, **as_json(shown)}

    def look(self, name: str) -> dict[str, Any]:
        came, text = self.came
        return {"at": NOW, "came": came, "text": text, "notices": []}

    def history(self, name: str, since: str, until: str, zone: str) -> dict[str, Any]:
        """A run every ten minutes for a week, one of them failed."""
        application = Application(name, "any")
        runs = list(runs_of(drains(application, [60_000 + 1_000 * (n % 240) for n in range(1008)])))
        runs[500] = replace(runs[500], state="failed", lag=None)
        return {
            "since": runs[-1].started, "until": NOW, "runs_in_all": len(runs), "oldest_read": None,
            "columns": [as_json(column) for column in columns_of(runs)],
            "runs": [as_json(run_line(run)) for run in runs[:200]],
        }  # fmt: skip


@contextmanager
def on_stage() -> Iterator[Stage]:
    """Serve it on a free port of 127.0.0.1."""
    stage = Stage()
    port = int(stage.url.rpartition(":")[2])
    server = uvicorn.Server(uvicorn.Config(stage.app(), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or None, timeout=30, what="the stage")
        yield stage
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    with on_stage() as shown:
        print(shown.url, flush=True)
        time.sleep(3600)
