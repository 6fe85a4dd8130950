"""What the items of any table say, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_kinesis_snowflake.maintenance.cleanup.tables import (
    has_live_lease,
    last_touched,
    lease_counters,
    stream_of,
)

NOW = 1_800_000_000_000
ODD: list[dict[str, Any]] = [
    {"S": "1800000000000"},
    {"S": "yesterday"},
    {"N": "-1"},
    {"NULL": True},
    {"L": []},
    {"B": b"\x00"},
]


@pytest.mark.parametrize("value", ODD)
def test_a_time_that_is_none_says_nothing(value: dict[str, Any]) -> None:
    odd = {"lastUpdateTimestamp": value, "nodeHeartbeat": value, "lut": value}
    assert last_touched([odd, {"lastUpdateTimestamp": {"N": "7"}}]) == 7
    assert not has_live_lease([odd, {"leaseOwner": {"S": "x"}, "leaseExpiry": value}], now=NOW)


def test_fractions_are_cut() -> None:
    item = {"nodeHeartbeat": {"N": f"{NOW}.75"}}
    assert last_touched([item]) == NOW
    assert has_live_lease([item], now=NOW)


def test_the_counters_of_any_table_of_leases_can_be_compared() -> None:
    items: list[dict[str, Any]] = [
        {"leaseKey": {"N": "7"}, "leaseOwner": {"S": "x"}, "leaseCounter": {"N": "1"}},
        {"leaseKey": {"B": b"\x00"}, "leaseOwner": {"S": "x"}, "leaseCounter": {"S": "many"}},
        {"leaseKey": {"S": "shardId-0"}, "leaseOwner": {"S": "x"}, "leaseCounter": {"N": "2"}},
    ]
    assert lease_counters(items) == {"7": "1", "": "many", "shardId-0": "2"}


@pytest.mark.parametrize(
    ("item", "stream"),
    [
        ({"streamName": {"S": "orders"}}, "orders"),
        ({"StreamID": {"S": "orders"}}, "orders"),
        ({"streamName": {"S": "123456789012:orders:1700000000"}}, "orders"),
        ({"leaseKey": {"S": "shardId-000000000000"}}, None),
        ({"streamName": {"N": "7"}}, None),
    ],
)
def test_an_item_names_its_stream_as_its_consumer_does(item: dict[str, Any], stream: str | None) -> None:
    assert stream_of(item) == stream
