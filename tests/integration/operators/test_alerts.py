"""The operator that looks after an application, on local services."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.operators import compat
from airflow_kinesis_snowflake.operators.alerts import KinesisAlertsOperator
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.stream.positions import StartAt
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.helpers import context_of

if TYPE_CHECKING:
    from collections.abc import Callable

STRICT = '{"lease_seconds": 0, "unread_seconds": 0, "lag_seconds": 0}'
told: list[str] = []


class Notifier(BaseNotifier):
    def notify(self, context: Any) -> None:
        told.append(context["alert_subject"])


class Task:
    """A task instance that remembers what the run before it returned."""

    dag_id, task_id, map_index, stats_tags = "dag", "look", -1, {"dag_id": "dag"}

    def __init__(self, left: Any = None) -> None:
        self.left = left

    def xcom_pull(self, *, include_prior_dates: bool, **_: Any) -> Any:
        assert include_prior_dates
        return self.left


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    told.clear()
    return make_stream()


@pytest.fixture
def store(application_name: str, stream: str) -> CheckpointStoreHook:
    """A table with the row of the stream's shard."""
    store = CheckpointStoreHook(application_name)
    store.create_table()
    [shard] = KinesisStreamHook(stream).list_shards()
    store.create_shard(
        stream, shard.shard_id, start_at=StartAt.parse("TRIM_HORIZON"), parents=(), incarnation="i",
        stream_created=1,
    )  # fmt: skip
    return store


def look(store: CheckpointStoreHook, stream: str, left: Any = None, **settings: Any) -> dict[str, Any]:
    operator = KinesisAlertsOperator(
        task_id="look", application_name=store.application_name, stream_name=stream, notifiers=[Notifier()],
        **({"thresholds": STRICT} | settings),
    )  # fmt: skip
    found: dict[str, Any] = operator.execute(context_of(Task(left)))
    return found


def lease(store: CheckpointStoreHook, stream: str, *, seconds: int) -> None:
    [row] = store.read_state(stream).shards.values()
    now = now_millis()
    taken = store.take_lease(
        stream, row, owner="dag/run/drain/0#1-a", expiry=now + 1000 * seconds, now=now, incarnation="i"
    )
    assert taken is not None


def test_an_alert_is_told_when_it_begins_and_when_it_is_over(store: CheckpointStoreHook, stream: str) -> None:
    lease(store, stream, seconds=-60)
    first = look(store, stream)
    assert [alert["rule"] for alert in first["alerts"]] == ["lease", "unread"]
    second = look(store, stream, first)
    assert second["told"] == first["told"]
    again = look(store, stream, second, repeat_after=timedelta(0))
    lease(store, stream, seconds=60)
    over = look(store, stream, again)
    assert (over["alerts"], over["told"]) == ([], {})
    look(store, stream, over)
    subject = f"{store.application_name} on {stream}: lease, unread"
    assert told == [f"critical: {subject}", f"critical: {subject}", f"resolved: {subject}"]


def test_the_state_is_sent_as_metrics(
    store: CheckpointStoreHook, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, float] = {}
    monkeypatch.setattr(compat.Stats, "gauge", lambda name, value, tags=None: sent.update({name: value}))
    lease(store, stream, seconds=-60)
    found = look(store, stream)
    assert sent["kinesis_snowflake.stale_leases"] == 1
    assert sent[f"kinesis_snowflake.{store.application_name}.{stream}.stale_leases"] == 1
    assert sent["kinesis_snowflake.unread_millis"] == found["unread_millis"]
    assert "kinesis_snowflake.behind_millis" not in sent  # no drain has reached anything yet


def test_an_application_without_a_table_has_no_alerts(application_name: str, stream: str) -> None:
    found = look(CheckpointStoreHook(application_name), stream)
    assert (found["alerts"], found["unread_millis"], told) == ([], None, [])


def test_thresholds_that_cant_be_meant_fail_the_task(store: CheckpointStoreHook, stream: str) -> None:
    with pytest.raises(AirflowFailException, match="Correct the Airflow Variable"):
        look(store, stream, thresholds='{"lag": 1}')
