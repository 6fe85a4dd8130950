"""What each shard is doing, and which is stuck."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_kinesis_snowflake.maintenance.inspection import ShardView
from airflow_kinesis_snowflake.monitoring.drains import Run, ShardSummary
from airflow_kinesis_snowflake.monitoring.owners import Holder, holder_of
from airflow_kinesis_snowflake.monitoring.shard_status import ShardLine, shard_lines, summary

NOW = 100_000_000
LATE = 7_800_000


def view(shard_id: str = "s", **values: Any) -> ShardView:
    return ShardView(shard_id=shard_id, row=True, **values)


def run(*, started: int = NOW - 600_000, state: str = "success", **shards: ShardSummary) -> Run:
    return Run(
        dag_id="d", run_id=str(started), state=state, started=started, ended=started + 1, shards=shards
    )


def line(shard: ShardView, *runs: Run, drained: bool = False) -> ShardLine:
    [found] = shard_lines([shard], runs, now=NOW, drained=drained)
    return found


def test_a_live_lease_means_that_it_is_read() -> None:
    found = line(view(lease_owner="w", lease_expiry=NOW + 9_000, millis_behind=LATE))
    assert (found.status, found.lease_left, found.lag) == ("reading", 9_000, LATE)


def test_a_lease_that_ran_out_means_that_its_worker_is_gone() -> None:
    gone = view(lease_owner="w", lease_expiry=NOW - 240_000)
    assert line(gone).status == "abandoned"
    assert line(gone).why == "Its worker's lease expired 4 min ago"
    assert line(gone, drained=True).status == "idle"


def test_a_child_waits_for_parents_that_arent_finished() -> None:
    lines = shard_lines(
        [view("a"), view("b", ended=True), view("c", parents=("a", "b", "gone"))], (), now=NOW
    )
    assert [each.status for each in lines] == ["idle", "ended", "waiting"]
    assert lines[2].why == "Waits until a is finished"
    assert (lines[0].open, lines[0].children, lines[2].open) == (False, ("c",), True)


def test_shards_without_a_row_are_left_out() -> None:
    assert shard_lines([ShardView(shard_id="listed", listed=True)], (), now=NOW) == ()


def test_a_row_that_cant_be_read_is_damaged() -> None:
    assert line(view(readable=False)).status == "damaged"


def test_a_shard_that_was_left_late_is_behind() -> None:
    assert line(view(millis_behind=LATE)).status == "behind"
    assert line(view(millis_behind=30_000)).status == "idle"


def test_a_row_of_openflow_gets_its_lag_from_the_last_report() -> None:
    assert line(view(), run(), run(s=ShardSummary(millis_behind_latest=LATE))).lag == LATE


def test_three_drains_without_headway_mean_that_it_is_stuck() -> None:
    none = run(s=ShardSummary(0, millis_behind_latest=LATE))
    found = line(view(millis_behind=LATE), none, none, none)
    assert found.status == "stuck"
    assert found.why.startswith("3 drains in a row loaded nothing from it; 2 h 10 min behind")
    some = run(s=ShardSummary(1, millis_behind_latest=LATE))
    assert line(view(millis_behind=LATE), none, none, some).status == "behind"
    assert line(view(millis_behind=LATE), none, none).status == "behind"
    caught_up = run(s=ShardSummary(0, millis_behind_latest=0))
    assert line(view(), caught_up, caught_up, caught_up).status == "idle"


def test_a_shard_that_three_drains_passed_over_is_stuck() -> None:
    runs = [run(started=NOW - minutes * 60_000) for minutes in (10, 20, 30)]
    assert line(view(last_update=NOW - 31 * 60_000), *runs).status == "stuck"
    assert line(view(last_update=NOW - 29 * 60_000), *runs).status == "idle"


@pytest.mark.parametrize("facts", [{"ended": True}, {"lease_owner": "w", "lease_expiry": NOW + 1}])
def test_what_is_ended_or_being_read_isnt_stuck(facts: dict[str, Any]) -> None:
    none = run(s=ShardSummary(0, millis_behind_latest=LATE))
    assert line(view(**facts), none, none, none).status != "stuck"


def test_an_owner_leads_to_its_task_instance() -> None:
    found = holder_of("dag/manual__2026-01-01T00:00:00+00:00/drain/2#1-5f0c")
    assert found == Holder("dag", "manual__2026-01-01T00:00:00+00:00", "drain", 2, "drain[2]")
    assert holder_of("dag/run/with/slashes/drain/-1#2-a") == Holder(
        "dag", "run/with/slashes", "drain", -1, "drain"
    )


@pytest.mark.parametrize("owner", [None, "", "3f0c-uuid", "a/b#1", "a/b/c/d#1-x", "#"])
def test_an_owner_of_other_software_leads_nowhere(owner: str | None) -> None:
    assert holder_of(owner) is None


def test_the_shards_are_summed_up() -> None:
    lines = shard_lines(
        [view("a", ended=True), view("b", parents=("a",)), view("c", parents=("b",))], (), now=NOW
    )
    assert summary(lines) == "3 shards: 1 open, 1 closed, being finished, 1 read to the end"
