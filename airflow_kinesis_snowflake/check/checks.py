"""What a check is, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.check.bench import Bench


class CheckVerdict(StrEnum):
    """How a check came out."""

    HELD = "held"
    """It holds."""

    FAILED = "failed"
    """It doesn't hold, and a promise rests on it."""

    NOTED = "noted"
    """It doesn't hold, but no promise rests on it."""

    NOT_SHOWN = "not shown"
    """It can't be shown with this service, or with what it holds now."""

    SKIPPED = "skipped"
    """It wasn't requested, or what it needs wasn't given."""

    BROKEN = "broken"
    """It couldn't be run: an outage, a refusal, or a bug in the check."""


class Needs(StrEnum):
    """What a check needs to be given besides connections."""

    DATABASE = "a database, or a landing table"
    TABLE = "a landing table"
    STREAM = "a stream"
    APPLICATION = "an application"
    SCRATCH_TABLE = "a stream or an application, and permission to create a scratch table in DynamoDB"

    @property
    def snowflake(self) -> bool:
        """Whether it is about Snowflake, not AWS."""
        return self in {Needs.DATABASE, Needs.TABLE}


@dataclass(frozen=True)
class Observation:
    """What a check observed.

    :param text: what was observed, in human-readable form; never payloads or secrets
    """

    verdict: CheckVerdict
    text: str


def held(text: str) -> Observation:
    """It holds."""
    return Observation(CheckVerdict.HELD, text)


def failed(text: str) -> Observation:
    """It doesn't hold."""
    return Observation(CheckVerdict.FAILED, text)


def not_shown(text: str) -> Observation:
    """It can't be shown here."""
    return Observation(CheckVerdict.NOT_SHOWN, text)


def found(as_expected: bool, text: str) -> Observation:
    """It holds, or it doesn't."""
    return held(text) if as_expected else failed(text)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One assumption to test.

    :param name: for ``--only``, JSON and the documentation
    :param tries: what is tried, and the expected outcome
    :param promises: numbers of the promises that rest on it; none: it is good to know, and
        :attr:`CheckVerdict.FAILED` becomes :attr:`CheckVerdict.NOTED`
    :param advice: what to do if it fails
    :param needs: what it must be given
    :param run: runs it; an exception is its result
    :param slow: takes minutes, so it runs only on request
    :param beyond_stand_ins: why a local stand-in can't show it; empty: it can be run there
    """

    name: str
    tries: str
    promises: tuple[int, ...]
    advice: str
    needs: Needs
    run: Callable[[Bench], Observation]
    slow: bool = False
    beyond_stand_ins: str = ""


@dataclass(frozen=True)
class CheckResult:
    """A check and its result.

    :param seconds: how long it took
    """

    check: Check
    verdict: CheckVerdict
    text: str
    seconds: float = 0.0
