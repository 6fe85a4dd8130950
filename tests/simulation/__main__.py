"""``python -m tests.simulation``: run histories for some seconds, some histories, or one by its seed."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter

from tests.simulation.history import History
from tests.simulation.variant import Variant


def main() -> int:
    """Run histories; an error ends it, with the command that shows it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--histories", type=int, help="how many, however long they take")
    parser.add_argument("--first", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--seed", type=int, help="run this history only, and log what its drains log")
    options = parser.parse_args()
    if options.seed is not None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        print(told(History(Variant(options.seed)).run()))
        return 0
    logging.disable()
    counts: Counter[str] = Counter()
    began, histories = time.monotonic(), 0
    while not over(options, histories, seconds := time.monotonic() - began):
        counts += run(options.first + histories)
        histories += 1
    print(f"{histories:,} histories in {seconds:.0f} s, {histories / seconds * 60:,.0f} a minute")
    print(told(counts))
    return 0


def over(options: argparse.Namespace, histories: int, seconds: float) -> bool:
    """Whether enough histories were run."""
    if options.histories is not None:
        return histories >= int(options.histories)
    return seconds >= float(options.seconds)


def run(seed: int) -> Counter[str]:
    """Run one history."""
    try:
        return History(Variant(seed)).run()
    except Exception as error:
        error.add_note(f"Once more, with its log: python -m tests.simulation --seed {seed}")
        raise


def told(counts: Counter[str]) -> str:
    """Counts in words, the largest first."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # A seed gives the same history only where sets have the same order.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    sys.exit(main())
