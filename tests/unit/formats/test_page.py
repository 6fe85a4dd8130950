"""What the page about formats says lands, lands."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from airflow_kinesis_snowflake.formats import delimited
from airflow_kinesis_snowflake.formats.engine import Dropped
from airflow_kinesis_snowflake.formats.plain import Json
from airflow_kinesis_snowflake.formats.registry import FORMATS, payload_decoder

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "what-lands.md").read_text()
SECTION = PAGE[PAGE.index("## What a payload may be") : PAGE.index('## `mapping="envelope"`')]
ROWS = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \| ((?:`[^`|]+` ?)+) \|$", SECTION, re.MULTILINE)
BLOCKS = re.findall(r"```json\n(.+?)```", SECTION, re.DOTALL)
NAMES = ["cloudwatch_logs", "dynamodb", "dms", "debezium"]
OBJECTS = {**vars(delimited), "Json": Json}


def documents(payload_format: Any, payload: bytes) -> list[bytes]:
    decode = payload_decoder(payload_format)
    assert decode is not None or payload_format == "json"
    found = decode(payload) if decode else [payload]
    assert not isinstance(found, Dropped)
    return list(found)


def test_the_page_has_examples() -> None:
    assert len(ROWS) == 10
    assert len(BLOCKS) == 2 * len(NAMES)
    assert [name for name in FORMATS if f"`{name}`" not in SECTION and f'"{name}"' not in SECTION] == [
        "pattern"
    ]


@pytest.mark.parametrize(("setting", "payload", "lands"), ROWS)
def test_a_row_of_the_table_lands_as_it_says(setting: str, payload: str, lands: str) -> None:
    data = payload.replace("↵", "\n").replace("⇥", "\t").encode()
    found = documents(eval(setting, dict(OBJECTS)), data)
    assert [document.decode() for document in found] == re.findall("`([^`]+)`", lands)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_lands_as_it_says(name: str) -> None:
    payload, lands = BLOCKS[2 * NAMES.index(name) :][:2]
    expected = [
        json.loads(document, parse_float=Decimal)
        for document in re.findall(r"^\{.+?\}$(?!\n )", lands, re.M | re.S)
    ]
    found = [json.loads(document, parse_float=Decimal) for document in documents(name, payload.encode())]
    assert found == expected
    assert found
