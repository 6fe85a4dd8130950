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
    DrainTaskInstance,
    Failure,
    Run,
    Settings,
    ShardSummary,
    TaskProgress,
    TaskReport,
    by_application,
    columns_of,
    flow_of,
    places,
    read_as,
    runs_of,
    summary_of,
    trend_of,
)

NOW = 10 * HOUR


def drain(index: int = 0, *, state: str = "success", run_id: str = "r", **values: Any) -> DrainTaskInstance:
    return DrainTaskInstance(
        dag_id="d", task_id="drain", run_id=run_id, map_index=index, state=state, **values
    )


def report(records: int = 0, **values: Any) -> TaskReport:
    return TaskReport("app", "stream", records=records, bytes=10 * records, **values)


def progress(**values: Any) -> TaskProgress:
    return TaskProgress("app", "stream", at="1970-01-01T01:00:00+00:00", **values)


def run(state: str = "success", **values: Any) -> Run:
    return Run(dag_id="d", run_id="r", state=state, **values)


def test_the_report_of_a_drain_is_read_as_it_is_written() -> None:
    written = DrainReport("stream", "app", "T", "w", records=3, shards={"s": ShardReport(records=3)})
    read = read_as(TaskReport, json.loads(json.dumps(written.as_dict())))
    assert (read.application_name, read.records, read.shards["s"].records) == ("app", 3, 3)


@pytest.mark.parametrize("value", [None, 7, "text", "{", [], {}, {"application_name": 1, "stream_name": "s"}])
def test_what_isnt_a_report_is_none(value: Any) -> None:
    assert read_as(TaskReport, value) is None


def test_a_report_that_was_stored_as_text_is_read() -> None:
    assert read_as(TaskReport, '{"application_name": "a", "stream_name": "s"}') == TaskReport("a", "s")


def test_drains_are_told_apart_by_what_they_say_last() -> None:
    told = [
        drain(0, report=TaskReport("a", "s")),
        drain(1, progress=TaskProgress("b", "s", at=""), state="running"),
        drain(2, settings=Settings("c", "s"), state="failed"),
        drain(3, state="queued"),
    ]
    assert [*by_application(told)] == [Application(name, "s") for name in "abc"]


ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/s"
ELSEWHERE = "arn:aws:kinesis:us-east-1:210987654321:stream/s"


def of(task: str, **values: Any) -> DrainTaskInstance:
    return DrainTaskInstance(dag_id="d", task_id=task, run_id="r", **values)


def test_two_streams_of_one_name_are_two_applications_and_say_where_they_are() -> None:
    told = [
        of("one", report=TaskReport("a", "s", stream_arn=ARN)),
        of("two", report=TaskReport("a", "s", stream_arn=ELSEWHERE)),
        of("three", report=TaskReport("b", "s", stream_arn=ARN)),
    ]
    one, two, alone = Application("a", "s", ARN), Application("a", "s", ELSEWHERE), Application("b", "s", ARN)
    assert by_application(told) == {one: (told[0],), two: (told[1],), alone: (told[2],)}
    assert places(by_application(told)) == {
        one: "eu-west-1, account 123456789012",
        two: "us-east-1, account 210987654321",
    }


def test_a_drain_that_was_given_an_arn_is_known_by_it() -> None:
    assert [*by_application([of("one", settings=Settings("a", ARN))])] == [Application("a", "s", ARN)]
    assert [*by_application([of("one", settings=Settings("a", "arn:odd"))])] == [Application("a", "arn:odd")]


def test_a_drain_that_knows_only_the_name_counts_to_the_others_of_its_task() -> None:
    one, two = (
        of("one", report=TaskReport("a", "s", stream_arn=ARN)),
        of("two", settings=Settings("a", ELSEWHERE)),
    )
    running = [
        of(task, state="running", progress=TaskProgress("a", "s", at="")) for task in ("one", "two", "three")
    ]
    found = by_application([*running, one, two])
    assert {application: {drain.task_id for drain in drains} for application, drains in found.items()} == {
        Application("a", "s", ARN): {"one"},
        Application("a", "s", ELSEWHERE): {"two"},
        Application("a", "s"): {"three"},
    }
    assert places(found)[Application("a", "s")] == "location not known yet"


def test_a_drain_of_another_task_counts_to_the_only_stream_of_its_name() -> None:
    told = [of("one", report=TaskReport("a", "s", stream_arn=ARN)), of("two", settings=Settings("a", "s"))]
    assert {each: len(drains) for each, drains in by_application(told).items()} == {
        Application("a", "s", ARN): 2
    }
    assert places(by_application(told)) == {}


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


def test_a_run_follows_until_the_last_of_its_workers_ends() -> None:
    until = ["1970-01-01T02:00:00+00:00", "1970-01-01T03:00:00+00:00", None]
    workers = [
        drain(number, state="running", progress=progress(following_until=moment))
        for number, moment in enumerate(until)
    ]
    [found] = runs_of(workers)
    assert found.following_until == 3 * 3_600_000
    assert runs_of(workers[2:])[0].following_until is None


def test_the_progress_of_a_failed_try_counts_for_nothing() -> None:
    [found] = runs_of([drain(0, state="failed", ended=3, progress=progress(records=5))])
    assert (found.records, found.lag, found.trouble) == (0, None, ("drain", 0))


def test_a_shard_that_changed_hands_has_the_lag_of_its_last_reader() -> None:
    early = ShardSummary(2, millis_behind_latest=900, outcome="handed_over")
    late = ShardSummary(3, millis_behind_latest=0, outcome="caught_up")
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


def test_a_run_tells_the_reason_of_the_worker_that_had_time_to_say_it() -> None:
    [found] = runs_of(
        [
            drain(0, state="failed"),
            drain(1, state="failed", failure=Failure("DataLossError: gone")),
            drain(2, state="failed", failure=Failure("another")),
        ]
    )
    assert (found.trouble, found.reason) == (("drain", 1), "DataLossError: gone")
    [killed] = runs_of([drain(3, state="failed")])
    assert (killed.trouble, killed.reason) == (("drain", 3), "")


def test_those_who_held_shards_are_others_than_the_workers_of_the_run() -> None:
    held = {"d/r/drain/1#1-a": 2, "d/r0/drain/0#1-b": 1, "openflow": 3}
    [found] = runs_of([drain(0, report=report(held_by_others=held)), drain(1, report=report())])
    assert found.held_by_others == {"d/r0/drain/0#1-b": 1, "openflow": 3}


def test_reasons_of_dead_letters_add_up() -> None:
    [found] = runs_of(
        [drain(n, report=report(dead_letters=3, reasons={"a": 2, f"b{n}": 1})) for n in range(2)]
    )
    assert found.reasons == {"a": 4, "b0": 1, "b1": 1}


def test_a_drain_that_failed_before_it_had_settings_counts_to_what_its_task_drains() -> None:
    good = drain(run_id="r1", report=report())
    early = drain(run_id="r2", state="upstream_failed", started=5, ended=5)
    [(application, found)] = by_application([early, good]).items()
    assert (application, len(found)) == (Application("app", "stream"), 2)
    assert early in found
    other = drain(run_id="r3", report=TaskReport("another", "stream"))
    assert all(early not in of for of in by_application([early, good, other]).values())


def test_a_report_is_summed_up_without_its_shards() -> None:
    written = DrainReport("stream", "app", "T", "w", records=3, shards={"s": ShardReport(records=3)})
    text = json.dumps(written.as_dict())
    for stored in (text, json.dumps(text)):  # Airflow 3.1 stores JSON in a text
        found = summary_of(stored)
        assert found is not None
        assert (found.application_name, found.records, found.shards) == ("app", 3, {})
    assert summary_of("7") is None
    assert summary_of('{"records": 1}') is None


def test_each_run_is_a_column_as_long_as_there_is_room() -> None:
    runs = [run(started=n * MINUTE, ended=n * MINUTE + 30_000, records=10, lag=n) for n in range(3)]
    columns = columns_of(runs[::-1])
    assert [(each.run, each.started, each.lag) for each in columns] == [
        (("d", "r"), n * MINUTE, n) for n in range(3)
    ]
    assert columns[0].per_minute == 20


@given(st.lists(st.integers(0, 30 * 24 * HOUR), min_size=97, max_size=300))
def test_many_runs_share_columns_and_none_is_left_out(starts: list[int]) -> None:
    runs = [
        run(
            "failed" if start % 7 == 0 else "success", started=start, ended=start + 1000, records=5, lag=start
        )
        for start in sorted(starts, reverse=True)
    ]
    columns = columns_of(runs)
    assert len(columns) <= 96
    assert sum(each.runs for each in columns) == len(runs)
    assert sum(each.records for each in columns) == 5 * len(runs)
    assert sum(each.failed for each in columns) == sum(each.state == "failed" for each in runs)
    assert max(each.lag for each in columns if each.lag is not None) == max(starts)
    assert sorted(each.started for each in columns) == [each.started for each in columns]
