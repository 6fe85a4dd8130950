"""Looks into a stream are shared, and a slow one holds up nobody else."""

from __future__ import annotations

import threading

import pytest

from airflow_kinesis_snowflake.monitoring import backlog_status
from airflow_kinesis_snowflake.monitoring.backlog_status import BacklogStatus, Watches
from airflow_kinesis_snowflake.monitoring.drains import Application
from airflow_kinesis_snowflake.monitoring.state_reader import Access
from airflow_kinesis_snowflake.sources.backlog import Backlog, BacklogWatch

APPLICATION, ACCESS = Application("a", "s"), Access()


def test_while_one_looks_the_others_get_what_was_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    watches = Watches(clock=lambda: clock[0])
    asked, answer = threading.Event(), threading.Event()
    found = iter([BacklogStatus(1, "no", "first"), BacklogStatus(2, "yes", "second")])

    def slow(*_: object) -> BacklogStatus:
        asked.set()
        assert answer.wait(30)
        return next(found)

    monkeypatch.setattr(backlog_status, "_look", slow)
    for before, after in (("Checking Kinesis", "first"), ("first", "second")):
        thread = threading.Thread(target=watches.look, args=(APPLICATION, ACCESS))
        thread.start()
        assert asked.wait(30)
        assert before in watches.look(APPLICATION, ACCESS).text
        answer.set()
        thread.join()
        assert watches.look(APPLICATION, ACCESS).text == after
        clock[0] += 60
        asked.clear()
        answer.clear()


def test_a_look_that_failed_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    watches = Watches(clock=lambda: 0.0)
    monkeypatch.setattr(backlog_status, "_look", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watches.look(APPLICATION, ACCESS)
    monkeypatch.setattr(backlog_status, "_look", lambda *_: BacklogStatus(1, "no", "No new records."))
    assert watches.look(APPLICATION, ACCESS).came == "no"


def test_applications_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    watches = Watches(clock=lambda: 0.0)
    monkeypatch.setattr(backlog_status, "_MAX_WATCHED", 2)
    monkeypatch.setattr(
        backlog_status, "_look", lambda _, application, __: BacklogStatus(1, "no", application.name)
    )
    for name in "abcab":
        assert watches.look(Application(name, "s"), ACCESS).text == name


@pytest.mark.parametrize(
    ("found", "came", "text"),
    [
        (Backlog("there are new shards"), "yes", "There is something to drain: there are new shards."),
        (Backlog(None, leased=True), "drained", "A worker is reading the stream now."),
        (Backlog(None, unclear=True, partial=True), "unknown", "Kinesis hasn't answered yet"),
        (Backlog(None, partial=True), "no", "No new records in the 100 shards that were checked now."),
        (Backlog(None), "no", "No new records."),
    ],
)
def test_what_a_look_found_is_told(
    found: Backlog, came: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_status, "hooks_of", lambda *_, **__: (None, None))
    monkeypatch.setattr(backlog_status, "inspect_state", lambda *_, **__: None)
    monkeypatch.setattr(BacklogWatch, "look", lambda *_, **__: found)

    status = Watches(clock=lambda: 0.0).look(APPLICATION, ACCESS)

    assert status.came == came
    assert status.text.startswith(text)
