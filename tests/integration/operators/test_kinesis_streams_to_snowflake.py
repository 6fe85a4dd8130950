"""Many streams in one task."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_kinesis_snowflake.assets.loads import LOADED
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.kinesis_streams_to_snowflake import KinesisStreamsToSnowflakeOperator
from airflow_kinesis_snowflake.sources import backlog
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.helpers import CONNECTOR_TELLS_OF_TRIES, fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

    from local.services import LocalServices


LEFT: dict[str, Any] = {}


def run(
    application: str,
    table: str,
    *,
    try_number: int = 1,
    drain: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Run the operator as a task does."""
    with DAG("dag", schedule=None):
        operator = KinesisStreamsToSnowflakeOperator(
            task_id="drain",
            application_name=application,
            table=table,
            # With what came in this very millisecond.
            drain={"stop_at": datetime.now(UTC) + timedelta(seconds=1)} | (drain or {}),
            **settings,
        )
    ti = SimpleNamespace(
        dag_id="dag",
        run_id="run",
        task_id="drain",
        map_index=-1,
        try_number=try_number,
        xcom_push=LEFT.__setitem__,
    )
    LEFT.clear()
    outlet_events = OutletEventAccessors()
    context: Any = {"ti": ti, "outlet_events": outlet_events}
    report = operator.execute(context)
    events = outlet_events[LOADED].asset_alias_events
    return report | {"events": {event.dest_asset_key.uri: event.extra for event in events}}


@pytest.fixture
def send(kinesis: KinesisClient) -> Callable[[str, int], None]:
    def put(stream: str, number: int) -> None:
        kinesis.put_record(StreamName=stream, PartitionKey="k", Data=json.dumps({"n": number}).encode())

    return put


def landed(connection: SnowflakeConnection, table: str) -> list[int]:
    with connection.cursor() as cursor:
        found = fetch(cursor, f'SELECT "RECORD_CONTENT":n::NUMBER FROM {table}')
    return sorted(int(row[0]) for row in found)


def test_ten_streams_are_drained_in_one_task_each_into_its_table(
    make_stream: Callable[..., str],
    send: Callable[[str, int], None],
    services: LocalServices,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    database: str,
) -> None:
    streams = [make_stream() for _ in range(10)]
    for number, stream in enumerate(streams):
        send(stream, number)
    pattern = "|".join(map(re.escape, streams))
    logins = services.snowflake_logins()

    report = run(application_name, f"{database}.PUBLIC.{{stream}}", stream_pattern=pattern)
    logins = services.snowflake_logins() - logins

    again = run(application_name, f"{database}.PUBLIC.{{stream}}", stream_pattern=pattern)

    assert report["totals"]["snowflake_connections"] == logins
    # Without being told of repeated requests, each transaction has a session of its own.
    assert logins < len(streams) or not CONNECTOR_TELLS_OF_TRIES
    assert sorted(report["streams"]) == sorted(streams)
    assert report["totals"]["records"] + again["totals"]["records"] == 10
    assert len(report["events"] | again["events"]) == 10
    for number, stream in enumerate(streams):
        table = f"{database}.PUBLIC.{stream.replace('-', '_').upper()}"
        assert landed(snowflake_connection, table) == [number]
    store = CheckpointStoreHook(application_name)
    assert {len(store.read_state(stream).shards) for stream in streams} == {1}

    logins, items = services.snowflake_logins(), store.read_items()
    threads = set(threading.enumerate())
    idle = run(application_name, f"{database}.PUBLIC.{{stream}}", stream_pattern=pattern)
    assert (sorted(idle["idle"]), idle["streams"]) == (sorted(streams), {})
    assert (services.snowflake_logins(), store.read_items()) == (logins, items)
    begun = {thread.name for thread in set(threading.enumerate()) - threads}
    assert not {name for name in begun if name.startswith(("fetch-", "load-", "state-"))}


def test_new_streams_are_picked_up_and_one_that_fails_stops_no_other(
    make_stream: Callable[..., str],
    send: Callable[[str, int], None],
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> None:
    first, second = make_stream(), make_stream()
    send(first, 1)
    send(second, 2)

    with pytest.raises(AirflowFailException, match="there-is-none"):
        run(application_name, table, stream_names=[first, "there-is-none", second])
    assert landed(snowflake_connection, table) == [1, 2]
    assert sorted(LEFT["drained"]["streams"]) == sorted([first, second])
    assert list(LEFT["failure"]["streams"]) == ["there-is-none"]
    assert LEFT["failure"]["streams"]["there-is-none"].startswith("StreamNotFoundError: ")

    third = make_stream()
    send(third, 3)
    report = run(application_name, table, stream_names=[first, second], stream_pattern=re.escape(third))
    assert (sorted(report["streams"]), sorted(report["idle"])) == ([third], sorted([first, second]))
    assert landed(snowflake_connection, table) == [1, 2, 3]


def test_records_are_found_in_a_stream_of_which_not_all_shards_are_asked(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = make_stream(2)
    run(application_name, table, stream_names=[stream])
    assert run(application_name, table, stream_names=[stream])["idle"] == [stream]
    monkeypatch.setattr(backlog, "SHARDS_PER_LOOK", 1)
    kinesis.put_record(StreamName=stream, PartitionKey="k", ExplicitHashKey=str(2**128 - 1), Data=b'{"n": 1}')

    report = run(application_name, table, stream_names=[stream])

    assert (list(report["streams"]), report["idle"]) == ([stream], [])
    assert landed(snowflake_connection, table) == [1]


def lease(stream: str, application: str, *, owner: str) -> None:
    """Lease the only shard of a stream, as a worker that is killed then leaves it."""
    store = CheckpointStoreHook(application)
    [row] = store.read_state(stream).shards.values()
    now = now_millis()
    assert store.take_lease(stream, row, owner=owner, expiry=now + 30_000, now=now, incarnation="i")


def test_a_retry_drains_what_its_predecessor_had_leased_when_it_was_killed(
    make_stream: Callable[..., str],
    send: Callable[[str, int], None],
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> None:
    stream = make_stream()
    run(application_name, table, stream_names=[stream])
    send(stream, 1)
    lease(stream, application_name, owner="dag/run/drain/-1#1-killed")

    report = run(application_name, table, try_number=2, stream_names=[stream])

    assert (list(report["streams"]), report["idle"]) == ([stream], [])
    assert landed(snowflake_connection, table) == [1]


def test_a_stream_that_others_have_leased_is_not_called_idle(
    make_stream: Callable[..., str],
    send: Callable[[str, int], None],
    application_name: str,
    table: str,
) -> None:
    stream = make_stream()
    run(application_name, table, stream_names=[stream])
    send(stream, 1)
    lease(stream, application_name, owner="another")

    # Doesn't wait until it is known whether the other one is alive.
    report = run(application_name, table, stream_names=[stream], drain={"max_seconds": 0.001})

    assert (list(report["streams"]), report["idle"]) == ([stream], [])


def test_streams_with_a_tag_are_drained(
    make_stream: Callable[..., str],
    send: Callable[[str, int], None],
    kinesis: KinesisClient,
    snowflake_connection: SnowflakeConnection,
    application_name: str,
    table: str,
) -> None:
    tagged, other = make_stream(), make_stream()
    send(tagged, 1)
    send(other, 2)
    kinesis.add_tags_to_stream(StreamName=tagged, Tags={"team": application_name})

    run(
        application_name,
        table,
        stream_pattern=f"{re.escape(tagged)}|{re.escape(other)}",
        stream_tags={"team": application_name},
    )
    assert landed(snowflake_connection, table) == [1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no stream is given"),
        ({"stream_names": ["a"], "drain": {"stream_name": "b"}}, "without stream_name"),
        ({"stream_names": ["a"], "drain": {"speed": "high"}}, "without speed"),
        ({"stream_names": ["a"], "drain": {"max_records": "many"}}, "max_records"),
        ({"stream_names": ["a"], "streams_at_once": 0}, "streams_at_once"),
    ],
)
def test_wrong_settings_are_refused_while_the_dag_is_parsed(settings: dict[str, Any], said: str) -> None:
    with DAG("dag", schedule=None), pytest.raises(InvalidSettingError, match=said):
        KinesisStreamsToSnowflakeOperator(task_id="drain", application_name="app", table="D.S.T", **settings)


def test_a_template_may_say_which_streams() -> None:
    with DAG("dag", schedule=None):
        operator = KinesisStreamsToSnowflakeOperator(
            task_id="drain",
            application_name="app",
            table="D.S.T",
            stream_pattern="{{ params.pattern }}",
            drain={"max_records": "{{ params.most }}"},
        )
    operator.stream_pattern = ""
    with pytest.raises(AirflowFailException, match="no stream is given"):
        operator.execute({"ti": SimpleNamespace(xcom_push=LEFT.__setitem__)})  # type: ignore[typeddict-item]


def test_streams_of_one_name_are_refused(application_name: str, aws_conn: str) -> None:
    arn = "arn:aws:kinesis:eu-west-1:{}:stream/clicks"
    with pytest.raises(AirflowFailException, match="by applications of their own"):
        run(
            application_name,
            "D.S.T",
            stream_names=[arn.format("111111111111"), arn.format("222222222222")],
        )


def test_a_pattern_that_fits_nothing_is_named(application_name: str, aws_conn: str) -> None:
    with pytest.raises(AirflowFailException, match="Correct stream_pattern"):
        run(application_name, "D.S.T", stream_pattern="there-is-none-.*")
