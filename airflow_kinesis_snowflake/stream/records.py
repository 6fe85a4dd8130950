"""Records as read from a shard."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A user record: a Kinesis record, or one of several inside a KPL aggregate.

    A msgspec struct, because the body of a GetRecords response is decoded straight into it.

    :param sequence_number: of the Kinesis record
    :param approximate_arrival: seconds since the epoch, in steps of a millisecond
    :param partition_key: empty where the stream distributes records by itself
    :param sub_sequence_number: index inside the aggregate; ``None`` for a record that isn't aggregated
    """

    sequence_number: str = msgspec.field(name="SequenceNumber")
    approximate_arrival: float = msgspec.field(name="ApproximateArrivalTimestamp")
    data: bytes = msgspec.field(name="Data")
    partition_key: str = msgspec.field(name="PartitionKey", default="")
    explicit_hash_key: str | None = None
    sub_sequence_number: int | None = None

    @property
    def arrival_millis(self) -> int:
        """Approximate arrival in milliseconds since the epoch."""
        return round(self.approximate_arrival * 1000)


@dataclass(frozen=True)
class Page:
    """The response to one GetRecords call.

    :param records: Kinesis records as received, in order of their sequence numbers
    :param next_iterator: ``None`` when the shard is closed and this page was its last
    :param millis_behind: how far the page's end is behind the tip of the shard, in milliseconds
    """

    records: tuple[Record, ...]
    next_iterator: str | None
    millis_behind: int

    @property
    def delivery(self) -> Delivery:
        """The page as a delivery, however it was read."""
        return Delivery(self.records, millis_behind=self.millis_behind, ended=self.next_iterator is None)


@dataclass(frozen=True)
class Delivery:
    """What a source delivers from a shard at a time.

    :param records: Kinesis records as received, in order of their sequence numbers
    :param millis_behind: how far their end is behind the tip of the shard, in milliseconds
    :param ended: the shard is closed, and these were its last
    :param age_seconds: how long before the read this was true; 0 if the read itself asked the stream
    """

    records: tuple[Record, ...]
    millis_behind: int
    ended: bool
    age_seconds: float = 0.0
