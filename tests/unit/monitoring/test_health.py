"""The sentence on top of the page, and what it advises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.alerts.thresholds import Thresholds
from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView, StateFinding
from airflow_kinesis_snowflake.monitoring.drains import Run
from airflow_kinesis_snowflake.monitoring.health import (
    Health,
    HealthInputs,
    Schedule,
    health_of,
    notices_of,
)
from airflow_kinesis_snowflake.monitoring.shard_status import ShardLine

NOW = 100_000_000
MINUTE = 60_000
LAG = 130 * MINUTE
BEHIND = "Behind by 2 h 10 min"
EVERY_TEN = Schedule("dag", "*/10 * * * *", due=NOW + 7 * MINUTE)


def run(state: str = "success", *, ended: int | None = NOW - 3 * MINUTE, **values: Any) -> Run:
    return Run(dag_id="dag", run_id="r", state=state, ended=ended, **({"started": NOW - 4 * MINUTE} | values))


def running(**values: Any) -> Run:
    return run("running", ended=None, **values)


def shard(status: str, **values: Any) -> ShardLine:
    return ShardLine(shard_id="shardId-1", status=status, why="Because", **values)


def following(**values: Any) -> Run:
    return running(following_until=NOW + 30 * MINUTE, **values)


def stands(
    *runs: Run, lines: tuple[ShardLine, ...] = (), schedule: Schedule = EVERY_TEN, **more: Any
) -> Health:
    return health_of(HealthInputs(now=NOW, runs=runs, lines=lines, schedule=schedule, **more))


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ((run(lag=500),), "Caught up 3 min ago"),
        ((run(lag=LAG), run(lag=LAG // 2)), f"{BEHIND} and growing; the last drain ended 3 min ago"),
        ((run(lag=LAG), run(lag=LAG * 2)), f"{BEHIND}, but catching up; the last drain ended 3 min ago"),
        ((run(lag=LAG),), "Behind by 2 h 10 min; the last drain ended 3 min ago"),
        ((run("failed"), run(lag=LAG)), "The last drain failed 3 min ago, 2 h 10 min behind"),
        ((run("failed"),), "The last drain failed 3 min ago"),
        ((run("retrying"),), "A worker failed 3 min ago and is about to be retried"),
        ((running(),), "Draining for 4 min"),
        ((running(records=2000),), "Draining for 4 min, 2,000 records so far"),
        (
            (running(lag=LAG, seconds_to_catch_up=600.0),),
            "Draining for 4 min, behind by 2 h 10 min, about 10 min to go",
        ),
        ((running(lag=LAG), run(lag=5)), "Draining for 4 min, behind by 2 h 10 min and growing"),
        ((running(spoke=NOW - 9 * MINUTE),), "Draining, but the drain hasn't reported anything for 9 min"),
        ((following(),), "Following"),
        ((following(records=2000, lag=5),), "Following, 2,000 records so far"),
        ((following(lag=LAG),), "Following, behind by 2 h 10 min"),
        ((following(lag=LAG), run(lag=5)), "Following, behind by 2 h 10 min and growing"),
        (
            (following(spoke=NOW - 9 * MINUTE),),
            "Following, but the drain hasn't reported anything for 9 min",
        ),
        ((run("waiting", started=None, ended=None),), "The first drain is about to start"),
        ((run("waiting", started=None, ended=None), run(lag=0)), "Caught up 3 min ago"),
    ],
)  # fmt: skip
def test_the_runs_alone_tell_how_it_stands(runs: tuple[Run, ...], sentence: str) -> None:
    assert stands(*runs).sentence == sentence


def test_a_drain_that_follows_says_until_when_and_is_not_late() -> None:
    overdue = Schedule("dag", "@hourly", due=NOW - 20 * MINUTE)
    health = stands(following(), schedule=overdue)
    assert (health.kind, health.tone, health.until) == ("following", "busy", NOW + 30 * MINUTE)
    assert stands(running(), schedule=overdue).until is None


def test_a_worker_that_is_gone_is_named_with_what_comes_next() -> None:
    lines = (shard("abandoned", owner="dag/run/drain/1#1-a", lease_left=-4 * MINUTE),)
    health = stands(run("failed"), lines=lines)
    assert health.sentence == (
        "Stopped: worker drain[1]'s lease on 1 shard expired 4 min ago; the next run takes over"
    )
    assert health.advice.startswith("Wait for the next run in 7 min, or trigger it now.")
    assert "its retry takes over" in stands(run("retrying"), lines=lines).sentence
    assert stands(running(), lines=lines).kind == "draining"


@pytest.mark.parametrize(
    ("schedule", "advice"),
    [
        (Schedule("dag", "@daily", paused=True), "Unpause the DAG dag, or trigger it."),
        (Schedule("dag"), "Trigger the DAG dag: it has no schedule."),
        (Schedule("dag", "@continuous"), "Wait for the next run, or trigger it now."),
    ],
)
def test_the_advice_knows_the_schedule(schedule: Schedule, advice: str) -> None:
    assert advice in stands(run("failed"), schedule=schedule).advice


def test_a_stuck_shard_is_named_with_its_lag() -> None:
    health = stands(run(lag=0), lines=(shard("stuck", lag=LAG), shard("idle")))
    assert (health.tone, health.sentence) == ("bad", "1 shard stuck, 2 h 10 min behind: shardId-1")


def test_a_reader_that_isnt_a_drain_of_ours_is_told() -> None:
    health = stands(run(lag=0), lines=(shard("reading", owner="openflow-uuid"),))
    assert health.sentence == "Being read by openflow-uuid, which isn't a drain running here now"


def test_a_paused_dag_and_a_late_run_are_told() -> None:
    assert stands(run(lag=0), schedule=Schedule("dag", "@daily", paused=True)).sentence == (
        "Paused: the last drain ended 3 min ago"
    )
    late = Schedule("dag", "*/10 * * * *", due=NOW - 12 * MINUTE)
    assert stands(run(lag=0), schedule=late).sentence == "Late: a run was due 12 min ago and hasn't started"
    assert stands(run("waiting", started=None, ended=None), run(lag=0), schedule=late).kind == "caught_up"


def test_what_cant_be_read_is_never_well() -> None:
    health = stands(run(lag=0), unreadable="no answer")
    assert (health.tone, health.kind) == ("warning", "half_known")
    assert (
        health.sentence == "Caught up 3 min ago, according to its drains; its state in DynamoDB can't be read"
    )


def test_notices_tell_what_else_is_wrong() -> None:
    inputs = HealthInputs(
        now=NOW,
        runs=[run(dead_letters=2, gaps=({},), rejected_rows=1)],
        lines=(),
        schedule=EVERY_TEN,
        unreadable="no answer",
    )
    found = notices_of(inputs, [StateFinding("table", "it is DELETING", "Wait")])
    assert [notice.text for notice in found] == [
        "The state in DynamoDB can't be read: no answer",
        "table: it is DELETING",
        "Records were lost before they were read: 1 gap in the drains below",
        "Snowflake rejected 1 row that the drains below streamed",
        "2 dead letters in the drains below",
    ]


def test_a_failure_is_told_with_its_reason_and_its_log() -> None:
    health = stands(run("failed", trouble=("drain", 2), reason="AccessDeniedError: Grant it."))
    assert (health.reason, health.log) == ("AccessDeniedError: Grant it.", ("dag", "r", "drain", 2))
    assert health.advice.startswith("Do what the message says.")
    killed = stands(run("failed", trouble=("drain", -1)))
    assert killed.advice.startswith("It left no message, so it may have been killed")
    early = stands(run("failed"))
    assert (early.log, early.advice[:34]) == (None, "A task before the drain failed, so")


def test_a_dag_that_is_gone_isnt_late() -> None:
    gone = Schedule("dag", gone=True)
    health = stands(run(lag=LAG), schedule=gone)
    assert (health.kind, health.tone) == ("retired", "warning")
    assert health.sentence == "Airflow has no DAG dag any more; the last drain ended 3 min ago"


def test_who_held_the_shards_is_told_when_a_drain_found_nothing() -> None:
    health = stands(run(lag=0, held_by_others={"openflow": 1}))
    assert (health.kind, health.tone) == ("held", "warning")
    assert health.sentence == (
        "The last drain found nothing new in the free shards; 1 shard was held by openflow"
    )
    some = stands(run(lag=0, records=5, held_by_others={"openflow": 1, "d/x/drain/0#1-a": 2}))
    assert some.sentence == (
        "The last drain loaded 5 records in the free shards; 3 shards were held by drain[0], openflow"
    )


def test_thresholds_move_the_lines() -> None:
    strict, lenient = Thresholds(caught_up_seconds=1, lag_seconds=100), Thresholds(caught_up_seconds=9_000)
    assert stands(run(lag=5_000), thresholds=strict).kind == "behind"
    assert stands(run(lag=LAG), thresholds=strict).tone == "bad"
    assert stands(run(lag=LAG), thresholds=lenient).kind == "caught_up"
    late = Schedule("dag", "@daily", due=NOW - 12 * MINUTE)
    assert stands(run(lag=0), schedule=late, thresholds=Thresholds(late_seconds=3_600)).kind == "caught_up"
    silent = running(spoke=NOW - 9 * MINUTE)
    assert stands(silent, thresholds=Thresholds(silent_seconds=3_600)).kind == "draining"
    letters = HealthInputs(
        now=NOW,
        runs=[run(dead_letters=2)],
        lines=(),
        schedule=EVERY_TEN,
        thresholds=Thresholds(dead_letters=2),
    )
    assert notices_of(letters, []) == ()


def test_records_that_near_their_retention_are_a_notice() -> None:
    view = ShardView(shard_id="s", row=True, caught_up_at=NOW - 20 * MINUTE)
    inspection = inspection_of(view, retention_seconds=3600)
    [notice] = notices_of(
        HealthInputs(
            now=NOW, runs=[run()], lines=(), schedule=EVERY_TEN, thresholds=Thresholds(retention_percent=30)
        ),
        [],
        inspection,
    )
    assert notice.tone == "bad"
    assert notice.text == (
        "Everything is loaded only up to 20 min ago; in 40 min the stream starts to drop what arrived then"
    )


def inspection_of(*shards: ShardView, retention_seconds: int = 0) -> Inspection:
    return Inspection(
        application="a", stream="s", at=NOW, table_created=1, table_status="ACTIVE", protected=False,
        stream_created=1, retention_seconds=retention_seconds, shards=shards, workers={}, findings=(),
    )  # fmt: skip


lags = st.none() | st.integers(0, 10**9)
moments = st.none() | st.integers(0, NOW)
some_runs = st.builds(
    run,
    st.sampled_from(["running", "retrying", "failed", "waiting", "success"]),
    ended=moments,
    started=moments,
    lag=lags,
    spoke=moments,
    seconds_to_catch_up=st.none() | st.floats(0, 1e6),
)
some_shards = st.builds(
    shard,
    st.sampled_from(["stuck", "damaged", "abandoned", "reading", "behind", "waiting", "idle", "ended"]),
    owner=st.sampled_from([None, "", "openflow-uuid", "dag/run/drain/1#1-a"]),
    lease_left=st.none() | st.integers(-NOW, NOW),
    lag=lags,
)
schedules = st.builds(Schedule, st.just("dag"), st.sampled_from(["", "@daily"]), st.booleans(), moments)


@given(st.lists(some_runs, min_size=1, max_size=4), st.lists(some_shards, max_size=4), schedules)
def test_whatever_happened_there_is_a_sentence_and_advice(
    runs: list[Run], lines: list[ShardLine], schedule: Schedule
) -> None:
    health = stands(*runs, lines=tuple(lines), schedule=schedule)
    assert health.sentence
    assert health.advice
    assert health.tone in {"good", "busy", "warning", "bad"}
    if health.tone == "good":
        assert not {line.status for line in lines} & {"stuck", "damaged"}
        assert not schedule.paused
