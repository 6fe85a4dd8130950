"""Taking over from a real client of the Kinesis Client Library, and from tables as others write them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator

from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.maintenance.takeover.apply import apply_import
from airflow_kinesis_snowflake.maintenance.takeover.plan import ImportPlan, import_text, plan_import
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import wait_until_active

from .one_endpoint import one_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices
    from tests.faults.proxy import Answer, FaultProxy, Forward, Request
    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures"]

PARENT = "shardId-000000000000"
WORKER = Path(__file__).with_name("kcl_worker.py")


@pytest.fixture
def endpoint(services: LocalServices) -> Iterator[str]:
    """One address of the local Kinesis and DynamoDB."""
    with one_endpoint({"Kinesis_": services.kinesis_url, "DynamoDB_": services.dynamodb_url}) as address:
        yield address


@pytest.fixture
def consume(endpoint: str) -> Callable[..., None]:
    """Function that lets the Kinesis Client Library read so many records."""

    def consume_records(source: str, count: int, *streams: str) -> None:
        command = [sys.executable, str(WORKER), endpoint, source, str(count), *streams]
        subprocess.run(command, check=True, timeout=120, capture_output=True)

    return consume_records


def plan(pipeline: Pipeline, source: str, **settings: Any) -> ImportPlan:
    return plan_import(
        source=source,
        kinesis=KinesisStreamHook(pipeline.stream),
        tables=DynamoDBTablesHook(),
        store=pipeline.store,
        now=now_millis(),
        **{"watch_seconds": 0.1, **settings},
    )


def take_over(pipeline: Pipeline, source: str, **settings: Any) -> ImportPlan:
    made = plan(pipeline, source, **settings)
    apply_import(made, store=pipeline.store, clock=now_millis)
    return made


def items(dynamodb: DynamoDBClient, table: str) -> list[dict[str, Any]]:
    return sorted(dynamodb.scan(TableName=table)["Items"], key=str)


def test_a_drain_goes_on_where_the_kinesis_client_library_stopped(
    make_pipeline: Callable[..., Pipeline],
    consume: Callable[..., None],
    dynamodb: DynamoDBClient,
) -> None:
    pipeline = make_pipeline(2)
    source = f"{pipeline.application}-kcl"
    pipeline.send(12)
    consume(source, 12, pipeline.stream)
    before = items(dynamodb, source)
    made = take_over(pipeline, source)
    pipeline.send(5)
    pipeline.drain().run()
    assert pipeline.landed == [12, 13, 14, 15, 16]
    assert items(dynamodb, source) == before
    assert made.kind == "Kinesis Client Library"
    assert len(made.shards) == 2
    assert pipeline.stream in import_text(made)


def test_a_drain_goes_on_inside_the_aggregate_where_it_stopped_and_in_children_it_never_saw(
    make_pipeline: Callable[..., Pipeline], consume: Callable[..., None], kinesis: KinesisClient
) -> None:
    pipeline = make_pipeline(1)
    source = f"{pipeline.application}-kcl"
    pipeline.send(4)
    send_aggregate(pipeline, 3)
    consume(source, 6, pipeline.stream)
    kinesis.split_shard(StreamName=pipeline.stream, ShardToSplit=PARENT, NewStartingHashKey=str(2**127))
    wait_until_active(kinesis, pipeline.stream)
    send_aggregate(pipeline, 5)
    pipeline.send(3)

    made = take_over(pipeline, source)
    # Kinesalite dates the records of young shards a few seconds into the future.
    pipeline.drain(stop_at=datetime.now(UTC) + timedelta(seconds=30)).run()

    assert pipeline.landed == list(range(6, 15))
    parent = next(shard for shard in made.shards if shard.shard_id == PARENT)
    assert parent.checkpoint is not None
    assert parent.checkpoint.sub_sequence_number == 1


def send_aggregate(pipeline: Pipeline, count: int) -> None:
    """Put the next numbers into the stream as one record."""
    aggregate = RecordAggregator()
    numbers = range(len(pipeline.sent), len(pipeline.sent) + count)
    for number in numbers:
        assert aggregate.add_user_record("key", json.dumps({"n": number}).encode()) is None
    key, _, data = aggregate.clear_and_get().get_contents()
    pipeline.send_payloads([(key, bytes(data))])
    pipeline.sent += numbers


def test_leases_of_one_of_several_streams_are_taken_over(
    make_pipeline: Callable[..., Pipeline],
    consume: Callable[..., None],
    kinesis: KinesisClient,
    make_stream: Callable[..., str],
) -> None:
    pipeline = make_pipeline(1)
    other = make_stream(1)
    pipeline.send(4)
    kinesis.put_record(StreamName=other, PartitionKey="a", Data=b"{}")
    names = []
    for stream in (pipeline.stream, other):
        summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
        created = int(summary["StreamCreationTimestamp"].timestamp())
        names.append(f"000000000000:{stream}:{created}")
    source = f"{pipeline.application}-kcl"
    consume(source, 5, *names)
    made = take_over(pipeline, source)
    pipeline.send(2)
    pipeline.drain().run()
    assert pipeline.landed == [4, 5]
    assert made.skipped[f"leases of stream {other}"] == 1


def test_a_live_consumer_is_refused(drained: Pipeline, dynamodb: DynamoDBClient) -> None:
    shard = next(iter(drained.state.shards.values()))
    now = now_millis()
    drained.store.take_lease(
        drained.stream, shard, owner="alive", expiry=now + 60_000, now=now, incarnation="any"
    )
    source, drained.application = drained.application, f"{drained.application}-2"
    with pytest.raises(MaintenanceRefusedError, match="it is alive"):
        plan(drained, source)


def test_a_copy_of_a_table_goes_on_under_another_name_and_is_made_once(drained: Pipeline) -> None:
    source, drained.application = drained.application, f"{drained.application}-2"
    made = take_over(drained, source)
    before = drained.state
    take_over(drained, source)
    assert drained.state == before
    drained.send(3)
    drained.drain().run()
    assert made.kind == "Openflow"
    assert drained.landed == list(range(23))


def test_an_import_that_a_worker_came_before_is_no_success(
    drained: Pipeline, dynamodb: DynamoDBClient, dynamodb_proxy: FaultProxy
) -> None:
    source, drained.application = drained.application, f"{drained.application}-2"

    async def drain_first(request: Request, forward: Forward) -> Answer:
        row = {"startAt": {"S": "TRIM_HORIZON"}, "incarnation": {"S": "of a drain"}}
        dynamodb.put_item(TableName=request.json["TableName"], Item={**request.json["Key"], **row})
        return await forward(request)

    rule = dynamodb_proxy.add(drain_first, operation="UpdateItem", times=1)
    with pytest.raises(MaintenanceRefusedError, match="import again"):
        take_over(drained, source)
    assert rule.hits == 1


def test_rows_that_an_import_left_leased_when_it_died_are_freed_by_the_next_try(drained: Pipeline) -> None:
    source, drained.application = drained.application, f"{drained.application}-2"
    made = take_over(drained, source)
    now = now_millis()
    shard_id = min(drained.state.shards)
    drained.store.hold(drained.stream, shard_id, owner=f"import#{source}", expiry=now + 60_000, now=now)
    assert apply_import(made, store=drained.store, clock=now_millis) == {"created": 0, "there": 2}
    assert [row.lease_owner for row in drained.state.shards.values()] == [None, None]


def test_a_table_of_openflow_is_used_in_place(
    make_pipeline: Callable[..., Pipeline], dynamodb: DynamoDBClient, kinesis: KinesisClient
) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(3)
    iterator = kinesis.get_shard_iterator(
        StreamName=pipeline.stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    second = kinesis.get_records(ShardIterator=iterator)["Records"][1]["SequenceNumber"]
    pipeline.store.create_table()
    dynamodb.put_item(
        TableName=pipeline.application,
        Item={
            "streamName": {"S": pipeline.stream},
            "shardId": {"S": "shardId-000000000000"},
            "sequenceNumber": {"S": second},
            "lastUpdateTimestamp": {"N": "1"},
        },
    )
    before = items(dynamodb, pipeline.application)
    made = take_over(pipeline, pipeline.application)
    assert items(dynamodb, pipeline.application) == before
    assert made.shards[0].checkpoint == Position(second)
    pipeline.drain().run()
    assert pipeline.landed == [2]


def test_an_application_with_checkpoints_of_its_own_is_refused(drained: Pipeline) -> None:
    source, drained.application = drained.application, f"{drained.application}-2"
    drained.drain().run()
    with pytest.raises(MaintenanceRefusedError, match="has checkpoints"):
        plan(drained, source)


@pytest.mark.parametrize("keys", [None, ["id"]])
def test_a_table_that_is_no_consumers_is_refused(
    drained: Pipeline, dynamodb: DynamoDBClient, keys: list[str] | None
) -> None:
    source = f"{drained.application}-other"
    if keys:
        dynamodb.create_table(
            TableName=source,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": keys[0], "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": keys[0], "AttributeType": "S"}],
        )
    with pytest.raises(MaintenanceRefusedError, match="Nothing was imported"):
        plan(drained, source)
