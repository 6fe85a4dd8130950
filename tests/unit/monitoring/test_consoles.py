"""Links to the consoles of AWS and Snowflake."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.monitoring.consoles import (
    SNOWSIGHT,
    landing_table_url,
    stream_url,
    table_url,
)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "eu-west-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_each_partition_of_aws_has_its_console(region: str, host: str) -> None:
    assert (
        stream_url("s", region)
        == f"https://{host}/kinesis/home?region={region}#/streams/details/s/monitoring"
    )
    assert table_url("a", region) == f"https://{host}/dynamodbv2/home?region={region}#table?name=a"


@pytest.mark.parametrize(
    ("account", "place"), [("Acme-Main", "acme/main"), ("xy12345.eu-west-1", "eu-west-1/xy12345")]
)
def test_a_table_is_found_by_its_account(account: str, place: str) -> None:
    url = landing_table_url('db.public."a/b"', account)
    assert url == f"{SNOWSIGHT}/{place}/#/data/databases/DB/schemas/PUBLIC/table/a%2Fb"


@pytest.mark.parametrize(("table", "account"), [("DB.S.T", "xy12345"), ("DB.S.T", ""), ("{{ x }}", "a-b")])
def test_what_cant_be_found_leads_to_the_start(table: str, account: str) -> None:
    assert landing_table_url(table, account) == SNOWSIGHT
