"""Checks on the local services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.check.bench import CheckSettings
from airflow_kinesis_snowflake.check.running import run_checks
from airflow_kinesis_snowflake.identifiers import TableName
from tests.faults.snowflake import NastySnowflake

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.check.checks import CheckResult
    from local.services import LocalServices

PREFIX = "KINESIS_CHECK_"


@pytest.fixture
def settings(table: str, application_name: str, make_stream: Callable[..., str]) -> dict[str, Any]:
    """What there is to check, in a database of its own."""
    return {
        "table": TableName.parse(table),
        "stream": make_stream(),
        "application": application_name,
        "aws": {"aws_conn_id": "aws_default"},
    }


@pytest.fixture
def result(settings: dict[str, Any]) -> Callable[[str], CheckResult]:
    """Function that tries one check."""

    def try_one(name: str) -> CheckResult:
        report = run_checks(CheckSettings(**settings, only=(name,)))
        assert not report.left
        [result] = report.results
        return result

    return try_one


@pytest.fixture
def nasty(services: LocalServices, database: str) -> NastySnowflake:
    """Bad days for the sessions of the test."""
    return NastySnowflake(services, session={"database": database})


@pytest.fixture
def scratch(
    database: str, snowflake_connection: SnowflakeConnection, dynamodb: DynamoDBClient
) -> Callable[[], set[str]]:
    """Function that names the scratch schemas of the test's database, and all scratch tables in DynamoDB."""

    def names() -> set[str]:
        with snowflake_connection.cursor() as cursor:
            cursor.execute(f"SHOW SCHEMAS IN DATABASE {database}")
            rows = cursor.fetchall()
        tables = dynamodb.list_tables()["TableNames"]
        return {name for name in [*(row[1] for row in rows), *tables] if name.startswith(PREFIX)}

    return names
