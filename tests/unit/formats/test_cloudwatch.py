"""A subscription of CloudWatch Logs becomes a row for each log event."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.engine import MAX_DOCUMENTS, CheckedDocuments, DroppedPayload
from airflow_kinesis_snowflake.formats.envelope import refusal


def message(*events: dict[str, Any], kind: str = "DATA_MESSAGE") -> bytes:
    return json.dumps(
        {
            "messageType": kind,
            "owner": "123456789012",
            "logGroup": "/aws/lambda/shop",
            "logStream": "2026/11/25/[$LATEST]ab12",
            "subscriptionFilters": ["to-kinesis"],
            "logEvents": events,
        }
    ).encode()


def event(text: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": f"3850{number}", "timestamp": 1764000000123, "message": text, **more}


def decoded(payload: bytes, **settings: Any) -> Any:
    decode = payload_decoder("cloudwatch_logs", **settings)
    assert decode is not None
    documents = decode(payload)
    return (
        documents
        if isinstance(documents, DroppedPayload)
        else [json.loads(document) for document in documents]
    )


def test_each_event_is_a_row_with_where_it_comes_from() -> None:
    fields = {"srcaddr": "203.0.113.9", "action": "ACCEPT"}
    payload = gzip.compress(message(event('{"order": 7}\n'), event("START", 2, extractedFields=fields)))
    origin = {
        "owner": "123456789012",
        "logGroup": "/aws/lambda/shop",
        "logStream": "2026/11/25/[$LATEST]ab12",
        "timestamp": 1764000000123,
    }
    rows = [
        {**origin, "id": "38501", "message": {"order": 7}},
        {**origin, "id": "38502", "message": "START", "extractedFields": fields},
    ]
    assert decoded(payload) == rows
    assert decoded(payload, compression="gzip") == rows


@pytest.mark.parametrize(
    ("text", "lands"),
    [
        ('{"n": 12345678901234567890123456789.10}', '{"n": 12345678901234567890123456789.10}'),
        (" [1, 2]\r\n", "[1, 2]"),
        ("7", '"7"'),
        ("{not JSON}", '"{not JSON}"'),
        ("[INFO]", '"[INFO]"'),
        ('{"a": NaN}', '"{\\"a\\": NaN}"'),
        ("[" * 50_000 + "]" * 50_000, None),  # deeper than any Python reads
        ("", '""'),
    ],
)
def test_a_message_that_is_an_object_or_array_keeps_its_text(text: str, lands: str | None) -> None:
    decode = payload_decoder("cloudwatch_logs")
    assert decode is not None
    documents = decode(gzip.compress(message(event(text))))
    assert not isinstance(documents, DroppedPayload)
    expected = json.dumps(text) if lands is None else lands
    assert f'"message":{expected}'.encode() in documents[0]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.sampled_from([" {}\n", "{},{}", "{}\n{}", '{"a":"\\ud800"}', "[1}", "[1] 2]"])
        | st.recursive(st.none() | st.text(), st.lists).map(json.dumps),
        min_size=1,
    )
)
def test_any_message_makes_a_document_that_nothing_refuses(texts: list[str]) -> None:
    decode = payload_decoder("cloudwatch_logs")
    assert decode is not None
    documents = decode(message(*[event(text, number) for number, text in enumerate(texts)]))
    assert isinstance(documents, CheckedDocuments)
    assert [refusal(document) for document in documents] == [None] * len(texts)
    for text, document in zip(texts, documents, strict=True):
        lands = json.loads(document)["message"]
        assert lands == (text if isinstance(lands, str) else json.loads(text))


@pytest.mark.parametrize(
    "payload", [message(event("CWL CONTROL MESSAGE"), kind="CONTROL_MESSAGE"), message()]
)
def test_what_holds_no_event_is_dropped_and_says_what_it_was(payload: bytes) -> None:
    dropped = decoded(gzip.compress(payload))
    assert isinstance(dropped, DroppedPayload)
    assert "CloudWatch Logs" in dropped.what


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (gzip.compress(b"{}", mtime=0), "structure"),
        (gzip.compress(message(kind="OTHER"), mtime=0), "unknown type"),
        (gzip.compress(message(event("x")), mtime=0)[:-4], "looks like gzip"),
        (gzip.compress(message({"id": 7}), mtime=0), "structure"),
        (gzip.compress(message(*[event("")] * (MAX_DOCUMENTS + 1)), mtime=0), "more than 100,000 documents"),
        (b"", "empty"),
    ],
)
def test_what_is_no_message_is_a_dead_letter(payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decoded(payload)
