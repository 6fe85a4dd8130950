"""Torture fails when the package has a defect that it is there to find."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from tests.torture import crew, mutants, weather
from tests.torture.journal import Journal
from tests.torture.torture import Plan, Torture, report

if TYPE_CHECKING:
    from pathlib import Path

    from local.services import LocalServices
    from tests.torture.torture import Outcome

pytestmark = pytest.mark.torture


def test_without_the_compare_and_set_records_land_twice(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the compare-and-set is for: workers that wake up before they lock the offsets.
    monkeypatch.setitem(crew.STEPS, COPY, ("upload", "copy"))
    monkeypatch.setattr(crew, "SIGNALS", (signal.SIGSTOP,))
    outcome = torture_with(mutants.without_compare_and_set.__name__, services, tmp_path, pauses=10)
    assert outcome.verdict.duplicates


def test_with_the_checkpoint_before_the_commit_records_are_lost(
    services: LocalServices, tmp_path: Path
) -> None:
    outcome = torture_with(mutants.checkpoint_before_commit.__name__, services, tmp_path, kills=10)
    assert outcome.verdict.missing


def test_without_the_guard_records_of_an_ended_transaction_are_lost(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the guard is for: of all that may happen, the end of a transaction between its COPY and its UPDATE.
    (ended,) = (fault for fault in weather.FAULTS[COPY] if fault.name == "ends transactions before UPDATE")
    monkeypatch.setitem(weather.FAULTS, COPY, (ended,))
    outcome = torture_with(mutants.without_guard.__name__, services, tmp_path)
    assert outcome.verdict.missing


def test_without_the_tokens_of_channels_records_are_streamed_twice(
    services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What tokens are for: rows are committed, and nobody could say so any more.
    monkeypatch.setitem(crew.STEPS, STREAMING, ("checkpoint",))
    monkeypatch.setattr(crew, "SIGNALS", (signal.SIGKILL,))
    outcome = torture_with(mutants.without_tokens.__name__, services, tmp_path, kills=10, sink=STREAMING)
    assert outcome.verdict.duplicates


def torture_with(mutant: str, services: LocalServices, folder: Path, **how: Any) -> Outcome:
    plan = Plan(
        seed=1,
        seconds=30,
        longest_seconds=240,
        mutant=f"{mutants.__name__}:{mutant}",
        **how,
    )
    outcome = Torture(plan, services, Journal(folder / "journal.jsonl")).run()
    print(report(plan, outcome))
    return outcome
