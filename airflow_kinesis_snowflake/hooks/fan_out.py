"""A Kinesis data stream whose records are pushed to a registered consumer (enhanced fan-out)."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from airflow_kinesis_snowflake.exceptions import (
    ConsumerUnusableError,
    KinesisSnowflakeError,
    ServiceUnavailableError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.aws import error_code, translate, translated
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook, foreign, plain_record
from airflow_kinesis_snowflake.stream.consumers import Consumer, ConsumerArn, ShardEvent
from airflow_kinesis_snowflake.stream.positions import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_kinesis_snowflake.stream.positions import StartAt

    Admit = Callable[[int], bool]

# Kinesis sends an event every five seconds when there are no records, so a connection that is silent for the
# 15 s of read_timeout is broken.
_ONE_ATTEMPT = Config(max_pool_connections=256, retries={"mode": "standard", "total_max_attempts": 1})
_CHUNK_BYTES = 16 * 1024
# What botocore accepts: payload, headers and framing.
_MAX_MESSAGE_BYTES = 24 * 2**20 + 128 * 2**10 + 16


class FanOutHook(KinesisStreamHook):
    """Reads one Kinesis data stream, by GetRecords and by SubscribeToShard.

    For parameters and errors see :class:`~airflow_kinesis_snowflake.hooks.kinesis.KinesisStreamHook`;
    ``ConsumerUnusableError`` besides. A subscription is never tried again here: the caller knows how often a
    shard may be subscribed to. botocore parses its events.
    """

    _subscriber: Any = None
    _arn: str | None = None

    def find_consumer(self, name: str) -> Consumer | None:
        """A consumer of the stream by its name, if there is one. Needs ``kinesis:DescribeStreamConsumer``."""
        arn = self._stream_arn()
        consumer = f"consumer {name} of {self._stream}"
        with translated(doing="kinesis:DescribeStreamConsumer", resource=consumer):
            try:
                answer = self._client_for_control().describe_stream_consumer(StreamARN=arn, ConsumerName=name)
            except ClientError as error:
                if error_code(error) == "ResourceNotFoundException":
                    return None
                raise
        found = answer["ConsumerDescription"]
        return Consumer(found["ConsumerARN"], found["ConsumerStatus"])

    def register_consumer(self, name: str) -> None:
        """Register a consumer; one of that name may exist. Needs ``kinesis:RegisterStreamConsumer``.

        :raises ThrottledError: the stream has as many consumers as it may have, or too many are being
            registered; AWS doesn't say which
        """
        arn = self._stream_arn()
        consumer = f"consumer {name} of {self._stream}"
        with translated(doing="kinesis:RegisterStreamConsumer", resource=consumer):
            try:
                # Tried once: to botocore a stream that has all its consumers looks throttled.
                self._client_for_subscriptions().register_stream_consumer(StreamARN=arn, ConsumerName=name)
            except ClientError as error:
                if error_code(error) != "ResourceInUseException":
                    raise

    def subscribe(
        self,
        consumer_arn: str,
        shard_id: str,
        start: Position | StartAt,
        *,
        with_start: bool = False,
        admit: Admit,
    ) -> ShardSubscription:
        """Have the records of a shard pushed, for up to five minutes. Needs ``kinesis:SubscribeToShard``.

        :param start: as in :meth:`~airflow_kinesis_snowflake.hooks.kinesis.KinesisStreamHook.get_iterator`
        :param with_start: start with the very record of a position
        :param admit: called with the size of each event before it is read; the connection isn't read until it
            returns, and is given up if it returns ``False``
        :raises ForeignCheckpointError: the shard didn't assign the sequence number
        :raises ThrottledError: the consumer subscribed to the shard less than five seconds ago
        :raises ConsumerUnusableError: there is no such consumer
        """
        shard = f"shard {shard_id} of {self._stream}"
        with translated(doing="kinesis:SubscribeToShard", resource=shard):
            try:
                answer = self._client_for_subscriptions().subscribe_to_shard(
                    ConsumerARN=consumer_arn,
                    ShardId=shard_id,
                    StartingPosition=starting_position(start, with_start=with_start),
                )
            except ClientError as error:
                if isinstance(start, Position) and error_code(error) == "InvalidArgumentException":
                    raise foreign(start.sequence_number, shard=shard) from error
                raise meant(error, consumer_arn=consumer_arn, shard=shard) from error
        body = answer["Body"]
        body.admit = admit
        return ShardSubscription(answer["EventStream"], body, consumer_arn=consumer_arn, shard=shard)

    def _stream_arn(self) -> str:
        if self._arn is None:
            self._arn = self.ref.arn or self.describe().arn
        return self._arn

    def _client_for_subscriptions(self) -> Any:
        with self._opening:
            if self._subscriber is None:
                client: Any = self.get_client_type(
                    region_name=self.region_name, config=self.config.merge(_ONE_ATTEMPT)
                )
                client.meta.events.register("before-parse.kinesis.SubscribeToShard", take_body)
                self._subscriber = client
            return self._subscriber


def starting_position(start: Position | StartAt, *, with_start: bool) -> dict[str, Any]:
    """The start of a subscription, as a parameter of SubscribeToShard."""
    if isinstance(start, Position):
        after = start.sub_sequence_number is None and not with_start
        kind = "AFTER_SEQUENCE_NUMBER" if after else "AT_SEQUENCE_NUMBER"
        return {"Type": kind, "SequenceNumber": start.sequence_number}
    if start.timestamp is None:
        return {"Type": "TRIM_HORIZON"}
    return {"Type": "AT_TIMESTAMP", "Timestamp": start.timestamp}


def meant(error: ClientError, *, consumer_arn: str, shard: str) -> Exception:
    """What an error of SubscribeToShard means, where it isn't what it means elsewhere."""
    consumer = ConsumerArn.parse(consumer_arn).name
    code = error_code(error)
    said = str(error).rstrip(".")
    if code == "ResourceInUseException":
        return ThrottledError(
            f"Try again in five seconds. If that lasts, another program reads as consumer {consumer}: give "
            f"this application one of its own by consumer_arn. kinesis:SubscribeToShard on {shard} failed: "
            f"{said}"
        )
    if code == "ResourceNotFoundException":
        return ConsumerUnusableError(
            f"Register consumer {consumer} again, and give its new consumer_arn; or leave consumer_arn out. "
            f"kinesis:SubscribeToShard on {shard} failed: {said}"
        )
    return error


class ShardSubscription:
    """The events of one SubscribeToShard call."""

    def __init__(self, events: Any, body: MessageBody, *, consumer_arn: str, shard: str) -> None:
        self._events = events
        self._body = body
        self._consumer_arn = consumer_arn
        self._shard = shard
        self._reading = self._closing = False

    def __iter__(self) -> Iterator[ShardEvent]:
        """The events, for one thread; that thread closes the connection when it is done."""
        self._reading = True
        try:
            with self._broken_off():
                for event in self._events:
                    if "SubscribeToShardEvent" in event:
                        yield shard_event(event["SubscribeToShardEvent"], shard=self._shard)
        finally:
            self._body.close()

    def close(self) -> None:
        """Wake up whoever waits for an event, which ends the connection."""
        self._closing = True
        if self._reading:
            self._body.shut_down()
        else:
            self._body.close()

    @contextmanager
    def _broken_off(self) -> Iterator[None]:
        try:
            yield
        except KinesisSnowflakeError:
            raise
        except ClientError as error:
            ours = meant(error, consumer_arn=self._consumer_arn, shard=self._shard)
            if isinstance(ours, ClientError):
                ours = translate(ours, doing="kinesis:SubscribeToShard", resource=self._shard)
            raise ours from error
        except (BotoCoreError, HTTPError, OSError, ParserError, ResponseParserError, ValueError) as error:
            if not self._closing:
                raise ServiceUnavailableError(
                    f"Try again: the subscription to {self._shard} broke off: {type(error).__name__}: {error}"
                ) from error


def shard_event(plain: Mapping[str, Any], *, shard: str) -> ShardEvent:
    """An event as botocore parsed it.

    :raises ServiceUnavailableError: it says neither how to go on nor that the shard has ended
    """
    continuation = plain.get("ContinuationSequenceNumber")
    if not continuation and not plain.get("ChildShards"):
        # Taken for the end of the shard, it would lose what comes after.
        raise ServiceUnavailableError(
            f"Try again: an event of {shard} has neither a sequence number to continue at nor child shards"
        )
    return ShardEvent(
        tuple(map(plain_record, plain.get("Records", ()))),
        None if plain.get("ChildShards") else continuation,
        plain.get("MillisBehindLatest", 0),
    )


def take_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Let botocore read a subscription message by message. A listener of its event ``before-parse``."""
    if response_dict["status_code"] < 300:
        body = MessageBody(response_dict["body"])
        response_dict["body"] = customized_response_dict["Body"] = body


class MessageBody:
    """The body of an event stream as botocore reads it, whole messages at a time.

    Of a message no more than a chunk of 16 KiB is read before it is admitted.

    :param body: of urllib3
    """

    def __init__(self, body: Any) -> None:
        self._body = body
        self.admit: Admit = lambda _: True

    def stream(self) -> Iterator[bytes]:
        """The messages, as they come; ends early when one isn't admitted.

        :raises ServiceUnavailableError: the body ends within a message, or isn't made of messages
        """
        read = bytearray()
        size: int | None = None
        for chunk in self._body.stream(_CHUNK_BYTES):
            read += chunk
            while True:
                if size is None and len(read) >= 4:
                    size = int.from_bytes(read[:4], "big")
                    if size > _MAX_MESSAGE_BYTES:
                        raise ServiceUnavailableError(
                            f"Try again: a message of {size} bytes can't be one of AWS"
                        )
                    if not self.admit(size):
                        return
                if size is None or len(read) < size:
                    break
                message = bytes(read[:size])
                del read[:size]
                size = None
                yield message
        if read:
            raise ServiceUnavailableError("Try again: a subscription ended within an event")

    def shut_down(self) -> None:
        """Let the thread that reads notice the end; from another thread."""
        # An error says that it is closed already.
        with suppress(OSError, RuntimeError, ValueError):
            self._body.shutdown()

    def close(self) -> None:
        """End the connection; by the thread that reads."""
        self._body.close()
