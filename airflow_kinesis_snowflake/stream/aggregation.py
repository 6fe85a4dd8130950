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

Not every producer uses the library, so keys that Kinesis itself would refuse count as damage (``PutRecord``
in the Kinesis API reference), and the expanded size of an aggregate is calculated before any of it is built:
many user records may share one long key.

User records are kept regardless of their hash key. The Kinesis Client Library drops an aggregate with a hash
key outside the shard's range, which loses records that a producer aggregated just before a reshard;
:func:`within_hash_range` does the same on request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import md5
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position

# A page is expanded up to this size; the rest of it is read again.
ROOM_BYTES = 64 * 2**20
# An aggregate can't be read in parts. The library makes none larger than 1 MB, which with user records of 25
# bytes and keys of 36 bytes expands to 20 MB.
MAX_EXPANSION_BYTES = 256 * 2**20
# Approximate overhead of Python and Arrow for a user record, besides its data and key.
OVERHEAD_BYTES = 500
MAX_KEY_LENGTH = 256
MAX_HASH_KEY = 2**128 - 1
_HASH_KEY = re.compile(rb"[0-9]{1,39}")

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_NO_INDEX = 2**64 - 1


def _message_class() -> Any:
    """The class of the message, for the protobuf runtime that Airflow's telemetry brings along.

    Keys are declared as bytes, so that those that aren't UTF-8 are detected here; a missing explicit hash key
    has an index outside any table.
    """
    one, required, repeated = (
        FieldDescriptorProto.LABEL_OPTIONAL,
        FieldDescriptorProto.LABEL_REQUIRED,
        FieldDescriptorProto.LABEL_REPEATED,
    )
    number, raw = FieldDescriptorProto.TYPE_UINT64, FieldDescriptorProto.TYPE_BYTES
    file = FileDescriptorProto(name="aggregated_record.proto", syntax="proto2")
    aggregated = file.message_type.add(name="AggregatedRecord")
    aggregated.field.add(name="partition_key_table", number=1, label=repeated, type=raw)
    aggregated.field.add(name="explicit_hash_key_table", number=2, label=repeated, type=raw)
    aggregated.field.add(name="records", number=3, label=repeated, type_name="Record")
    user = file.message_type.add(name="Record")
    user.field.add(name="partition_key_index", number=1, label=required, type=number)
    user.field.add(
        name="explicit_hash_key_index", number=2, label=one, type=number, default_value=str(_NO_INDEX)
    )
    user.field.add(name="data", number=3, label=required, type=raw)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("AggregatedRecord"))


_AggregatedRecord = _message_class()


@dataclass(frozen=True)
class DamagedAggregate:
    """A Kinesis record that its MD5 proves to be an aggregate, but that can't be taken apart.

    :param reason: what is wrong with it; reveals nothing of its content
    """

    record: Record
    reason: str


class UserRecords(NamedTuple):
    """User records of a page.

    :param users: user records in order; Kinesis records that aren't aggregates as the same objects
    :param damaged: aggregates that can't be taken apart
    :param taken: how many of the Kinesis records these come from; the others didn't fit
    """

    users: Sequence[Record]
    damaged: tuple[DamagedAggregate, ...]
    taken: int


def deaggregate(records: Sequence[Record]) -> UserRecords:
    """Replace aggregates by their user records, until these take 64 MiB, and at least one aggregate.

    Records that aren't aggregates are returned unchanged, including those that only start like one.
    An aggregate may be empty, so take the position after a page from the page itself.

    :param records: Kinesis records in order
    """
    if not any(map(bytes.startswith, map(attrgetter("data"), records), repeat(_MAGIC))):
        return UserRecords(records, (), len(records))
    users: list[Record] = []
    damaged: list[DamagedAggregate] = []
    room = ROOM_BYTES
    for number, record in enumerate(records):
        if not _is_aggregate(record.data):
            users.append(record)
            continue
        try:
            message = _message(record)
            size = _expanded_bytes(message, record)
            if size > room and number > 0:
                return UserRecords(users, tuple(damaged), number)
            room -= size
            users += _user_records(message, record)
        except DecodeError:
            damaged.append(DamagedAggregate(record, "damaged KPL aggregate: not the message it should be"))
        except ValueError as error:
            damaged.append(DamagedAggregate(record, f"damaged KPL aggregate: {error}"))
    return UserRecords(users, tuple(damaged), len(records))


def within_hash_range(records: Sequence[Record], shard: Shard) -> list[Record]:
    """Drop every aggregate with a user record whose hash key lies outside a shard's range, as KCL does.

    A record's hash key is its explicit one, else the MD5 of its partition key as a number. An aggregate can
    hold such records if its producer isn't aware of a reshard yet. No other copy need exist, so dropping them
    loses them; it is for users who must get the same records as an application of the Kinesis Client Library
    (``AggregatorUtil.deaggregate``).

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
    """The number that decides which shard a user record belongs to."""
    if record.explicit_hash_key is not None:
        return int(record.explicit_hash_key)
    return int.from_bytes(md5(record.partition_key.encode(), usedforsecurity=False).digest())


def skip_through(records: Sequence[Record], position: Position) -> list[Record]:
    """Drop the user records at or before a position.

    For a reader that resumes inside an aggregate: it reads the Kinesis record of its position again.
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


def _is_aggregate(data: bytes) -> bool:
    return (
        data.startswith(_MAGIC)
        and len(data) >= len(_MAGIC) + _DIGEST_BYTES
        and md5(memoryview(data)[len(_MAGIC) : -_DIGEST_BYTES], usedforsecurity=False).digest()
        == data[-_DIGEST_BYTES:]
    )


def _message(aggregate: Record) -> Any:
    """Read the protobuf message.

    :raises DecodeError: not a protobuf message
    :raises ValueError: not the message it should be
    """
    message = _AggregatedRecord.FromString(aggregate.data[len(_MAGIC) : -_DIGEST_BYTES])
    if not message.IsInitialized():
        raise ValueError("a user record has no partition key or no data")
    return message


def _expanded_bytes(message: Any, aggregate: Record) -> int:
    """An upper bound of the bytes of all its user records.

    :raises ValueError: more than can be held in memory
    """
    longest = max(map(len, message.partition_key_table), default=0)
    each = OVERHEAD_BYTES + min(longest, 4 * MAX_KEY_LENGTH)
    size = len(aggregate.data) + len(message.records) * each
    if size > MAX_EXPANSION_BYTES:
        raise ValueError(f"its {len(message.records)} user records are too many for one record")
    return size


def _user_records(message: Any, aggregate: Record) -> list[Record]:
    """Build the user records.

    :raises ValueError: a key is missing, or Kinesis would refuse it
    """
    partition_keys = _Keys(message.partition_key_table, _partition_key)
    hash_keys = _Keys(message.explicit_hash_key_table, _explicit_hash_key)
    sequence_number, arrival = aggregate.sequence_number, aggregate.approximate_arrival
    return [
        Record(
            sequence_number=sequence_number,
            approximate_arrival=arrival,
            partition_key=partition_keys[user.partition_key_index],
            data=user.data,
            explicit_hash_key=None if (key := user.explicit_hash_key_index) == _NO_INDEX else hash_keys[key],
            sub_sequence_number=number,
        )
        for number, user in enumerate(message.records)
    ]


class _Keys(dict[int, str]):
    """The keys of a table that user records refer to, each read once."""

    def __init__(self, table: Sequence[bytes], read: Callable[[bytes], str]) -> None:
        super().__init__()
        self._table = table
        self._read = read

    def __missing__(self, index: int) -> str:
        if index >= len(self._table):
            raise ValueError("it names a key that it doesn't hold")
        key = self[index] = self._read(self._table[index])
        return key


def _partition_key(key: bytes) -> str:
    try:
        # No character has more than four bytes.
        text = None if len(key) > 4 * MAX_KEY_LENGTH else key.decode()
    except UnicodeDecodeError:
        raise ValueError("a key isn't UTF-8") from None
    if text is None or len(text) > MAX_KEY_LENGTH:
        raise ValueError(f"a partition key is longer than {MAX_KEY_LENGTH} characters")
    return text


def _explicit_hash_key(key: bytes) -> str:
    if not _HASH_KEY.fullmatch(key) or int(key) > MAX_HASH_KEY:
        raise ValueError("an explicit hash key isn't a decimal number of up to 128 bits")
    return key.decode()
