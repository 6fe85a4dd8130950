"""Mistakes of people who use this for the first time: what to do comes first, in a line of its own.

Airflow's log doesn't wrap lines, so what counts is their first hundred characters.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.operators.maintenance import PlanStateResetOperator
from tests.faults.snowflake import NastySnowflake
from tests.helpers import context_of

from .test_kinesis_to_snowflake import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient
    from snowflake.connector import SnowflakeConnection

    from local.services import LocalServices

SHOWN = 100
KEY = {"login": "AKIA", "password": "secret"}


@dataclass(frozen=True)
class Mistake:
    """A mistake, and what its error says first.

    :param says: what the first hundred characters hold, the first of these at their beginning
    :param settings: of the operator, over those that work
    :param connection: an Airflow connection, by the name of the setting that names it; as JSON, or as text
    """

    says: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    connection: tuple[str, Any] | None = None


def aws(**connection: Any) -> tuple[str, Any]:
    return "aws_conn_id", {"conn_type": "aws", **connection}


def snowflake(**connection: Any) -> tuple[str, Any]:
    defaults = {"conn_type": "snowflake", "login": "loader", "password": "x", "extra": {"account": "a-b"}}
    return "snowflake_conn_id", {**defaults, **connection}


IN_THE_CODE = {
    "a part of the stream's ARN": Mistake(
        ("stream_name: Give the name of a Kinesis stream",), {"stream_name": "stream/clicks"}
    ),
    "a table without its database": Mistake(
        ("table: write DATABASE.SCHEMA.TABLE, and double quotes",), {"table": "CLICKS"}
    ),
    "a mapping that is misspelled": Mistake(
        ("mapping must be 'envelope', 'columns' or Columns(...)",), {"mapping": "colums"}
    ),
    "a format that isn't known": Mistake(("payload_format must be",), {"payload_format": "jsn"}),
    "a time without a time zone": Mistake(
        ("initial_timestamp must be ISO-8601 with a time zone",),
        {"initial_position": "AT_TIMESTAMP", "initial_timestamp": "2026-01-31 06:00"},
    ),
    "a start that needs a time": Mistake(
        ("set initial_timestamp for initial_position='AT_TIMESTAMP'",), {"initial_position": "AT_TIMESTAMP"}
    ),
    "columns of an envelope": Mistake(
        ("rename must be left out, or mapping be 'columns'",), {"rename": {"id": "ID"}}
    ),
    "a limit that is no number": Mistake(("max_dead_letters must be",), {"max_dead_letters": "few"}),
}

WHERE_IT_RUNS = {
    "a stream that doesn't exist": Mistake(
        ("Check its name or ARN, and the connection's account and region",), {"stream_name": "clikcs"}
    ),
    "an application that can't be a table": Mistake(
        ("Give the application a name that a DynamoDB table can have",), {"application_name": "clicks to sf"}
    ),
    "an AWS connection that doesn't exist": Mistake(
        ("Create the Airflow connection 'aws_prod' of type aws",), {"aws_conn_id": "aws_prod"}
    ),
    "an AWS connection that is malformed": Mistake(
        ("Correct the environment variable AIRFLOW_CONN_MINE",), connection=("aws_conn_id", "{'extra': {}}")
    ),
    "an AWS connection of another type": Mistake(
        ("Set the type of the Airflow connection 'mine' to aws",),
        connection=("aws_conn_id", {"conn_type": "generic", **KEY}),
    ),
    "an AWS connection whose extra is no JSON": Mistake(
        ("Correct the extra of the Airflow connection 'mine': it must be a JSON object",),
        connection=aws(**KEY, extra="region_name=eu-west-1"),
    ),
    "an AWS connection without a region": Mistake(
        ("Set region_name in the extra of the Airflow connection 'mine'",), connection=aws(**KEY)
    ),
    "an AWS connection with half a key": Mistake(
        ("Set the password of the Airflow connection 'mine'", "half of an AWS"),
        connection=aws(login="AKIA", extra={"region_name": "eu-west-1"}),
    ),
    "an AWS connection without a key, on a machine that has no role": Mistake(
        ("Set an access key with its secret, or a role, in the AWS connection",),
        connection=aws(extra={"region_name": "eu-west-1"}),
    ),
    "a region that is misspelled": Mistake(
        ("Correct the AWS region 'eu-wset-1', perhaps to eu-west-1",),
        {"region_name": "eu-wset-1"},
        aws(**KEY),
    ),
    "a zone for a region": Mistake(
        ("Correct the AWS region 'us-east-1a', perhaps to us-east-1",),
        connection=aws(**KEY, extra={"region_name": "us-east-1a"}),
    ),
    "a region as people write it": Mistake(
        ("Correct the AWS region 'EU (Ireland)'",),
        connection=aws(**KEY, extra={"region_name": "EU (Ireland)"}),
    ),
    "a Snowflake connection that doesn't exist": Mistake(
        ("Create the Airflow connection 'snowflake_prod' of type snowflake",),
        {"snowflake_conn_id": "snowflake_prod"},
    ),
    "a Snowflake connection without an account": Mistake(
        ("Set the account in the extra of the Airflow connection 'mine'",), connection=snowflake(extra={})
    ),
    "the address of Snowflake for its account": Mistake(
        ("Shorten the account in the extra of the Airflow connection 'mine'",),
        connection=snowflake(extra={"account": "https://a-b.snowflakecomputing.com"}),
    ),
    "a Snowflake connection without a user": Mistake(
        ("Set the login (the name of the user) of the Airflow connection 'mine'",),
        connection=snowflake(login=None),
    ),
    "a Snowflake connection without a key": Mistake(
        ("Set the private_key_content in the extra, or the password, of the Airflow connection 'mine'",),
        connection=snowflake(password=None),
    ),
    "a private key that is none": Mistake(
        ("Correct the Airflow connection 'mine'", "private key"),
        connection=snowflake(extra={"account": "a-b", "private_key_content": "MIIE"}),
    ),
}


def first_hundred_characters(caplog: pytest.LogCaptureFixture) -> str:
    """Of the one line that the package logged as an error."""
    ours = [record for record in caplog.records if record.name.startswith("airflow_kinesis_snowflake.")]
    [line] = [record.getMessage() for record in ours if record.levelno == logging.ERROR]
    assert "\n" not in line
    return line[:SHOWN]


def check(mistake: Mistake, said: str) -> None:
    first, *others = mistake.says
    assert said.startswith(first)
    assert len(first) <= SHOWN
    assert all(other in said for other in others)


@pytest.fixture
def settings(application_name: str, table: str) -> dict[str, Any]:
    """Settings that work, but for the stream."""
    return {"task_id": "drain", "application_name": application_name, "table": table}


@pytest.mark.parametrize("mistake", IN_THE_CODE.values(), ids=list(IN_THE_CODE))
def test_what_stands_in_the_code_is_found_while_it_is_parsed(mistake: Mistake) -> None:
    works = {"task_id": "drain", "stream_name": "clicks", "application_name": "loads", "table": "D.S.T"}
    with pytest.raises(InvalidSettingError) as refused:
        KinesisToSnowflakeOperator(**{**works, **mistake.settings})
    check(mistake, str(refused.value)[:SHOWN])


@pytest.mark.parametrize("mistake", WHERE_IT_RUNS.values(), ids=list(WHERE_IT_RUNS))
def test_what_is_wrong_where_it_runs_is_found_before_anything_is_read(
    mistake: Mistake,
    settings: dict[str, Any],
    services: LocalServices,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = dict(mistake.settings)
    if mistake.connection is not None:
        setting, connection = mistake.connection
        written = connection if isinstance(connection, str) else json.dumps(connection)
        monkeypatch.setenv("AIRFLOW_CONN_MINE", written)
        names[setting] = "mine"
    operator = KinesisToSnowflakeOperator(**{"stream_name": "clicks", **settings, **names})
    logins = services.snowflake_logins()
    ti = TaskInstance(map_index=0)
    context: Any = {"ti": ti, "outlet_events": ti.outlet_events}

    with pytest.raises(AirflowFailException) as failed:
        operator.execute(context)

    check(mistake, first_hundred_characters(caplog))
    assert failed.value.__suppress_context__
    assert context["drained"].startswith("failed: ")
    assert services.snowflake_logins() == logins


def test_a_drain_with_nothing_to_load_finds_a_snowflake_connection_that_is_wrong(
    make_stream: Callable[..., str],
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    dynamodb: DynamoDBClient,
) -> None:
    operator = KinesisToSnowflakeOperator(
        stream_name=make_stream(), snowflake_conn_id="snowflake_prod", **settings
    )
    with pytest.raises(AirflowFailException):
        operator.execute(context_of(TaskInstance()))
    assert first_hundred_characters(caplog).startswith("Create the Airflow connection 'snowflake_prod'")
    assert settings["application_name"] not in dynamodb.list_tables()["TableNames"]


def test_a_login_that_is_refused(
    make_stream: Callable[..., str],
    settings: dict[str, Any],
    services: LocalServices,
    caplog: pytest.LogCaptureFixture,
) -> None:
    operator = KinesisToSnowflakeOperator(stream_name=make_stream(), **settings)
    with (
        NastySnowflake(services).answer_error("^LOGIN", code="390100"),
        pytest.raises(AirflowFailException),
    ):
        operator.execute(context_of(TaskInstance()))
    said = first_hundred_characters(caplog)
    assert said.startswith("Check the login, role and grants of the Airflow connection")


def test_a_table_of_other_software(
    make_stream: Callable[..., str],
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    dynamodb: DynamoDBClient,
) -> None:
    dynamodb.create_table(
        TableName=settings["application_name"],
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    operator = KinesisToSnowflakeOperator(stream_name=make_stream(), **settings)
    with pytest.raises(AirflowFailException):
        operator.execute(context_of(TaskInstance()))
    said = first_hundred_characters(caplog)
    assert said.startswith("Choose another application name, or import its checkpoints")


def test_a_landing_table_of_something_else(
    make_stream: Callable[..., str],
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    snowflake_connection: SnowflakeConnection,
) -> None:
    with snowflake_connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {settings['table']} (ID NUMBER)")
    operator = KinesisToSnowflakeOperator(stream_name=make_stream(), **settings)
    with pytest.raises(AirflowFailException):
        operator.execute(context_of(TaskInstance()))
    assert first_hundred_characters(caplog).startswith("Run ALTER TABLE ")


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("", "backup_folder must be an absolute path that all workers share, or s3://bucket/prefix"),
        ("backups", "backup_folder must be an absolute path that all workers share, or s3://bucket/prefix"),
        ("/dev/null/backups", "Choose another backup folder, or let the worker write to it"),
    ],
)
def test_a_reset_asks_for_a_place_for_the_backup_before_it_counts_anything(
    settings: dict[str, Any],
    services: LocalServices,
    caplog: pytest.LogCaptureFixture,
    folder: str,
    says: str,
) -> None:
    CheckpointStoreHook(settings["application_name"]).create_table()
    operator = PlanStateResetOperator(
        **settings | {"task_id": "plan"},
        stream_name="clicks",
        method="rewind",
        position="TRIM_HORIZON",
        backup_folder="{{ params.backup_folder }}",
    )
    operator.backup_folder = folder
    logins = services.snowflake_logins()
    with pytest.raises(AirflowFailException):
        operator.execute({})
    assert first_hundred_characters(caplog).startswith(says)
    assert services.snowflake_logins() == logins
