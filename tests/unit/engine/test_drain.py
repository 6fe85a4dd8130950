"""What a drain's coordinator does while its calls hang, without any service."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine import drain as module
from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.landing import Copy, Landing
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import Collection

    import pytest

PATIENCE = 5.0
LANDING = Landing(table=TableName.parse("DB.RAW.RECORDS"))


class Late(Machine):
    """Waits that end too early by their own account: the calls are done by the time that they say so."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def wait(self, futures: Collection[Future[Any]], *, timeout: float | None = None) -> bool:
        if not self.go_on.is_set():
            self.go_on.set()
            assert super().wait(futures, timeout=PATIENCE)
            return False
        return super().wait(futures, timeout=timeout)


def make_drain(**parameters: Any) -> Drain:
    """A drain that reaches no service, because it isn't run."""
    ports: dict[str, Any] = {
        "source": PollingSource(None),  # type: ignore[arg-type]
        "store": None,
        "sink": Copy(LANDING, lambda: None),  # type: ignore[arg-type, return-value]
    }
    return Drain(
        DrainSettings(
            stream_name="stream",
            application_name="application",
            initial_position=TRIM_HORIZON,
            stop_at=datetime.now(UTC),
        ),
        worker=Worker("task", "1-a"),
        **ports | parameters,
    )


def test_a_call_that_ends_together_with_the_wait_for_it_is_no_timeout() -> None:
    late = Late()

    def call() -> str:
        assert late.go_on.wait(PATIENCE)
        return "done"

    assert make_drain(runtime=late)._call(call) == "done"


def test_leases_are_released_while_the_cancellation_of_a_load_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_GRACE_SECONDS", 0.01)
    released, cancelled, in_time = threading.Event(), threading.Event(), []

    def cancel() -> None:
        in_time.append(released.wait(PATIENCE))
        cancelled.set()

    def release(*_: Any, **__: Any) -> bool:
        released.set()
        return True

    drain = make_drain()
    drain._load = Future()
    monkeypatch.setattr(drain._loader, "cancel", cancel)
    monkeypatch.setattr(
        drain,
        "_leases",
        SimpleNamespace(
            retire=lambda: None, leave=lambda: None, held=frozenset({"shard-1"}), release=release
        ),
    )

    drain._leave()

    assert cancelled.wait(PATIENCE)
    assert in_time == [True]
