"""Registered consumers of a stream (enhanced fan-out): their ARNs, and the events of their subscriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.records import Record

MOST_CONSUMERS = 20
"""Consumers that a stream may have, unless AWS has raised the quota."""

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):kinesis:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12})"
    r":stream/(?P<stream>[a-zA-Z0-9_.-]{1,128})/consumer/(?P<name>[a-zA-Z0-9_.-]{1,128}):(?P<created>[0-9]+)"
)


@dataclass(frozen=True)
class ConsumerArn:
    """The ARN of a registered consumer, and what it says.

    :param text: the whole of it
    """

    text: str
    region: str
    account: str
    stream: str
    name: str

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> ConsumerArn:
        """Read an ARN.

        :raises ValueError: it isn't that of a consumer; the message says what it is instead
        """
        match = _ARN.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} isn't the ARN of a registered consumer{_what_else(text)}")
        return cls(text, match["region"], match["account"], match["stream"], match["name"])


def _what_else(text: str) -> str:
    parts = text.split(":")
    if len(parts) < 6 or parts[0] != "arn":
        return ""
    if parts[2] != "kinesis":
        return f", but of the service {parts[2]!r}"
    return ", but of a stream" if "/consumer/" not in text else ""


def can_name_a_consumer(name: str) -> bool:
    """Whether Kinesis takes a name for a consumer: 1 to 128 letters, digits, ``_``, ``.`` or ``-``."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class Consumer:
    """A registered consumer as DescribeStreamConsumer describes it.

    :param status: ``CREATING``, ``ACTIVE`` or ``DELETING``
    """

    arn: str
    status: str


@dataclass(frozen=True)
class ShardEvent:
    """A SubscribeToShardEvent.

    :param records: Kinesis records in order of their sequence numbers; often none
    :param continuation: a subscription after this sequence number goes on behind the event; ``None`` at the
        end of the shard
    :param millis_behind: how far the event is behind the tip of the shard, in milliseconds
    """

    records: tuple[Record, ...]
    continuation: str | None
    millis_behind: int

    @property
    def ended(self) -> bool:
        """Whether the shard is closed, and this was its last event."""
        return self.continuation is None
