"""What the tables of other consumers have in common, and how their items are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.state.items import text_of
from airflow_kinesis_snowflake.stream.positions import Position, StartAt

Item = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ImportedShard:
    """Where one shard goes on.

    :param start_at: while there is no checkpoint, as ``StartAt`` writes it
    :param note: what a person should know about it
    """

    shard_id: str
    checkpoint: Position | None = None
    start_at: str = "TRIM_HORIZON"
    ended: bool = False
    parents: tuple[str, ...] = ()
    note: str = ""


class ItemSkippedError(Exception):
    """An item isn't a checkpoint of the stream; the message says what it is."""


@dataclass(frozen=True)
class Circumstances:
    """What the meaning of an item depends on.

    :param stream_created: in seconds, as the Kinesis Client Library names streams
    :param stream_arn: None: items of streams of the same name in other accounts aren't told apart
    :param now: where a shard goes on that stands at ``LATEST`` and has read nothing
    :param timestamp: for ``AT_TIMESTAMP``, whose moment the Kinesis Client Library doesn't store
    """

    stream: str
    stream_created: int
    stream_arn: str | None
    now: StartAt
    timestamp: StartAt | None


class CheckpointSource(Protocol):
    """A consumer whose checkpoints can be imported. Its table is only ever read.

    :cvar name: of the consumer, for people
    :cvar keys: the key of its table, by which it is recognized
    """

    name: ClassVar[str]
    keys: ClassVar[Mapping[str, str]]

    def read(self, item: Item, circumstances: Circumstances) -> ImportedShard:
        """Where the shard of an item goes on.

        :raises ItemSkippedError: the item isn't a checkpoint of the stream
        :raises InvalidSettingError: the item can't be what the consumer writes, or a timestamp is missing
        """
        ...

    def sign_of_life(self, item: Item) -> tuple[str, str] | None:
        """A lease, and what a live worker keeps changing in it; None: the item shows neither, or says itself
        until when its lease is valid.
        """
        ...


def held(item: Item, name: str, kind: str) -> Any:
    """What an attribute holds; None: there is none.

    :raises InvalidSettingError: it is of another kind; taken for missing, it would mean another position
    """
    value = item.get(name)
    if value is None:
        return None
    if kind not in value:
        raise InvalidSettingError(
            f"correct the source: attribute {name} of an item holds {value!s:.80}, which no consumer writes"
        )
    return value[kind]


def key_text(item: Item, name: str) -> str:
    """A part of the key, as text whatever it is, so that items of others are told apart from those meant."""
    return text_of(item, name) or f"{item.get(name)!s:.80}"


def start_of(text: str, where: str) -> str:
    try:
        return str(StartAt.parse(text))
    except ValueError as error:
        raise InvalidSettingError(
            f"correct the source: the start of {where} can't be read: {error}"
        ) from error


def position_of(number: str, sub: str | None, where: str) -> Position:
    try:
        return Position(number, None if sub is None else int(sub))
    except ValueError as error:
        raise InvalidSettingError(
            f"correct the source: the position of {where} can't be read: {error}"
        ) from error
