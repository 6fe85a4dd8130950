"""Promises hold in simulated histories, and histories tell the package from one without a safeguard."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.simulation import mutants
from tests.simulation.history import History
from tests.simulation.ledger import BrokenPromiseError
from tests.simulation.variant import Variant

if TYPE_CHECKING:
    from tests.simulation.mutants import Mutant

SEEDS = 10_000
OF_THE_MUTANT = re.compile("TypeError|AttributeError|NameError|UnboundLocalError")
# Those that fall within half a minute.
QUICK = (mutants.guard, mutants.compare_and_set, mutants.checkpoint_after_commit, mutants.parents_first)


@pytest.fixture(autouse=True)
def _without_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of histories have much to log."""
    caplog.set_level(logging.CRITICAL, "airflow_kinesis_snowflake")
    caplog.set_level(logging.CRITICAL, "tests.simulation")


def test_every_promise_holds_in_every_history() -> None:
    simulate("--histories", "1000")


def test_a_seed_gives_one_history() -> None:
    assert simulate("--seed", "7") == simulate("--seed", "7")


@pytest.mark.parametrize("mutant", QUICK)
def test_a_broken_promise_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(BrokenPromiseError) as broken:
        run_histories()
    assert not OF_THE_MUTANT.search(str(broken.value)), "it is the mutant itself that doesn't run"


@pytest.mark.torture
@pytest.mark.parametrize("mutant", mutants.MUTANTS)
def test_no_safeguard_can_be_missing(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises(BrokenPromiseError) as broken:
        run_histories()
    assert not OF_THE_MUTANT.search(str(broken.value)), "it is the mutant itself that doesn't run"


def run_histories() -> None:
    for seed in range(1, SEEDS + 1):
        History(Variant(seed)).run()


def simulate(*arguments: str) -> str:
    """Run histories in a process of their own, where sets have one order; what they had to tell."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()[-1]
