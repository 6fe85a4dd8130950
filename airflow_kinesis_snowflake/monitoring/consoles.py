"""Addresses of AWS's and Snowflake's own pages about what an application uses."""

from __future__ import annotations

from urllib.parse import quote

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.landing.identifiers import TableName

_DOMAINS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
SNOWSIGHT = "https://app.snowflake.com"


def stream_url(stream_name: str, region: str) -> str:
    """The stream in the console of Amazon Kinesis."""
    return f"{_console(region)}/kinesis/home?region={region}#/streams/details/{quote(stream_name)}/monitoring"


def table_url(application_name: str, region: str) -> str:
    """The application's table in the console of Amazon DynamoDB."""
    return f"{_console(region)}/dynamodbv2/home?region={region}#table?name={quote(application_name)}"


def _console(region: str) -> str:
    domain = next(
        (domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix)),
        "console.aws.amazon.com",
    )
    return f"https://{region}.{domain}"


def landing_table_url(table: str, account: str) -> str:
    """The landing table in Snowsight; its start page when the account can't be told from its identifier.

    :param table: ``DATABASE.SCHEMA.TABLE``
    :param account: as a Snowflake connection has it: ``organization-account``, or a locator with its region
    """
    try:
        name = TableName.parse(table)
    except (KinesisSnowflakeError, ValueError):
        return SNOWSIGHT
    organization, dash, account_name = account.partition("-")
    locator, dot, region = account.partition(".")
    if dot:
        place = f"{region}/{locator}"
    elif dash:
        place = f"{organization}/{account_name}"
    else:
        return SNOWSIGHT
    parts = (("databases", name.database), ("schemas", name.schema), ("table", name.name))
    path = "/".join(f"{kind}/{quote(part, safe='')}" for kind, part in parts)
    return f"{SNOWSIGHT}/{quote(place.lower())}/#/data/{path}"
