"""What drains left behind, added up per run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.engine.report import DrainReport, ShardReport
from airflow_kinesis_snowflake.monitoring.drains import (
    HOUR,
    MINUTE,
    Application,
    Drain,
    Progress,
    Report,
    Run,
    Settings,
    ShardDone,
    by_application,
    flow_of,
    read_as,
    runs_of,
    trend_of,
)

NOW = 10 * HOUR


def drain(index: int = 0, *, state: str = "success", run_id: str = "r", **values: Any) -> Drain:
    return Drain(dag_id="d", task_id="drain", run_id=run_id, map_index=index, state=state, **values)


def report(records: int = 0, **values: Any) -> Report:
    return Report("app", "stream", records=records, bytes=10 * records, **values)


def progress(**values: Any) -> Progress:
    return Progress("app", "stream", at="1970-01-01T01:00:00+00:00", **values)


def run(state: str = "success", **values: Any) -> Run:
    return Run(dag_id="d", run_id="r", state=state, **values)


def test_the_report_of_a_drain_is_read_as_it_is_written() -> None:
    written = DrainReport("stream", "app", "T", "w", records=3, shards={"s": ShardReport(records=3)})
    read = read_as(Report, json.loads(json.dumps(written.as_dict())))
    assert (read.application_name, read.records, read.shards["s"].records) == ("app", 3, 3)


@pytest.mark.parametrize("value", [None, 7, "text", "{", [], {}, {"application_name": 1, "stream_name": "s"}])
def test_what_isnt_a_report_is_none(value: Any) -> None:
    assert read_as(Report, value) is None


def test_a_report_that_was_stored_as_text_is_read() -> None:
    assert read_as(Report, '{"application_name": "a", "stream_name": "s"}') == Report("a", "s")


def test_drains_are_told_apart_by_what_they_say_last() -> None:
    told = [
        drain(0, report=Report("a", "s")),
        drain(1, progress=Progress("b", "s", at=""), state="running"),
        drain(2, settings=Settings("c", "s"), state="failed"),
        drain(3, state="queued"),
    ]
    assert [*by_application(told)] == [Application(name, "s") for name in "abc"]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("success", "success"), "success"),
        (("success", "running"), "running"),
        (("failed", "running"), "running"),
        (("failed", "up_for_retry"), "retrying"),
        (("failed", "success"), "failed"),
        (("upstream_failed",), "failed"),
        (("deferred",), "waiting"),
        (("none", "success"), "waiting"),
        (("skipped",), "success"),
    ],
)
def test_a_run_is_as_its_neediest_worker(states: tuple[str, ...], state: str) -> None:
    [found] = runs_of([drain(index, state=each) for index, each in enumerate(states)])
    assert (found.state, found.workers) == (state, len(states))


def test_a_run_adds_up_its_workers() -> None:
    [found] = runs_of(
        [
            drain(0, started=1, ended=5, report=report(3, millis_behind_latest=7, dead_letters=1)),
            drain(1, started=2, ended=9, report=report(4, millis_behind_latest=5)),
        ]
    )
    assert (found.records, found.bytes, found.dead_letters, found.lag) == (7, 70, 1, 7)
    assert (found.started, found.ended, found.millis) == (1, 9, 8)


def test_a_running_run_tells_its_progress() -> None:
    speaking = progress(records=5, millis_behind_latest=9, records_per_second=2.0, seconds_to_catch_up=30)
    [found] = runs_of([drain(0, ended=3, report=report(2)), drain(1, state="running", progress=speaking)])
    assert (found.records, found.lag, found.rate, found.seconds_to_catch_up) == (7, 9, 2.0, 30)
    assert (found.ended, found.spoke) == (None, HOUR)


def test_the_progress_of_a_failed_try_counts_for_nothing() -> None:
    [found] = runs_of([drain(0, state="failed", ended=3, progress=progress(records=5))])
    assert (found.records, found.lag, found.trouble) == (0, None, ("drain", 0))


def test_a_shard_that_changed_hands_has_the_lag_of_its_last_reader() -> None:
    early = ShardDone(2, millis_behind_latest=900, outcome="handed_over")
    late = ShardDone(3, millis_behind_latest=0, outcome="caught_up")
    for one, other in ((early, late), (late, early)):
        [found] = runs_of(
            [drain(0, report=report(shards={"s": one})), drain(1, report=report(shards={"s": other}))]
        )
        assert (found.shards["s"].records, found.shards["s"].millis_behind_latest) == (5, 0)


def test_the_newest_run_comes_first_and_one_that_hasnt_begun_before_it() -> None:
    found = runs_of(
        [drain(run_id="old", started=1), drain(run_id="new", started=2), drain(run_id="next", state="queued")]
    )
    assert [each.run_id for each in found] == ["next", "new", "old"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1000)), max_size=20))
def test_no_record_is_counted_twice_or_left_out(loads: list[tuple[int, int]]) -> None:
    told = [drain(n, run_id=str(run_), report=report(records)) for n, (run_, records) in enumerate(loads)]
    found = runs_of(told)
    assert sum(each.records for each in found) == sum(records for _, records in loads)
    assert sum(each.workers for each in found) == len(loads)


def test_flow_is_averaged_over_the_last_hour() -> None:
    runs = [
        run(started=NOW - HOUR, ended=NOW - MINUTE, records=600, bytes=6000),
        run(started=1, ended=2, records=9),
    ]
    flow = flow_of(runs, now=NOW)
    assert (flow.records_per_minute, flow.bytes_per_minute) == (10, 100)


def test_flow_of_a_young_application_is_averaged_over_its_life() -> None:
    runs = [run(started=NOW - 2 * MINUTE, ended=NOW, records=600, dead_letters=2)]
    flow = flow_of(runs, now=NOW)
    assert (flow.records_per_minute, flow.dead_letters) == (300, 2)


@pytest.mark.parametrize(
    ("lags", "trend"),
    [
        ((), ""),
        ((5,), ""),
        ((2 * HOUR, HOUR), "growing"),
        ((HOUR, None, 2 * HOUR), "shrinking"),
        ((HOUR + MINUTE, HOUR), "steady"),
        ((20_000, 0), "steady"),
    ],
)
def test_the_trend_is_that_of_the_last_two_known_lags(lags: tuple[int | None, ...], trend: str) -> None:
    assert trend_of([run(lag=lag) for lag in lags]) == trend
