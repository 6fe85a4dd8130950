"""``python -m tests.simulation``: run histories for some seconds, some histories, or one of them again.

With ``--mutant``: run histories of the package without one of its safeguards until one notices.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from tests.simulation.history import History, Told
from tests.simulation.minimising import smallest
from tests.simulation.mutants import MUTANTS, SEEDS
from tests.simulation.variant import SWITCHES, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run histories; a promise that breaks ends it, with the smallest history that breaks one."""
    options = _options(arguments)
    if options.seed is not None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        variant = Variant(
            options.seed, frozenset(filter(None, options.without.split(","))), options.runs, options.shake
        )
        told = run(variant)
        if told is None:
            return 1
        print(figures(told.counts))
        return 0
    logging.disable()
    if options.mutant is not None:
        return without(options.mutant)
    told = Told(Counter(), Counter(), Counter())
    began, histories = time.monotonic(), 0
    while not over(options, histories, seconds := time.monotonic() - began):
        of_history = run(Variant(options.first + histories))
        if of_history is None:
            return 1
        told = told.and_of(of_history)
        histories += 1
    print(f"{histories:,} histories in {seconds:.0f} s, {histories / seconds * 60:,.0f} a minute")
    print(f"Faults: {figures(told.faults)}")
    print(f"Events: {figures(told.counts)}")
    print("Checks, each by the promise that it belongs to:")
    for promise, count in sorted(told.checks.items()):
        print(f"{count:>12,}  {promise}")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--histories", type=int, help="how many, however long they take")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--seed", type=int, help="run this history only, and log what its drains log")
    parser.add_argument("--mutant", choices=MUTANTS, help=f"take this away, and look at {SEEDS:,} histories")
    parser.add_argument("--without", default="", help=f"of it, leave out some of {', '.join(SWITCHES)}")
    parser.add_argument("--runs", type=int, help="let it have no more runs of the DAG than these")
    parser.add_argument("--shake", type=int, default=0, help="draw its order and its weather anew")
    return parser.parse_args(arguments)


def without(mutant: str) -> int:
    """Take a safeguard away, and print which history notices; the one that did before is tried first."""
    take_away, seed = MUTANTS[mutant]
    for each in chain((seed,), range(1, SEEDS + 1)):
        with pytest.MonkeyPatch.context() as patch:
            take_away(patch)
            broken = broken_by(Variant(each))
        if broken is not None:
            print(f"{mutant} falls at seed {each}: {broken}")
            break
    else:
        print(f"{mutant} survives {SEEDS:,} histories")
        return 1
    of_the_package = broken_by(Variant(each))
    if of_the_package is not None:
        print(f"and so does the package itself: {of_the_package}")
    return 1 if of_the_package else 0


def over(options: argparse.Namespace, histories: int, seconds: float) -> bool:
    """Whether enough histories were run."""
    if options.histories is not None:
        return histories >= int(options.histories)
    return seconds >= float(options.seconds)


def run(variant: Variant) -> Told | None:
    """Run one history; where it breaks a promise, say so, and what the smallest is that breaks one."""
    try:
        return History(variant).run()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    logging.disable()
    found = smallest(variant, lambda each: broken_by(each) is not None)
    left = [switch for switch in SWITCHES if found.has(switch)]
    print(f"Smallest variant found: {broken_by(found)}")
    print(f"It has {', '.join(left) or 'nothing'} besides drains, and runs: {found.runs or 'as drawn'}")
    print(f"Once more, with its log: python -m tests.simulation {found.arguments}")
    return None


def broken_by(variant: Variant) -> str | None:
    """What a history breaks, if anything."""
    try:
        History(variant).run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def figures(counts: Counter[str]) -> str:
    """Counts in words, the largest first."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # A seed gives the same history only where sets have the same order.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main())
