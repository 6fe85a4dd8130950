"""What a check is, and what comes of one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.check.bench import Bench


class Verdict(StrEnum):
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
class Finding:
    """What a check found.

    :param text: what came, for a person; never payloads or secrets
    """

    verdict: Verdict
    text: str


def held(text: str) -> Finding:
    """It is so."""
    return Finding(Verdict.HELD, text)


def failed(text: str) -> Finding:
    """It isn't so."""
    return Finding(Verdict.FAILED, text)


def not_shown(text: str) -> Finding:
    """It can't be shown here."""
    return Finding(Verdict.NOT_SHOWN, text)


def found(as_expected: bool, text: str) -> Finding:
    """It is so, or it isn't."""
    return held(text) if as_expected else failed(text)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is tried.

    :param name: for ``--only``, JSON and the documentation
    :param tries: what is tried, and what must come
    :param promises: numbers of the promises that stand on it; none: it is good to know, and
        :attr:`Verdict.FAILED` becomes :attr:`Verdict.NOTED`
    :param advice: what to do if it fails
    :param needs: what must be named
    :param run: tries it. What it raises is its outcome
    :param slow: takes minutes, and is tried when asked for
    :param beyond_stand_ins: why a local stand-in can't show it; empty: it can be tried there
    """

    name: str
    tries: str
    promises: tuple[int, ...]
    advice: str
    needs: Needs
    run: Callable[[Bench], Finding]
    slow: bool = False
    beyond_stand_ins: str = ""


@dataclass(frozen=True)
class Outcome:
    """A check and what came of it.

    :param seconds: how long it took
    """

    check: Check
    verdict: Verdict
    text: str
    seconds: float = 0.0
