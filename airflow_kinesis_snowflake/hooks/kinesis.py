"""One Kinesis data stream: what it is, its shards, and their records."""

from __future__ import annotations

import time
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_kinesis_snowflake.exceptions import (
    ForeignCheckpointError,
    KinesisSnowflakeError,
    ServiceUnavailableError,
)
from airflow_kinesis_snowflake.hooks.aws import AwsHook, error_code, translated
from airflow_kinesis_snowflake.stream.clock import ServiceClock
from airflow_kinesis_snowflake.stream.facts import StreamFacts
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position, StartAt
from airflow_kinesis_snowflake.stream.records import Page, Record
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from collections.abc import Mapping

# A connection for each thread that reads; more readers than this only wait for one another.
_DEFAULTS = Config(
    connect_timeout=5,
    read_timeout=15,
    max_pool_connections=64,
    retries={"mode": "standard", "total_max_attempts": 5},
)
_ONE_ATTEMPT = Config(retries={"mode": "standard", "total_max_attempts": 1})


class KinesisStreamHook(AwsHook):
    """Reads one Kinesis data stream.

    Safe to use from several threads at once. Every method raises the errors of
    :mod:`airflow_kinesis_snowflake.exceptions` only: ``StreamNotFoundError``, ``AccessDeniedError`` (of the
    KMS key too), ``ThrottledError``, ``ServiceUnavailableError`` and ``ServiceRefusedError``. All calls but
    those of :meth:`get_page` are tried up to five times. A try ends when nothing comes for 15 s.

    :param stream_name: a name, or the ARN of a stream of whatever account and region. With an ARN every call
        names the stream by it, and goes to its region
    :param region_name: of AWS; default is that of the ARN, or else the connection's
    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`:
        ``aws_conn_id``, ``verify`` and ``config``. What ``config`` says wins, except that
        :meth:`get_page` never retries.
    :raises InvalidSettingError: neither the name nor the ARN of a stream, or ``region_name`` contradicts the
        ARN
    """

    def __init__(self, stream_name: str | StreamRef, *, region_name: str | None = None, **aws: Any) -> None:
        self.ref = stream_name if isinstance(stream_name, StreamRef) else StreamRef.parse(stream_name)
        super().__init__(client_type="kinesis", region_name=self.ref.region_beside(region_name), **aws)
        self._opening = Lock()
        self._reader: Any = None

    @property
    def stream_name(self) -> str:
        """The name of the stream, without account and region."""
        return self.ref.name

    @property
    def config(self) -> Config:
        """The botocore settings: those of the connection and the caller over the defaults of this hook."""
        return _DEFAULTS.merge(super().config)

    def place(self) -> tuple[str, str]:
        """Return the region and the partition (``aws``, ``aws-cn`` ...) of the stream. Calls no service.

        :raises InvalidSettingError: neither connection nor settings name a region
        """
        with translated(doing="kinesis:DescribeStreamSummary", resource=self._stream):
            meta = self._client_for_control().meta
        return meta.region_name, meta.partition

    def may_be(self, arn: str) -> bool:
        """Whether an ARN can be that of this stream, as far as it is known without a call of Kinesis.

        :raises InvalidSettingError: not the ARN of a stream, or no region is known
        """
        return arn == self.ref.arn if self.ref.arn else StreamRef.parse(arn).region == self.place()[0]

    def describe(self) -> StreamFacts:
        """Return the facts of the stream. Needs ``kinesis:DescribeStreamSummary``."""
        with translated(doing="kinesis:DescribeStreamSummary", resource=self._stream):
            client = self._client_for_control()
            asked_at = time.monotonic()
            answer = client.describe_stream_summary(**self.ref.parameters)
        answered_at = time.monotonic()
        try:
            date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"].get("date"))
        except (TypeError, ValueError):
            raise ServiceUnavailableError(
                "Look for a proxy between the worker and AWS that leaves out or changes dates: the answer to "
                f"kinesis:DescribeStreamSummary on {self._stream} has none"
            ) from None
        summary = answer["StreamDescriptionSummary"]
        return StreamFacts(
            name=summary["StreamName"],
            arn=summary["StreamARN"],
            created=summary["StreamCreationTimestamp"].astimezone(UTC),
            retention=timedelta(hours=summary["RetentionPeriodHours"]),
            status=summary["StreamStatus"],
            encryption=summary.get("EncryptionType") == "KMS",
            clock=ServiceClock(date, asked_at=asked_at, answered_at=answered_at),
        )

    def list_shards(self) -> tuple[Shard, ...]:
        """Return all shards that still hold records, open or closed, in the order of the service.

        Reads every page. Needs ``kinesis:ListShards``.

        :raises ServiceUnavailableError: the service names no shard, which can't be
        """
        shards: list[Shard] = []
        asked: dict[str, str] | None = self.ref.parameters
        while asked:
            with translated(doing="kinesis:ListShards", resource=self._stream):
                answer = self._client_for_control().list_shards(**asked)
            shards += map(_shard, answer["Shards"])
            token = answer.get("NextToken")
            # The service takes a token only without the stream, which botocore's paginator names again.
            asked = {"NextToken": token} if token else None
        if not shards:
            # Taken for a list, it would say that every shard is gone with all its records.
            raise ServiceUnavailableError(
                "Try again, if the stream is still being created: kinesis:ListShards on "
                f"{self._stream} named no shard, but every stream has one"
            )
        return tuple(shards)

    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str:
        """Return an iterator, good for five minutes. Needs ``kinesis:GetShardIterator``.

        If the record of a position has aged out of retention, Kinesis silently continues at the oldest
        record it still has.

        :param start: after a position at the end of a Kinesis record; at the Kinesis record of a position
            inside an aggregate (the caller drops the user records up to the position); or the horizon or a
            moment. botocore cuts a moment down to the whole second, so that records of up to a second
            before it come too. Kinesis refuses a moment in the future.
        :raises ForeignCheckpointError: the shard didn't give out the sequence number
        """
        if isinstance(start, Position):
            kind = "AFTER" if start.sub_sequence_number is None else "AT"
            return self._iterator(
                shard_id, f"{kind}_SEQUENCE_NUMBER", StartingSequenceNumber=start.sequence_number
            )
        if start.timestamp is None:
            return self._iterator(shard_id, "TRIM_HORIZON")
        return self._iterator(shard_id, "AT_TIMESTAMP", Timestamp=start.timestamp)

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        """Return an iterator whose first record is the one of this number, if the stream still has it.

        Needs ``kinesis:GetShardIterator``.

        :raises ForeignCheckpointError: the shard didn't give out the sequence number
        """
        return self._iterator(shard_id, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=sequence_number)

    def get_page(self, iterator: str, *, limit: int = 10_000) -> Page:
        """Return the records after an iterator, at most 10 MB of them, in one attempt.

        An empty page isn't the end of the backlog: only ``millis_behind`` 0 is. Needs
        ``kinesis:GetRecords``, and ``kms:Decrypt`` on the key of an encrypted stream.

        Never retried here: the caller knows how often the shard may be read. See
        https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html

        :param limit: at most this many Kinesis records, 1 to 10,000
        :raises IteratorExpiredError: the iterator is older than five minutes
        :raises ThrottledError: the shard is read more than five times or by more than 2 MB a second
        :raises ServiceUnavailableError: no answer, or one that isn't a page of records
        """
        with translated(doing="kinesis:GetRecords", resource=self._stream):
            answer = self._client_for_records().get_records(
                ShardIterator=iterator, Limit=limit, **self._parameters_beside_iterator
            )
        page = answer.get("Page") or _page_of_plain_answer(answer)
        if page is None:
            # Taken for a page, an answer without records and iterator would end the shard.
            raise ServiceUnavailableError(
                "Try again; if that doesn't help, look for a proxy between the worker and AWS: the answer to "
                f"kinesis:GetRecords on {self._stream} isn't a page of records"
            )
        return page

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the stream can be described, and a description or advice."""
        try:
            facts = self.describe()
        except KinesisSnowflakeError as error:
            return False, str(error)
        hours = facts.retention // timedelta(hours=1)
        return True, f"{self._stream} is {facts.status} and keeps records for {hours} hours."

    @property
    def _stream(self) -> str:
        return f"stream {str(self.ref)!r} {self.where}"

    @property
    def _parameters_beside_iterator(self) -> dict[str, str]:
        """An iterator says which stream it is of, but not to the policy of a stream of another account."""
        return {} if self.ref.arn is None else self.ref.parameters

    def _client_for_control(self) -> Any:
        with self._opening:
            client: Any = self.get_conn()
            return client

    def _client_for_records(self) -> Any:
        with self._opening:
            if self._reader is None:
                reader: Any = self.get_client_type(
                    region_name=self.region_name, config=self.config.merge(_ONE_ATTEMPT)
                )
                reader.meta.events.register("before-parse.kinesis.GetRecords", decode_page)
                self._reader = reader
            return self._reader

    def _iterator(self, shard_id: str, kind: str, **start: Any) -> str:
        shard = f"shard {shard_id} of {self._stream}"
        with translated(doing="kinesis:GetShardIterator", resource=shard):
            try:
                answer = self._client_for_control().get_shard_iterator(
                    ShardId=shard_id, ShardIteratorType=kind, **self.ref.parameters, **start
                )
            except ClientError as error:
                number = start.get("StartingSequenceNumber")
                if number and error_code(error) == "InvalidArgumentException":
                    raise foreign(number, shard=shard) from error
                raise
        return str(answer["ShardIterator"])


def foreign(sequence_number: str, *, shard: str) -> ForeignCheckpointError:
    """The error for a sequence number that its shard can't have assigned."""
    return ForeignCheckpointError(
        f"Rewind this shard with the DAG kinesis_state_reset: {shard} never assigned the sequence number "
        f"{sequence_number}; the checkpoint was written for another shard or stream"
    )


class _Body(msgspec.Struct):
    records: tuple[Record, ...] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)
    millis_behind: int = msgspec.field(name="MillisBehindLatest", default=0)


_decoder = msgspec.json.Decoder(_Body)


def decode_page(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Decode the body of a GetRecords answer ahead of botocore, many times as fast.

    A listener of botocore's event ``before-parse``. What it can't decode, such as CBOR or an error, is left
    to botocore.
    """
    if response_dict["status_code"] >= 300:
        return
    try:
        body = _decoder.decode(response_dict["body"])
    except msgspec.DecodeError:
        return
    customized_response_dict["Page"] = Page(body.records, body.next_iterator, body.millis_behind)
    response_dict["body"] = b"{}"


def _page_of_plain_answer(answer: Mapping[str, Any]) -> Page | None:
    if "Records" not in answer:
        return None
    records = tuple(map(plain_record, answer["Records"]))
    return Page(records, answer.get("NextShardIterator"), answer.get("MillisBehindLatest", 0))


def plain_record(plain: Mapping[str, Any]) -> Record:
    """A record as botocore parsed it."""
    return Record(
        sequence_number=plain["SequenceNumber"],
        approximate_arrival=plain["ApproximateArrivalTimestamp"].timestamp(),
        partition_key=writable(plain.get("PartitionKey", "")),
        data=plain["Data"],
    )


def writable(text: str) -> str:
    """Text that every encoding of Unicode can write: half of a surrogate pair becomes ``\\udXXX``.

    JSON can name such a half, and AWS may pass it on. Only botocore's decoder takes it: ours leaves such
    pages to it.
    """
    return text.encode(errors="backslashreplace").decode()


def _shard(listed: Mapping[str, Any]) -> Shard:
    hash_keys = listed["HashKeyRange"]
    parents = (listed.get("ParentShardId"), listed.get("AdjacentParentShardId"))
    return Shard(
        shard_id=listed["ShardId"],
        parents=tuple(parent for parent in parents if parent),
        closed="EndingSequenceNumber" in listed["SequenceNumberRange"],
        starting_sequence_number=listed["SequenceNumberRange"]["StartingSequenceNumber"],
        starting_hash_key=int(hash_keys["StartingHashKey"]),
        ending_hash_key=int(hash_keys["EndingHashKey"]),
    )
