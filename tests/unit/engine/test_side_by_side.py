"""What becomes of many drains when some fail, hang or are told to stop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_kinesis_snowflake.engine import side_by_side
from airflow_kinesis_snowflake.engine.side_by_side import SideBySide
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    DrainStoppedError,
    KinesisSnowflakeError,
    ThrottledError,
)

PATIENCE = 10.0


class StubDrain:
    """Ends at once, with an error or without, or when it is told to."""

    def __init__(self, error: KinesisSnowflakeError | None = None, *, waits: bool = False) -> None:
        self.report: Any = object()
        self._error = error
        self._stopped = threading.Event()
        self.running = threading.Event()
        if not waits:
            self._stopped.set()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> Any:
        self.running.set()
        assert self._stopped.wait(PATIENCE)
        if self._error is not None:
            raise self._error
        return self.report


def side_by_side_of(drains: dict[str, Any]) -> SideBySide:
    return SideBySide(lambda stream: drains[stream])


def test_one_that_fails_stops_no_other_and_one_that_may_be_mended_by_another_try_is_raised() -> None:
    drains = {
        "denied": StubDrain(AccessDeniedError("no")),
        "busy": StubDrain(ThrottledError("slower")),
        "good": StubDrain(),
        "idle": None,
    }
    work = side_by_side_of(drains)
    with pytest.raises(ThrottledError) as raised:
        work.run(list(drains), at_once=1)

    assert raised.value.__notes__ == ["denied: no"]
    assert (list(work.reports), work.idle) == (["good"], ["idle"])
    assert sorted(work.failures) == ["busy", "denied"]
    assert sorted(work.drains) == ["busy", "denied", "good"]


def test_an_error_that_nobody_expects_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError):
        side_by_side_of({}).run(["unknown"], at_once=1)


def test_a_stop_reaches_what_runs_and_begins_nothing_more() -> None:
    drains = {"one": StubDrain(waits=True), "two": StubDrain(waits=True), "three": StubDrain()}
    work = side_by_side_of(drains)

    def stop() -> None:
        assert drains["one"].running.wait(PATIENCE)
        assert drains["two"].running.wait(PATIENCE)
        work.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(DrainStoppedError):
        work.run(list(drains), at_once=2)
    stopper.join()

    assert not drains["three"].running.is_set()


def test_a_call_that_hangs_before_its_drain_holds_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "STOP_SECONDS", 0.0)
    answer = threading.Event()

    def make(_: str) -> Any:
        work.stop()
        answer.wait(PATIENCE)

    work = SideBySide(make)
    try:
        with pytest.raises(DrainStoppedError):
            work.run(["hangs"], at_once=1)
        assert not answer.is_set()
    finally:
        answer.set()
