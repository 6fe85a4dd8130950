"""Torture fails when the package has a defect that it is there to find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.torture import mutants
from tests.torture.journal import Journal
from tests.torture.torture import Plan, Torture, report

if TYPE_CHECKING:
    from pathlib import Path

    from local.services import LocalServices
    from tests.torture.torture import Outcome

pytestmark = pytest.mark.torture


def test_without_the_compare_and_set_records_land_twice(services: LocalServices, tmp_path: Path) -> None:
    outcome = torture_with(mutants.without_compare_and_set.__name__, services, tmp_path)
    assert outcome.verdict.duplicates


def test_with_the_checkpoint_before_the_commit_records_are_lost(
    services: LocalServices, tmp_path: Path
) -> None:
    outcome = torture_with(mutants.checkpoint_before_commit.__name__, services, tmp_path)
    assert outcome.verdict.missing


def torture_with(mutant: str, services: LocalServices, folder: Path) -> Outcome:
    plan = Plan(
        seed=1, seconds=30, kills=10, pauses=8, longest_seconds=120, mutant=f"{mutants.__name__}:{mutant}"
    )
    outcome = Torture(plan, services, Journal(folder / "journal.jsonl")).run()
    print(report(plan, outcome))
    return outcome
