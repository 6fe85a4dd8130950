"""Promises hold in simulated histories, and histories tell the package from one without a safeguard."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.simulation.mutants import MUTANTS

OF_THE_MUTANT = re.compile("TypeError|AttributeError|NameError|UnboundLocalError")
IN_EVERY_RUN = ("guard", "compare_and_set", "checkpoint_after_commit", "parents_first")


def test_every_promise_holds_in_every_history() -> None:
    simulate("--histories", "600")


def test_a_seed_gives_one_history() -> None:
    assert simulate("--seed", "7") == simulate("--seed", "7")


@pytest.mark.parametrize("mutant", IN_EVERY_RUN)
def test_a_broken_promise_is_noticed(mutant: str) -> None:
    check_that_it_falls(mutant)


@pytest.mark.torture
@pytest.mark.parametrize("mutant", MUTANTS)
def test_no_safeguard_can_be_missing(mutant: str) -> None:
    check_that_it_falls(mutant)


def check_that_it_falls(mutant: str) -> None:
    fell = simulate("--mutant", mutant)
    assert not OF_THE_MUTANT.search(fell), "it is the mutant itself that doesn't run"


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
