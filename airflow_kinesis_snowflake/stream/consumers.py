"""Registered consumers of a stream (enhanced fan-out): their ARNs, and the events of their subscriptions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.stream.records import Record

MAX_CONSUMERS = 20
"""Maximum number of consumers of a stream, unless AWS has raised the quota."""

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_ARN = re.compile(
    r"(?P<stream>arn:aws[a-z-]*:kinesis:[a-z0-9-]+:[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128})"
    r"/consumer/(?P<name>[a-zA-Z0-9_.-]{1,128}):[0-9]+"
)


@dataclass(frozen=True)
class ConsumerArn:
    """The ARN of a registered consumer, and its parts.

    :param text: the whole of it
    """

    text: str
    stream: StreamRef
    name: str

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> ConsumerArn:
        """Read an ARN.

        :raises InvalidSettingError: it isn't that of a consumer; the message says what it is
        """
        match = _ARN.fullmatch(text)
        if match is None:
            raise InvalidSettingError(
                "Give the ARN of a consumer as RegisterStreamConsumer returned it, or leave it out "
                f"to have a consumer registered: {text!r} isn't one{_what_else(text)}"
            )
        return cls(text, StreamRef.parse(match["stream"]), match["name"])


def _what_else(text: str) -> str:
    parts = text.split(":")
    if len(parts) < 6 or parts[0] != "arn":
        return ""
    if parts[2] != "kinesis":
        return f", but of the service {parts[2]!r}"
    return ", but of a stream" if "/consumer/" not in text else ""


def check_consumer(*, stream: StreamRef, application_name: str, consumer_arn: str | None) -> None:
    """Check that there can be a consumer.

    :param consumer_arn: ``None``: the consumer is named after the application
    :raises InvalidSettingError: it is a consumer of another stream, or the name can't be that of a consumer
    """
    if consumer_arn is not None:
        arn = ConsumerArn.parse(consumer_arn)
        if arn.stream.name != stream.name or stream.arn not in {None, arn.stream.arn}:
            raise InvalidSettingError(
                f"Give the consumer_arn of a consumer of stream {stream}: {arn.name} is one of stream "
                f"{arn.stream.name if stream.arn is None else arn.stream}"
            )
    elif not _NAME.fullmatch(application_name):
        raise InvalidSettingError(
            "Register a consumer and give its consumer_arn: the consumer of enhanced fan-out can't be named "
            f"after application {application_name!r}, because names of consumers have up to 128 characters"
        )


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
    :param continuation: a subscription after this sequence number continues after the event; ``None`` at the
        end of the shard
    :param millis_behind: lag of the event behind the tip of the shard, in milliseconds
    """

    records: tuple[Record, ...]
    continuation: str | None
    millis_behind: int

    @property
    def ended(self) -> bool:
        """Whether the shard is closed, and this was its last event."""
        return self.continuation is None
