"""Which tables may go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan, cleanup_text
from airflow_kinesis_snowflake.maintenance.cleanup.rules import (
    CleanupRules,
    StaleOffset,
    TableKind,
    TableView,
    decide,
    decide_consumers,
    kind_of,
    stale_offsets,
)

NOW = 1_800_000_000_000
DAY = 86_400_000


def view(name: str = "old-app", **facts: Any) -> TableView:
    known: dict[str, Any] = {
        "kind": TableKind.CHECKPOINTS,
        "application": name,
        "created": NOW - 400 * DAY,
        "protected": False,
        "ours": True,
        "touched": NOW - 90 * DAY,
    }
    return TableView(name=name, **known | facts)


def rules(**changes: Any) -> CleanupRules:
    return CleanupRules(**{"days": 30, **changes})


def reason(table: TableView, **changes: Any) -> str | None:
    (decision,) = decide([table], rules(**changes), now=NOW)
    return None if decision.delete else decision.reason


def test_a_table_that_nobody_touched_goes() -> None:
    assert reason(view()) is None


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"live": True}, "alive"),
        ({"protected": True}, "protected"),
        ({"ours": False}, "name it"),
        ({"touched": None}, "no row says"),
        ({"touched": NOW - 29 * DAY}, "it was used"),
        ({"created": NOW - DAY, "touched": None}, "no row says"),
    ],
)
def test_a_table_stays_for_a_reason(facts: dict[str, Any], why: str) -> None:
    assert why in (reason(view(**facts)) or "")


def test_a_table_in_use_stays() -> None:
    assert reason(view(), used=frozenset({"old-app"})) == "it is in use"


@pytest.mark.parametrize("facts", [{"ours": False}, {"touched": None}, {"ours": False, "touched": None}])
def test_a_foreign_or_silent_table_goes_when_it_is_named(facts: dict[str, Any]) -> None:
    assert reason(view(**facts), named=frozenset({"old-app"})) is None


@pytest.mark.parametrize("facts", [{"live": True}, {"protected": True}, {"touched": NOW - DAY}])
def test_naming_a_table_does_not_override_that_it_is_used(facts: dict[str, Any]) -> None:
    assert reason(view(**facts), named=frozenset({"old-app"})) is not None


def test_tables_of_one_application_stay_together() -> None:
    leases = view("app", kind=TableKind.KCL_LEASES, live=True)
    metrics = view("app-WorkerMetricStats", kind=TableKind.KCL_METRICS, application="app")
    decisions = decide([leases, metrics], rules(named=frozenset({"app"})), now=NOW)
    assert [decision.delete for decision in decisions] == [False, False]
    assert "belongs to app" in decisions[1].reason


tables = st.lists(
    st.builds(
        view,
        st.sampled_from([f"app-{number}" for number in range(12)]),
        live=st.booleans(),
        protected=st.booleans(),
        ours=st.booleans(),
        touched=st.none() | st.integers(NOW - 60 * DAY, NOW),
    ),
    unique_by=lambda table: table.name,
)


@given(tables, st.integers(1, 5))
def test_no_run_deletes_more_than_it_may_nor_what_is_alive(found: list[TableView], most: int) -> None:
    decisions = decide(found, rules(most=most), now=NOW)
    to_delete = [decision.table for decision in decisions if decision.delete]
    assert len(to_delete) <= most
    assert not any(table.live or table.protected or not table.ours for table in to_delete)
    assert all(decision.reason for decision in decisions)


@given(tables)
def test_a_plan_is_the_same_after_json(found: list[TableView]) -> None:
    plan = CleanupPlan(made_at=NOW, decisions=decide(found, rules(), now=NOW))
    plain = plan.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert CleanupPlan.from_dict(plain) == plan


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("app", {"HASH": "streamName", "RANGE": "shardId"}, (TableKind.CHECKPOINTS, "app")),
        ("app_migration", {"HASH": "streamName", "RANGE": "shardId"}, (TableKind.OPENFLOW_MIGRATION, "app")),
        ("app", {"HASH": "leaseKey"}, (TableKind.KCL_LEASES, "app")),
        ("app-CoordinatorState", {"HASH": "key"}, (TableKind.KCL_COORDINATOR, "app")),
        ("app-WorkerMetricStats", {"HASH": "wid"}, (TableKind.KCL_METRICS, "app")),
        ("app", {"HASH": "StreamID", "RANGE": "ShardID"}, (TableKind.REDPANDA, "app")),
        ("anything", {"HASH": "key"}, None),
        ("orders", {"HASH": "id", "RANGE": "date"}, None),
    ],
)
def test_a_table_is_told_by_its_key(
    name: str, keys: dict[str, str], expected: tuple[TableKind, str] | None
) -> None:
    assert kind_of(name, keys) == expected


@pytest.mark.parametrize(
    "changes",
    [{"days": 0}, {"days": float("nan")}, {"most": 0}, {"used": {"a"}, "named": {"a"}}],
)
def test_rules_that_cannot_be_meant_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError):
        rules(**changes)


def test_only_consumers_of_applications_that_are_gone_are_deregistered() -> None:
    found = [("orders", name, f"arn:{name}") for name in ("deleted", "alive", "named", "lambda")]
    views = decide_consumers(found, gone={"deleted"}, tables={"deleted", "alive"}, named={"named"})
    assert [view.name for view in views if view.deregister] == ["deleted", "named"]


def test_the_text_gives_each_table_with_its_reason() -> None:
    text = cleanup_text(
        CleanupPlan(made_at=NOW, decisions=decide([view(), view("busy", live=True)], rules(), now=NOW))
    )
    for part in ("DELETE", "old-app", "keep", "busy", "a worker is alive", "90 d ago"):
        assert part in text


def offset(incarnation: str, *, shard_id: str = "a", stream: str = "orders", age: int = 60) -> StaleOffset:
    return StaleOffset(
        application="app",
        stream=stream,
        shard_id=shard_id,
        incarnation=incarnation,
        updated=NOW - age * DAY,
    )


@pytest.mark.parametrize(
    ("row", "goes"),
    [
        (offset("before a reset"), True),
        (offset("now"), False),
        (offset("now", shard_id="forgotten"), True),
        (offset("before a reset", age=29), False),
        (offset("before a reset", stream="without rows"), False),
    ],
)
def test_an_offset_goes_when_no_state_row_of_its_stream_names_it(row: StaleOffset, goes: bool) -> None:
    named = {("orders", "a", "now"), ("orders", "b", "")}
    assert stale_offsets([row], named, before=NOW - 30 * DAY) == ((row,) if goes else ())
