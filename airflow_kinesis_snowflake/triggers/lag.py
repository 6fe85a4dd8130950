"""Waits until an application has drained its stream up to a moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_kinesis_snowflake.engine.lag import read_drained_until
from airflow_kinesis_snowflake.exceptions import TerminalError, TransientError
from airflow_kinesis_snowflake.operators.settings import MOMENT, number, optional
from airflow_kinesis_snowflake.stream.times import in_utc
from airflow_kinesis_snowflake.triggers.base import DrainedStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class KinesisDrainedTrigger(BaseTrigger):
    """Fires once, when everything that arrived before a moment is loaded.

    The event is ``{"drained_until": <ISO-8601>}``, or ``{"error": <message>}`` for an error that waiting
    doesn't fix. Other errors are logged, and the check is repeated.

    :param until: the moment, ISO-8601 with a time zone; ``None``: ``max_lag_seconds`` before each look
    :param max_lag_seconds: for a moving moment
    :param poll_seconds: time between two checks
    :param source: as :class:`~airflow_kinesis_snowflake.triggers.base.DrainedStream` takes it
    :raises InvalidSettingError: a value is invalid
    """

    def __init__(
        self,
        *,
        until: str | None = None,
        max_lag_seconds: float = 0.0,
        poll_seconds: float = 30.0,
        **source: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self._moment = optional(MOMENT).read("until", until)
        self.max_lag_seconds = number(minimum=0).read("max_lag_seconds", max_lag_seconds)
        self.poll_seconds = number(minimum=0).read("poll_seconds", poll_seconds)
        self.source = DrainedStream(**source)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The path of the class, and its parameters."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            **self.source.settings,
            "until": self.until,
            "max_lag_seconds": self.max_lag_seconds,
            "poll_seconds": self.poll_seconds,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check until the condition holds."""
        try:
            kinesis, store = await self.source.aopen()
            while True:
                try:
                    drained = await asyncio.to_thread(read_drained_until, kinesis, store)
                except TransientError as error:
                    self.log.warning("Can't determine how far %s is, trying again: %s", self.source, error)
                else:
                    self.log.info("%s", describe(self.source, drained))
                    if drained is not None and drained >= self.wanted():
                        yield TriggerEvent({"drained_until": drained.isoformat()})  # type: ignore[no-untyped-call]
                        return
                await asyncio.sleep(self.poll_seconds)
        except TerminalError as error:
            yield TriggerEvent({"error": f"{type(error).__name__}: {error}"})  # type: ignore[no-untyped-call]

    def wanted(self) -> datetime:
        """The moment up to which everything must be loaded."""
        if self._moment is not None:
            return self._moment
        return datetime.now(UTC) - timedelta(seconds=self.max_lag_seconds)


def describe(source: DrainedStream, drained: datetime | None) -> str:
    """How far an application is, for the log."""
    if drained is None:
        return f"The {source} hasn't started every shard"
    return f"The {source} has drained what arrived before {in_utc(drained)}"
