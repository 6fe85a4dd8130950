"""Aggregates of the Kinesis Producer Library, made by other people's code, on their way to Snowflake."""

from __future__ import annotations

import json
from hashlib import md5
from typing import TYPE_CHECKING

import pytest
from aiokpl.aggregation import UserRecord, encode_aggregated
from aws_kinesis_agg.aggregator import RecordAggregator

from airflow_kinesis_snowflake.stream.positions import Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.stream.history import History

LAST_HASH_KEY = 2**128 - 1


def by_aiokpl(payloads: list[bytes], *, hash_key: int | None = None) -> bytes:
    key = None if hash_key is None else str(hash_key)
    users = [UserRecord(f"key {number}", payload, key) for number, payload in enumerate(payloads)]
    return bytes(encode_aggregated(users))


def by_aws_kinesis_agg(payloads: list[bytes]) -> bytes:
    aggregator = RecordAggregator()
    for number, payload in enumerate(payloads):
        assert aggregator.add_user_record(f"key {number}", payload) is None
    _, _, data = aggregator.clear_and_get().get_contents()
    return bytes(data)


def documents(*numbers: int) -> list[bytes]:
    return [json.dumps({"n": number}).encode() for number in numbers]


def damaged() -> bytes:
    """An aggregate by magic and MD5, of which the message ends in the middle."""
    message = b"\x0a\x01k\x1a\x05\x08\x00"
    return b"\xf3\x89\x9a\xc2" + message + md5(message, usedforsecurity=False).digest()


@pytest.mark.parametrize("aggregate", [by_aiokpl, by_aws_kinesis_agg])
def test_user_records_land_each_with_its_key_and_number(
    make_history: Callable[..., History], aggregate: Callable[[list[bytes]], bytes]
) -> None:
    history = make_history()
    plain, aggregated = history.put_payloads(
        history.open_shards[0], *documents(0), aggregate(documents(1, 2, 3))
    )

    report = history.drain().run()

    assert report.records == 4
    assert history.query(
        'SELECT "RECORD_CONTENT":n::NUMBER, m:partitionKey::VARCHAR, m:sequenceNumber::VARCHAR,'
        " m:subSequenceNumber::NUMBER, m:shardedSequenceNumber::VARCHAR"
        ' FROM (SELECT "RECORD_CONTENT", "KINESISMETADATA" AS m FROM {table}) ORDER BY 1'
    ) == [
        (0, "key", plain, 0, plain + "0" * 20),
        *(
            (number + 1, f"key {number}", aggregated, number, f"{aggregated}{number:020d}")
            for number in range(3)
        ),
    ]


def test_user_records_whose_hash_key_lies_outside_the_shard_are_kept(
    make_history: Callable[..., History],
) -> None:
    """As when they were aggregated just before a reshard; many readers drop them."""
    history = make_history(shards=2)
    history.put_payloads(history.open_shards[0], by_aiokpl(documents(0, 1), hash_key=LAST_HASH_KEY))

    history.drain().run()

    assert history.landed == [0, 1]


def test_they_are_dropped_with_their_aggregate_where_the_user_wants_that(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=2)
    foreign, own = by_aiokpl(documents(0, 1), hash_key=LAST_HASH_KEY), by_aiokpl(documents(2, 3), hash_key=0)
    numbers = history.put_payloads(history.open_shards[0], own, foreign)

    history.drain(own_hash_keys_only=True).run()

    assert history.landed == [2, 3]
    assert history.state.shards[history.open_shards[0]].checkpoint == Position(numbers[1])


def test_a_damaged_aggregate_becomes_a_dead_letter_and_the_others_land(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    numbers = history.put_payloads(
        history.open_shards[0], *documents(0), damaged(), by_aiokpl(documents(1, 2))
    )

    report = history.drain().run()

    assert (report.records, report.dead_letters) == (4, 1)
    assert history.landed == [0, 1, 2]
    ((number, reason, encoding),) = history.query(
        'SELECT "SEQUENCE_NUMBER", "REASON", "PAYLOAD_ENCODING" FROM {dead_letters}'
    )
    assert (number, encoding) == (numbers[1], "base64")
    assert reason.startswith("damaged KPL aggregate")


def test_a_record_that_only_begins_like_an_aggregate_is_not_taken_for_one(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    history.put_payloads(history.open_shards[0], by_aiokpl(documents(0, 1))[:-1])

    history.drain().run()

    ((reason,),) = history.query('SELECT "REASON" FROM {dead_letters}')
    assert reason.startswith("not JSON")
    assert reason.endswith("whose MD5 is wrong")


def test_a_checkpoint_inside_an_aggregate_resumes_behind_that_user_record(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put_payloads(shard_id, by_aws_kinesis_agg(documents(0, 1, 2, 3)))
    history.put_payloads(shard_id, *documents(4))
    history.import_checkpoint(shard_id, Position(number, 1))

    history.drain().run()
    assert history.landed == [2, 3, 4]

    history.put_payloads(shard_id, *documents(5))
    history.drain().run()
    assert history.landed == [2, 3, 4, 5]
