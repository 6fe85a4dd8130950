"""What an audit has counted: the evidence. ``findings.py`` interprets it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.state.shards import StreamState
    from airflow_kinesis_snowflake.stream.positions import Position


@dataclass(frozen=True, kw_only=True)
class Incarnation:
    """A row of the offsets table.

    :param position: of the last record that was committed; None: nothing was
    :param records: that were committed, rows and dead letters together
    :param closed: a reset ended it
    """

    application: str
    incarnation: str
    position: Position | None
    records: int
    closed: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardCounts:
    """What the tables hold of a shard.

    :param records: different records; each is known by its sequence number and sub-sequence number
    :param landed: rows of the landing table
    :param dead_letters: records that are dead letters
    :param gaps: dead letters that stand for records that aged out before they were read
    :param repeated: records that are present more than once
    :param doubled: those present more often than incarnations can have loaded them
    :param in_both: those of ``doubled`` that both landed and are dead letters
    :param beyond: records after every committed position of the shard
    :param missing_inside: user records missing inside aggregates of which a later user record is present
    :param first: code of the first record that is present; the others are examples of what their names say
    """

    shard_id: str
    incarnations: tuple[Incarnation, ...] = ()
    records: int = 0
    landed: int = 0
    dead_letters: int = 0
    gaps: int = 0
    repeated: int = 0
    doubled: int = 0
    in_both: int = 0
    beyond: int = 0
    missing_inside: int = 0
    first: str | None = None
    doubled_example: str | None = None
    beyond_example: str | None = None
    missing_example: str | None = None

    @property
    def committed(self) -> int:
        """What the offsets say was committed: rows, dead letters and gaps."""
        return sum(each.records for each in self.incarnations)

    @property
    def there(self) -> int:
        """Rows, dead letters and gaps that are present."""
        return self.landed + self.dead_letters + self.gaps

    def with_incarnation(self, incarnation: Incarnation | None) -> ShardCounts:
        """The same with one more incarnation, if there is one."""
        if incarnation is None:
            return self
        return replace(self, incarnations=(*self.incarnations, incarnation))


@dataclass(frozen=True, kw_only=True)
class StreamComparison:
    """The result of comparing a shard with the stream, within what the stream still retains.

    :param compared: records of the stream that should be there
    :param missing: those of them that aren't
    :param foreign: records that are present but not in the stream
    :param missing_examples: codes of the first of them
    :param foreign_examples: codes of the first of them
    """

    shard_id: str
    compared: int = 0
    missing: int = 0
    foreign: int = 0
    missing_examples: tuple[str, ...] = ()
    foreign_examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything an audit looked at.

    :param table: landing table, for messages
    :param audited: the applications whose loads the table holds
    :param others: other applications that load the stream with the same offsets table, into any table
    :param shards: what the tables hold, as counted by one statement
    :param state_before: state rows, by application, as they were before that statement
    :param state_after: as they were after it
    :param compared: with the stream; None: it wasn't
    :param compare_counts: whether the tables should hold as many records as were committed
    :param several_documents: whether a record may be several rows
    """

    stream: str
    table: str
    audited: tuple[str, ...]
    others: tuple[str, ...] = ()
    shards: tuple[ShardCounts, ...] = ()
    state_before: Mapping[str, StreamState] = field(default_factory=dict)
    state_after: Mapping[str, StreamState] = field(default_factory=dict)
    compared: tuple[StreamComparison, ...] | None = None
    compare_counts: bool = True
    several_documents: bool = False
