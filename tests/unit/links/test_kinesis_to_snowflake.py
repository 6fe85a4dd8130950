"""Where the links of a drain lead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import (
    LINKS,
    CheckpointTableLink,
    LandingTableLink,
    MonitoringPageLink,
    StreamLink,
    link_urls,
    push_links,
    snowsight_url,
)


def urls(**changes: Any) -> dict[str, str]:
    given: dict[str, Any] = {
        "base_url": "https://airflow.example.org/",
        "region": "eu-west-1",
        "state_region": "us-east-1",
        "partition": "aws",
        "stream_name": "clicks",
        "application_name": "clicks-to-snowflake",
        "table": TableName("ANALYTICS", "RAW", "click log"),
        "account": "acme-prod",
    }
    return link_urls(**given | changes)


def test_each_link_leads_to_its_thing() -> None:
    assert urls() == {
        MonitoringPageLink.name: "https://airflow.example.org/plugin/kinesis-snowflake"
        "?application=clicks-to-snowflake&stream=clicks",
        StreamLink.name: "https://eu-west-1.console.aws.amazon.com/kinesis/home?region=eu-west-1"
        "#/streams/details/clicks/monitoring",
        CheckpointTableLink.name: "https://us-east-1.console.aws.amazon.com/dynamodbv2/home?region=us-east-1"
        "#table?name=clicks-to-snowflake",
        LandingTableLink.name: "https://app.snowflake.com/acme/prod/#/data/databases/ANALYTICS/schemas/RAW"
        "/table/click%20log",
    }


def test_where_there_is_no_console_there_is_no_link_to_it() -> None:
    assert urls(partition="aws-iso", account=None).keys() == {MonitoringPageLink.name}
    assert urls(partition="aws-cn")[StreamLink.name].startswith("https://eu-west-1.console.amazonaws.cn/")


@pytest.mark.parametrize(
    ("account", "url"),
    [
        ("acme-prod_2", "https://app.snowflake.com/acme/prod_2"),
        ("xy12345", "https://app.snowflake.com/us-west-2/xy12345"),
        ("xy12345.eu-west-1", "https://app.snowflake.com/eu-west-1/xy12345"),
        ("xy12345.ap-south-1.aws", "https://app.snowflake.com/ap-south-1.aws/xy12345"),
        ("acme-prod.privatelink", None),
        (None, None),
    ],
)
def test_an_account_has_its_address_in_snowsight(account: str | None, url: str | None) -> None:
    assert snowsight_url(account) == url


def test_what_is_pushed_early_is_what_the_link_returns_at_the_end() -> None:
    operator: Any = SimpleNamespace(link_urls=urls())
    pushed: dict[str, str] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))

    push_links(ti, operator)

    ti_key: Any = None
    assert pushed == {link.xcom_key: link.get_link(operator, ti_key=ti_key) for link in LINKS}
    assert set(pushed.values()) == set(urls().values())


def test_a_link_that_is_not_known_is_empty() -> None:
    operator: Any = SimpleNamespace()
    ti_key: Any = None
    assert {link.get_link(operator, ti_key=ti_key) for link in LINKS} == {""}
