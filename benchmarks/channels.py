"""Stands in for what the streaming sink talks to, so that what comes before Snowflake's SDK is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec

from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.engine.ports import SinkContext
from airflow_kinesis_snowflake.engine.retries import Retries
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink
from benchmarks.backlog import STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.engine.runtime import Event


@dataclass(frozen=True)
class State:
    """What the service says of a channel."""

    committed: str | None = None
    rejected: int = 0
    rejected_through: str | None = None
    why: str | None = None


class Channel:
    """A channel whose rows are taken, and committed at once.

    :param take: gets rows as ``append_rows`` of the SDK does
    """

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take
        self.opened = State()

    def append(self, rows: Sequence[bytes], start_token: str, end_token: str) -> None:
        self._take([msgspec.Raw(row) for row in rows])

    def flush(self) -> None:
        pass

    def wait(self, token: str, *, timeout: float, stopping: Event) -> State:
        return State(committed=token)

    def close(self) -> None:
        pass


class Owner:
    """Opens such channels."""

    hexadecimal = False

    def __init__(self, take: Callable[[list[Any]], None]) -> None:
        self._take = take

    def open(self, name: str) -> Channel:
        return Channel(self._take)

    def close(self) -> None:
        pass


class Session:
    """A session in which all tables are there."""

    fresh = False

    def ensure_objects(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Claims:
    """Leases that are never lost."""

    def holds(self, shard_id: str) -> bool:
        return True

    def confirm(self, shard_id: str) -> bool:
        return True


def streaming_sink(take: Callable[[list[Any]], None]) -> StreamingSink:
    """The real sink before such channels.

    :param take: gets rows as ``append_rows`` of the SDK does
    """
    stopping = MACHINE.event()
    context = SinkContext(
        stream_name=STREAM,
        application_name="benchmark",
        claims=Claims(),
        read_again=None,  # type: ignore[arg-type]
        max_dead_letters=DeadLetterLimit(),
        writers=DaemonThreads(1, name="writer"),
        retries=Retries(MACHINE, stopping),
        stopping=stopping,
    )
    landing = Landing(table=TableName("BENCHMARK", "PUBLIC", "RECORDS"))
    return StreamingSink(landing, Session, lambda _: Owner(take), context)  # type: ignore[arg-type]
