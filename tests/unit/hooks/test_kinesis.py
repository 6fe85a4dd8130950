"""The Kinesis hook against answers that no local service gives."""

from __future__ import annotations

from base64 import b64encode
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

from airflow_kinesis_snowflake.engine.leases import LEASE_SECONDS
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    IteratorExpiredError,
    ServiceUnavailableError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.stream.records import Page, Record

if TYPE_CHECKING:
    from tests.unit.hooks.conftest import Answers


@pytest.fixture(scope="module")
def hook(aws_of_module: Answers) -> KinesisStreamHook:
    return KinesisStreamHook("orders", config={"retries": {"total_max_attempts": 3, "mode": "standard"}})


def test_a_connection_that_does_not_exist_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object, conn_id: str) -> None:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(KinesisStreamHook, "get_connection", missing)
    with pytest.raises(InvalidSettingError, match="Create the Airflow connection 'nowhere'"):
        KinesisStreamHook("orders", aws_conn_id="nowhere", region_name="eu-west-1").place()
    assert KinesisStreamHook("orders", aws_conn_id=None, region_name="eu-west-1").place()


def test_an_answer_without_a_date_that_can_be_read_is_a_passing_fault(
    hook: KinesisStreamHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for date in (None, "yesterday"):
        answer = {"ResponseMetadata": {"HTTPHeaders": {} if date is None else {"date": date}}}
        client = SimpleNamespace(describe_stream_summary=lambda answer=answer, **_: answer)
        monkeypatch.setattr(hook, "_client_for_control", lambda client=client: client)
        with pytest.raises(ServiceUnavailableError, match="dates"):
            hook.describe()


def plain_record(**changes: Any) -> dict[str, Any]:
    record = {
        "SequenceNumber": "12",
        "ApproximateArrivalTimestamp": 1_700_000_000.123,
        "PartitionKey": "key",
        "Data": b64encode(b"\x00payload\xff").decode(),
        "EncryptionType": "KMS",
    } | changes
    return {name: value for name, value in record.items() if value is not None}


@pytest.mark.parametrize(
    "name", ["", "a" * 129, "sp ace", "arn:aws:kinesis:eu-west-1:1:stream/orders", "a\n"]
)
def test_a_name_that_cannot_be_a_stream_is_refused(name: str) -> None:
    with pytest.raises(InvalidSettingError):
        KinesisStreamHook(name)


def test_a_call_that_isnt_answered_ends_before_the_lease_of_its_shard_does() -> None:
    ours: Any = KinesisStreamHook("orders").config
    said: Any = KinesisStreamHook("orders", config={"read_timeout": 50}).config
    assert ours.read_timeout < LEASE_SECONDS
    assert said.read_timeout == 50


def test_a_page_is_decoded(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(
        200,
        {
            "Records": [plain_record()],
            "NextShardIterator": "next",
            "MillisBehindLatest": 5,
            "ChildShards": [],
        },
    )

    page = hook.get_page("iterator", limit=7)

    record = Record(
        sequence_number="12",
        approximate_arrival=1_700_000_000.123,
        partition_key="key",
        data=b"\x00payload\xff",
    )
    assert page == Page((record,), "next", 5)
    assert aws.requests == [{"ShardIterator": "iterator", "Limit": 7}]


def test_a_page_may_lack_what_the_service_leaves_out(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(200, {"Records": []})

    assert hook.get_page("iterator") == Page((), None, 0)


def test_a_record_without_partition_key_has_an_empty_one(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(200, {"Records": [plain_record(PartitionKey=None)], "NextShardIterator": "next"})

    (record,) = hook.get_page("iterator").records

    assert record.partition_key == ""
    assert record.data == b"\x00payload\xff"
    assert record.arrival_millis == 1_700_000_000_123


def test_a_partition_key_with_half_a_character_becomes_text_that_can_be_written(
    aws: Answers, hook: KinesisStreamHook
) -> None:
    """JSON can name half of a surrogate pair, which no encoding of Unicode has."""
    aws.add(200, {"Records": [plain_record(PartitionKey="a\ud800\\é😀")], "NextShardIterator": "next"})

    (record,) = hook.get_page("iterator").records

    assert record.partition_key == "a\\ud800\\é😀"
    assert record.partition_key.encode()
    assert record.data == b"\x00payload\xff"


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>Please log in</html>", b'{"Records": [{"Sequ'])
def test_an_answer_that_is_no_page_does_not_end_the_shard(
    aws: Answers, hook: KinesisStreamHook, body: bytes
) -> None:
    aws.add(200, body)

    with pytest.raises(ServiceUnavailableError, match="proxy"):
        hook.get_page("iterator")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ProvisionedThroughputExceededException", 400, ThrottledError),
        ("KMSThrottlingException", 400, ThrottledError),
        ("InternalFailure", 500, ServiceUnavailableError),
        ("ExpiredIteratorException", 400, IteratorExpiredError),
        ("KMSDisabledException", 400, AccessDeniedError),
        ("AccessDeniedException", 400, AccessDeniedError),
    ],
)
def test_a_page_is_asked_for_once(
    aws: Answers, hook: KinesisStreamHook, code: str, status: int, kind: type[Exception]
) -> None:
    aws.add_error(code, status=status)

    with pytest.raises(kind) as raised:
        hook.get_page("iterator")

    assert type(raised.value) is kind
    assert len(aws.requests) == 1


def listed(number: int, **more: str) -> dict[str, Any]:
    return {
        "ShardId": f"shardId-{number}",
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
        "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        **more,
    }


def test_other_calls_are_tried_again(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add_error("LimitExceededException")
    aws.add(200, {"Shards": [listed(0)]})

    assert len(hook.list_shards()) == 1
    assert len(aws.requests) == 2


def test_a_list_without_shards_is_not_believed(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(200, {"Shards": []})

    with pytest.raises(ServiceUnavailableError, match="named no shard"):
        hook.list_shards()


def test_shards_come_from_all_pages(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(200, {"Shards": [listed(0), listed(1)], "NextToken": "second"})
    aws.add(200, {"Shards": [listed(2, ParentShardId="shardId-0", AdjacentParentShardId="shardId-1")]})

    shards = hook.list_shards()

    assert [shard.shard_id for shard in shards] == ["shardId-0", "shardId-1", "shardId-2"]
    assert shards[2].parents == ("shardId-0", "shardId-1")
    assert aws.requests == [{"StreamName": "orders"}, {"NextToken": "second"}]


def test_encryption_is_seen(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add(
        200,
        {
            "StreamDescriptionSummary": {
                "StreamName": "orders",
                "StreamARN": "arn:aws:kinesis:eu-west-1:1:stream/orders",
                "StreamStatus": "UPDATING",
                "RetentionPeriodHours": 48,
                "StreamCreationTimestamp": 1_700_000_000,
                "EncryptionType": "KMS",
            }
        },
    )

    assert hook.describe().encryption
    assert hook.test_connection() == (
        True,
        "stream 'orders' in eu-west-1 (connection 'aws_default') is UPDATING and keeps records for 48 hours.",
    )


def test_the_connection_test_says_which_permission_is_missing(aws: Answers, hook: KinesisStreamHook) -> None:
    aws.add_error("AccessDeniedException", "not authorized")

    works, message = hook.test_connection()

    assert not works
    assert "Allow kinesis:DescribeStreamSummary" in message


@pytest.mark.usefixtures("nobody")
def test_a_service_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(ServiceUnavailableError, match="stream 'orders' in eu-west-1"):
        KinesisStreamHook("orders").get_page("iterator")
