"""The results of a run of checks, for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.check.checks import CheckResult, CheckVerdict
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL_HELD, SOME_FAILED, SOME_BROKEN = 0, 1, 3
"""Exit statuses. 2 is reserved for a command line that can't be parsed."""


@dataclass(frozen=True)
class CheckReport:
    """The results of a run of checks.

    :param results: in the order of the checks
    :param stand_ins: services that are local stand-ins
    :param removed: what earlier checks had left behind
    :param left: what this run has, or may have, left behind
    """

    results: Sequence[CheckResult]
    stand_ins: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """Exit status: what failed outranks what couldn't be run."""
        verdicts = {result.verdict for result in self.results}
        if CheckVerdict.FAILED in verdicts:
            return SOME_FAILED
        return SOME_BROKEN if CheckVerdict.BROKEN in verdicts or self.left else ALL_HELD

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks by verdict; verdicts without checks are left out."""
        counted = Counter(result.verdict for result in self.results)
        return {str(verdict): counted[verdict] for verdict in CheckVerdict if counted[verdict]}

    @property
    def summary(self) -> str:
        """One human-readable line: what failed, what couldn't be run, and the number of checks by verdict."""
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
        """In human-readable form, as Markdown."""
        return markdown(self.parts())

    def parts(self) -> list[Part]:
        """In human-readable form."""
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
            Table.of(("Verdict", "Check", "Promises", "Expectation", "Observed"), rows),
            *(_advice(result) for result in self.results if result.verdict in _NEEDS_ADVICE),
            *(
                f"This is a stand-in for {name}: what holds here shows that the check works, not that {name} "
                "keeps it."
                for name in self.stand_ins
            ),
            *(f"Removed what an earlier check had left behind: {name}." for name in self.removed),
            *(f"Left: {name}" for name in self.left),
            f"{self.summary}.",
        ]


_NAMED = frozenset({CheckVerdict.FAILED, CheckVerdict.BROKEN})
# The error that prevented a check already says what to do.
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
