"""Dead letters land after what was wrong is mended, each once, whatever happens to the replay."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError, TransientError
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator
from airflow_kinesis_snowflake.sinks.snowflake import replay
from tests.faults.actions import SESSION_GONE, Hold, lose_answer, snowflake_error
from tests.faults.snowflake import NastySnowflake
from tests.integration.stream.test_aggregates import by_aiokpl, damaged

from .test_isolation import BAD, REFUSED, Picky
from .test_snowflake_faults import undone_and

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.services import LocalServices
    from tests.faults.proxy import FaultProxy

    from .conftest import Pipeline

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures", "tests.preloaded"]


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline], snowflake_proxy: FaultProxy) -> Pipeline:
    """A pipeline whose records are documents one after the other, which its drains didn't know."""
    pipeline = make_pipeline(shards=2)
    pipeline.send(3)
    payloads = [b'{"n": 3}\n{"n": 4}', b'{"n": 5} {"n": 6}', b"no JSON at all"]
    pipeline.send_payloads([("a", payloads[0]), ("b", by_aiokpl(payloads[1:]))])
    assert pipeline.drain().run().dead_letters == 3
    return pipeline


def run(pipeline: Pipeline, **parameters: Any) -> dict[str, int]:
    operator = ReplayDeadLettersOperator(
        **{
            "task_id": "replay",
            "application_name": pipeline.application,
            "stream_name": pipeline.stream,
            "table": str(pipeline.table),
            "json_documents": "sequence",
        }
        | parameters
    )
    return operator.execute({})


def reasons(pipeline: Pipeline) -> list[str]:
    return [reason for (reason,) in pipeline.query('SELECT "REASON" FROM {dead_letters} ORDER BY 1')]


def test_what_can_land_now_lands_and_the_rest_stays_with_its_new_reason(pipeline: Pipeline) -> None:
    assert run(pipeline) == {"dead_letters": 3, "landed": 2, "failed": 1, "rows": 4}

    assert pipeline.landed == [0, 1, 2, 3, 4, 5, 6]
    assert reasons(pipeline) == ["not JSON: Expecting value at character 0"]
    assert run(pipeline) == {"dead_letters": 1, "landed": 0, "failed": 1, "rows": 0}


def test_the_metadata_of_a_replayed_record_is_that_of_the_record(pipeline: Pipeline) -> None:
    before = pipeline.query(
        'SELECT "SHARD_ID", "SEQUENCE_NUMBER", "PARTITION_KEY", "APPROXIMATE_ARRIVAL", '
        'COALESCE("SUB_SEQUENCE_NUMBER", 0) FROM {dead_letters} WHERE "PARTITION_KEY" = \'key 0\''
    )

    run(pipeline)

    assert (
        pipeline.query(
            "SELECT m:shardId::VARCHAR, m:sequenceNumber::VARCHAR, m:partitionKey::VARCHAR, "
            "m:approximateArrival::NUMBER, m:subSequenceNumber::NUMBER FROM "
            '(SELECT "RECORD_CONTENT":n::NUMBER AS n, "KINESISMETADATA" AS m FROM {table}) WHERE n = 5'
        )
        == before
    )


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({"reason": "trailing characters"}, 2),
        ({"reason": "no such reason"}, 0),
        ({"column": "N"}, 0),
        ({"failed_until": "2020-01-01T00:00:00Z"}, 0),
        ({"failed_since": "2020-01-01T00:00:00Z", "failed_until": "2999-01-01T00:00:00Z"}, 3),
        ({"application_name": "another"}, 0),
        ({"stream_name": "another"}, 0),
    ],
)
def test_only_those_that_are_meant_are_replayed(
    pipeline: Pipeline, chosen: dict[str, str], count: int
) -> None:
    assert run(pipeline, **chosen)["dead_letters"] == count


def test_gaps_stay_and_letters_of_an_earlier_version_are_replayed(pipeline: Pipeline) -> None:
    pipeline.query("UPDATE {dead_letters} SET \"KIND\" = 'gap' WHERE \"PARTITION_KEY\" = 'a'")
    pipeline.query('ALTER TABLE {dead_letters} DROP COLUMN "ID"')

    assert run(pipeline)["landed"] == 1
    assert pipeline.landed == [0, 1, 2, 5, 6]


def test_an_aggregate_that_was_damaged_stays(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    pipeline.send_payloads([("a", damaged())])
    pipeline.drain().run()

    assert run(pipeline)["failed"] == 1
    assert reasons(pipeline)[0].startswith("damaged KPL aggregate")


def test_the_columns_of_the_table_grow_as_in_a_drain(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    pipeline.send_payloads([("a", b'{"n": 1, "name": "x"}'), ("a", b'[{"n": 2}, {"m": true}]')])
    assert pipeline.drain(columns=ColumnsSettings()).run().dead_letters == 1

    assert run(pipeline, mapping="columns", json_documents="array")["rows"] == 2
    assert pipeline.query('SELECT "N", "NAME", "M" FROM {table} ORDER BY 1') == [
        (1, "x", None),
        (2, None, None),
        (None, None, True),
    ]


# --- exactly once ------------------------------------------------------------------------------------------


def test_of_two_replays_at_the_same_time_each_record_lands_once(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    with Hold() as hold, ThreadPoolExecutor() as threads:
        snowflake_proxy.add(hold, operation="DELETE", times=1)
        first = threads.submit(run, pipeline)
        hold.wait()
        second = run(pipeline)
        hold.release()
        try:
            later = first.result()["landed"]
        except ServiceUnavailableError:
            later = run(pipeline)["landed"]

    assert (second["landed"], later) == (2, 0)
    assert pipeline.landed == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("statement", ["COPY", "DELETE", "COMMIT"])
def test_a_replay_that_breaks_off_can_be_run_again(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, statement: str
) -> None:
    with (
        snowflake_proxy.add(undone_and(snowflake_error(*SESSION_GONE)), operation=statement),
        pytest.raises(TransientError),
    ):
        run(pipeline)

    run(pipeline)

    assert pipeline.landed == [0, 1, 2, 3, 4, 5, 6]
    assert len(reasons(pipeline)) == 1


@pytest.mark.parametrize(
    "statement", ["^SELECT CURRENT_TRANSACTION", "^COPY", "^UPDATE .*SET .UPDATED_AT", "^DELETE", "^COMMIT"]
)
def test_a_transaction_that_snowflake_ends_without_a_word_is_done_again(
    pipeline: Pipeline, services: LocalServices, statement: str
) -> None:
    nasty = NastySnowflake(services, session={"database": pipeline.table.database})

    with nasty.end_transaction(before=statement, times=1) as fault:
        replayed = run(pipeline)

    assert fault.hits == 1
    assert (replayed["landed"], replayed["failed"]) == (2, 1)
    assert pipeline.landed == [0, 1, 2, 3, 4, 5, 6]
    assert len(reasons(pipeline)) == 1


def test_an_answer_to_commit_that_is_lost_doubles_nothing(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    snowflake_proxy.add(lose_answer, operation="COMMIT", times=1)

    run(pipeline)

    assert pipeline.landed == [0, 1, 2, 3, 4, 5, 6]


# --- values that Snowflake refuses -------------------------------------------------------------------------


def test_what_snowflake_refuses_stays_and_the_others_land(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    pipeline.send_payloads([("bad", BAD + b" 1")])
    pipeline.drain().run()
    Picky(snowflake_proxy)

    assert run(pipeline) == {"dead_letters": 4, "landed": 2, "failed": 2, "rows": 4}
    assert "refused by Snowflake: error 100069" in reasons(pipeline)


def test_a_table_that_refuses_everything_ends_the_replay(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_REFUSED", 1)
    snowflake_proxy.add(snowflake_error(*REFUSED), operation="COPY", sql="RECORD_CONTENT")

    with pytest.raises(
        AirflowFailException, match=r"TooManyDeadLettersError: .*: Snowflake refuses more than 1"
    ):
        run(pipeline)

    assert (pipeline.landed, len(reasons(pipeline))) == ([0, 1, 2], 3)
