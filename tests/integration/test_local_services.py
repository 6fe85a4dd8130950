"""The local services that the other tests are built on answer, and keep what they are given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import snowflake.connector

from local.processes import Process, ProcessFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from local.services import LocalServices

REPOSITORY = Path(__file__).resolve().parents[2]


def test_a_connection_leaves_the_parameters_of_the_next_alone(services: LocalServices) -> None:
    before = services.airflow_connections()

    snowflake.connector.connect(**services.snowflake_parameters()).close()

    assert services.airflow_connections() == before


def test_kinesis_keeps_records(kinesis: KinesisClient, make_stream: Callable[..., str]) -> None:
    stream = make_stream(shards=2)
    put = kinesis.put_record(StreamName=stream, PartitionKey="a", Data=b"payload")

    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]

    assert [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]] == [
        b"payload"
    ]


def test_kinesis_has_room_for_hundreds_of_shards(
    kinesis: KinesisClient, make_stream: Callable[..., str]
) -> None:
    stream = make_stream(shards=300)

    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]

    assert summary["OpenShardCount"] == 300


def test_dynamodb_keeps_items(dynamodb: DynamoDBClient, application_name: str) -> None:
    dynamodb.create_table(
        TableName=application_name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(
        TableName=application_name, WaiterConfig={"Delay": 0, "MaxAttempts": 10_000}
    )
    item = {"id": {"S": "1"}, "count": {"N": "2"}}
    dynamodb.put_item(TableName=application_name, Item=item)

    assert dynamodb.get_item(TableName=application_name, Key={"id": {"S": "1"}})["Item"] == item


def test_snowflake_keeps_rows(snowflake_connection: SnowflakeConnection, table: str) -> None:
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (A INT)")
        cursor.execute(f"INSERT INTO {table} VALUES (1), (2)")

        cursor.execute(f"SELECT SUM(A) FROM {table}")

        assert cursor.fetchall() == [(3,)]


def test_snowflake_logins_are_counted(services: LocalServices, request: pytest.FixtureRequest) -> None:
    before = services.snowflake_logins()
    request.getfixturevalue("snowflake_connection")

    assert services.snowflake_logins() == before + 1


def test_a_process_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo it is broken; exit 3"]

    with (
        Process("broken", command, folder=tmp_path, env={}) as process,
        pytest.raises(ProcessFailedError, match=r"broken ended with status 3(?s:.)*it is broken"),
    ):
        process.wait_for_port()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_process_does_not_outlive_the_program_that_started_it(tmp_path: Path, end: signal.Signals) -> None:
    alive, gone = tmp_path / "alive", tmp_path / "gone"
    child = ["sh", "-c", f"trap 'touch {gone}; exit' TERM; touch {alive}; while true; do sleep 0.01; done"]
    parent = f"""
import os, pathlib, sys, time
from local.processes import Process
process = Process("child", {child!r}, folder=pathlib.Path({str(tmp_path)!r}), env=dict(os.environ))
process.wait_until(lambda: pathlib.Path({str(alive)!r}).exists() or None, timeout=30)
os.kill(os.getpid(), {end.value})
"""

    result = subprocess.run([sys.executable, "-c", parent], cwd=REPOSITORY, check=False, timeout=60)

    assert result.returncode == -end
    wait_until(gone.exists)


def test_a_process_takes_its_descendants_along_even_those_with_a_session_of_their_own(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"""
import pathlib, subprocess, sys
grandchild = subprocess.Popen(["sleep", "1000"], start_new_session=True)
pathlib.Path({str(pid_file)!r}).write_text(f"{{grandchild.pid}} ")
grandchild.wait()
"""

    with Process("child", [sys.executable, "-c", program], folder=tmp_path, env=dict(os.environ)) as process:
        process.wait_until(lambda: (pid_file.exists() and " " in pid_file.read_text()) or None, timeout=30)

    wait_until(lambda: not psutil.pid_exists(int(pid_file.read_text())))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
