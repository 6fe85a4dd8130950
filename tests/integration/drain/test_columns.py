"""The columns mapping through whole drains: types, evolution, conflicts, and others who alter the table."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.landing.schema import ColumnsSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.drain.report import DrainReport

    from .conftest import Pipeline

pytestmark = pytest.mark.usefixtures("services")


def send(pipeline: Pipeline, *documents: Any) -> None:
    """Put records into the stream; bytes as they are, everything else as JSON."""
    payloads = [
        document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents
    ]
    for start in range(0, len(payloads), 500):
        pipeline.send_payloads(
            [(str(number), data) for number, data in enumerate(payloads[start : start + 500])]
        )


def drain(pipeline: Pipeline, **settings: Any) -> DrainReport:
    return pipeline.drain(columns=ColumnsSettings(**settings)).run()


def types(pipeline: Pipeline) -> dict[str, str]:
    """Columns of the landing table, but for the metadata."""
    rows = pipeline.query("SHOW COLUMNS IN TABLE {table}")
    facts = {row[2]: json.loads(row[3]) for row in rows if row[2] != "KINESISMETADATA"}
    return {
        name: f"NUMBER({fact['precision']},{fact['scale']})" if fact["type"] == "FIXED" else fact["type"]
        for name, fact in facts.items()
    }


def refusals(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    """Payload and column of each dead letter."""
    return sorted(pipeline.query('SELECT "PAYLOAD", "COLUMN_NAME" FROM {dead_letters}'))


def test_keys_become_columns_of_the_types_their_values_have(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    send(
        pipeline,
        {"id": 1, "price": 19.99, "ratio": 0.1234567890123, "ok": True, "name": "a", "tags": ["x", 1.50]},
        b'{"ID": 18446744073709551617, "price": 12345678901234567.89, "mixed": 1, "gone": null}',
        {"mixed": "one", "name": "\u00e9\U0001f600\n"},
    )

    report = drain(pipeline)

    assert (report.records, report.dead_letters, report.snowflake_connections) == (3, 0, 1)
    assert types(pipeline) == {
        "ID": "NUMBER(38,0)",
        "PRICE": "NUMBER(38,2)",
        "RATIO": "REAL",
        "OK": "BOOLEAN",
        "NAME": "TEXT",
        "TAGS": "VARIANT",
        "MIXED": "VARIANT",
    }
    landed = pipeline.query("SELECT ID, PRICE, RATIO, OK, NAME, TAGS, MIXED FROM {table} ORDER BY ID")
    assert [(*row[:5], row[5] and json.loads(row[5]), row[6]) for row in landed] == [
        (1, Decimal("19.99"), 0.1234567890123, True, "a", ["x", 1.5], None),
        (18446744073709551617, Decimal("12345678901234567.89"), None, None, None, None, "1"),
        (None, None, None, None, "\u00e9\U0001f600\n", None, '"one"'),
    ]
    assert pipeline.query('SELECT COUNT(*) FROM {table} WHERE "KINESISMETADATA":stream IS NOT NULL') == [(3,)]
