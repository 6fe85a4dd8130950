"""Throttling, expired iterators, broken connections: one shard waits, others go on, nothing comes twice."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine import reader
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ServiceRefusedError,
    ThrottledError,
    UnreadablePageError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from tests.faults.actions import (
    ACCESS_DENIED,
    EXPIRED_ITERATOR,
    INTERNAL_FAILURE,
    SERVICE_UNAVAILABLE,
    THROTTLED,
    Hold,
    aws_error,
    cut,
    lose_answer,
    truncate,
)
from tests.integration.stream.history import pages_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.stream.records import Record
    from tests.faults.proxy import Action, FaultProxy
    from tests.integration.stream.history import History

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("emulator", ["kinesalite"])]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_BACKOFF_SECONDS", 0.3)
    monkeypatch.setattr(reader, "FAILURES_BEFORE_GIVING_UP", 10_000)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(aws_error(THROTTLED), id="the shard is throttled"),
        pytest.param(aws_error("LimitExceededException"), id="the account is throttled"),
        pytest.param(aws_error("KMSThrottlingException"), id="KMS is throttled"),
        pytest.param(aws_error(INTERNAL_FAILURE), id="Kinesis fails"),
        pytest.param(aws_error(SERVICE_UNAVAILABLE), id="Kinesis is away"),
        pytest.param(aws_error(EXPIRED_ITERATOR), id="the iterator expired"),
        pytest.param(cut, id="the connection is cut"),
        pytest.param(lose_answer, id="the answer is lost"),
        pytest.param(truncate, id="the answer ends in its middle"),
    ],
)
def test_a_shard_that_cant_be_read_now_is_read_later_while_the_others_go_on(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, fault: Action
) -> None:
    history = make_history(shards=2)
    hit, spared = history.open_shards
    history.put(hit, 2)
    history.put(spared, 2)

    with ThreadPoolExecutor() as pool:
        with kinesis_proxy.add(fault, operation="GetRecords", shard_id=hit):
            drain = pool.submit(history.run, max_batch_records=1)
            history.wait_until_landed(2, drain)
            assert history.landed == [2, 3]
        report = drain.result()

    assert history.landed == history.sent
    assert report.shards[hit].outcome == "caught_up"


def test_a_slow_answer_holds_up_its_own_shard_only(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history(shards=2)
    slow, other = history.open_shards
    history.put(slow, 1)
    history.put(other, 1)

    with ThreadPoolExecutor() as pool, Hold(answer=True) as hold:
        kinesis_proxy.add(hold, operation="GetRecords", shard_id=slow)
        drain = pool.submit(history.run, max_batch_records=1)
        hold.wait()
        history.wait_until_landed(1, drain)
        assert history.landed == [1]
        hold.release()
        drain.result()

    assert history.landed == history.sent


def test_iterators_that_expire_are_replaced_where_they_stood(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    history.put(history.open_shards[0], 5)
    kinesis_proxy.add(pages_of(1), operation="GetRecords")
    rule = kinesis_proxy.add(aws_error(EXPIRED_ITERATOR), operation="GetRecords", probability=0.5, seed=1)

    history.run()

    assert rule.hits > 2
    assert history.landed_in_order == history.sent


def test_a_throttled_iterator_request_is_tried_again(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    history.put(history.open_shards[0], 2)
    rule = kinesis_proxy.add(aws_error(THROTTLED), operation="GetShardIterator", times=1)

    history.run()

    assert rule.hits == 1
    assert history.landed == history.sent


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (ACCESS_DENIED, AccessDeniedError),
        ("KMSAccessDeniedException", AccessDeniedError),
        ("KMSDisabledException", AccessDeniedError),
        ("InvalidArgumentException", ServiceRefusedError),
        ("ValidationException", ServiceRefusedError),
    ],
)
def test_a_refusal_is_not_tried_again_and_the_other_shards_are_read(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, code: str, error: type[Exception]
) -> None:
    history = make_history(shards=2)
    refused, other = history.open_shards
    history.put(refused, 1)
    history.put(other, 1)
    rule = kinesis_proxy.add(aws_error(code), operation="GetRecords", shard_id=refused)

    with pytest.raises(error):
        history.run()

    assert rule.hits == 1
    assert history.landed == [1]


def test_a_shard_that_cant_be_read_for_long_is_logged_once_with_the_reason_and_once_when_it_is_read_again(
    make_history: Callable[..., History],
    kinesis_proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reader, "STALL_SECONDS", 0.5)
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 1)
    kinesis_proxy.add(aws_error(THROTTLED), operation="GetRecords", times=10)

    with caplog.at_level(logging.INFO):
        history.run()

    lines = [line for line in caplog.messages if shard_id in line and " s" in line]
    assert [THROTTLED in line for line in lines] == [True, False]
    assert "can be read again" in lines[1]


def test_a_shard_is_given_up_when_its_budget_is_spent_and_the_next_run_goes_on(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "FAILURES_BEFORE_GIVING_UP", 3)
    history = make_history(shards=2)
    hit, spared = history.open_shards
    history.put(hit, 1)
    history.put(spared, 1)

    with kinesis_proxy.add(aws_error(THROTTLED), operation="GetRecords", shard_id=hit) as rule:
        with pytest.raises(ThrottledError):
            history.run()
        assert rule.hits == 3
    assert history.landed == [1]

    history.run()
    assert history.landed == history.sent


def test_a_fault_in_a_page_fails_its_shard_and_the_others_are_read(
    make_history: Callable[..., History], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = make_history(shards=2)
    hit, spared = history.open_shards
    (number,) = history.put(hit, 1)
    history.put(spared, 1)
    encode = EnvelopeMapping.encode

    def fail(
        mapping: EnvelopeMapping, records: Sequence[Record], *, shard_id: str, **more: Any
    ) -> EncodedRecords:
        if shard_id == hit:
            raise TypeError
        return encode(mapping, records, shard_id=shard_id, **more)

    with monkeypatch.context() as patch:
        patch.setattr(EnvelopeMapping, "encode", fail)
        with pytest.raises(UnreadablePageError, match=rf"{number}.*{hit}"):
            history.run()
    assert history.landed == [1]

    history.run()
    assert history.landed == history.sent
