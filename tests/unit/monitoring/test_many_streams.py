"""A task that drained many streams, as a drain of each."""

from __future__ import annotations

import json
from typing import Any

from airflow_kinesis_snowflake.engine.report import DrainReport, ShardReport
from airflow_kinesis_snowflake.monitoring.drains import (
    DrainTaskInstance,
    TaskProgress,
    TaskReport,
    by_application,
    read_as,
)
from airflow_kinesis_snowflake.monitoring.many_streams import (
    StreamsFailure,
    StreamsProgress,
    StreamsReport,
    StreamsSettings,
    TaskOutput,
    apart,
    summaries_of,
)

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/far"


def left(*, state: str = "success", run: int = 1, **values: Any) -> TaskOutput:
    instance = DrainTaskInstance(dag_id="d", task_id="drain", run_id=str(run), run_number=run, state=state)
    settings = StreamsSettings("app", "DB.S.{stream}", drain={"aws_conn_id": "mine"})
    return TaskOutput(instance=instance, settings=settings, **values)


def report(*streams: str, idle: tuple[str, ...] = ()) -> StreamsReport:
    return StreamsReport("app", {stream: TaskReport("app", stream, records=3) for stream in streams}, idle)


def states(drains: tuple[DrainTaskInstance, ...]) -> dict[str, str]:
    return {drain.application.stream: drain.state for drain in drains if drain.application}


def test_each_stream_is_a_drain_with_the_settings_of_all() -> None:
    busy, idle = apart([left(report=report("clicks", idle=(ARN,)))])[::-1]
    assert busy.report is not None
    assert (busy.report.records, busy.settings and busy.settings.table) == (3, "DB.S.CLICKS")
    assert busy.settings is not None
    assert busy.settings.aws_conn_id == "mine"
    assert idle.report is not None
    assert (idle.report.stream_name, idle.report.stream_arn, idle.report.records) == ("far", ARN, 0)


def test_a_stream_that_failed_says_why_and_the_others_are_done() -> None:
    failure = StreamsFailure("ThrottledError: of one", {"clicks": "AccessDeniedError: of the other"})
    drains = apart(
        [
            left(run=2, state="failed", report=report("orders", idle=("views",)), failure=failure),
            left(run=1, report=report("clicks", "orders", idle=("views", "late"))),
        ]
    )
    last = {d.application.stream: d for d in drains if d.application and d.run_number == 2}
    assert {name: d.state for name, d in last.items()} == {
        "orders": "success",
        "views": "success",
        "clicks": "failed",
        "late": "failed",
    }
    assert {name: d.failure.reason for name, d in last.items() if d.failure} == {
        "clicks": "AccessDeniedError: of the other",
        "late": "ThrottledError: of one",
    }


def test_a_running_task_shows_what_it_says_and_that_it_will_come_to_the_others() -> None:
    progress = StreamsProgress({"clicks": TaskProgress("app", "clicks", at="", records=7)})
    drains = apart(
        [
            left(run=2, state="running", progress=progress),
            left(run=1, report=report("clicks", idle=("views",))),
        ]
    )
    newest = tuple(drain for drain in drains if drain.run_number == 2)
    assert states(newest) == {"clicks": "running", "views": "running"}
    assert [drain.progress.records for drain in newest if drain.progress] == [7]


def test_a_task_that_was_stopped_takes_no_stream_from_the_runs_behind_it() -> None:
    drains = apart(
        [
            left(run=3, state="running"),
            left(run=2, state="failed", report=report("clicks"), failure=StreamsFailure("told to stop")),
            left(run=1, report=report("clicks", "views")),
        ]
    )
    newest = tuple(drain for drain in drains if drain.run_number == 3)
    assert states(newest) == {"clicks": "running", "views": "running"}


def test_streams_that_are_named_are_known_before_anything_was_drained() -> None:
    settings = StreamsSettings("app", "DB.S.T", stream_names=["clicks", ARN])
    begun = TaskOutput(instance=left(state="running").instance, settings=settings)
    assert [application.stream for application in by_application(apart([begun]))] == ["clicks", "far"]


def test_a_stream_that_no_longer_matches_is_left_to_the_runs_that_drained_it() -> None:
    drains = apart([left(run=2, report=report("clicks")), left(run=1, report=report("clicks", "gone"))])
    runs = {
        application.stream: [drain.run_number for drain in of]
        for application, of in by_application(drains).items()
    }
    assert runs == {"clicks": [2, 1], "gone": [1]}


def test_what_the_operator_returns_is_read_as_it_is_written() -> None:
    written = {
        "application_name": "app",
        "streams": {
            "clicks": DrainReport("clicks", "app", "T", "w", records=3, shards={"s": ShardReport(records=3)})
            .as_dict() | {"assets": []},
        },
        "idle": ["views"],
        "totals": {},
    }  # fmt: skip
    read = read_as(StreamsReport, json.loads(json.dumps(written)))
    assert (read.streams["clicks"].shards["s"].records, read.idle) == (3, ("views",))

    for text in (json.dumps(written), json.dumps(json.dumps(written))):
        summaries = summaries_of(text)
        assert summaries is not None
        assert (summaries.streams["clicks"].records, summaries.idle) == (3, ("views",))
        assert not summaries.streams["clicks"].shards
    assert summaries_of(json.dumps({"streams": 5})) is None
    assert summaries_of("") is None
