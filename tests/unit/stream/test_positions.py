"""Positions, starts, and what sequence numbers say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream.positions import (
    BEFORE_THE_FIRST,
    TRIM_HORIZON,
    Position,
    SequenceFacts,
    StartAt,
    decode_position,
    encode_position,
    initial_position,
    parse_timestamp,
    sequence_facts,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 891_234, tzinfo=UTC)

positions = st.builds(
    Position,
    st.integers(0, 10**129 - 1).map(str) | st.integers(0, 20).map(str),
    st.none() | st.integers(0, 3) | st.integers(0, 10**10 - 1),
)
moments = st.datetimes(
    datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.timezones() | st.just(UTC), allow_imaginary=False
)


def place(position: Position) -> tuple[int, float]:
    sub = position.sub_sequence_number
    return int(position.sequence_number), float("inf") if sub is None else sub


@given(positions, positions)
def test_encoded_positions_compare_as_text_like_the_records_they_stand_at(
    one: Position, other: Position
) -> None:
    assert (encode_position(one) < encode_position(other)) == (place(one) < place(other))
    assert (one < other) == (place(one) < place(other))
    assert (one <= other) == (place(one) <= place(other))
    assert (one == other) == (place(one) == place(other))


@given(positions)
def test_nothing_read_sorts_before_every_position(position: Position) -> None:
    assert encode_position(None) == BEFORE_THE_FIRST < encode_position(position)


@given(st.none() | positions)
def test_an_encoded_position_is_read_back(position: Position | None) -> None:
    assert decode_position(encode_position(position)) == position


@pytest.mark.parametrize(
    "text", ["", "~", "001", "0011", "0021~", "00112~", "0011.1", "0011.+000000001", "0010~~", "TRIM_HORIZON"]
)
def test_other_text_is_no_encoded_position(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- any of several reasons
        decode_position(text)


@given(st.text(alphabet="0129.~+_ ", max_size=16))
def test_any_text_is_an_encoded_position_or_refused(text: str) -> None:
    try:
        position = decode_position(text)
    except ValueError:
        return
    assert encode_position(position) == text


@pytest.mark.parametrize(
    "digits", ["", "-1", "1.0", "1e3", " 1", "1\n", "01", "²", "\u0661", "1" * 130, "LATEST"]
)
def test_a_sequence_number_is_what_kinesis_would_give(digits: str) -> None:
    with pytest.raises(ValueError, match="129 decimal digits"):
        Position(digits)


@pytest.mark.parametrize("sub", [-1, 10**10])
def test_a_sub_sequence_number_has_up_to_ten_digits(sub: int) -> None:
    with pytest.raises(ValueError, match="sub-sequence number"):
        Position("1", sub)


@given(st.just(TRIM_HORIZON) | moments.map(StartAt))
def test_a_start_is_read_back(start: StartAt) -> None:
    assert StartAt.parse(str(start)) == start


@given(moments)
def test_a_start_never_skips_what_its_timestamp_asks_for(moment: datetime) -> None:
    start = StartAt(moment).timestamp
    assert start is not None
    assert timedelta(0) <= moment - start < timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["LATEST", "", "yesterday", "2026-03-04", "2026-03-04T05:06:07"])
def test_other_text_is_no_start(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- any of several reasons
        StartAt.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-04T05:06:07.891Z",
        "2026-03-04 05:06:07.891+00:00",
        "2026-03-04T06:06:07.891+01:00",
        "20260304T000607.891-0500",
        datetime(2026, 3, 4, 14, 6, 7, 891_000, tzinfo=timezone(timedelta(hours=9))),
    ],
)
def test_a_timestamp_may_be_of_any_zone(value: datetime | str) -> None:
    assert parse_timestamp(value) == datetime(2026, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)
    assert parse_timestamp(value).tzinfo is UTC


@pytest.mark.parametrize("value", ["2026-03-04T05:06:07", datetime(2026, 3, 4)])
def test_a_timestamp_without_a_zone_is_refused(value: datetime | str) -> None:
    with pytest.raises(ValueError, match="a time zone, for example"):
        parse_timestamp(value)


def test_a_timestamp_that_utc_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        parse_timestamp("0001-01-01T00:00:00+14:00")


def test_trim_horizon_starts_at_the_oldest_retained_record() -> None:
    assert initial_position("TRIM_HORIZON", now=NOW) is TRIM_HORIZON


def test_latest_is_pinned_to_the_moment_of_the_first_run() -> None:
    assert str(initial_position("LATEST", now=NOW)) == "2026-03-04T05:06:07.891+00:00"


def test_at_timestamp_starts_there() -> None:
    start = initial_position("AT_TIMESTAMP", "2026-03-04T01:00:00+01:00", now=NOW)
    assert str(start) == "2026-03-04T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("kind", "timestamp", "reason"),
    [
        ("AT_TIMESTAMP", None, "only then"),
        ("LATEST", "2026-03-04T00:00:00Z", "only then"),
        ("TRIM_HORIZON", "2026-03-04T00:00:00Z", "only then"),
        ("AT_TIMESTAMP", "2026-03-04T00:00:00", "a time zone, for example"),
        ("AT_TIMESTAMP", "2026-03-05T00:00:00Z", "in the future"),
        ("latest", None, "not 'latest'"),
    ],
)
def test_an_initial_position_that_cannot_work_is_refused(
    kind: str, timestamp: str | datetime | None, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        initial_position(kind, timestamp, now=NOW)


@pytest.mark.parametrize(
    ("sequence_number", "facts"),
    [
        pytest.param(
            "49590338271490256608559692538361571095921575989136588898",
            SequenceFacts(
                6,
                datetime(2018, 11, 21, 4, 57, 38, tzinfo=UTC),
                datetime(2018, 12, 17, 22, 10, 50, tzinfo=UTC),
            ),
            id="the AWS Lambda guide's example, of shardId-000000000006",
        ),
        pytest.param(
            "49600871682979337187563555549332609155523708941634633746",
            SequenceFacts(
                1,
                datetime(2019, 10, 28, 21, 12, 45, tzinfo=UTC),
                datetime(2019, 10, 28, 21, 12, 45, tzinfo=UTC),
            ),
            id="where a second shard starts",
        ),
        pytest.param(
            "49646437577130777163607908027404316373020369890674999570",
            SequenceFacts(
                17,
                datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
                datetime(2023, 11, 14, 23, 13, 20, tzinfo=UTC),
            ),
            id="made by Kinesalite, with many records before it",
        ),
        pytest.param(
            "49646437577442987594894835752948965199675155133224714226",
            SequenceFacts(
                2**31 - 1,
                datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
                datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
            ),
            id="made by Kinesalite, the last shard there can be",
        ),
    ],
)
def test_a_sequence_number_names_its_shard_and_times(sequence_number: str, facts: SequenceFacts) -> None:
    assert sequence_facts(sequence_number) == facts


@pytest.mark.parametrize(
    "sequence_number",
    [
        pytest.param("0", id="the smallest"),
        pytest.param("17", id="a counter"),
        pytest.param("1" * 129, id="the longest"),
        pytest.param("21700926946308537062675606442885513219", id="version 0"),
        pytest.param("49646437577175380807518488663240519007975713448793210929", id="version 1"),
        pytest.param("49543463076548007577105092703039560359975228518395012686", id="an invented one"),
    ],
)
def test_a_sequence_number_of_another_layout_says_nothing(sequence_number: str) -> None:
    assert sequence_facts(sequence_number) is None


@given(st.integers(0, 10**129 - 1).map(str) | st.integers(2**185, 2**186).map(str))
def test_any_number_can_be_asked(sequence_number: str) -> None:
    facts = sequence_facts(sequence_number)
    assert facts is None or facts.shard_number < 2**31
