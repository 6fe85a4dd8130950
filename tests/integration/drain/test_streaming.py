"""Drains that stream: exactly once without a warehouse, whatever the service answers."""

from __future__ import annotations

import gzip
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import retries
from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    OffsetWentBackError,
    SinkInDoubtError,
    SnowflakeObjectNotFoundError,
    TooManyDeadLettersError,
)
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.sinks.snowflake import streaming
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink, channel_name
from tests.faults.streaming import NastyStreaming

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.services import LocalServices
    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

METADATA = (
    'SELECT "KINESISMETADATA":stream::VARCHAR, "KINESISMETADATA":shardId::VARCHAR, '
    'LENGTH("KINESISMETADATA":shardedSequenceNumber::VARCHAR) - '
    'LENGTH("KINESISMETADATA":sequenceNumber::VARCHAR), "KINESISMETADATA":partitionKey::VARCHAR FROM {table}'
)


class DiedError(BaseException):
    """A process that ends here."""


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.01)


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline(2)


def nasty(services: LocalServices, pipeline: Pipeline) -> NastyStreaming:
    table = pipeline.table
    return NastyStreaming(services, f"{table.database}.{table.schema}.{table.name}")


def letters(pipeline: Pipeline) -> list[str]:
    return sorted(row[0] for row in pipeline.query('SELECT "PAYLOAD" FROM {dead_letters}'))


def stream(pipeline: Pipeline, **settings: Any) -> Any:
    return pipeline.drain(sink="streaming", **settings).run()


# --- days on which all goes well ---------------------------------------------------------------------------


def test_records_land_as_copy_lands_them_and_an_idle_drain_opens_nothing(
    pipeline: Pipeline, services: LocalServices
) -> None:
    pipeline.send(50, key=lambda number: f'key "{number}" \\ ü\n')
    report = stream(pipeline)

    assert (report.records, report.rejected_rows, pipeline.landed) == (50, 0, list(range(50)))
    streamed = sorted(pipeline.query(METADATA))
    assert {row[2] for row in streamed} == {20}
    logins = services.snowflake_logins(), services.streaming_logins()

    idle = stream(pipeline)
    assert (idle.records, idle.snowflake_connections) == (0, 0)
    assert (services.snowflake_logins(), services.streaming_logins()) == logins
    pipeline.send(3)
    assert (stream(pipeline).records, pipeline.landed) == (3, list(range(53)))


def test_what_can_not_land_becomes_a_dead_letter_through_a_channel_of_its_own(pipeline: Pipeline) -> None:
    inflating = gzip.compress(json.dumps({"n": "x" * 17 * 2**20}).encode())
    pipeline.send_payloads([("a", b"no json"), ("b", b'{"n": 0}'), ("c", b"\xff"), ("d", inflating)])
    report = stream(pipeline, decoder=payload_decoder(compression="auto"))

    assert (report.records, report.dead_letters) == (4, 3)
    assert pipeline.landed == [0]
    assert pipeline.query(
        'SELECT COUNT(*), COUNT("FAILED_AT"), COUNT(DISTINCT "ID") FROM {dead_letters}'
    ) == [(3, 3, 3)]


@pytest.mark.parametrize(
    "columns", [None, ColumnsSettings(infer_timestamps=True, columns={"ratio": "FLOAT", "raw": "BINARY"})]
)
def test_a_table_looks_the_same_whichever_way_rows_took(
    pipeline: Pipeline, columns: ColumnsSettings | None
) -> None:
    records = [
        {"id": 1, "name": 'a "quoted"\nname', "price": 10, "on": True, "tags": ["x"]},
        {"id": 2, "price": 12.5, "more": {"deep": None}, "big": 12345678901234567890123456789012345678},
        {"id": 5, "raw": "q6ur"},
        {"id": 3, "name": None, "ratio": 1e-300, "at": "2026-01-02T03:04:05.678+02:00", "void": ""},
        {"id": 4, "name": "\u00fc\u20ac\U0001f600\\", "tags": [], "more": {"a": [1, {"b": "c"}]}},
    ]
    payloads = [json.dumps(record).encode() for record in records]
    payloads += [b'{"id": 6}\r\n', json.dumps({"id": 7, "more": {"deep": [1, 2]}}, indent=2).encode()]
    pipeline.send_payloads([('k"\\', payload) for payload in payloads])
    facts = ("arrival_time", "shard_id", "sequence_number", "partition_key")
    streamed = f"""SELECT * EXCLUDE ("LOADED") FROM (SELECT *, 1 AS "LOADED" FROM {pipeline.table.sql})"""
    stream(pipeline, columns=columns, metadata_columns=facts)

    by_copy = replace(
        pipeline,
        application=f"{pipeline.application}-copy",
        table=pipeline.table.beside("COPIED"),
    )
    by_copy.drain(columns=columns, metadata_columns=facts).run()

    copied = sorted(map(repr, pipeline.query(streamed.replace(pipeline.table.sql, by_copy.table.sql))))
    assert sorted(map(repr, pipeline.query(streamed))) == copied
    assert len(copied) == 7


def test_bytes_are_written_as_the_pipe_takes_them(pipeline: Pipeline, services: LocalServices) -> None:
    columns = ColumnsSettings(columns={"id": "NUMBER", "raw": "BINARY"})
    pipes: list[AbstractContextManager[None]] = [nullcontext(), nasty(services, pipeline).hexadecimal()]
    for number, pipe in enumerate(pipes):
        pipeline.send_payloads([("key", json.dumps({"id": number, "raw": "q6ur"}).encode())])
        with pipe:
            assert stream(pipeline, columns=columns).rejected_rows == 0

    assert pipeline.query('SELECT "ID", "RAW" FROM {table} ORDER BY "ID"') == [
        (number, b"\xab\xab\xab") for number in range(2)
    ]


def test_more_than_one_part_goes_through_a_channel_in_order(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PART_BYTES", 1_000)
    monkeypatch.setattr(streaming.in_parts, "__kwdefaults__", {"size": 1_000})
    pipeline.send(300)

    assert stream(pipeline).records == 300
    assert pipeline.landed == list(range(300))


def test_too_many_dead_letters_send_nothing(pipeline: Pipeline) -> None:
    pipeline.send_payloads([("a", b"no json"), ("b", b"neither")])
    with pytest.raises(TooManyDeadLettersError):
        stream(pipeline, max_dead_letters=DeadLetterLimit(count=1))
    assert (stream(pipeline).dead_letters, len(letters(pipeline))) == (2, 2)


# --- deaths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["opened", "letters", "rows", "checkpoint", "release"])
def test_a_drain_that_dies_at_any_step_and_is_run_again_has_every_record_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As far as a drain's own thread dies; processes are killed in test_crashes.py."""
    pipeline.send(20)
    pipeline.send_payloads([("a", b"no json"), ("b", b"neither")])
    owner: Any
    owner, name, nth = {
        "opened": (StreamingSink, "_outcome_by", 1),
        "letters": (StreamingSink, "_append", 1),
        "rows": (StreamingSink, "_append", 2),
        "checkpoint": (Leases, "save", 1),
        "release": (Leases, "release", 1),
    }[step]
    real, calls = getattr(owner, name), []

    def die(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) >= nth:
            raise DiedError
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, die)
        patch.setattr(Leases, "release", die if step == "release" else lambda *_, **__: False)
        with pytest.raises(DiedError):
            pipeline.drain(sink="streaming", worker=Worker("task", "1-a")).run()

    report = pipeline.drain(sink="streaming", worker=Worker("task", "2-b")).run()

    assert pipeline.landed == list(range(20))
    assert letters(pipeline) == ["neither", "no json"]
    assert report.takeovers == 2


# --- bad days of the service -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["lose_answer", "repeat", "cut"])
def test_rows_land_once_whatever_becomes_of_a_request(
    pipeline: Pipeline, services: LocalServices, fault: str
) -> None:
    pipeline.send(10)
    with getattr(nasty(services, pipeline), fault)("POST .*/rows", times=1) as struck:
        stream(pipeline)

    assert struck.hits == 1
    assert pipeline.landed == list(range(10))


def test_a_worker_that_was_fenced_commits_nothing_more(pipeline: Pipeline, services: LocalServices) -> None:
    pipeline.send(10)
    fenced = pipeline.drain(sink="streaming")
    other = pipeline.drain(sink="streaming")
    real = fenced._sink._append  # type: ignore[attr-defined]

    def somebody_comes_before(*args: Any) -> None:
        for row in pipeline.state.shards.values():
            other._sink.offsets([OffsetKey(row.shard_id, row.incarnation or "")])
        fenced._sink._append = real  # type: ignore[attr-defined]
        real(*args)

    fenced._sink._append = somebody_comes_before  # type: ignore[attr-defined]
    report = fenced.run()

    assert (report.records, pipeline.landed) == (10, list(range(10)))


def test_rows_that_the_service_rejects_are_counted_and_told(
    pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.drain(sink="streaming").run()
    pipeline.query('ALTER TABLE {table} ADD COLUMN "NEEDED" NUMBER NOT NULL')
    pipeline.send(5)
    report = stream(pipeline)

    assert report.rejected_rows == 5
    assert "Look for" in caplog.text


class AfterAMonth(Machine):
    """A machine on which it is a month later."""

    def wall(self) -> int:
        return super().wall() + 31 * 24 * 3_600_000


def test_a_channel_that_was_dropped_is_no_news_of_the_table(
    pipeline: Pipeline, services: LocalServices
) -> None:
    pipeline.send(10)
    stream(pipeline)
    forget_all(services, pipeline)
    pipeline.send(10)

    with pytest.raises(OffsetWentBackError, match="its channel was dropped"):
        stream(pipeline)


def test_a_channel_that_was_forgotten_after_a_clean_end_is_no_loss(
    pipeline: Pipeline, services: LocalServices
) -> None:
    pipeline.send(10)
    stream(pipeline)
    forget_all(services, pipeline)
    pipeline.send(10)

    assert pipeline.drain(sink="streaming", runtime=AfterAMonth()).run().records == 10
    assert pipeline.landed == list(range(20))


@pytest.mark.parametrize("between", ["nothing", "copy"])
def test_a_channel_is_forgotten_however_often_the_row_is_written(
    pipeline: Pipeline, services: LocalServices, between: str
) -> None:
    """By drains that find nothing, or that load by another sink."""
    pipeline.send(10)
    stream(pipeline)
    forget_all(services, pipeline)
    if between == "copy":
        pipeline.send(10)
    pipeline.drain(sink="streaming" if between == "nothing" else "copy", runtime=AfterAMonth()).run()
    pipeline.send(10)

    assert pipeline.drain(sink="streaming", runtime=AfterAMonth()).run().records == 10
    assert pipeline.landed == list(range(20 if between == "nothing" else 30))


def test_a_channel_that_was_forgotten_in_doubt_is_refused(
    pipeline: Pipeline, services: LocalServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.send(10)
    with monkeypatch.context() as patch:
        patch.setattr(Leases, "release", lambda *_, **__: False)
        stream(pipeline)
    forget_all(services, pipeline)

    with pytest.raises(CorruptStateError, match="Snowflake has forgotten"):
        pipeline.drain(sink="streaming", runtime=AfterAMonth()).run()


def forget_all(services: LocalServices, pipeline: Pipeline) -> None:
    service = nasty(services, pipeline)
    for row in pipeline.state.shards.values():
        service.forget(
            channel_name(
                pipeline.application, pipeline.stream, OffsetKey(row.shard_id, row.incarnation or "")
            )
        )


def test_a_role_without_privileges_is_named(pipeline: Pipeline, services: LocalServices) -> None:
    pipeline.send(1)
    stream(pipeline)
    pipeline.send(1)
    with (
        nasty(services, pipeline).answer_error("POST :pipe-info", status=404, code="ERR_PIPE_DOES_NOT_EXIST"),
        pytest.raises(SnowflakeObjectNotFoundError, match="Create the table, or grant"),
    ):
        stream(pipeline)


# --- one application, two sinks ----------------------------------------------------------------------------


def test_an_application_changes_its_sink_between_drains(pipeline: Pipeline) -> None:
    for number, sink in enumerate(["copy", "streaming", "streaming", "copy", "streaming", "copy"]):
        pipeline.send(10)
        report = pipeline.drain(sink=sink).run()
        assert (report.records, pipeline.landed) == (10, list(range(10 * (number + 1))))
        assert {row.sinks for row in pipeline.state.shards.values()} == {frozenset({sink})}


@pytest.mark.parametrize(("first", "then"), [("copy", "streaming"), ("streaming", "copy")])
def test_a_doubt_is_settled_by_the_sink_that_it_is_about(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    pipeline.send(10)
    with monkeypatch.context() as patch:

        def die(*_: Any, **__: Any) -> Any:
            raise DiedError

        patch.setattr(Leases, "save", die)
        patch.setattr(Leases, "release", lambda *_, **__: False)
        with pytest.raises(DiedError):
            pipeline.drain(sink=first, worker=Worker("task", "1-a")).run()
    pipeline.send(10)

    for number in (2, 3):
        with pytest.raises(SinkInDoubtError, match=f"Run a drain with sink='{first}' once more"):
            pipeline.drain(sink=then, worker=Worker("task", f"{number}-b")).run()
    settled = pipeline.drain(sink=first, worker=Worker("task", "4-c")).run()
    pipeline.send(10)
    changed = pipeline.drain(sink=then, worker=Worker("task", "5-d")).run()

    assert (settled.records, settled.takeovers, changed.records) == (10, 2, 10)
    assert pipeline.landed == list(range(30))
