"""Lines of values become objects, and what a line lacks or has too much makes a dead letter."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.delimited import (
    CLOUDFRONT_REAL_TIME,
    CSV,
    MAX_LINE_LENGTH,
    TSV,
    VPC_FLOW_LOG_V2,
    Delimited,
    Pattern,
    repeats_repetitions,
)
from airflow_kinesis_snowflake.formats.engine import MAX_DOCUMENTS, DroppedPayload


def rows(settings: Any, payload: bytes) -> list[Any]:
    decode = payload_decoder(settings)
    assert decode is not None
    documents = decode(payload)
    assert not isinstance(documents, DroppedPayload)
    return [json.loads(document) for document in documents]


values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


@given(st.lists(st.lists(values, min_size=3, max_size=3).filter(any), min_size=1, max_size=4))
def test_what_the_standard_library_writes_as_csv_comes_back(lines: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows(lines)
    landed = rows(CSV(names=["a", "b", "c"], null=None), out.getvalue().encode())
    assert landed == [dict(zip("abc", line, strict=True)) for line in lines]


def test_names_come_from_the_setting_or_from_the_first_line() -> None:
    lands = [{"id": "7", "name": "Ann"}, {"id": "8", "name": None}]
    assert rows(CSV(names=["id", "name"]), b"7,Ann\r\n\r\n8,\n") == lands
    assert rows("csv", b"id,name\n7,Ann\n8,") == lands
    assert rows("tsv", b"id\tname\n7\tAnn\n8\t-\n") == lands
    assert rows(Delimited(delimiter="|", quote=None, null="x"), b"id|name\n7|Ann\n8|x") == lands


def test_a_real_time_log_of_cloudfront_has_its_names() -> None:
    names = CLOUDFRONT_REAL_TIME[:5]
    assert rows(TSV(names=names), b"1764000000.123\t203.0.113.9\t192.0.2.1\t0.001\t-\n") == [
        dict(zip(names, ["1764000000.123", "203.0.113.9", "192.0.2.1", "0.001", None], strict=True))
    ]
    assert len(CLOUDFRONT_REAL_TIME) == len(set(CLOUDFRONT_REAL_TIME)) == 69


def test_a_vpc_flow_log_has_its_names() -> None:
    line = b"2 123456789012 eni-1 203.0.113.9 198.51.100.7 443 49152 6 10 840 1764000000 1764000060 ACCEPT OK"
    (landed,) = rows(TSV(names=VPC_FLOW_LOG_V2, delimiter=" "), line)
    assert (landed["srcport"], landed["action"]) == ("443", "ACCEPT")


@pytest.mark.parametrize(
    ("settings", "payload", "reason"),
    [
        (CSV(names=["a", "b"]), b"1", "a line has 1 values, but there are 2 names"),
        (CSV(names=["a", "b"]), b"1,2\n1,2,3", "more than 2 values"),
        (TSV(names=["a", "b"]), b"1\t2\t3\t4", "more than 2 values"),
        (CSV(names=["a"]), b'"1', "quotes"),
        (CSV(names=["a"]), b'"1"2', "quotes"),
        (CSV(names=["a"]), b"\xff", "UTF-8"),
        (CSV(names=["a"]), b"1\n" * (MAX_DOCUMENTS + 1), "documents"),
        (TSV(names=["a"]), b"1\n" * (MAX_DOCUMENTS + 1), "documents"),
        (CSV(), b"," * 10, "name is missing or occurs twice"),
        (CSV(), b"a,a\n1,2", "occurs twice"),
        (CSV(), b"7,Ann\n", "nothing after the first line, which names"),
        (CSV(), b"", "empty"),
        (TSV(names=["a"]), b"\n\r\n", "empty"),
        (Pattern("(?P<a>[0-9]+)"), b"1\nx", "line 2 doesn't match"),
        (Pattern("(?P<a>[0-9]+)"), b"1" * (MAX_LINE_LENGTH + 1), "65,536 characters"),
        (Pattern("(?P<a>[0-9]+)"), b"", "empty"),
        (Pattern("(?P<a>[0-9]+)"), b"1\n" * (MAX_DOCUMENTS + 1), "documents"),
    ],
)
def test_what_does_not_fit_is_a_dead_letter(settings: Any, payload: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        rows(settings, payload)


def test_a_line_with_any_number_of_values_is_not_taken_apart() -> None:
    with pytest.raises(UndecodableError, match="more than 1 values"):
        rows(TSV(names=["a"]), b"\t" * (16 * 2**20))


def test_too_many_values_are_refused() -> None:
    names = [f"c{number}" for number in range(1000)]
    line = b"\t" * 999 + b"\n"
    with pytest.raises(UndecodableError, match="more than 2,000,000 values"):
        rows(TSV(names=names), line * 2100)


def test_a_pattern_names_the_parts_of_a_line() -> None:
    settings = Pattern(r'(?P<host>[^ ]+) - (?P<user>[^ ]+) "(?P<request>[^"]*)"(?: (?P<bytes>[0-9]+))?')
    assert rows(settings, b'203.0.113.9 - - "GET /" 512\r\nh - ann "POST /"\n') == [
        {"host": "203.0.113.9", "user": None, "request": "GET /", "bytes": "512"},
        {"host": "h", "user": "ann", "request": "POST /", "bytes": None},
    ]


@pytest.mark.parametrize(
    ("pattern", "slow"),
    [
        ("(a+)+", True),
        ("(?:a*b)*", True),
        ("(?P<x>(?:a|b+)*)", True),
        ("(?=(a+)*)b", True),
        ("(a|b(?:c{2,})?)+", True),
        ("(?:(?:a+)+)++", False),
        ("(?>a+)+", False),
        ("(a+){1,100}", True),
        ("(a+){17}", True),
        ("(a{1,100})+", True),
        ("(a{1,3})+", True),
        ("((a{1,3}){4}){5}", True),
        ("(?:(?:a{3})+b)?", False),
        ("(a{3})+", False),
        ("(?:a?b)+", False),
        ("[^ ]+ [^ ]+", False),
        ("(?:[^ ]+ ){7}", False),
        ("(?:[^ ]+ ){16}", False),
        (r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}", False),
        ("(?:[0-9a-f]{1,4}+:)+", False),
    ],
)
def test_patterns_that_repeat_repetitions_are_known(pattern: str, slow: bool) -> None:
    assert repeats_repetitions(pattern) is slow


@pytest.mark.parametrize(
    "make",
    [
        lambda: CSV(names="id"),
        lambda: CSV(names=["a", "a"]),
        lambda: CSV(names=[""]),
        lambda: CSV(delimiter=""),
        lambda: CSV(delimiter="ab"),
        lambda: CSV(delimiter="\n"),
        lambda: CSV(delimiter='"'),
        lambda: CSV(quote="''"),
        lambda: CSV(null=7),  # type: ignore[arg-type]
        lambda: Pattern("("),
        lambda: Pattern("a+"),
        lambda: Pattern("(?P<a>(b+)+)"),
        lambda: Pattern(None),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be_meant_are_refused_where_they_are_made(make: Any) -> None:
    with pytest.raises(InvalidSettingError):
        make()


def test_a_pattern_has_no_name_alone() -> None:
    with pytest.raises(InvalidSettingError, match="an object with the settings"):
        payload_decoder("pattern")
