"""Whatever Snowflake may do to a transaction, every record lands once.

The local Snowflake does on request what the real one doesn't promise never to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import reader, retries
from airflow_kinesis_snowflake.exceptions import IncarnationClosedError, OffsetWentBackError
from airflow_kinesis_snowflake.sinks.snowflake import copy, statements
from tests.faults.snowflake import NastySnowflake
from tests.torture import mutants

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient

    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.ports import Outcome
    from local.services import LocalServices

    from .conftest import Pipeline

STATEMENTS = [
    "^SELECT CURRENT_TRANSACTION",
    "^COPY",
    "^UPDATE .*SET .UPDATED_AT",
    "^UPDATE .*POSITION",
    "^COMMIT",
]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.01)


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A pipeline of two shards with a drain behind it and records before it."""
    pipeline = make_pipeline(shards=2)
    pipeline.send(20)
    pipeline.drain().run()
    pipeline.send(20)
    return pipeline


@pytest.fixture(scope="module")
def lasting(make_lasting_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A pipeline of two shards with a drain behind it."""
    lasting = make_lasting_pipeline(shards=2)
    lasting.send(20)
    lasting.drain().run()
    return lasting


@pytest.fixture
def loading(lasting: Pipeline) -> Pipeline:
    """The lasting pipeline, with records before it, all of which the test loads."""
    lasting.send(20)
    return lasting


@pytest.fixture
def nasty(services: LocalServices, loading: Pipeline) -> NastySnowflake:
    return NastySnowflake(services, session={"database": loading.table.database})


@pytest.fixture
def set_attributes(pipeline: Pipeline, dynamodb: DynamoDBClient) -> Callable[..., None]:
    """Function that writes attributes of a shard's row."""

    def write(shard_id: str, **attributes: dict[str, Any]) -> None:
        dynamodb.update_item(
            TableName=pipeline.application,
            Key={"streamName": {"S": pipeline.stream}, "shardId": {"S": shard_id}},
            AttributeUpdates={name: {"Value": value, "Action": "PUT"} for name, value in attributes.items()},
        )

    return write


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_transaction_that_is_ended_before_any_statement_is_done_again(
    loading: Pipeline, nasty: NastySnowflake, statement: str
) -> None:
    with nasty.end_transaction(before=statement, times=1) as fault:
        report = loading.drain().run()

    assert fault.hits == 1
    assert (report.records, loading.landed) == (20, loading.sent)


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("answer", ["first", "second"])
def test_a_statement_that_runs_twice_loads_nothing_twice(
    loading: Pipeline, nasty: NastySnowflake, statement: str, answer: str
) -> None:
    with nasty.deliver_twice(statement, answer=answer, times=1) as fault:
        loading.drain().run()

    assert fault.hits == 1
    assert loading.landed == loading.sent


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_whose_answer_is_lost_for_good_loads_nothing_twice(
    loading: Pipeline, nasty: NastySnowflake, statement: str
) -> None:
    with nasty.lose_answer(statement, for_good=True, times=1) as fault:
        loading.drain().run()

    assert fault.hits == 1
    assert loading.landed == loading.sent


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_session_that_ends_before_any_statement_is_replaced(
    loading: Pipeline, nasty: NastySnowflake, statement: str
) -> None:
    with nasty.end_session(before=statement, times=1) as fault:
        loading.drain().run()

    assert fault.hits == 1
    assert loading.landed == loading.sent


def test_without_the_guard_an_ended_transaction_loses_its_records(
    pipeline: Pipeline, services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    nasty = NastySnowflake(services, session={"database": pipeline.table.database})
    monkeypatch.setattr(statements, "move_offsets", statements.move_offsets)
    mutants.without_guard()

    with nasty.end_transaction(before="^UPDATE .*POSITION", times=1) as fault:
        pipeline.drain().run()

    assert fault.hits == 1
    assert len(pipeline.landed) < len(pipeline.sent)


def test_offsets_that_went_back_in_time_stop_their_shard_and_say_how_to_recover(
    pipeline: Pipeline,
) -> None:
    pipeline.query("UPDATE {offsets} SET \"POSITION\" = '000' WHERE \"SHARD_ID\" LIKE '%0'")

    with pytest.raises(OffsetWentBackError, match=r"recover.*shardId-000000000000"):
        pipeline.drain().run()

    assert len(pipeline.landed) < len(pipeline.sent)


def test_a_takeover_does_not_forget_that_the_offset_went_back(
    pipeline: Pipeline, set_attributes: Callable[..., None]
) -> None:
    pipeline.query("UPDATE {offsets} SET \"POSITION\" = '0011~' WHERE \"SHARD_ID\" LIKE '%0'")
    set_attributes("shardId-000000000000", unsettled={"BOOL": True})
    drains = [pipeline.drain(), pipeline.drain()]

    for drain in drains:
        with pytest.raises(OffsetWentBackError, match="shardId-000000000000"):
            drain.run()

    assert drains[0].report.takeovers == 1
    assert len(pipeline.landed) < len(pipeline.sent)


def test_offsets_that_go_back_in_time_under_a_drain_stop_it(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    pipeline.send(20)
    monkeypatch.setattr(reader, "INITIAL_PAGE_RECORDS", 5)
    commit = copy.CopySink._commit
    committed: list[Any] = []

    def fail_over(sink: copy.CopySink, batch: Batch) -> Outcome:
        if committed:
            pipeline.query("UPDATE {offsets} SET \"POSITION\" = '0011~' WHERE \"SHARD_ID\" LIKE '%0'")
            sink.close()
        committed.append(batch.id)
        return commit(sink, batch)

    monkeypatch.setattr(copy.CopySink, "_commit", fail_over)

    with pytest.raises(OffsetWentBackError, match="shardId-000000000000"):
        pipeline.drain(max_batch_records=5).run()

    assert len(committed) == 2
    assert pipeline.landed == [0, 1, 2, 3, 4]


def test_a_closed_row_stops_its_shard_only(pipeline: Pipeline) -> None:
    pipeline.query('UPDATE {offsets} SET "POSITION" = \'~\' || "POSITION" WHERE "SHARD_ID" LIKE \'%0\'')
    drain = pipeline.drain()

    with pytest.raises(IncarnationClosedError, match="shardId-000000000000"):
        drain.run()

    assert drain.report.shards["shardId-000000000001"].records > 0


def test_a_lock_that_is_gone_is_added_again(pipeline: Pipeline) -> None:
    pipeline.query("DELETE FROM {offsets} WHERE \"SHARD_ID\" = '*lock*'")

    pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
