"""What a run of checks found, for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.check.checks import CheckResult, CheckVerdict
from airflow_kinesis_snowflake.maintenance.text import Part, Table, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_HELD, SOME_FAILED, SOME_BROKEN = 0, 1, 3
"""Exit statuses. 2 is that of a command line that can't be read."""


@dataclass(frozen=True)
class CheckReport:
    """What a run of checks found.

    :param results: in the order of the checks
    :param stand_ins: services that are local stand-ins
    :param removed: what earlier checks had left
    :param left: what this run has left, or may have
    """

    results: Sequence[CheckResult]
    stand_ins: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Exit status: what failed counts more than what couldn't be tried."""
        verdicts = {result.verdict for result in self.results}
        if CheckVerdict.FAILED in verdicts:
            return SOME_FAILED
        return SOME_BROKEN if CheckVerdict.BROKEN in verdicts or self.left else ALL_HELD

    @property
    def counts(self) -> dict[str, int]:
        """How many checks came out how; verdicts that none has are left out."""
        counted = Counter(result.verdict for result in self.results)
        return {str(verdict): counted[verdict] for verdict in CheckVerdict if counted[verdict]}

    @property
    def summary(self) -> str:
        """One line for people: what failed, what couldn't be tried, and how many came out how."""
        named = [result.check.name for result in self.results if result.verdict in _NAMED]
        counted = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        return f"{', '.join(named)} ({counted})" if named else counted

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "status": self.status,
            "counts": self.counts,
            "stand_ins": list(self.stand_ins),
            "checks": [_as_dict(result) for result in self.results],
            "removed": list(self.removed),
            "left": list(self.left),
        }

    def text(self) -> str:
        """For people, as Markdown."""
        return markdown(self.parts())

    def parts(self) -> list[Part]:
        """For people."""
        rows = [
            (
                result.verdict,
                result.check.name,
                ", ".join(map(str, result.check.promises)) or "none",
                result.check.tries,
                result.text,
            )
            for result in self.results
        ]
        return [
            Table.of(("Verdict", "Check", "Promises", "What must be so", "What came"), rows),
            *(_advice(result) for result in self.results if result.verdict in _NEEDS_ADVICE),
            *(
                f"This is a stand-in for {name}: what holds here says that the check works, not that {name} "
                "keeps it."
                for name in self.stand_ins
            ),
            *(f"Removed what an earlier check had left: {name}." for name in self.removed),
            *(f"Left: {name}" for name in self.left),
            f"{self.summary}.",
        ]


_NAMED = frozenset({CheckVerdict.FAILED, CheckVerdict.BROKEN})
# What prevented a check says itself what to do.
_NEEDS_ADVICE = frozenset({CheckVerdict.FAILED, CheckVerdict.NOTED})


def _as_dict(result: CheckResult) -> dict[str, Any]:
    return {
        "name": result.check.name,
        "verdict": str(result.verdict),
        "tries": result.check.tries,
        "found": result.text,
        "promises": list(result.check.promises),
        "advice": result.check.advice,
        "seconds": round(result.seconds, 1),
    }


def _advice(result: CheckResult) -> str:
    return f"{result.check.name} ({result.verdict}): {result.check.advice}"
