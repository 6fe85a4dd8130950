"""The numbers of a drain in Airflow's metrics."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_snowflake.engine.report import DrainReport, ShardReport
from airflow_kinesis_snowflake.exceptions import DataLossError, ThrottledError
from airflow_kinesis_snowflake.operators import compat
from airflow_kinesis_snowflake.operators.metrics import GAUGES, PREFIX, counters, send_metrics

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"
REPORT = DrainReport(
    "clicks",
    "app",
    "table",
    "worker",
    records=7,
    bytes=70,
    batches=2,
    dead_letters=1,
    fenced=3,
    lost_leases=4,
    gaps=[{}],
    stream_arn="arn:aws:kinesis:eu-west-1:123456789012:stream/clicks",
    rejected_rows=5,
    shards={"a": ShardReport(millis_behind_latest=1_500), "b": ShardReport()},
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
    """What is sent to StatsD, by name and tags. ``tests/e2e`` looks at the real thing."""
    seen: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def send(name: str, value: int, *, tags: dict[str, str] | None = None) -> None:
        seen[name, tuple(sorted((tags or {}).items()))] += value

    monkeypatch.setattr(compat.Stats, "incr", send)
    monkeypatch.setattr(compat.Stats, "gauge", send)
    return seen


def test_every_number_goes_out_by_name_and_by_tags(sent: Counter[Any]) -> None:
    lost = DataLossError("gone")
    send_metrics(REPORT, tags={"dag_id": "dag"}, error=lost)
    numbers = counters(REPORT, lost) | {"millis_behind_latest": 1_500}
    place = {"account": "123456789012", "region": "eu-west-1"}
    tags = tuple(sorted({"application": "app", "dag_id": "dag", "stream": "clicks", **place}.items()))
    assert sent == Counter(
        {(f"{PREFIX}.app.clicks.{name}", ()): value for name, value in numbers.items()}
        | {(f"{PREFIX}.{name}", tags): value for name, value in numbers.items()}
    )


@pytest.mark.parametrize(
    ("error", "losses", "failures"),
    [(None, 1, 0), (ThrottledError("slow"), 1, 1), (DataLossError("gone"), 2, 1)],
)
def test_failures_and_losses_are_counted(error: Exception | None, losses: int, failures: int) -> None:
    counted = counters(REPORT, error)
    assert (counted["data_losses"], counted["failures"]) == (losses, failures)


def test_a_lag_that_nobody_measured_is_not_sent(sent: Counter[Any]) -> None:
    send_metrics(DrainReport("clicks", "app", "table", "worker"), tags={})
    assert sent == Counter()


def test_every_metric_is_documented_and_no_other() -> None:
    documented = re.findall(rf"^\| `{PREFIX}\.([a-z_]+)`", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted([*counters(REPORT), "millis_behind_latest", *GAUGES])
