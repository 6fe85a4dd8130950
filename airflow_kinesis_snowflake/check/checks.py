"""What a check is, and what comes of one."""

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
    """It is so."""

    FAILED = "failed"
    """It isn't so, and a promise stands on it."""

    NOTED = "noted"
    """It isn't so, but no promise stands on it."""

    NOT_SHOWN = "not shown"
    """This service, or what it holds now, can't show it."""

    SKIPPED = "skipped"
    """It wasn't asked for, or what it needs wasn't named."""

    BROKEN = "broken"
    """It couldn't be tried: an outage, a refusal, or a fault of the check."""


class Needs(StrEnum):
    """What must be named for a check, besides connections."""

    DATABASE = "a database, or a landing table"
    TABLE = "a landing table"
    STREAM = "a stream"
    APPLICATION = "an application"
    SCRATCH_TABLE = "a stream or an application, and leave to make a scratch table in DynamoDB"

    @property
    def snowflake(self) -> bool:
        """Whether it is about Snowflake, not AWS."""
        return self in {Needs.DATABASE, Needs.TABLE}


@dataclass(frozen=True)
class Observation:
    """What a check found.

    :param text: what came, for a person; never payloads or secrets
    """

    verdict: CheckVerdict
    text: str


def held(text: str) -> Observation:
    """It is so."""
    return Observation(CheckVerdict.HELD, text)


def failed(text: str) -> Observation:
    """It isn't so."""
    return Observation(CheckVerdict.FAILED, text)


def not_shown(text: str) -> Observation:
    """It can't be shown here."""
    return Observation(CheckVerdict.NOT_SHOWN, text)


def found(as_expected: bool, text: str) -> Observation:
    """It is so, or it isn't."""
    return held(text) if as_expected else failed(text)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is tried.

    :param name: for ``--only``, JSON and the documentation
    :param tries: what is tried, and what must come
    :param promises: numbers of the promises that stand on it; none: it is good to know, and
        :attr:`CheckVerdict.FAILED` becomes :attr:`CheckVerdict.NOTED`
    :param advice: what to do if it fails
    :param needs: what must be named
    :param run: tries it. What it raises is its result
    :param slow: takes minutes, and is tried when asked for
    :param beyond_stand_ins: why a local stand-in can't show it; empty: it can be tried there
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
    """A check and what came of it.

    :param seconds: how long it took
    """

    check: Check
    verdict: CheckVerdict
    text: str
    seconds: float = 0.0
