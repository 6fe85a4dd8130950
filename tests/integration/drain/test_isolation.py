"""Snowflake refuses values that looked good: the bad records become dead letters, the others land, once.

The local Snowflake takes any JSON, so the proxy before it refuses files with a marked document, in the words
of Snowflake.
"""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from airflow_kinesis_snowflake.engine import retries
from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.exceptions import (
    DataLossError,
    ServiceRefusedError,
    TooManyDeadLettersError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.sinks.snowflake import isolation
from tests.faults.actions import (
    LOCK_WAITERS,
    THROTTLED,
    aws_error,
    forget_up_to,
    lose_answer,
    snowflake_error,
)
from tests.integration.stream.test_aggregates import by_aiokpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import Answer, FaultProxy, Forward, Request

    from .conftest import Pipeline

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures", "tests.preloaded"]

REFUSED = ("100069", "22P02", "Error parsing JSON: the value is quoted here: SECRET")
BAD = b'{"bad": "SECRET"}'


class Picky:
    """Refuses COPY of a file with a document that is marked."""

    def __init__(self, proxy: FaultProxy, *, bad: str = "SECRET") -> None:
        self._bad = bad
        self._files: dict[str, list[str]] = {}
        self.tries = 0
        proxy.add(self._look, operation="UPLOAD")
        proxy.add(self._judge, operation="COPY")

    async def _look(self, request: Request, forward: Forward) -> Answer:
        rows = pq.read_table(io.BytesIO(request.body))
        if "RECORD_CONTENT" in rows.column_names:
            self._files[folder_in(request.path)] = rows.column("RECORD_CONTENT").to_pylist()
        return await forward(request)

    async def _judge(self, request: Request, forward: Forward) -> Answer:
        self.tries += 1
        documents = self._files[folder_in(request.sql)] if "/landing" in request.sql else []
        if any(self._bad in document for document in documents):
            return await snowflake_error(*REFUSED)(request, forward)
        return await forward(request)


def folder_in(text: str) -> str:
    """The part of a stage path that is the attempt's own."""
    attempt = r"/[0-9]+(?:-parts/[0-9-]+)?"
    found = re.search(rf"(?:[0-9]{{8}}T[0-9]{{6}}|replay)-[^/]+(?:{attempt})?(?=/landing)", unquote(text))
    assert found is not None
    return found.group()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.01)


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline], snowflake_proxy: FaultProxy) -> Pipeline:
    return make_pipeline(shards=2)


def letters(pipeline: Pipeline) -> list[tuple[Any, ...]]:
    return pipeline.query(
        'SELECT "PARTITION_KEY", "PAYLOAD", "KIND", "REASON" FROM {dead_letters} ORDER BY "PARTITION_KEY"'
    )


def test_bad_records_become_dead_letters_and_all_others_land(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    Picky(snowflake_proxy)
    pipeline.send(60)
    pipeline.send_payloads([("bad 1", BAD), ("worse", b"no JSON")])
    pipeline.send(60)
    pipeline.send_payloads([("bad 2", BAD)])

    report = pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    refused = ("record", "refused by Snowflake: error 100069")
    assert [row for row in letters(pipeline) if row[0] != "worse"] == [
        ("bad 1", BAD.decode(), *refused),
        ("bad 2", BAD.decode(), *refused),
    ]
    assert (report.records, report.dead_letters, report.batches) == (123, 3, 1)
    assert "SECRET" not in caplog.text
    assert pipeline.drain().run().records == 0


def test_whole_records_leave_with_all_their_documents_and_with_their_payload_as_it_came(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    Picky(snowflake_proxy)
    payloads = [b'{"n":0}\n{"n":1}', b'{"n":2} "SECRET" {"n":3}', b'{"n":4}']
    pipeline.send_payloads([("key", by_aiokpl(payloads)), ("key", b'{"n":5}')])

    report = pipeline.drain(decoder=payload_decoder(json_documents="sequence")).run()

    assert pipeline.landed == [0, 1, 4, 5]
    assert [row[:2] for row in letters(pipeline)] == [("key 1", payloads[1].decode())]
    assert (report.records, report.dead_letters) == (5, 1)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("COPY", lose_answer),
        ("COPY", snowflake_error(*LOCK_WAITERS)),
        ("ROLLBACK", lose_answer),
        ("COMMIT", lose_answer),
    ],
    ids=["copy lost", "copy locked", "rollback lost", "commit lost"],
)
def test_faults_meanwhile_neither_lose_nor_double_anything(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, statement: str, fault: Any
) -> None:
    Picky(snowflake_proxy)
    pipeline.send(20)
    pipeline.send_payloads([("bad", BAD)])
    snowflake_proxy.add(
        fault, operation=statement, skip=3 if statement in {"COPY", "ROLLBACK"} else 0, times=1
    )

    pipeline.drain().run()

    assert pipeline.landed == pipeline.sent
    assert [row[0] for row in letters(pipeline)] == ["bad"]


def test_kinesis_throttles_while_payloads_are_read_again(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, kinesis_proxy: FaultProxy
) -> None:
    Picky(snowflake_proxy)
    pipeline.send(3)
    pipeline.send_payloads([("bad", BAD)])
    rule = kinesis_proxy.add(
        aws_error(THROTTLED),
        operation="GetRecords",
        when=lambda request: request.json.get("Limit") == 1,
        times=2,
    )

    pipeline.drain().run()

    assert rule.hits == 2
    assert [row[:2] for row in letters(pipeline)] == [("bad", BAD.decode())]


# --- where the line is -------------------------------------------------------------------------------------


def test_a_record_that_is_refused_alone_in_its_batch_stops_nothing(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    Picky(snowflake_proxy, bad="")
    pipeline.send(1)

    report = pipeline.drain().run()

    assert (pipeline.landed, len(letters(pipeline)), report.dead_letters) == ([], 1, 1)


def test_a_table_that_takes_nothing_is_an_error_and_not_a_reason_for_dead_letters(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "MAX_REFUSED", 10)
    Picky(snowflake_proxy, bad="")
    pipeline.send(11)

    with pytest.raises(TooManyDeadLettersError, match=r"NOT NULL.*max_dead_letters.*more than 10 of "):
        pipeline.drain().run()

    assert (pipeline.landed, letters(pipeline)) == ([], [])
    assert {shard.lease_owner for shard in pipeline.state.shards.values()} == {None}


def test_the_user_can_say_that_it_is_the_records(pipeline: Pipeline, snowflake_proxy: FaultProxy) -> None:
    Picky(snowflake_proxy, bad="")
    pipeline.send(7)

    report = pipeline.drain(max_dead_letters=DeadLetterLimit.parse("100%")).run()

    assert (pipeline.landed, report.dead_letters) == ([], 7)
    assert sorted(json.loads(row[1])["n"] for row in letters(pipeline)) == pipeline.sent


@pytest.mark.parametrize("most", [None, "3"])
def test_more_refused_records_than_accepted_commit_nothing_and_a_higher_number_goes_on(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, most: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "MAX_REFUSED", 3)
    picky = Picky(snowflake_proxy)
    pipeline.send(50)
    pipeline.send_payloads([(f"bad {number}", BAD) for number in range(4)])

    with pytest.raises(TooManyDeadLettersError, match=r"more than 3 of the 54 rows"):
        pipeline.drain(max_dead_letters=DeadLetterLimit.parse(most)).run()
    assert (pipeline.landed, letters(pipeline)) == ([], [])
    assert picky.tries < 30

    pipeline.drain(max_dead_letters=DeadLetterLimit.parse(4)).run()

    assert pipeline.landed == pipeline.sent
    assert len(letters(pipeline)) == 4


def test_a_file_that_is_refused_though_its_parts_are_not_is_an_error(
    pipeline: Pipeline, snowflake_proxy: FaultProxy
) -> None:
    snowflake_proxy.add(
        snowflake_error(*REFUSED), operation="COPY", when=lambda request: "/parts/" not in request.sql
    )
    pipeline.send(5)

    with pytest.raises(ValueRefusedError, match="100069") as failed:
        pipeline.drain().run()

    assert isinstance(failed.value, ServiceRefusedError)
    assert "SECRET" not in str(failed.value)
    assert pipeline.landed == []


def test_a_bad_record_that_aged_out_meanwhile_is_said_to_be_gone(
    pipeline: Pipeline, snowflake_proxy: FaultProxy, kinesis_proxy: FaultProxy
) -> None:
    Picky(snowflake_proxy)
    pipeline.send(1)
    answer = pipeline.kinesis.put_record(StreamName=pipeline.stream, PartitionKey="bad", Data=BAD)
    kinesis_proxy.add(
        forget_up_to(answer["SequenceNumber"]),
        shard_id=answer["ShardId"],
        when=lambda request: request.json.get("ShardIteratorType") == "AT_SEQUENCE_NUMBER",
    )

    with pytest.raises(DataLossError, match="aged out before it could become a dead letter"):
        pipeline.drain().run()

    assert pipeline.landed == []
