"""Streams of other accounts and regions, with the state in one's own.

kinesis-local refuses ARNs of accounts and regions that aren't its own; moto has STS, and a DynamoDB for each
account.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from airflow_kinesis_snowflake.check.bench import CheckSettings
from airflow_kinesis_snowflake.check.checks import CheckVerdict
from airflow_kinesis_snowflake.check.running import run_checks
from airflow_kinesis_snowflake.cli import main
from airflow_kinesis_snowflake.exceptions import StreamNotFoundError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.operators.audit import AuditOperator
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.operators.maintenance import InspectStateOperator, PlanStateResetOperator
from airflow_kinesis_snowflake.sensors.lag import KinesisDrainedSensor
from local.processes import Process
from local.services import HERE, find_node, wait_until_active, wait_until_it_answers
from tests.conftest import unique
from tests.helpers import context_of, fetch

from .test_kinesis_to_snowflake import TaskInstance, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

pytestmark = pytest.mark.usefixtures("services")

OWN, THEIRS = "123456789012", "222222222222"
HERE_REGION, THERE = "us-east-1", "eu-west-1"
OF_STREAM = ("--aws-conn-id", "theirs", "--dynamodb-conn-id", "own", "--stream")
ROLE = f"arn:aws:iam::{THEIRS}:role/reader"


@pytest.fixture(scope="module")
def kinesis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the Kinesis of the other account."""
    env = {**os.environ, "AWS_ACCOUNT_ID": THEIRS, "AWS_REGION": THERE}
    command: list[str | Path] = [find_node(), HERE / "serve.cjs", "kinesis-local"]
    with Process("theirs", command, folder=tmp_path_factory.mktemp("theirs"), env=env) as process:
        yield f"http://127.0.0.1:{wait_until_it_answers(process)}"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Address of a server that plays STS and DynamoDB of all accounts."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(autouse=True)
def _connections(kinesis_url: str, moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``theirs`` assumes a role in the other account, ``own`` has the credentials of one's own."""
    requests.post(f"{moto}/moto-api/reset", timeout=10).raise_for_status()
    endpoints = {
        "kinesis": {"endpoint_url": kinesis_url},
        "dynamodb": {"endpoint_url": moto},
        "sts": {"endpoint_url": moto},
        "iam": {"endpoint_url": moto},
    }
    role = {"role_arn": ROLE, "assume_role_kwargs": {"ExternalId": "agreed"}}
    for conn_id, extra in {"own": {}, "theirs": role}.items():
        connection = {
            "conn_type": "aws",
            "login": "test",
            "password": "test",
            "extra": {"region_name": HERE_REGION, "service_config": endpoints, **extra},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))


def kinesis_of(url: str, region: str = THERE) -> KinesisClient:
    return boto3.client(
        "kinesis",
        region_name=region,
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def dynamodb_of(url: str, account: str) -> DynamoDBClient:
    keys: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    given: dict[str, Any] = {"region_name": HERE_REGION, "endpoint_url": url}
    if account == THEIRS:
        sts = boto3.client("sts", **given, **keys)
        session = sts.assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
        keys = {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }
    client: DynamoDBClient = boto3.client("dynamodb", **given, **keys)
    return client


def make(url: str, name: str, *, region: str = THERE, records: int = 3) -> str:
    """Make a stream with records; its ARN."""
    kinesis = kinesis_of(url, region)
    kinesis.create_stream(StreamName=name, ShardCount=2)
    wait_until_active(kinesis, name)
    for number in range(records):
        data = json.dumps({"n": number, "region": region}).encode()
        kinesis.put_record(StreamName=name, PartitionKey=str(number), Data=data)
    return f"arn:aws:kinesis:{region}:{THEIRS}:stream/{name}"


@pytest.fixture
def stream() -> str:
    """A name no other test uses."""
    return unique("orders")


@pytest.fixture
def settings(application_name: str, table: str) -> dict[str, Any]:
    """Settings of the operators, but for the stream."""
    return {
        "application_name": application_name,
        "table": table,
        "aws_conn_id": "theirs",
        "dynamodb_conn_id": "own",
    }


def drain(settings: dict[str, Any], stream: str) -> dict[str, Any]:
    return run(KinesisToSnowflakeOperator(task_id="drain", stream_name=stream, **settings))


def landed(connection: SnowflakeConnection, table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        return fetch(
            cursor,
            f'SELECT "RECORD_CONTENT":n::NUMBER, "KINESISMETADATA":stream::VARCHAR FROM {table} ORDER BY 1',
        )


def test_a_stream_of_another_account_is_drained_by_arn_with_the_state_in_ones_own(
    kinesis_url: str,
    moto: str,
    stream: str,
    settings: dict[str, Any],
    snowflake_connection: SnowflakeConnection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arn, application = make(kinesis_url, stream), settings["application_name"]

    report = drain(settings, arn)

    assert (report["records"], report["stream_name"], report["stream_arn"]) == (3, stream, arn)
    assert report["assets"]["stream"] == f"kinesis-stream://{THERE}/{THEIRS}/{stream}"
    assert landed(snowflake_connection, settings["table"]) == [(number, stream) for number in range(3)]
    assert drain(settings, arn)["records"] == 0

    # The state is in one's own account, under the stream's name, and nowhere else.
    assert dynamodb_of(moto, OWN).list_tables()["TableNames"] == [application]
    assert dynamodb_of(moto, THEIRS).list_tables()["TableNames"] == []
    store = CheckpointStoreHook(application, aws_conn_id="own")
    assert f":{HERE_REGION}:{OWN}:table/" in str(store.describe_table().arn)
    rows = store.read_items()
    assert {(row["streamName"]["S"], row["streamArn"]["S"]) for row in rows} == {(stream, arn)}

    # What looks after it is given the same.
    both: dict[str, Any] = {"stream_name": arn, "aws_conn_id": "theirs", "dynamodb_conn_id": "own"}
    sensor = KinesisDrainedSensor(
        task_id="wait", application_name=application, until="2020-01-01T00:00:00Z", **both
    )
    assert sensor.poke({})
    looked_after = {"stream_name": arn, **settings}
    found = InspectStateOperator(task_id="inspect", **looked_after).execute(context_of(TaskInstance()))
    assert found["findings"] == []
    audited = AuditOperator(task_id="audit", **looked_after).execute(context_of(TaskInstance()))
    assert audited["exactly_once"]
    assert main(["show", "--application", application, *OF_STREAM, arn]) == 0
    assert "2 shards" in capsys.readouterr().out


def test_a_check_says_whose_credentials_reach_the_stream_and_what_they_and_ones_own_may_do(
    kinesis_url: str, stream: str, settings: dict[str, Any]
) -> None:
    arn, application = make(kinesis_url, stream), settings["application_name"]
    drain(settings, arn)
    names = ("stream-permissions", "state-permissions", "aws-identity", "application-table")

    report = run_checks(
        CheckSettings(
            stream=arn,
            application=application,
            only=names,
            aws={"aws_conn_id": "theirs", "region_name": THERE},
            dynamodb_conn_id="own",
        )
    )

    said = {result.check.name: (result.verdict, result.text) for result in report.results}
    assert {verdict for verdict, _ in said.values()} == {CheckVerdict.HELD}, report.text()
    assert said["stream-permissions"][1] == f"4 actions on {arn} allowed"
    assert f":{OWN}:table/{application} allowed" in said["state-permissions"][1]
    assert said["aws-identity"][1].startswith(f"arn:aws:sts::{THEIRS}:assumed-role/reader/")
    assert said["aws-identity"][1].endswith(f"reads a stream of account {THEIRS}")
    assert "with 2 shards of the stream" in said["application-table"][1]


@pytest.mark.parametrize("wrong", [{"account": OWN}, {"region": HERE_REGION}])
def test_an_arn_is_never_taken_for_a_stream_of_the_same_name_elsewhere(
    kinesis_url: str, stream: str, settings: dict[str, Any], wrong: dict[str, str]
) -> None:
    make(kinesis_url, stream)
    place = {"region": THERE, "account": THEIRS} | wrong
    with pytest.raises(AirflowFailException, match="StreamNotFoundError"):
        drain(settings, f"arn:aws:kinesis:{place['region']}:{place['account']}:stream/{stream}")


def test_two_streams_of_one_name_never_share_an_application(
    kinesis_url: str,
    stream: str,
    settings: dict[str, Any],
    snowflake_connection: SnowflakeConnection,
) -> None:
    first, second = make(kinesis_url, stream), make(kinesis_url, stream, region=HERE_REGION, records=5)
    assert drain(settings, first)["records"] == 3
    store = CheckpointStoreHook(settings["application_name"], aws_conn_id="own")
    before = store.read_items()

    refused = f"AnotherStreamError: Give {second} a separate application: .* {first}"
    with pytest.raises(AirflowFailException, match=refused):
        drain(settings, second)
    rewind = PlanStateResetOperator(
        task_id="plan", stream_name=second, method="rewind", position="TRIM_HORIZON", **settings
    )
    with pytest.raises(AirflowFailException, match=r"MaintenanceRefusedError: .*an application of its own"):
        rewind.execute(context_of(TaskInstance()))
    found = InspectStateOperator(task_id="inspect", stream_name=second, **settings).execute(
        context_of(TaskInstance())
    )
    assert f"it belongs to {first}, not to {second}" in json.dumps(found)
    assert store.read_items() == before
    sensor = KinesisDrainedSensor(
        task_id="wait",
        stream_name=second,
        until="2020-01-01T00:00:00Z",
        **{name: value for name, value in settings.items() if name != "table"},
    )
    with pytest.raises(AirflowFailException, match=f"AnotherStreamError: .* {first}"):
        sensor.poke({})

    own = settings | {"application_name": unique("application")}
    assert drain(own, second)["records"] == 5
    assert drain(settings, first)["records"] == 0
    assert len(landed(snowflake_connection, settings["table"])) == 8


def test_rows_that_do_not_say_whose_they_are_are_believed_and_say_so_from_then_on(
    kinesis_url: str, moto: str, stream: str, settings: dict[str, Any]
) -> None:
    arn = make(kinesis_url, stream)
    drain(settings, arn)
    store = CheckpointStoreHook(settings["application_name"], aws_conn_id="own")
    for row in store.read_items():
        dynamodb_of(moto, OWN).update_item(
            TableName=settings["application_name"],
            Key={name: row[name] for name in ("streamName", "shardId")},
            UpdateExpression="REMOVE streamArn, streamCreated, incarnation",
        )

    assert drain(settings, arn)["records"] == 0
    assert {row["streamArn"]["S"] for row in store.read_items()} == {arn}


def test_an_account_sees_the_streams_of_its_role_alone(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for conn_id, role in {"own_aws": {}, "their_aws": {"role_arn": ROLE}}.items():
        extra = {
            "region_name": THERE,
            "endpoint_url": moto,
            "service_config": {"sts": {"endpoint_url": moto}},
        }
        connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": {**extra, **role}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
    arn = f"arn:aws:kinesis:{THERE}:{THEIRS}:stream/orders"
    theirs = KinesisStreamHook(arn, aws_conn_id="their_aws")
    client: KinesisClient = theirs.get_conn()
    client.create_stream(StreamName="orders", ShardCount=1)

    assert theirs.describe().arn == arn
    with pytest.raises(StreamNotFoundError):
        KinesisStreamHook(arn, aws_conn_id="own_aws").describe()
