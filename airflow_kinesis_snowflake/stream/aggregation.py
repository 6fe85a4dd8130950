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
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.stream.lineage import Shard
    from airflow_kinesis_snowflake.stream.positions import Position

_MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_NO_INDEX = 2**64 - 1


def _message_class() -> Any:
    """The class of the message, for the protobuf runtime that Airflow's telemetry brings along.

    Keys are declared as bytes, so that those that aren't UTF-8 are noticed here; a missing explicit hash key
    has an index that no table holds.
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
    if not any(map(bytes.startswith, map(attrgetter("data"), records), repeat(_MAGIC))):
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
        except DecodeError:
            damaged.append(Damaged(record, "damaged KPL aggregate: not the message it should be"))
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
    """The number that decides which shard a record belongs to; an explicit one that is no number doesn't."""
    if record.explicit_hash_key is not None and record.explicit_hash_key.isdecimal():
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


def _is_aggregate(data: bytes) -> bool:
    return (
        data.startswith(_MAGIC)
        and len(data) >= len(_MAGIC) + _DIGEST_BYTES
        and md5(memoryview(data)[len(_MAGIC) : -_DIGEST_BYTES], usedforsecurity=False).digest()
        == data[-_DIGEST_BYTES:]
    )


def _user_records(aggregate: Record) -> list[Record]:
    """Read the protobuf message.

    :raises DecodeError: not a protobuf message
    :raises ValueError: not the message it should be
    :raises IndexError: a key index points outside its table
    """
    message = _AggregatedRecord.FromString(aggregate.data[len(_MAGIC) : -_DIGEST_BYTES])
    if not message.IsInitialized():
        raise ValueError("a user record has no partition key or no data")
    partition_keys = [key.decode() for key in message.partition_key_table]
    hash_keys = [key.decode() for key in message.explicit_hash_key_table]
    sequence_number, arrival = aggregate.sequence_number, aggregate.approximate_arrival
    last = len(message.records) - 1
    return [
        Record(
            sequence_number=sequence_number,
            approximate_arrival=arrival,
            partition_key=partition_keys[user.partition_key_index],
            data=user.data,
            explicit_hash_key=None if (key := user.explicit_hash_key_index) == _NO_INDEX else hash_keys[key],
            sub_sequence_number=number,
            last_of_record=number == last,
        )
        for number, user in enumerate(message.records)
    ]
