"""How far shards are committed, according to a sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.exceptions import CorruptStateError
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.positions import Position


@dataclass(frozen=True)
class OffsetKey:
    """Names one row of the offsets table within an application and stream."""

    shard_id: str
    incarnation: str

    @classmethod
    def of(cls, row: ShardState) -> OffsetKey:
        """The key of a state row."""
        return cls(row.shard_id, row.incarnation or "")


@dataclass(frozen=True)
class Offset:
    """How far one shard is loaded.

    :param position: of the last loaded record; ``None`` before the first
    :param batch_id: of the micro-batch that loaded it, and perhaps which attempt at it
    """

    shard_id: str
    incarnation: str
    position: Position | None
    batch_id: str | None


@dataclass(frozen=True)
class Offsets:
    """What the offsets table holds for some keys, validated one by one.

    :param found: the rows; a key without a row is in neither mapping
    :param refused: keys under which nothing can be loaded, and why
    :param dead_letters: how far dead letters are committed, of a sink that commits them before their rows
    """

    found: Mapping[OffsetKey, Offset]
    refused: Mapping[OffsetKey, CorruptStateError]
    dead_letters: Mapping[OffsetKey, Position] = field(default_factory=dict)


@dataclass(frozen=True)
class OffsetMove:
    """What one micro-batch does to the offset of one shard.

    :param expected: the offset before the batch; ``None`` before the first record
    :param through: position of the last record of the batch
    :param records: number of its records, dead letters included
    """

    shard_id: str
    incarnation: str
    expected: Position | None
    through: Position
    records: int
