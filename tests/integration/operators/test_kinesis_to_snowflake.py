"""The operator on the local services: what lands, and what is refused before anything happens."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_kinesis_snowflake.assets.loads import LOADED
from airflow_kinesis_snowflake.exceptions import (
    InvalidSettingError,
    NotACheckpointTableError,
    SnowflakeObjectNotFoundError,
    StreamNotFoundError,
)
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import LINKS
from airflow_kinesis_snowflake.operators.compat import THREADS_MAY_TALK, AirflowFailException
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import REGION
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient
    from snowflake.connector import SnowflakeConnection

pytestmark = pytest.mark.usefixtures("services")


class TaskInstance:
    """What the operator uses of a task instance, and what it did with it."""

    def __init__(self, *, map_index: int = -1) -> None:
        self.dag_id, self.run_id, self.task_id = "dag", "run", "drain"
        self.map_index, self.try_number = map_index, 1
        self.xcoms: dict[str, Any] = {}
        self.outlet_events = OutletEventAccessors()

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """URI and extra of the asset events that were added."""
        return [
            (event.dest_asset_key.uri, event.extra) for event in self.outlet_events[LOADED].asset_alias_events
        ]


def run(operator: KinesisToSnowflakeOperator, ti: TaskInstance | None = None) -> dict[str, Any]:
    """Execute the operator as Airflow would, and check that the report is one that XCom takes.

    It begins in a new millisecond: records of the one it begins in are left to the next drain.
    """
    sent = now_millis()
    while now_millis() == sent:
        pass
    ti = ti or TaskInstance()
    context: Any = {"ti": ti, "outlet_events": ti.outlet_events}
    report = operator.execute(context)
    assert json.loads(json.dumps(report)) == report
    return report


@pytest.fixture
def settings(application_name: str, table: str) -> dict[str, Any]:
    """Settings of an operator, but for the stream."""
    return {"task_id": "drain", "application_name": application_name, "table": table}


@pytest.fixture
def rows(snowflake_connection: SnowflakeConnection) -> Callable[[str], list[tuple[Any, ...]]]:
    """Function that runs a query."""

    def query(sql: str) -> list[tuple[Any, ...]]:
        with snowflake_connection.cursor() as cursor:
            return fetch(cursor, sql)

    return query


def put(kinesis: KinesisClient, stream: str, *payloads: bytes, key: str = "key") -> None:
    """Put payloads into a stream, a few MiB at a time."""
    for start in range(0, len(payloads), 500):
        records: Any = [{"PartitionKey": key, "Data": data} for data in payloads[start : start + 500]]
        assert kinesis.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def test_metadata_has_the_seven_fields_of_openflow(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    rows: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    stream = make_stream()
    sent = kinesis.put_record(StreamName=stream, PartitionKey="key", Data=b'{"n": 1}')

    run(KinesisToSnowflakeOperator(stream_name=stream, **settings))

    [(content, metadata)] = rows(f'SELECT "RECORD_CONTENT", "KINESISMETADATA" FROM {settings["table"]}')
    assert json.loads(content) == {"n": 1}
    landed = json.loads(metadata)
    assert isinstance(landed.pop("approximateArrival"), int)
    assert landed == {
        "stream": stream,
        "shardId": sent["ShardId"],
        "partitionKey": "key",
        "sequenceNumber": sent["SequenceNumber"],
        "subSequenceNumber": 0,
        "shardedSequenceNumber": sent["SequenceNumber"] + "0" * 20,
    }


def test_records_that_are_not_json_become_dead_letters_and_the_others_land(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    rows: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    stream = make_stream()
    put(kinesis, stream, b'{"n": 1}', b"{not json", b"\xff\xfe", b'{"n": 2}')

    report = run(KinesisToSnowflakeOperator(stream_name=stream, **settings))

    assert (report["records"], report["dead_letters"]) == (4, 2)
    assert len(rows(f"SELECT 1 FROM {settings['table']}")) == 2
    dead_letters = settings["table"].rpartition(".")[0] + ".KINESIS_DEAD_LETTERS"
    assert rows(
        f'SELECT "PAYLOAD", "PAYLOAD_ENCODING", "APPLICATION" FROM {dead_letters} ORDER BY 2 DESC'
    ) == [
        ("{not json", "utf-8", settings["application_name"]),
        ("//4=", "base64", settings["application_name"]),
    ]


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param([], id="no record"),
        pytest.param([b"1"], id="one byte"),
        pytest.param([json.dumps("x" * (2**20 - 2)).encode()], id="1 MiB"),
        pytest.param([b'{"n": 1}'] * 10_000, id="10,000 records of one key"),
    ],
)
def test_any_number_and_size_of_records_lands(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    rows: Callable[[str], list[tuple[Any, ...]]],
    payloads: list[bytes],
) -> None:
    stream = make_stream(2)
    put(kinesis, stream, *payloads)

    report = run(KinesisToSnowflakeOperator(stream_name=stream, **settings))

    assert report["records"] == len(payloads)
    assert report["bytes"] == sum(map(len, payloads))
    assert rows(f"SELECT COUNT(*) FROM {settings['table']}") == [(len(payloads),)]


def test_limits_end_a_drain_early_and_the_next_one_goes_on(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    rows: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    stream = make_stream()
    put(kinesis, stream, *[json.dumps({"n": n}).encode() for n in range(12_000)])

    first = run(KinesisToSnowflakeOperator(stream_name=stream, max_records=1, **settings))
    second = run(KinesisToSnowflakeOperator(stream_name=stream, max_batch_records="100", **settings))

    assert 0 < first["records"] < 12_000
    assert second["records"] == 12_000 - first["records"]
    numbers = f'SELECT COUNT(*), COUNT(DISTINCT "RECORD_CONTENT":n) FROM {settings["table"]}'
    assert rows(numbers) == [(12_000, 12_000)]


def test_links_are_there_while_the_task_runs_and_the_same_when_it_ended(
    make_stream: Callable[..., str], settings: dict[str, Any]
) -> None:
    ti = TaskInstance()
    stream, application = make_stream(), settings["application_name"]
    operator = KinesisToSnowflakeOperator(stream_name=stream, **settings)

    run(operator, ti)

    ti_key: Any = ti
    assert ti.xcoms == {link.xcom_key: link.get_link(operator, ti_key=ti_key) for link in LINKS}
    page = f"/plugin/kinesis-snowflake?application={application}&stream={stream}"
    assert ti.xcoms["_link_MonitoringPageLink"].endswith(page)
    assert f"region={REGION}" in ti.xcoms["_link_StreamLink"]
    assert f"name={application}" in ti.xcoms["_link_CheckpointTableLink"]


def test_a_task_that_loaded_records_tells_so_once(
    make_stream: Callable[..., str], kinesis: KinesisClient, settings: dict[str, Any]
) -> None:
    stream = make_stream()
    put(kinesis, stream, b"1", b"{not json")
    first, second = TaskInstance(), TaskInstance()

    report = run(KinesisToSnowflakeOperator(stream_name=stream, **settings), first)
    run(KinesisToSnowflakeOperator(stream_name=stream, **settings), second)

    [(uri, extra)] = first.events
    assert uri == f"snowflake://local/{settings['table'].replace('.', '/')}"
    assert extra == {
        "records": 2,
        "bytes": 10,
        "batches": 1,
        "dead_letters": 1,
        "millis_behind_latest": report["millis_behind_latest"],
        "stream_name": stream,
        "stream_arn": report["stream_arn"],
        "application_name": settings["application_name"],
    }
    assert second.events == []


def test_dead_letters_are_a_warning_with_their_reasons_and_counts(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = make_stream()
    put(kinesis, stream, b"{", b"1", b"", b"{", b"{")

    assert run(KinesisToSnowflakeOperator(stream_name=stream, **settings))["dead_letters"] == 4

    ours = [record for record in caplog.records if record.name.startswith("airflow_kinesis_snowflake.")]
    [line] = [record.getMessage() for record in ours if record.levelno == logging.WARNING]
    said, _, reasons = line.partition(": ")
    assert said.startswith(f"4 records of stream {stream} became dead letters, in batch ")
    assert re.fullmatch(r".+ \(3\), .+ \(1\)", reasons)


def test_a_mapped_task_leaves_telling_to_the_one_behind_it(
    make_stream: Callable[..., str], kinesis: KinesisClient, settings: dict[str, Any]
) -> None:
    stream = make_stream()
    put(kinesis, stream, b"1")
    ti = TaskInstance(map_index=0)

    report = run(KinesisToSnowflakeOperator(stream_name=stream, **settings), ti)

    assert report["records"] == 1
    assert report["assets"]["stream"] == f"kinesis-stream://{REGION}/000000000000/{stream}"
    assert ti.events == []


@pytest.mark.skipif(not THREADS_MAY_TALK, reason="needs Airflow 3.2")
def test_a_drain_shows_how_far_it_is(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_kinesis_snowflake.engine.progress.SECONDS_BETWEEN_LINES", 0.0)
    stream = make_stream()
    put(kinesis, stream, b"1")
    ti = TaskInstance()

    run(KinesisToSnowflakeOperator(stream_name=stream, **settings), ti)

    progress = ti.xcoms["progress"]
    assert (progress["stream_name"], progress["application_name"]) == (stream, settings["application_name"])
    assert progress.keys() == {
        "application_name",
        "stream_name",
        "records",
        "bytes",
        "records_per_second",
        "millis_behind_latest",
        "shards",
        "seconds_to_catch_up",
        "at",
        "following_until",
    }


def test_the_settings_of_the_columns_mapping_reach_the_drain(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    settings: dict[str, Any],
    rows: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    stream = make_stream()
    put(kinesis, stream, b'{"a": "12.5", "b": 1, "c": "2024-01-02T03:04:05", "d": 2}')

    run(
        KinesisToSnowflakeOperator(
            stream_name=stream,
            mapping="columns",
            columns={"A": "NUMBER(12, 2)"},
            rename={"b": "B_OF_LATE"},
            exclude=["d"],
            schema_evolution="true",
            infer_timestamps="True",
            **settings,
        )
    )

    assert rows(f'SELECT "A", "B_OF_LATE", "C"::VARCHAR FROM {settings["table"]}') == [
        (Decimal("12.50"), 1, "2024-01-02 03:04:05")
    ]
    columns = {row[2] for row in rows(f"SHOW COLUMNS IN TABLE {settings['table']}")}
    assert columns == {"KINESISMETADATA", "A", "B_OF_LATE", "C"}


REFUSED_SETTINGS = {
    "table that isn't fully qualified": {"table": "RECORDS"},
    "application that can't name a table": {"application_name": "no spaces, please"},
    "stream that can't be one": {"stream_name": "no/slashes"},
    "initial position that doesn't exist": {"initial_position": "EARLIEST"},
    "timestamp that isn't one": {"initial_position": "AT_TIMESTAMP", "initial_timestamp": "yesterday"},
    "timestamp without a time zone": {"stop_at": "2026-01-01T00:00:00"},
    "timestamp that is missing": {"initial_position": "AT_TIMESTAMP"},
    "limit of zero": {"max_batch_records": 0},
    "limit below zero": {"max_seconds": -1},
    "limit that isn't a number": {"max_records": "many"},
    "mapping that doesn't exist": {"mapping": "rows"},
    "columns of the other mapping": {"columns": {"A": "NUMBER"}},
    "type that doesn't exist": {"mapping": "columns", "columns": {"A": "MONEY"}},
    "evolution that is neither": {"mapping": "columns", "schema_evolution": "perhaps"},
    "reaction that doesn't exist": {"on_data_loss": "ignore"},
    "text in place of a list of keys": {"mapping": "columns", "include": "id"},
    "table that drains keep for themselves": {"table": "DB.PUBLIC.KINESIS_OFFSETS"},
}


@pytest.mark.parametrize("wrong", [pytest.param(value, id=key) for key, value in REFUSED_SETTINGS.items()])
def test_a_setting_that_cannot_work_fails_without_retry(
    settings: dict[str, Any], dynamodb: DynamoDBClient, wrong: dict[str, Any]
) -> None:
    operator = KinesisToSnowflakeOperator(stream_name="stream", **settings)
    for name, value in wrong.items():  # as templates do
        setattr(operator, name, value)

    with pytest.raises(AirflowFailException) as refusal:
        run(operator)

    assert isinstance(refusal.value.__context__, InvalidSettingError)
    assert settings["application_name"] not in dynamodb.list_tables()["TableNames"]


def test_a_temporary_folder_that_put_cannot_name_fails_before_any_state_is_made(
    make_stream: Callable[..., str],
    settings: dict[str, Any],
    dynamodb: DynamoDBClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "runs[1]"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    with pytest.raises(AirflowFailException, match="TMPDIR") as refusal:
        run(KinesisToSnowflakeOperator(stream_name=make_stream(), **settings))

    assert isinstance(refusal.value.__context__, InvalidSettingError)
    assert settings["application_name"] not in dynamodb.list_tables()["TableNames"]


def test_an_unknown_stream_is_named_and_no_state_is_made(
    settings: dict[str, Any], dynamodb: DynamoDBClient
) -> None:
    with pytest.raises(AirflowFailException, match="no-such-stream") as refusal:
        run(KinesisToSnowflakeOperator(stream_name="no-such-stream", **settings))

    assert isinstance(refusal.value.__context__, StreamNotFoundError)
    assert settings["application_name"] not in dynamodb.list_tables()["TableNames"]


def test_a_table_of_other_software_is_left_alone(
    make_stream: Callable[..., str], settings: dict[str, Any], dynamodb: DynamoDBClient
) -> None:
    name = settings["application_name"]
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})

    with pytest.raises(AirflowFailException, match=name) as refusal:
        run(KinesisToSnowflakeOperator(stream_name=make_stream(), **settings))

    assert isinstance(refusal.value.__context__, NotACheckpointTableError)
    assert dynamodb.scan(TableName=name)["Items"] == []


def test_a_missing_snowflake_schema_is_found_before_any_state_is_made(
    make_stream: Callable[..., str], settings: dict[str, Any], dynamodb: DynamoDBClient
) -> None:
    settings["table"] = settings["table"].replace("PUBLIC", "NO_SUCH_SCHEMA")

    with pytest.raises(AirflowFailException, match="NO_SUCH_SCHEMA") as refusal:
        run(KinesisToSnowflakeOperator(stream_name=make_stream(), **settings))

    assert isinstance(refusal.value.__context__, SnowflakeObjectNotFoundError)
    assert settings["application_name"] not in dynamodb.list_tables()["TableNames"]
