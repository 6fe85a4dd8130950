"""Comparing what is loaded with what the stream still has.

Both are sorted shard by shard, and merged as they arrive. Neither is held, so memory doesn't grow with the
number of records.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.audit.counts import StreamComparison
from airflow_kinesis_snowflake.exceptions import IteratorExpiredError, TransientError
from airflow_kinesis_snowflake.stream.aggregation import deaggregate
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt, encode_position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from airflow_kinesis_snowflake.audit.counts import ShardCounts
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.records import Page, Record

EXAMPLES = 10
# Five reads per second and shard (AWS: quotas of Kinesis Data Streams), of which the drain needs its share.
_PAUSE_SECONDS = 0.4
_MAX_FAILURES = 10


@dataclass(frozen=True)
class RetainedRecord:
    """A record of the stream.

    :param code: see ``audit_statements.py``
    :param arrival: milliseconds since the epoch
    """

    code: str
    arrival: int


@dataclass(frozen=True, kw_only=True)
class DueRecords:
    """Which records of a shard should be there.

    :param through: encoded position up to which they were committed
    :param start: where the application started; None: unknown, so only what is after ``first`` counts
    :param first: code of the first record that is present
    :param replaced_through: encoded position through which earlier incarnations have loaded, from ``first``
        on
    """

    through: str
    start: StartAt | None
    first: str | None
    replaced_through: str = ""

    def includes(self, record: RetainedRecord) -> bool:
        """Whether a record should be there."""
        if record.code > self.through:
            return False
        if self.start is not None and (
            self.start.timestamp is None or record.arrival >= self.start.timestamp.timestamp() * 1000
        ):
            return True
        through = self.through if self.start is None else self.replaced_through
        return self.first is not None and self.first <= record.code <= through


def due(shard: ShardCounts, states: Iterable[ShardState]) -> DueRecords:
    """Which records should be present, according to the offsets and state rows of a shard."""
    rows = list(states)
    current = {row.incarnation for row in rows}
    offsets = [encode_position(each.position) for each in shard.incarnations]
    replaced = [
        encode_position(each.position) for each in shard.incarnations if each.incarnation not in current
    ]
    starts = [row.start_at for row in rows if row.start_at is not None]
    earliest = min(starts, key=_moment, default=None)
    checkpoints = [encode_position(row.checkpoint) for row in rows]
    return DueRecords(
        through=max([*offsets, *checkpoints], default=""),
        start=earliest,
        first=shard.first,
        replaced_through=max(replaced, default=""),
    )


def compare(
    shard_id: str, stream: Iterable[RetainedRecord], there: Iterable[str], due: DueRecords
) -> StreamComparison:
    """Merge the records of the stream with those that are present.

    What is present before the first record of the stream or after the last one isn't judged: it has aged out,
    or wasn't read.

    :param stream: in order
    :param there: codes in order, each once
    """
    codes = iter(there)
    code = next(codes, None)
    compared = missing = foreign = 0
    missing_examples: list[str] = []
    foreign_examples: list[str] = []
    begun = False
    for record in stream:
        while code is not None and code < record.code:
            if begun:
                foreign += 1
                foreign_examples += [code] * (len(foreign_examples) < EXAMPLES)
            code = next(codes, None)
        begun = True
        found = code == record.code
        code = next(codes, None) if found else code
        if found or due.includes(record):
            compared += 1
            missing += not found
            missing_examples += [record.code] * (not found and len(missing_examples) < EXAMPLES)
    return StreamComparison(
        shard_id=shard_id,
        compared=compared,
        missing=missing,
        foreign=foreign,
        missing_examples=tuple(missing_examples),
        foreign_examples=tuple(foreign_examples),
    )


def compare_shards(
    kinesis: KinesisStreamHook,
    *,
    there: Iterable[tuple[str, str]],
    dues: Mapping[str, DueRecords],
    since: int,
    pause: Callable[[float], object] = time.sleep,
) -> tuple[StreamComparison, ...]:
    """Read the shards that Kinesis lists, one after another, and compare each.

    :param there: shard id and code of what is present and arrived since then, in order of both
    :param dues: by shard id; for a shard that isn't here, nothing is due
    :param since: milliseconds since the epoch; what arrived earlier isn't compared
    :param pause: waits for a number of seconds
    """
    wanted = sorted(shard.shard_id for shard in kinesis.list_shards() if shard.shard_id in dues)
    groups = groupby(there, key=itemgetter(0))
    shard_id, codes = next(groups, (None, iter(())))
    answers = []
    for wanted_id in wanted:
        while shard_id is not None and shard_id < wanted_id:
            shard_id, codes = next(groups, (None, iter(())))
        of_shard = (code for _, code in codes) if shard_id == wanted_id else ()
        through = dues[wanted_id].through
        records = read_shard(kinesis, wanted_id, through=through, pause=pause)
        recent = (record for record in records if record.arrival >= since)
        answers.append(compare(wanted_id, recent, of_shard, dues[wanted_id]))
    return tuple(answers)


def read_shard(
    kinesis: KinesisStreamHook, shard_id: str, *, through: str, pause: Callable[[float], object]
) -> Iterator[RetainedRecord]:
    """The records that a shard retains, through a position.

    :param through: encoded
    :raises TransientError: Kinesis doesn't answer, after ten tries in a row
    """
    position: Position | StartAt = TRIM_HORIZON
    iterator: str | None = None
    while True:
        iterator, page = _page(kinesis, shard_id, position, iterator, pause=pause)
        apart = deaggregate(page.records)
        taken = page.records[: apart.taken]
        for record in _in_order(apart.users, [item.record for item in apart.damaged]):
            retained = _retained(record)
            if retained.code > through:
                return
            yield retained
        if taken:
            position = Position(taken[-1].sequence_number)
        if apart.taken < len(page.records):
            iterator = None
        elif iterator is None or (not page.records and page.millis_behind == 0):
            return
        pause(_PAUSE_SECONDS)


def _page(
    kinesis: KinesisStreamHook,
    shard_id: str,
    position: Position | StartAt,
    iterator: str | None,
    *,
    pause: Callable[[float], object],
) -> tuple[str | None, Page]:
    """The next page and the iterator after it; retries what a retry may fix."""
    failures = 0
    while True:
        try:
            iterator = iterator or kinesis.get_iterator(shard_id, position)
            page = kinesis.get_page(iterator)
        except TransientError as error:
            failures += 1
            if failures >= _MAX_FAILURES:
                raise
            iterator = None if isinstance(error, IteratorExpiredError) else iterator
            pause(failures)
        else:
            return page.next_iterator, page


def _in_order(users: Sequence[Record], damaged: Sequence[Record]) -> Sequence[Record]:
    return sorted([*users, *damaged], key=_code) if damaged else users


def _retained(record: Record) -> RetainedRecord:
    return RetainedRecord(_code(record), record.arrival_millis)


def _code(record: Record) -> str:
    return encode_position(Position(record.sequence_number, record.sub_sequence_number or 0))


def _moment(start: StartAt) -> float:
    return 0.0 if start.timestamp is None else start.timestamp.timestamp()
