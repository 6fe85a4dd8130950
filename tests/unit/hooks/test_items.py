"""Attributes may hold anything."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_kinesis_snowflake.state.items import number_of, text_of


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ({"N": "7"}, 7),
        ({"N": "-7.9"}, -7),
        ({"N": "1E+3"}, 1000),
        ({"N": "9" * 38}, int("9" * 38)),
        ({"N": "1E+125"}, None),
        ({"N": "NaN"}, None),
        ({"N": "-Infinity"}, None),
        ({"S": "7"}, None),
        ({"L": []}, None),
        ({}, None),
    ],
)
def test_a_number_is_one_that_can_be_reckoned_with(value: dict[str, Any], number: int | None) -> None:
    assert number_of({"n": value}, "n") == number


@pytest.mark.parametrize(
    ("value", "text"), [({"S": "a"}, "a"), ({"N": "7"}, "7"), ({"B": b"a"}, None), ({"NULL": True}, None)]
)
def test_text_is_text_or_a_number(value: dict[str, Any], text: str | None) -> None:
    assert text_of({"t": value}, "t") == text
