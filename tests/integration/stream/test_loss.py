"""What is lost is said; what only looks lost isn't."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.reader import INITIAL_PAGE_RECORDS
from airflow_kinesis_snowflake.exceptions import (
    DataLossError,
    ForeignCheckpointError,
    ServiceUnavailableError,
    StreamRecreatedError,
)
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import wait_until_active
from tests.faults.actions import created_at, edit, forget_up_to, without_shards
from tests.integration.stream.history import rows_of_another_consumer

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from tests.faults.proxy import FaultProxy
    from tests.integration.stream.history import History

pytestmark = pytest.mark.slow

only_kinesalite = pytest.mark.parametrize("emulator", ["kinesalite"])


@pytest.fixture
def retention_passes(kinesis_proxy: FaultProxy) -> Callable[[], None]:
    """Function after which every record is older than the stream keeps records."""

    def change(body: dict[str, Any]) -> None:
        body["StreamDescriptionSummary"]["RetentionPeriodHours"] = 0

    def passes() -> None:
        kinesis_proxy.add(edit(change), operation="DescribeStreamSummary")

    return passes


@pytest.fixture
def age_out(kinesis_proxy: FaultProxy, retention_passes: Callable[[], None]) -> Callable[..., None]:
    """Function after which the records of a shard are gone, up to and including one."""

    def age_out(last: str, *, of: str) -> None:
        retention_passes()
        kinesis_proxy.add(forget_up_to(last), shard_id=of)

    return age_out


# --- records behind a checkpoint ---------------------------------------------------------------------------


@only_kinesalite
def test_a_shard_whose_records_aged_out_fails_and_the_others_are_read(
    make_history: Callable[..., History],
    age_out: Callable[..., None],
) -> None:
    history = make_history(shards=2)
    hit, spared = history.open_shards
    history.put(hit, 2)
    history.put(spared, 1)
    history.run()
    checkpoint = history.state.shards[hit].checkpoint
    *_, last_lost = history.put(hit, 2)
    history.put(hit, 1)
    history.put(spared, 1)
    age_out(last_lost, of=hit)

    with pytest.raises(DataLossError) as caught:
        history.run()

    oldest = f"{history.arrivals(hit)[-1]:%Y-%m-%d %H:%M:%S} UTC"
    for part in (hit, history.stream, oldest, "on_data_loss='warn'"):
        assert part in str(caught.value)
    assert history.landed == [0, 1, 2, 6]
    assert history.state.shards[hit].checkpoint == checkpoint
    with pytest.raises(DataLossError):
        history.run()


@only_kinesalite
def test_a_gap_the_user_accepts_is_logged_reported_and_kept_as_a_dead_letter(
    make_history: Callable[..., History],
    age_out: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (checkpoint,) = history.put(shard_id, 1)
    history.run()
    *_, last_lost = history.put(shard_id, 2)
    history.put(shard_id, 2)
    age_out(last_lost, of=shard_id)

    with caplog.at_level(logging.WARNING):
        report = history.run(on_data_loss="warn")

    assert history.landed == [0, 3, 4]
    (gap,) = report.gaps
    assert gap["shard_id"] == shard_id
    assert gap["oldest_available"] == history.arrivals(shard_id)[3].isoformat()
    assert any(shard_id in line and "may be gone" in line for line in caplog.messages)
    ((number, reason),) = history.query('SELECT "SEQUENCE_NUMBER", "REASON" FROM {dead_letters}')
    assert (number, reason[:10]) == (checkpoint, "data loss:")
    assert history.run(on_data_loss="warn").dead_letters == 0


@only_kinesalite
def test_what_ages_out_while_a_drain_reads_is_a_gap_too(
    make_history: Callable[..., History],
    kinesis_proxy: FaultProxy,
    retention_passes: Callable[[], None],
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    numbers = history.put(shard_id, INITIAL_PAGE_RECORDS + 3)
    retention_passes()
    # The first page is asked for by two calls.
    kinesis_proxy.add(forget_up_to(numbers[-2]), shard_id=shard_id, skip=2)

    with pytest.raises(DataLossError, match=shard_id):
        history.run()

    assert history.landed == list(range(INITIAL_PAGE_RECORDS))
    report = history.run(on_data_loss="warn")
    assert [gap["shard_id"] for gap in report.gaps] == [shard_id]
    assert history.landed == [*range(INITIAL_PAGE_RECORDS), INITIAL_PAGE_RECORDS + 2]
    assert history.run().gaps == []


@only_kinesalite
def test_a_shard_of_which_nothing_is_left_is_a_gap_up_to_now(
    make_history: Callable[..., History],
    kinesis_proxy: FaultProxy,
    retention_passes: Callable[[], None],
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    history.run()
    retention_passes()
    with kinesis_proxy.add(forget_up_to(number), shard_id=shard_id):
        report = history.run(on_data_loss="warn")

    assert [gap["oldest_available"] for gap in report.gaps] == [None]
    assert history.state.shards[shard_id].checkpoint == Position(number)


@only_kinesalite
def test_records_that_aged_out_of_a_shard_of_which_none_was_ever_read_are_noticed_too(
    make_history: Callable[..., History],
    age_out: Callable[..., None],
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.run()
    (lost,) = history.put(shard_id, 1)
    history.put(shard_id, 1)
    age_out(lost, of=shard_id)

    with pytest.raises(DataLossError, match=shard_id):
        history.run()

    report = history.run(on_data_loss="warn")
    assert history.landed == [1]
    assert [gap["shard_id"] for gap in report.gaps] == [shard_id]


@only_kinesalite
def test_records_that_aged_out_of_a_shard_before_it_was_found_are_noticed_too(
    make_history: Callable[..., History],
    age_out: Callable[..., None],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 1)
    history.run()
    child, spared = history.split(parent)
    (lost,) = history.put(child, 1)
    history.put(child, 1)
    history.put(spared, 1)
    age_out(lost, of=child)

    with pytest.raises(DataLossError, match=child):
        history.run()

    report = history.run(on_data_loss="warn")
    assert history.landed == [0, 2, 3]
    assert {gap["shard_id"] for gap in report.gaps} >= {child}


@only_kinesalite
def test_a_checkpoint_whose_record_is_still_there_is_no_loss_however_old_it_is(
    make_history: Callable[..., History], retention_passes: Callable[[], None]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 2)
    history.run()
    history.put(shard_id, 2)
    retention_passes()

    report = history.run()

    assert history.landed == history.sent
    assert report.gaps == []


@only_kinesalite
def test_an_idle_shard_that_is_drained_often_loses_nothing_when_its_last_record_ages_out(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    history.run()
    kinesis_proxy.add(forget_up_to(number), shard_id=shard_id)
    history.put(shard_id, 1)

    report = history.run()

    assert history.landed == history.sent
    assert report.gaps == []


@only_kinesalite
def test_a_shard_that_was_idle_under_another_consumer_lost_nothing(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, dynamodb: DynamoDBClient
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    long_ago = at_written(number, seconds=-7 * 86_400)
    just_now = {"N": str(now_millis() - 3_600_000)}
    rows_of_another_consumer(dynamodb, history, {shard_id: long_ago}, lastUpdateTimestamp=just_now)

    report = history.run()

    assert history.landed == history.sent
    assert report.gaps == []


@only_kinesalite
@pytest.mark.parametrize("days", [pytest.param(-3, id="long ago"), pytest.param(10**12, id="not yet")])
def test_records_that_another_consumer_left_too_long_are_lost(
    make_history: Callable[..., History], dynamodb: DynamoDBClient, days: int
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    long_ago = at_written(number, seconds=-7 * 86_400)
    then = {"N": str(now_millis() + days * 86_400_000)}
    rows_of_another_consumer(dynamodb, history, {shard_id: long_ago}, lastUpdateTimestamp=then)

    for _ in range(2):
        with pytest.raises(DataLossError, match=shard_id):
            history.run()


# --- whole shards ------------------------------------------------------------------------------------------


@only_kinesalite
def test_a_shard_that_left_the_list_before_its_end_fails_and_its_children_wait(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history(shards=2)
    gone, other = history.open_shards
    history.put(gone, 1)
    history.run()
    children = history.split(gone)
    for shard_id in (*children, other):
        history.put(shard_id, 1)
    kinesis_proxy.add(without_shards(gone), operation="ListShards")

    with pytest.raises(DataLossError, match=gone):
        history.run()

    assert history.landed == [0, 3]
    assert not history.state.shards[gone].ended


@only_kinesalite
def test_a_shard_that_left_the_list_is_ended_where_the_user_accepts_it_and_its_children_are_read(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    (gone,) = history.open_shards
    (checkpoint,) = history.put(gone, 1)
    history.run()
    for child in history.split(gone):
        history.put(child, 1)
    kinesis_proxy.add(without_shards(gone), operation="ListShards")

    report = history.run(on_data_loss="warn")

    assert history.landed == history.sent
    assert [gap["shard_id"] for gap in report.gaps] == [gone]
    assert report.shards[gone].outcome == "ended"
    assert history.query('SELECT "SHARD_ID", "SEQUENCE_NUMBER" FROM {dead_letters}') == [(gone, checkpoint)]
    assert history.run().gaps == []


@only_kinesalite
def test_a_generation_that_came_and_went_between_two_drains_is_named_and_other_shards_land(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history(shards=2)
    ancestor, other = history.open_shards
    history.put(ancestor, 1)
    left, right = history.split(ancestor)
    with kinesis_proxy.add(without_shards(left, right), operation="ListShards"):
        history.run()
    assert history.state.shards[ancestor].ended
    history.put(left, 1)  # lost
    leaf = history.merge(left, right)
    history.put(leaf, 1)
    history.put(other, 1)
    kinesis_proxy.add(without_shards(ancestor, left, right), operation="ListShards")

    with pytest.raises(DataLossError, match=left):
        history.run()
    assert history.landed == [0, 3]

    report = history.run(on_data_loss="warn")
    assert history.landed == [0, 2, 3]
    assert {gap["shard_id"] for gap in report.gaps} == {left, right}
    assert history.run().gaps == []


@only_kinesalite
def test_a_list_without_shards_is_not_taken_for_the_loss_of_them_all(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    history.put(history.open_shards[0], 1)
    history.run()
    with (
        kinesis_proxy.add(without_shards(*history.open_shards), operation="ListShards"),
        pytest.raises(ServiceUnavailableError, match="named no shard"),
    ):
        history.run(on_data_loss="warn")

    history.put(history.open_shards[0], 1)
    history.run()
    assert history.landed == history.sent


@only_kinesalite
@pytest.mark.parametrize("on_data_loss", ["fail", "warn"])
def test_a_shard_that_one_list_left_out_is_not_given_up(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, on_data_loss: str
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 1)
    history.run()
    history.put(shard_id, 1)
    children = history.split(shard_id)
    for child in children:
        history.put(child, 1)
    kinesis_proxy.add(without_shards(shard_id), operation="ListShards", times=1)

    report = history.run(on_data_loss=on_data_loss)

    assert history.landed == history.sent
    assert report.gaps == []


@only_kinesalite
@pytest.mark.parametrize("on_data_loss", ["fail", "warn"])
def test_a_generation_that_one_list_left_out_is_not_given_up(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, on_data_loss: str
) -> None:
    history = make_history()
    (ancestor,) = history.open_shards
    history.put(ancestor, 1)
    history.run()
    left, right = history.split(ancestor)
    history.put(left, 1)
    leaf = history.merge(left, right)
    history.put(leaf, 1)
    kinesis_proxy.add(without_shards(left, right), operation="ListShards", times=1)

    report = history.run(on_data_loss=on_data_loss)

    assert history.landed == history.sent
    assert report.gaps == []


@only_kinesalite
def test_the_row_of_a_shard_that_one_list_left_out_is_not_deleted(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, dynamodb: DynamoDBClient
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 1)
    history.split(parent)
    history.run()
    kinesis_proxy.add(without_shards(parent), operation="ListShards")

    history.run()
    assert history.state.shards[parent].ended

    dynamodb.update_item(
        TableName=history.application,
        Key={"streamName": {"S": history.stream}, "shardId": {"S": parent}},
        UpdateExpression="SET lastUpdateTimestamp = :then",
        ExpressionAttributeValues={":then": {"N": str(now_millis() - 2 * 86_400_000)}},
    )
    history.run()
    assert parent not in history.state.shards


# --- checkpoints that aren't the shard's own ---------------------------------------------------------------


def test_a_stream_that_was_deleted_and_made_again_is_noticed(
    make_history: Callable[..., History], kinesis: KinesisClient, kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    history.put(history.open_shards[0], 1)
    history.run()
    kinesis.delete_stream(StreamName=history.stream)
    kinesis.get_waiter("stream_not_exists").wait(
        StreamName=history.stream, WaiterConfig={"Delay": 0, "MaxAttempts": 10_000}
    )
    kinesis.create_stream(StreamName=history.stream, ShardCount=1)
    wait_until_active(kinesis, history.stream)
    # The emulators count in seconds; it may be the same one.
    kinesis_proxy.add(created_at(datetime.now(UTC) + timedelta(seconds=1)), operation="DescribeStreamSummary")
    history.put(history.open_shards[0], 1)

    with pytest.raises(StreamRecreatedError, match=rf"kinesis_state_reset(?s:.)*{history.application}"):
        history.run()

    assert history.landed == [0]


def test_two_streams_share_an_application_without_touching_one_another(
    make_history: Callable[..., History], make_stream: Callable[..., str]
) -> None:
    history = make_history()
    reached = {history.stream: history.put(history.open_shards[0], 2)[-1]}
    history.run()
    history.stream = make_stream(1)
    # One more: what is put within the same second may have the same numbers in both streams.
    reached[history.stream] = history.put(history.open_shards[0], 3)[-1]

    history.run()

    assert history.landed == history.sent
    for stream, number in reached.items():
        assert history.store.read_state(stream).shards["shardId-000000000000"].checkpoint == Position(number)


@only_kinesalite
def test_a_checkpoint_of_another_shard_fails_that_shard_and_names_the_way_out(
    make_history: Callable[..., History], dynamodb: DynamoDBClient, caplog: pytest.LogCaptureFixture
) -> None:
    history = make_history(shards=2)
    wronged, other = history.open_shards
    history.put(wronged, 1)
    (number,) = history.put(other, 1)
    rows_of_another_consumer(dynamodb, history, {wronged: number, other: number})
    history.put(other, 1)

    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ForeignCheckpointError, match=rf"state_reset(?s:.)*{wronged}"),
    ):
        history.run()
    assert any(wronged in line and "shard number 1" in line for line in caplog.messages)

    assert history.landed == [2]
    assert history.state.shards[wronged].checkpoint == Position(number)


def test_the_checkpoint_of_a_merged_shard_is_its_own(
    make_history: Callable[..., History], dynamodb: DynamoDBClient
) -> None:
    history = make_history(shards=2)
    merged = history.merge(*history.open_shards)
    (number,) = history.put(merged, 1)
    rows_of_another_consumer(dynamodb, history, {merged: number})
    history.put(merged, 1)

    history.run()

    assert history.landed == [1]


@only_kinesalite
def test_a_checkpoint_of_another_stream_is_refused(
    make_history: Callable[..., History], make_stream: Callable[..., str], dynamodb: DynamoDBClient
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    rows_of_another_consumer(dynamodb, history, {shard_id: at_shard_created(number, seconds=-3600)})

    with pytest.raises(ForeignCheckpointError, match="a shard created at"):
        history.run()


@only_kinesalite
def test_a_checkpoint_in_the_future_is_refused(
    make_history: Callable[..., History], dynamodb: DynamoDBClient
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (number,) = history.put(shard_id, 1)
    rows_of_another_consumer(dynamodb, history, {shard_id: at_written(number, seconds=3600)})

    with pytest.raises(ForeignCheckpointError, match="in the future"):
        history.run()


def at_shard_created(sequence_number: str, *, seconds: int) -> str:
    """The number, had its shard been made so much later."""
    return _moved(sequence_number, seconds, slice(1, 10))


def at_written(sequence_number: str, *, seconds: int) -> str:
    """The number, had its record been written so much later."""
    return _moved(sequence_number, seconds, slice(29, 38))


def _moved(sequence_number: str, seconds: int, part: slice) -> str:
    digits = list(f"{int(sequence_number):x}")
    digits[part] = f"{int(''.join(digits[part]), 16) + seconds:09x}"
    return str(int("".join(digits), 16))
