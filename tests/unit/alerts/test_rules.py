"""Which alerts there are, by the state of an application and by what a drain did."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_kinesis_snowflake.alerts.rules import (
    Alert,
    alert_of_failure,
    alerts_of_drain,
    alerts_of_state,
    gauges_of,
)
from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT, Thresholds
from airflow_kinesis_snowflake.engine.report import DrainReport
from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView

NOW = 1_767_225_600_000
MINUTE = 60_000


def shard(minutes_ago: float | None = 1, **facts: Any) -> ShardView:
    caught_up = None if minutes_ago is None else NOW - int(minutes_ago * MINUTE)
    known = {"shard_id": "s-0", "row": True, "caught_up_at": caught_up, "last_update": caught_up}
    return ShardView(**dict[str, Any](known | facts))


def inspection(*shards: ShardView, retention_minutes: int = 1440) -> Inspection:
    return Inspection(
        application="app", stream="clicks", at=NOW, table_created=1, table_status="ACTIVE", protected=False,
        stream_created=1, retention_seconds=retention_minutes * 60, shards=shards, workers={}, findings=(),
    )  # fmt: skip


def rules(*shards: ShardView, thresholds: Thresholds = DEFAULT, **more: Any) -> list[str]:
    return [alert.rule for alert in alerts_of_state(inspection(*shards, **more), thresholds)]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        ((), []),
        ((shard(1), shard(14)), []),
        ((shard(1), shard(16)), ["lag"]),
        ((shard(1), shard(16, ended=True)), []),
        ((shard(1), shard(None)), []),
        ((shard(721),), ["retention", "lag"]),
        ((shard(1, lease_owner="w", lease_expiry=NOW - 16 * MINUTE),), ["lease"]),
        ((shard(1, lease_owner="w", lease_expiry=NOW - 14 * MINUTE),), []),
        ((shard(1, lease_owner="w", lease_expiry=NOW + 14 * MINUTE),), []),
    ],
)
def test_the_state_calls_for_alerts(shards: tuple[ShardView, ...], expected: list[str]) -> None:
    assert rules(*shards) == expected


def test_a_moment_that_is_still_to_come_isnt_believed() -> None:
    assert gauges_of(inspection(shard(-5))).behind_millis is None


def test_without_a_retention_nothing_nears_it() -> None:
    assert rules(shard(5000), retention_minutes=0) == ["lag"]


def test_nobody_reading_is_an_alert_where_somebody_should() -> None:
    follow = Thresholds(unread_seconds=120)
    assert rules(shard(3)) == []
    assert rules(shard(3), thresholds=follow) == ["unread"]
    assert rules(shard(1), thresholds=follow) == []
    assert rules(shard(3), shard(3, lease_owner="w", lease_expiry=NOW + 1), thresholds=follow) == []


def test_an_alert_says_what_where_and_what_to_do() -> None:
    [alert] = alerts_of_state(inspection(shard(1500)), Thresholds(lag_seconds=1e9))
    assert alert.severity == "critical"
    assert alert.text == (
        "app on clicks: everything is loaded only up to 1 d 1 h ago, and the stream keeps records for 1 d: "
        "some may be gone. Find out why no drain gets that far, and extend the stream's retention until "
        "it has caught up."
    )
    [near] = alerts_of_state(inspection(shard(800)), Thresholds(lag_seconds=1e9))
    assert "; in 10 h 40 min the stream starts to drop what arrived then" in near.what
    [lease] = alerts_of_state(
        inspection(shard(1, lease_owner="dag/run/drain/0#1-a", lease_expiry=NOW - 20 * MINUTE)), DEFAULT
    )
    assert lease.what == (
        "the lease of dag/run/drain/0#1-a on 1 shard expired 20 min ago, and nobody has taken over"
    )


def report(**values: Any) -> dict[str, Any]:
    done = DrainReport("clicks", "app", "T", "w").as_dict()
    return done | values


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"millis_behind_latest": 900_001}, ["lag"]),
        ({"millis_behind_latest": None}, []),
        ({"gaps": [{}]}, ["data_loss"]),
        ({"gaps": [{}], "dead_letters": 1}, ["data_loss"]),
        ({"dead_letters": 3}, ["dead_letters"]),
        ({"rejected_rows": 3}, ["rejected_rows"]),
    ],
)
def test_a_drain_calls_for_alerts(values: dict[str, Any], expected: list[str]) -> None:
    assert [alert.rule for alert in alerts_of_drain(report(**values), DEFAULT)] == expected


def test_dead_letters_above_a_threshold_name_the_most_frequent_reason() -> None:
    done = report(dead_letters=5, reasons={"a": 1, "b": 4})
    assert alerts_of_drain(done, Thresholds(dead_letters=5)) == ()
    [alert] = alerts_of_drain(done, Thresholds(dead_letters=4))
    assert alert.what == "5 records became dead letters, 4 of them: b"


@pytest.mark.parametrize(
    ("reason", "rule", "severity"),
    [
        ("DataLossError: Stream x may no longer have it.", "data_loss", "critical"),
        ("ThrottledError: slow down", "failed", "warning"),
    ],
)
def test_a_failed_drain_is_an_alert(reason: str, rule: str, severity: str) -> None:
    alert = alert_of_failure(reason, application="app", stream="clicks")
    assert (alert.rule, alert.severity) == (rule, severity)
    assert alert.text.startswith(f"app on clicks: a drain failed: {reason.rstrip('.')}. ")


def test_an_alert_is_json_with_its_text() -> None:
    alert = Alert(rule="lag", severity="warning", application="a", stream="s", what="late", advice="Hurry.")
    assert alert.as_dict()["text"] == "a on s: late. Hurry."
