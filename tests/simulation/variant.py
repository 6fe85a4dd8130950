"""Which history it is: a seed, and what is left out of what it draws."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

WEATHER = (
    "death",
    "sleep",
    "nap",
    "refused",
    "repeated",
    "lost",
    "twice",
    "ended",
    "gone",
    "stale",
    "slow",
    "jump",
    "doze",
)
ACTORS = (
    "reshards",
    "aggregates",
    "fan-out",
    "second-sink",
    "side-by-side",
    "retries",
    "stops",
    "clocks",
    "resets",
    "replays",
    "recreations",
    "ageing",
)
AGEING = 0.08
"""The share of histories in which records age out; nobody resets, replays or makes a stream anew in these."""

NOT_WHILE_AGEING = frozenset({"resets", "replays", "recreations"})
SWITCHES = (*ACTORS, *WEATHER)


@dataclass(frozen=True)
class Variant:
    """A history, told by as little as replays it.

    Each concern draws from chance of its own, so leaving something out changes nothing of what others draw;
    only the order of things changes with it.

    :param seed: of everything that is drawn
    :param without: switches that are off: some weather, some actor
    :param runs: at most so many runs; ``None``: as many as are drawn
    :param shake: draws the order of things and the strikes of the weather anew
    """

    seed: int
    without: frozenset[str] = frozenset()
    runs: int | None = None
    shake: int = 0

    def has(self, switch: str) -> bool:
        """Whether something takes part."""
        assert switch in SWITCHES
        return switch not in self.without and not (switch in NOT_WHILE_AGEING and self.ages)

    @property
    def ages(self) -> bool:
        """Whether records age out."""
        return "ageing" not in self.without and self.chance("ageing").random() < AGEING

    def chance(self, concern: str) -> Random:
        """The chance that a concern draws from."""
        return Random(f"{self.seed} {concern}")

    def shaken(self, concern: str) -> Random:
        """The same, of a concern that a shake draws anew."""
        return self.chance(f"{concern} {self.shake}")

    @property
    def arguments(self) -> str:
        """What replays it, for ``python -m tests.simulation``."""
        given = {
            "--without": ",".join(sorted(self.without)),
            "--runs": "" if self.runs is None else str(self.runs),
            "--shake": str(self.shake or ""),
        }
        return " ".join([f"--seed {self.seed}", *(f"{name} {text}" for name, text in given.items() if text)])
