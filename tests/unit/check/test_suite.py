"""The checks, and the page about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_kinesis_snowflake.check.aws import millis_off
from airflow_kinesis_snowflake.check.snowflake_loading import GOLDEN, same_value
from airflow_kinesis_snowflake.check.suite import CHECKS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "check.md"
PROMISES = range(1, 11)


def test_names_are_unique() -> None:
    names = [check.name for check in CHECKS]
    assert sorted(set(names)) == sorted(names)


def test_promises_are_those_that_the_package_gives() -> None:
    assert {promise for check in CHECKS for promise in check.promises} <= set(PROMISES)


def test_the_page_lists_all_checks_in_their_order_with_their_promises() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (check.name, check.tries, ", ".join(map(str, check.promises)) or "none") for check in CHECKS
    ]


def test_the_output_that_the_page_shows_is_of_these_checks() -> None:
    shown = re.findall(r"^(?:held|not shown) +([a-z-]+)  +.*?  +(.*?)  ", PAGE.read_text(), re.MULTILINE)
    assert shown == [(check.name, check.tries) for check in CHECKS]


@pytest.mark.parametrize("document", GOLDEN)
def test_a_value_is_itself(document: str) -> None:
    assert same_value(document, document)


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        ("99999999999999999999999999999999999999", "1e38"),
        ("9223372036854775807", "9223372036854775808"),
        ("0.1", "0.2"),
        ("null", '"null"'),
        ("true", "1"),
        ("1", "true"),
        ('{"k": 1, "k": 2}', '{"k": 1}'),
        ('"é"', '"e"'),
        ("[]", None),
    ],
)
def test_another_value_is_noticed(sent: str, came: str | None) -> None:
    assert not same_value(sent, came)


@pytest.mark.parametrize(("sent", "came"), [("null", None), ('{"k": 1, "k": 2}', '{"k":2}'), ("1", "1.0")])
def test_another_way_to_write_a_value_is_no_other_value(sent: str, came: str | None) -> None:
    assert same_value(sent, came)


@pytest.mark.parametrize(("own", "off"), [(900, -100), (1000, 0), (1999, 0), (2100, 100)])
def test_a_clock_is_off_only_as_far_as_the_other_is_known(own: int, off: int) -> None:
    assert millis_off(own, 1000, 2000) == off
