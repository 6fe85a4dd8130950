"""Retries after transient errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from airflow_kinesis_snowflake.exceptions import (
    DrainStoppedError,
    LeaseLostError,
    TableChangedError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.engine.runtime import Event, Runtime

log = logging.getLogger(__name__)
T = TypeVar("T")

TRIES = 5
MAX_WAIT_SECONDS = 30.0


def nothing() -> None:
    """Nothing is to be done."""


class Retries:
    """Repeats calls after transient errors, with full jitter.

    A lost lease and a changed table aren't retried: they go to the caller at once.

    :param runtime: its randomness
    :param stopping: ends the waits
    """

    def __init__(self, runtime: Runtime, stopping: Event) -> None:
        self._runtime = runtime
        self._stopping = stopping

    def call(self, call: Callable[[], T], *, doing: str, after_failure: Callable[[], None] = nothing) -> T:
        """Call up to five times.

        :param doing: what is being done, for the log
        :param after_failure: called after each error (default: nothing)
        :raises TransientError: the last try failed
        :raises DrainStoppedError: the drain must stop
        """
        for attempt in range(1, TRIES + 1):
            try:
                return call()
            except (LeaseLostError, TableChangedError):
                raise
            except TransientError as error:
                after_failure()
                if attempt == TRIES:
                    raise
                wait = self._runtime.random.uniform(0, min(MAX_WAIT_SECONDS, 2.0**attempt))
                log.warning(
                    "Try %d of %d at %s failed, next in %.1f s: %s", attempt, TRIES, doing, wait, error
                )
                if self._stopping.wait(wait):
                    raise DrainStoppedError(f"Stopped while {doing}") from error
        raise AssertionError("unreachable")
