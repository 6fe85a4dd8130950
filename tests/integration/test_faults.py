"""The fault proxy does to requests what its rules say, and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
import snowflake.connector
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.faults.actions import (
    ACCESS_DENIED,
    EXPIRED_ITERATOR,
    INTERNAL_FAILURE,
    LOCK_WAITERS,
    SESSION_EXPIRED,
    THROTTLED,
    Hold,
    aws_error,
    created_at,
    cut,
    edit,
    forget_up_to,
    http_error,
    iterator_older_than,
    lose_answer,
    renew_session,
    snowflake_error,
    truncate,
    without_shards,
)
from tests.faults.detours import through
from tests.faults.proxy import FaultProxy
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

    from local.services import LocalServices
    from tests.faults.proxy import Answer, Forward, Request

pytest_plugins = ["tests.faults.fixtures"]

REPOSITORY = Path(__file__).resolve().parents[2]
SHARDS = ["shardId-000000000000", "shardId-000000000001"]
ONE_TRY = Config(retries={"total_max_attempts": 1})
KEY = {"id": {"S": "1"}}


@pytest.fixture
def client(kinesis_proxy: FaultProxy) -> Iterator[KinesisClient]:
    """A client of Kinesis that tries once, through the proxy."""
    yield from closing(kinesis_proxy, "kinesis")


@pytest.fixture
def dynamodb_client(dynamodb_proxy: FaultProxy) -> Iterator[DynamoDBClient]:
    """A client of DynamoDB that tries once, through the proxy."""
    yield from closing(dynamodb_proxy, "dynamodb")


def closing(proxy: FaultProxy, service: str) -> Iterator[Any]:
    session = boto3.Session(region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    client = session.client(service, endpoint_url=proxy.url, config=ONE_TRY)  # type: ignore[call-overload]
    yield client
    client.close()


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    return make_stream(2)


@pytest.fixture
def items(dynamodb: DynamoDBClient, application_name: str) -> Iterator[str]:
    """Name of a table."""
    dynamodb.create_table(
        TableName=application_name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(
        TableName=application_name, WaiterConfig={"Delay": 0, "MaxAttempts": 10_000}
    )
    yield application_name
    dynamodb.delete_table(TableName=application_name)


@pytest.fixture
def cursor(snowflake_proxy: FaultProxy, detour: LocalServices, database: str) -> Iterator[SnowflakeCursor]:
    """A cursor through the proxy, in a schema with a table T (A INT)."""
    with (
        snowflake.connector.connect(
            **detour.snowflake_parameters(), database=database, schema="PUBLIC"
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("CREATE TABLE T (A INT)")
        yield cursor


def put(kinesis: KinesisClient, stream: str, *payloads: str, shard: int = 0) -> list[str]:
    return [
        kinesis.put_record(
            StreamName=stream, PartitionKey="key", ExplicitHashKey=str(2**127 * shard), Data=payload.encode()
        )["SequenceNumber"]
        for payload in payloads
    ]


def iterator(client: KinesisClient, stream: str, *, shard: int = 0, **start: Any) -> str:
    start = start or {"ShardIteratorType": "TRIM_HORIZON"}
    return client.get_shard_iterator(StreamName=stream, ShardId=SHARDS[shard], **start)["ShardIterator"]


def read(client: KinesisClient, stream: str, *, shard: int = 0, **start: Any) -> list[str]:
    page = client.get_records(ShardIterator=iterator(client, stream, shard=shard, **start))
    return [record["Data"].decode() for record in page["Records"]]


def outcomes(count: int, call: Callable[[], object]) -> list[str]:
    """The codes of the errors of so many calls; "ok" where there was none."""
    return [outcome(call) for _ in range(count)]


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "ok"


def numbers(connection: SnowflakeConnection, database: str) -> list[int]:
    with connection.cursor() as cursor:
        return [row[0] for row in fetch(cursor, f"SELECT A FROM {database}.PUBLIC.T ORDER BY A")]


# --- rules -------------------------------------------------------------------------------------------------


def test_without_rules_answers_come_through_and_requests_are_counted(
    kinesis_proxy: FaultProxy, client: KinesisClient, kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, "a", "b")

    assert read(client, stream) == ["a", "b"]
    assert kinesis_proxy.calls == {"GetShardIterator": 1, "GetRecords": 1}


@pytest.mark.parametrize(
    ("code", "status"), [(THROTTLED, 400), (ACCESS_DENIED, 400), (INTERNAL_FAILURE, 500)]
)
def test_an_error_of_aws_is_given_in_place_of_the_answer(
    kinesis_proxy: FaultProxy, client: KinesisClient, stream: str, code: str, status: int
) -> None:
    kinesis_proxy.add(aws_error(code, "busy"), operation="PutRecord")

    with pytest.raises(ClientError, match="busy") as caught:
        put(client, stream, "never")

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert read(client, stream) == []


def test_a_rule_can_leave_the_first_requests_alone_and_end_by_itself(
    kinesis_proxy: FaultProxy, client: KinesisClient, stream: str
) -> None:
    rule = kinesis_proxy.add(aws_error("X"), operation="ListShards", skip=1, times=2)

    assert outcomes(4, lambda: client.list_shards(StreamName=stream)) == ["ok", "X", "X", "ok"]
    assert rule.hits == 2


def test_a_removed_rule_does_nothing(kinesis_proxy: FaultProxy, client: KinesisClient, stream: str) -> None:
    with kinesis_proxy.add(aws_error("X")):
        during = outcome(lambda: client.list_shards(StreamName=stream))

    assert (during, outcome(lambda: client.list_shards(StreamName=stream))) == ("X", "ok")


def test_chance_is_the_same_with_the_same_seed(
    kinesis_proxy: FaultProxy, client: KinesisClient, stream: str
) -> None:
    runs = []
    for seed in (1, 1, 2):
        with kinesis_proxy.add(aws_error("X"), probability=0.5, seed=seed):
            runs.append(outcomes(20, lambda: client.list_shards(StreamName=stream)))

    assert runs[0] == runs[1] != runs[2]
    assert set(runs[0]) == {"ok", "X"}


def test_the_rule_added_last_comes_first_and_hands_on_to_the_others(
    kinesis_proxy: FaultProxy, client: KinesisClient, stream: str
) -> None:
    kinesis_proxy.add(without_shards(SHARDS[0]), operation="ListShards")
    kinesis_proxy.add(without_shards(SHARDS[1]), operation="ListShards")
    kinesis_proxy.add(aws_error("X"), operation="ListShards", times=1)

    assert outcome(lambda: client.list_shards(StreamName=stream)) == "X"
    assert client.list_shards(StreamName=stream)["Shards"] == []


def test_a_rule_for_one_shard_knows_the_iterators_of_that_shard(
    kinesis_proxy: FaultProxy, client: KinesisClient, kinesis: KinesisClient, stream: str
) -> None:
    put(kinesis, stream, "a", shard=0)
    put(kinesis, stream, "b", shard=1)
    following = client.get_records(ShardIterator=iterator(client, stream, shard=1))["NextShardIterator"]
    kinesis_proxy.add(aws_error(THROTTLED), operation="GetRecords", shard_id=SHARDS[1])

    assert read(client, stream, shard=0) == ["a"]
    assert outcome(lambda: read(client, stream, shard=1)) == THROTTLED
    assert outcome(lambda: client.get_records(ShardIterator=following)) == THROTTLED


def test_a_mistake_in_an_action_fails_the_test(services: LocalServices) -> None:
    async def broken(request: Request, forward: Forward) -> Answer:
        raise ZeroDivisionError

    def use() -> None:
        with FaultProxy(services.kinesis_url) as proxy:
            proxy.add(broken)
            for client in closing(proxy, "kinesis"):
                outcome(client.list_streams)

    with pytest.raises(ZeroDivisionError):
        use()


def test_a_process_of_its_own_is_led_through_by_its_environment(
    services: LocalServices, kinesis_proxy: FaultProxy
) -> None:
    connections = through(services, kinesis=kinesis_proxy.url).airflow_connections()
    program = """
import boto3, json, os
extra = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]
boto3.client("kinesis", **extra["service_config"]["kinesis"]).list_streams()
"""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}

    subprocess.run([sys.executable, "-c", program], env={**os.environ, **connections, **keys}, check=True)

    assert kinesis_proxy.calls == {"ListStreams": 1}


# --- connections -------------------------------------------------------------------------------------------


def test_a_cut_request_never_reaches_the_service(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient, dynamodb: DynamoDBClient, items: str
) -> None:
    dynamodb_proxy.add(cut, operation="PutItem", times=1)

    with pytest.raises(ConnectionClosedError):
        dynamodb_client.put_item(TableName=items, Item=KEY)
    assert "Item" not in dynamodb.get_item(TableName=items, Key=KEY)
    dynamodb_client.put_item(TableName=items, Item=KEY)
    assert "Item" in dynamodb.get_item(TableName=items, Key=KEY)


def test_the_answer_is_lost_after_the_service_has_done_its_work(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient, dynamodb: DynamoDBClient, items: str
) -> None:
    dynamodb_proxy.add(lose_answer, operation="PutItem")

    with pytest.raises(ConnectionClosedError):
        dynamodb_client.put_item(TableName=items, Item=KEY)
    assert "Item" in dynamodb.get_item(TableName=items, Key=KEY)


def test_an_answer_ends_in_its_middle(kinesis_proxy: FaultProxy) -> None:
    # Not a client of botocore: it doesn't notice.
    kinesis_proxy.add(truncate, operation="ListShards")
    connection = http.client.HTTPConnection(urlsplit(kinesis_proxy.url).netloc)

    with contextlib.closing(connection):
        connection.request("POST", "/", b"{}", {"X-Amz-Target": "Kinesis_20131202.ListShards"})
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()

    assert b"<UnknownOperationException".startswith(caught.value.partial)
    assert caught.value.partial


def test_a_held_request_waits_and_others_pass(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient, items: str
) -> None:
    with ThreadPoolExecutor() as pool, Hold() as hold:
        dynamodb_proxy.add(hold, operation="PutItem")
        put = pool.submit(dynamodb_client.put_item, TableName=items, Item=KEY)
        hold.wait()
        assert "Item" not in dynamodb_client.get_item(TableName=items, Key=KEY)
        hold.release()
        put.result()

    assert "Item" in dynamodb_client.get_item(TableName=items, Key=KEY)


def test_a_held_answer_waits_after_the_work_is_done(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient, items: str
) -> None:
    with ThreadPoolExecutor() as pool, Hold(answer=True) as hold:
        dynamodb_proxy.add(hold, operation="PutItem")
        put = pool.submit(dynamodb_client.put_item, TableName=items, Item=KEY)
        hold.wait()
        assert "Item" in dynamodb_client.get_item(TableName=items, Key=KEY)
        assert not put.done()


def test_a_proxy_ends_while_it_holds_a_request(services: LocalServices, stream: str) -> None:
    hold = Hold()
    with ThreadPoolExecutor() as pool:
        with FaultProxy(services.kinesis_url) as proxy:
            proxy.add(hold)
            clients = closing(proxy, "kinesis")
            listing = pool.submit(next(clients).list_shards, StreamName=stream)
            hold.wait()
        with pytest.raises(ConnectionClosedError):
            listing.result()
        next(clients, None)


# --- Kinesis -----------------------------------------------------------------------------------------------


def test_iterators_expire_after_so_many_requests(
    kinesis_proxy: FaultProxy, client: KinesisClient, stream: str
) -> None:
    kinesis_proxy.add(aws_error(EXPIRED_ITERATOR), operation="GetRecords", when=iterator_older_than(2))
    old = iterator(client, stream)

    assert outcomes(3, lambda: client.get_records(ShardIterator=old)) == ["ok", "ok", EXPIRED_ITERATOR]
    assert outcome(lambda: read(client, stream)) == "ok"


@pytest.mark.parametrize(
    ("kind", "number", "rest"),
    [
        ("TRIM_HORIZON", None, ["c"]),
        ("AT_SEQUENCE_NUMBER", 0, ["c"]),
        ("AT_SEQUENCE_NUMBER", 1, ["c"]),
        ("AFTER_SEQUENCE_NUMBER", 0, ["c"]),
        ("AFTER_SEQUENCE_NUMBER", 2, []),
    ],
)
def test_records_age_out(
    kinesis_proxy: FaultProxy,
    client: KinesisClient,
    kinesis: KinesisClient,
    stream: str,
    kind: str,
    number: int | None,
    rest: list[str],
) -> None:
    sequence_numbers = put(kinesis, stream, "a", "b", "c")
    start: dict[str, Any] = {"ShardIteratorType": kind} | (
        {} if number is None else {"StartingSequenceNumber": sequence_numbers[number]}
    )
    before = iterator(client, stream)
    kinesis_proxy.add(forget_up_to(sequence_numbers[1]), shard_id=SHARDS[0])

    assert read(client, stream, **start) == rest
    assert len(client.get_records(ShardIterator=before)["Records"]) == 1


def test_the_record_after_those_that_aged_out_is_the_first_of_a_small_page(
    kinesis_proxy: FaultProxy, client: KinesisClient, kinesis: KinesisClient, stream: str
) -> None:
    sequence_numbers = put(kinesis, stream, "a", "b", "c")
    kinesis_proxy.add(forget_up_to(sequence_numbers[1]), shard_id=SHARDS[0])

    page = client.get_records(ShardIterator=iterator(client, stream), Limit=1)

    assert [record["SequenceNumber"] for record in page["Records"]] == sequence_numbers[2:]


def test_shards_are_no_longer_listed(kinesis_proxy: FaultProxy, client: KinesisClient, stream: str) -> None:
    kinesis_proxy.add(without_shards(SHARDS[0]), operation="ListShards")

    assert [shard["ShardId"] for shard in client.list_shards(StreamName=stream)["Shards"]] == SHARDS[1:]


def test_a_stream_was_made_again(kinesis_proxy: FaultProxy, client: KinesisClient, stream: str) -> None:
    moment = datetime(2020, 1, 2, tzinfo=UTC)
    kinesis_proxy.add(created_at(moment), operation="DescribeStreamSummary")

    summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]

    assert summary["StreamCreationTimestamp"] == moment


# --- DynamoDB ----------------------------------------------------------------------------------------------


def test_a_rule_for_one_shard_knows_its_row(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient
) -> None:
    dynamodb_proxy.add(aws_error(THROTTLED), operation="GetItem", shard_id=SHARDS[0])

    def get(shard: str) -> str:
        key = {"streamName": {"S": "orders"}, "shardId": {"S": shard}}
        return outcome(lambda: dynamodb_client.get_item(TableName="no-such-table", Key=key))

    assert [get(shard) for shard in SHARDS] == [THROTTLED, "ResourceNotFoundException"]


def test_an_edited_answer_of_dynamodb_is_believed(
    dynamodb_proxy: FaultProxy, dynamodb_client: DynamoDBClient, items: str
) -> None:
    dynamodb_proxy.add(
        edit(lambda body: body["Table"].update(TableStatus="UPDATING")), operation="DescribeTable"
    )

    assert dynamodb_client.describe_table(TableName=items)["Table"]["TableStatus"] == "UPDATING"


# --- Snowflake ---------------------------------------------------------------------------------------------


def test_statements_logins_and_uploads_are_counted(
    snowflake_proxy: FaultProxy, cursor: SnowflakeCursor, tmp_path: Path
) -> None:
    file = tmp_path / "file.parquet"
    file.write_bytes(b"0" * 3_000_000)
    cursor.execute("CREATE STAGE S")
    snowflake_proxy.calls.clear()
    cursor.execute("BEGIN")
    cursor.execute(f"PUT file://{file} @S/folder/ AUTO_COMPRESS=FALSE OVERWRITE=TRUE")
    cursor.execute("COMMIT")

    assert snowflake_proxy.calls["UPLOAD"] == 1
    assert {"BEGIN", "PUT", "COMMIT"} <= snowflake_proxy.calls.keys()


def test_an_error_of_snowflake_is_given_in_place_of_the_answer(
    snowflake_proxy: FaultProxy,
    cursor: SnowflakeCursor,
    snowflake_connection: SnowflakeConnection,
    database: str,
) -> None:
    snowflake_proxy.add(snowflake_error(*LOCK_WAITERS), sql=r"insert.*\(1\)")

    with pytest.raises(snowflake.connector.errors.ProgrammingError) as caught:
        cursor.execute("INSERT INTO T VALUES (1)")
    cursor.execute("INSERT INTO T VALUES (2)")

    assert (caught.value.errno, caught.value.sqlstate) == (625, "57014")
    assert numbers(snowflake_connection, database) == [2]


@pytest.mark.parametrize("fault", [cut, lose_answer, http_error(503)])
def test_a_statement_that_is_sent_again_runs_once(
    snowflake_proxy: FaultProxy,
    cursor: SnowflakeCursor,
    snowflake_connection: SnowflakeConnection,
    database: str,
    fault: Any,
) -> None:
    snowflake_proxy.add(fault, operation="INSERT", times=1)

    cursor.execute("INSERT INTO T VALUES (1)")

    assert snowflake_proxy.calls["INSERT"] == 2
    assert cursor.rowcount == 1
    assert numbers(snowflake_connection, database) == [1]


def test_an_expired_session_is_renewed(
    snowflake_proxy: FaultProxy,
    cursor: SnowflakeCursor,
    snowflake_connection: SnowflakeConnection,
    database: str,
) -> None:
    snowflake_proxy.add(snowflake_error(*SESSION_EXPIRED), operation="INSERT", times=1)
    renewal = snowflake_proxy.add(renew_session, operation="token-request")

    cursor.execute("INSERT INTO T VALUES (1)")

    assert renewal.hits == 1
    assert numbers(snowflake_connection, database) == [1]


def test_an_upload_is_cut_and_tried_again(
    snowflake_proxy: FaultProxy, cursor: SnowflakeCursor, tmp_path: Path
) -> None:
    file = tmp_path / "file.csv"
    file.write_text("1\n")
    cursor.execute("CREATE STAGE S")
    rule = snowflake_proxy.add(cut, operation="UPLOAD", times=1)

    answer = fetch(cursor, f"PUT file://{file} @S AUTO_COMPRESS=FALSE OVERWRITE=TRUE")

    assert rule.hits == 1
    assert answer[0][6] == "UPLOADED"
