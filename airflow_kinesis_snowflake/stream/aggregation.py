"""Taking KPL aggregates apart: one Kinesis record that holds many user records.

The format is that of ``aggregation-format.md`` in the repository of the Kinesis Producer Library: four magic
bytes, a protobuf message, and the MD5 of that message. The message::

    message AggregatedRecord {
      repeated string partition_key_table     = 1;
      repeated string explicit_hash_key_table = 2;
      repeated Record records                 = 3;
    }
    message Record {
      required uint64 partition_key_index     = 1;
      optional uint64 explicit_hash_key_index = 2;
      required bytes  data                    = 3;
      repeated Tag    tags                    = 4;
    }

User records are kept whatever their hash key. The Kinesis Client Library drops an aggregate with a hash key
outside the shard's range, which loses records that a producer aggregated just before a reshard;
:func:`within_hash_range` does the same for those who ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_LONGEST_VARINT = 10
_MORE = 0x80

# Protobuf tags: field number * 8 + wire type.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PARTITION_KEY, _EXPLICIT_HASH_KEY, _RECORD = 1 << 3 | _BYTES, 2 << 3 | _BYTES, 3 << 3 | _BYTES
_PARTITION_KEY_INDEX, _EXPLICIT_HASH_KEY_INDEX, _DATA = 1 << 3 | _VARINT, 2 << 3 | _VARINT, 3 << 3 | _BYTES
_ENTRY_TAGS = frozenset((_PARTITION_KEY_INDEX, _EXPLICIT_HASH_KEY_INDEX, _DATA))


@dataclass(frozen=True)
class Damaged:
    """A Kinesis record that certainly is an aggregate, by its MD5, but can't be taken apart.

    :param reason: what is wrong with it; says nothing of its content
    """

    record: Record
    reason: str


def deaggregate(records: Sequence[Record]) -> tuple[Sequence[Record], tuple[Damaged, ...]]:
    """Replace every aggregate by its user records.

    Records that aren't aggregates come back as the same objects, also those that only begin like one.
    An aggregate may hold no user record at all, so take the position behind a page from the page itself.

    :param records: Kinesis records in order
    :return: user records in order, and the aggregates that can't be taken apart
    """
    if not any(record.data.startswith(_MAGIC) for record in records):
        return records, ()
    users: list[Record] = []
    damaged: list[Damaged] = []
    for record in records:
        if not _is_aggregate(record.data):
            users.append(record)
            continue
        try:
            users += _user_records(record)
        except UnicodeDecodeError:
            damaged.append(Damaged(record, "damaged KPL aggregate: a key isn't UTF-8"))
        except IndexError:
            damaged.append(Damaged(record, "damaged KPL aggregate: it names a key that it doesn't hold"))
        except ValueError as error:
            damaged.append(Damaged(record, f"damaged KPL aggregate: {error}"))
    return users, tuple(damaged)


def within_hash_range(records: Sequence[Record], shard: Shard) -> list[Record]:
    """Drop every aggregate with a user record whose hash key lies outside a shard's range, as KCL does.

    A record's hash key is its explicit one, else the MD5 of its partition key as a number. An aggregate can
    hold such records when its producer hasn't heard of a reshard yet. They may be there only once, so that
    dropping them loses them; it is for those who must have the same records as an application of the Kinesis
    Client Library (``AggregatorUtil.deaggregate``).

    :param records: user records of one shard in order
    """
    outside = {
        record.sequence_number
        for record in records
        if record.sub_sequence_number is not None
        and not shard.starting_hash_key <= hash_key(record) <= shard.ending_hash_key
    }
    return [record for record in records if record.sequence_number not in outside]


def hash_key(record: Record) -> int:
    """The number that decides which shard a record belongs to."""
    if record.explicit_hash_key is not None:
        return int(record.explicit_hash_key)
    return int.from_bytes(md5(record.partition_key.encode(), usedforsecurity=False).digest())


def skip_through(records: Sequence[Record], position: Position) -> list[Record]:
    """Drop the user records at or before a position.

    For a reader that goes on inside an aggregate: it reads the Kinesis record of its position once more.
    A record that isn't aggregated counts as sub-sequence number 0, as in checkpoints of the Kinesis Client
    Library and Openflow.

    :param records: user records of one shard in order
    """
    reached = int(position.sequence_number)
    if position.sub_sequence_number is None:
        return [record for record in records if int(record.sequence_number) > reached]
    last = (reached, position.sub_sequence_number)
    return [
        record for record in records if (int(record.sequence_number), record.sub_sequence_number or 0) > last
    ]


def sharded_sequence_number(sequence_number: str, sub_sequence_number: int | None) -> str:
    """Sequence number and sub-sequence number in one, as Openflow writes it: the latter has 20 digits.

    :param sub_sequence_number: ``None`` for a record that isn't aggregated, written as 0
    """
    return f"{sequence_number}{sub_sequence_number or 0:020d}"


def _is_aggregate(data: bytes) -> bool:
    return (
        data.startswith(_MAGIC)
        and len(data) >= len(_MAGIC) + _DIGEST_BYTES
        and md5(memoryview(data)[len(_MAGIC) : -_DIGEST_BYTES], usedforsecurity=False).digest()
        == data[-_DIGEST_BYTES:]
    )


def _user_records(aggregate: Record) -> list[Record]:
    """Read the protobuf message.

    A number that begins in the message ends in it or in the MD5 behind it, so it's enough to compare with the
    end after each field.

    :raises ValueError: not the message it should be
    :raises IndexError: a key index points outside its table
    """
    data = aggregate.data
    end = len(data) - _DIGEST_BYTES
    partition_keys: list[str] = []
    hash_keys: list[str] = []
    entries: list[tuple[int, int | None, bytes]] = []
    at = len(_MAGIC)
    while at < end:
        tag, at = _varint(data, at)
        if tag & 7 != _BYTES:
            at = _skip(data, at, tag)
            continue
        size, at = _varint(data, at)
        start, at = at, at + size
        if at > end:
            break
        if tag == _RECORD:
            entries.append(_entry(data, start, at))
        elif tag == _PARTITION_KEY:
            partition_keys.append(data[start:at].decode())
        elif tag == _EXPLICIT_HASH_KEY:
            hash_keys.append(data[start:at].decode())
    if at > end:
        raise ValueError("it ends in the middle of a field")
    last = len(entries) - 1
    return [
        Record(
            sequence_number=aggregate.sequence_number,
            approximate_arrival=aggregate.approximate_arrival,
            partition_key=partition_keys[key],
            data=content,
            explicit_hash_key=None if hash_key is None else hash_keys[hash_key],
            sub_sequence_number=number,
            last_of_record=number == last,
        )
        for number, (key, hash_key, content) in enumerate(entries)
    ]


def _entry(data: bytes, at: int, end: int) -> tuple[int, int | None, bytes]:
    """Read one user record: the indexes of its keys, and its data."""
    key: int | None = None
    hash_key: int | None = None
    content: bytes | None = None
    while at < end:
        tag = data[at]
        if tag not in _ENTRY_TAGS:
            tag, at = _varint(data, at)
            at = _skip(data, at, tag)
            continue
        value = data[at + 1]  # nearly every number is this short, and a call costs as much as the rest
        at += 2
        if value >= _MORE:
            value, at = _varint(data, at - 1)
        if tag == _DATA:
            content = data[at : at + value]
            at += value
        elif tag == _PARTITION_KEY_INDEX:
            key = value
        else:
            hash_key = value
    if at > end:
        raise ValueError("a user record ends in the middle of a field")
    if key is None or content is None:
        raise ValueError("a user record has no partition key or no data")
    return key, hash_key, content


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next field begins."""
    value = data[at]
    if value < _MORE:
        return value, at + 1
    value &= 0x7F
    for count in range(1, _LONGEST_VARINT):
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < _MORE:
            return value, at + count + 1
    raise ValueError("a number is longer than 64 bits")


def _skip(data: bytes, at: int, tag: int) -> int:
    """Where the field behind an unknown field begins."""
    kind = tag & 7
    if kind == _VARINT:
        return _varint(data, at)[1]
    if kind == _FIXED64:
        return at + 8
    if kind == _FIXED32:
        return at + 4
    if kind == _BYTES:
        size, at = _varint(data, at)
        return at + size
    raise ValueError("a field has a type that protobuf doesn't use any more")
