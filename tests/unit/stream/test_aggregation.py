"""Aggregates made by other people's code, damaged ones, and records that only look like one."""

from __future__ import annotations

import tracemalloc
from hashlib import md5
from typing import TYPE_CHECKING

import pytest
from aiokpl.aggregation import Tag, UserRecord, encode_aggregated
from aws_kinesis_agg.aggregator import RecordAggregator
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream import aggregation as module
from airflow_kinesis_snowflake.stream.aggregation import (
    deaggregate,
    hash_key,
    skip_through,
    within_hash_range,
)
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"\xf3\x89\x9a\xc2"
KEY, ENTRY = b"\x0a\x01k", b"\x1a\x05\x08\x00\x1a\x01d"  # one partition key, one user record that names it


def record(data: bytes, *, sequence_number: str = "17", sub: int | None = None) -> Record:
    return Record(
        sequence_number=sequence_number,
        approximate_arrival=1_700_000_000.125,
        partition_key="outer",
        data=data,
        sub_sequence_number=sub,
    )


def framed(message: bytes) -> bytes:
    return MAGIC + message + md5(message, usedforsecurity=False).digest()


def content(records: Sequence[Record]) -> list[tuple[str, str | None, bytes]]:
    return [(user.partition_key, user.explicit_hash_key, user.data) for user in records]


hash_keys = st.integers(0, 2**128 - 1).map(str)
user_records = st.lists(
    st.builds(
        UserRecord,
        partition_key=st.text(min_size=1, max_size=20),
        data=st.binary(max_size=300),
        explicit_hash_key=st.none() | hash_keys,
        tags=st.just(()) | st.tuples(st.builds(Tag, st.text(max_size=5), st.none() | st.text(max_size=5))),
    ),
    min_size=2,  # a producer sends a single record as it is
    max_size=20,
)


@given(user_records)
def test_an_aggregate_of_aiokpl_comes_apart(given_records: list[UserRecord]) -> None:
    users, damaged, _ = deaggregate([record(encode_aggregated(given_records))])
    assert content(users) == [
        (user.partition_key, user.explicit_hash_key, user.data) for user in given_records
    ]
    assert damaged == ()


@given(
    st.lists(
        st.tuples(st.text("abcé", min_size=1, max_size=9), hash_keys, st.binary(max_size=300)), min_size=1
    )
)
def test_an_aggregate_of_aws_kinesis_agg_comes_apart(given_records: list[tuple[str, str, bytes]]) -> None:
    aggregator = RecordAggregator()
    for partition_key, explicit, data in given_records:
        assert aggregator.add_user_record(partition_key, data, explicit) is None
    _, _, data = aggregator.clear_and_get().get_contents()
    users, damaged, _ = deaggregate([record(data)])
    assert content(users) == given_records
    assert damaged == ()


def test_a_large_aggregate_with_many_keys_comes_apart() -> None:
    given_records = [UserRecord(f"key {number}", b"x" * number) for number in range(1000)]
    users, _, _ = deaggregate([record(encode_aggregated(given_records))])
    assert content(users) == [(user.partition_key, None, user.data) for user in given_records]


def test_user_records_are_counted() -> None:
    users, _, _ = deaggregate([record(encode_aggregated([UserRecord("k", b"a")] * 3))])
    assert [user.sub_sequence_number for user in users] == [0, 1, 2]
    assert {(user.sequence_number, user.approximate_arrival) for user in users} == {("17", 1_700_000_000.125)}


def test_an_aggregate_of_one_record_still_has_a_sub_sequence_number() -> None:
    users, _, _ = deaggregate([record(framed(KEY + ENTRY))])
    assert [user.sub_sequence_number for user in users] == [0]


def test_plain_records_pass_as_they_are_and_keep_their_place() -> None:
    first, last = record(b"{}", sequence_number="1"), record(b"", sequence_number="3")
    aggregate = record(encode_aggregated([UserRecord("k", b"a"), UserRecord("k", b"b")]), sequence_number="2")
    users, damaged, _ = deaggregate([first, aggregate, last])
    assert users[0] is first
    assert users[-1] is last
    assert [user.sequence_number for user in users] == ["1", "2", "2", "3"]
    assert damaged == ()


def test_an_aggregate_without_user_records_brings_nothing() -> None:
    assert deaggregate([record(framed(b""))]) == ([], (), 1)


@pytest.mark.parametrize(
    "data",
    [
        MAGIC,
        MAGIC + b"x" * 15,
        MAGIC + b"x" * 40,
        encode_aggregated([UserRecord("k", b"a")] * 2)[:-1],
        encode_aggregated([UserRecord("k", b"a")] * 2) + b"\0",
    ],
)
def test_what_only_begins_like_an_aggregate_passes_as_it_is(data: bytes) -> None:
    only = record(data)
    users, damaged, _ = deaggregate([only])
    assert len(users) == 1
    assert users[0] is only
    assert damaged == ()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(KEY + ENTRY + b"\x2a\x03xyz", id="bytes"),
        pytest.param(b"\x28\xff\x01" + KEY + ENTRY, id="a number"),
        pytest.param(KEY + b"\x29" + b"\0" * 8 + ENTRY, id="eight bytes"),
        pytest.param(KEY + b"\x2d" + b"\0" * 4 + ENTRY, id="four bytes"),
        pytest.param(KEY + b"\xfa\x01\x03xyz" + ENTRY, id="with a high number"),
        pytest.param(KEY + b"\x1a\x08\x2a\x01t" + ENTRY[2:], id="inside a user record"),
        pytest.param(ENTRY + KEY, id="none, but the tables come last"),
    ],
)
def test_unknown_fields_are_skipped(message: bytes) -> None:
    users, damaged, _ = deaggregate([record(framed(message))])
    assert content(users) == [("k", None, b"d")]
    assert damaged == ()


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(ENTRY, id="no partition key table"),
        pytest.param(KEY + b"\x1a\x05\x08\x01\x1a\x01d", id="a partition key beyond its table"),
        pytest.param(KEY + b"\x1a\x07\x08\x00\x10\x00\x1a\x01d", id="an explicit hash key beyond its table"),
        pytest.param(KEY + b"\x1a\x03\x1a\x01d", id="a user record without partition key"),
        pytest.param(KEY + b"\x1a\x02\x08\x00", id="a user record without data"),
        pytest.param(KEY + b"\x1a\x05\x08\x00\x1a\x02d", id="data beyond the user record"),
        pytest.param(KEY + ENTRY[:-1], id="a user record beyond the message"),
        pytest.param(KEY + ENTRY + b"\x1a", id="a tag without a field"),
        pytest.param(KEY + ENTRY + b"\x29\0\0\0", id="an unknown field beyond the message"),
        pytest.param(b"\x0a\x02\xff\xfe" + ENTRY, id="a partition key that isn't UTF-8"),
        pytest.param(KEY + ENTRY + b"\x2b", id="a group"),
        pytest.param(KEY + b"\x1a" + b"\xff" * 11, id="an endless number"),
        pytest.param(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01k" + ENTRY, id="an enormous length"),
        pytest.param(
            KEY + b"\x1a\x0e\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x01d", id="an enormous index"
        ),
    ],
)
def test_a_damaged_aggregate_is_handed_back_whole_with_a_reason(message: bytes) -> None:
    plain, broken = record(b"{}"), record(framed(message))
    users, damaged, _ = deaggregate([plain, broken, plain])
    assert users == [plain, plain]
    assert [item.record for item in damaged] == [broken]
    assert damaged[0].reason.startswith("damaged KPL aggregate: ")


def string(field: int, text: bytes) -> bytes:
    """A field of a protobuf message."""
    length = bytes([len(text) & 0x7F | 0x80, len(text) >> 7 & 0x7F | 0x80, len(text) >> 14])
    return bytes([field << 3 | 2]) + length + text


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(string(1, b"k" * 257) + ENTRY, id="a partition key of 257 characters"),
        pytest.param(string(1, "é".encode() * 257) + ENTRY, id="also where characters have two bytes"),
        *(
            pytest.param(KEY + string(2, key) + b"\x1a\x07\x08\x00\x10\x00\x1a\x01d", id=reason)
            for key, reason in [
                (b"0x1", "an explicit hash key that is no number"),
                (b"", "an empty one"),
                (b"-1", "a negative one"),
                ("٣".encode(), "one in other digits"),
                (str(2**128).encode(), "one of 129 bits"),
                (b"9" * 100_000, "a very long one"),
            ]
        ),
    ],
)
def test_keys_that_kinesis_would_refuse_are_damage(message: bytes) -> None:
    users, damaged, _ = deaggregate([record(framed(message))])
    assert users == []
    assert damaged[0].reason.startswith("damaged KPL aggregate: ")
    assert len(damaged[0].reason) < 120


@pytest.mark.parametrize(
    "keys",
    [
        string(1, b"k" * 256),
        string(1, "😀".encode() * 256),
        KEY + string(1, b"k" * 1000),  # which no record names
    ],
)
def test_keys_up_to_the_limits_of_kinesis_come_apart(keys: bytes) -> None:
    users, damaged, _ = deaggregate([record(framed(keys + ENTRY))])
    assert (len(users), damaged) == (1, ())


def test_what_an_aggregate_expands_to_is_bounded_before_it_is_built() -> None:
    """A quarter of a megabyte would become 2.4 GB of partition keys."""
    bomb = framed(string(1, b"k" * 131_072) + ENTRY * 18_720)
    tracemalloc.start()
    try:
        users, damaged, _ = deaggregate([record(bomb)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert users == []
    assert damaged[0].reason == "damaged KPL aggregate: a partition key is longer than 256 characters"
    assert most < 10 * len(bomb)


def test_an_aggregate_of_more_user_records_than_memory_should_hold_is_damage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_EXPANSION_BYTES", 60_000)
    fits, bursts = framed(KEY + ENTRY * 100), framed(KEY + ENTRY * 200)
    users, damaged, taken = deaggregate([record(fits), record(bursts)])
    assert (len(users), len(damaged), taken) == (100, 1, 2)
    assert "200 user records" in damaged[0].reason


def test_records_whose_expansion_has_no_room_are_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM_BYTES", 120_000)
    plain, aggregate = record(b"{}"), record(framed(KEY + ENTRY * 100))
    users, damaged, taken = deaggregate([plain, aggregate, aggregate, plain, aggregate, plain])
    assert (len(users), damaged, taken) == (202, (), 4)


def test_the_first_record_is_taken_however_large_its_expansion_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM_BYTES", 10)
    _, _, taken = deaggregate([record(framed(KEY + ENTRY * 100))] * 2)
    assert taken == 1


@given(st.binary(max_size=60))
def test_any_message_is_user_records_or_damaged_never_a_crash(message: bytes) -> None:
    users, damaged, _ = deaggregate([record(framed(message))])
    assert not (users and damaged)


@given(user_records, st.data())
def test_a_mutated_message_is_user_records_or_damaged_never_a_crash(
    given_records: list[UserRecord], data: st.DataObject
) -> None:
    message = bytearray(encode_aggregated(given_records)[4:-16])
    for _ in range(data.draw(st.integers(1, 3)) if message else 0):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    users, damaged, _ = deaggregate([record(framed(bytes(message[: cut or None])))])
    assert not (users and damaged)
    assert [user.sub_sequence_number for user in users] == list(range(len(users)))


@given(st.binary(max_size=60))
def test_any_other_bytes_pass_as_they_are(data: bytes) -> None:
    only = record(data)
    users, damaged, _ = deaggregate([only])
    assert users[0] is only
    assert damaged == ()


def test_reasons_say_nothing_of_the_content() -> None:
    _, damaged, _ = deaggregate([record(framed(b"\x0a\x07\xffsecret" + ENTRY))])
    assert damaged[0].reason == "damaged KPL aggregate: a key isn't UTF-8"


@pytest.mark.parametrize(
    ("position", "left"),
    [
        (Position("9", 1), [("9", 2), ("10", None)]),
        (Position("9", 2), [("10", None)]),
        (Position("9"), [("10", None)]),
        (Position("8", 0), [("9", 0), ("9", 1), ("9", 2), ("10", None)]),
        (Position("1", 7), [("8", None), ("9", 0), ("9", 1), ("9", 2), ("10", None)]),
        (Position("10", 0), []),
        (Position("11"), []),
    ],
)
def test_records_up_to_a_position_are_skipped(position: Position, left: list[tuple[str, int | None]]) -> None:
    users = [
        record(b"", sequence_number="8"),
        record(b"", sequence_number="9", sub=0),
        record(b"", sequence_number="9", sub=1),
        record(b"", sequence_number="9", sub=2),
        record(b"", sequence_number="10"),
    ]
    rest = skip_through(users, position)
    assert [(user.sequence_number, user.sub_sequence_number) for user in rest] == left


@given(user_records, st.integers(0, 20))
def test_going_on_inside_an_aggregate_delivers_the_rest_of_it(
    given_records: list[UserRecord], taken: int
) -> None:
    users, _, _ = deaggregate([record(encode_aggregated(given_records))])
    if taken < len(users):
        position = Position("17", users[taken].sub_sequence_number)
        assert skip_through(users, position) == list(users[taken + 1 :])


def test_aggregates_with_a_foreign_hash_key_are_dropped_whole_only_when_asked() -> None:
    lower = Shard("shardId-000000000000", ending_hash_key=2**127 - 1)

    def user(sequence_number: str, sub: int | None, explicit_hash_key: int) -> Record:
        return Record(
            sequence_number=sequence_number,
            sub_sequence_number=sub,
            approximate_arrival=0,
            partition_key="key",
            explicit_hash_key=str(explicit_hash_key),
            data=b"",
        )

    plain = user("1", None, 2**127)
    own = [user("2", 0, 0), user("2", 1, 2**127 - 1)]
    mixed = [user("3", 0, 0), user("3", 1, 2**127)]

    assert within_hash_range([plain, *own, *mixed], lower) == [plain, *own]


def test_a_hash_key_is_the_md5_of_the_partition_key_unless_it_is_explicit() -> None:
    plain = Record(sequence_number="1", approximate_arrival=0, partition_key="a", data=b"")
    assert hash_key(plain) == 0x0CC175B9C0F1B6A831C399E269772661
