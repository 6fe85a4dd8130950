"""What a drain tells while it works, and that telling it does no harm."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_kinesis_snowflake.engine.progress import (
    SECONDS_BETWEEN_LINES,
    ProgressLine,
    ProgressSample,
    seconds_left,
    seconds_to_catch_up,
)
from airflow_kinesis_snowflake.engine.reader import ShardReader
from airflow_kinesis_snowflake.engine.settings import DrainSettings
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

SETTINGS = DrainSettings(
    stream_name="clicks",
    application_name="app",
    initial_position=TRIM_HORIZON,
    stop_at=datetime.now(UTC) + timedelta(days=1),
)


def reader(shard: int, millis_behind: int | None) -> ShardReader:
    made = ShardReader(ShardState(f"shardId-{shard:012d}"), committed=None, shard=None)
    made.millis_behind = millis_behind
    return made


def test_what_arrived_after_the_stop_is_not_left_to_read() -> None:
    readers = [reader(0, 90_000), reader(1, 30_000)]
    assert seconds_left(readers, beyond_stop=-5) == 90
    assert seconds_left(readers, beyond_stop=60) == 30
    assert seconds_left(readers, beyond_stop=600) == 0
    assert seconds_left([], beyond_stop=0) == 0


def test_what_is_left_is_unknown_until_every_shard_has_answered() -> None:
    assert seconds_left([reader(0, 90_000), reader(1, None)], beyond_stop=0) is None


@pytest.mark.parametrize(
    ("lefts", "seconds"),
    [
        pytest.param([100, 80], 40, id="twenty seconds of the stream in ten"),
        pytest.param([None, 100, 80], 40, id="not known at first"),
        pytest.param([100, 0], 0, id="there"),
        pytest.param([80, 80], None, id="no nearer"),
        pytest.param([80, 100], None, id="falling behind"),
        pytest.param([100, None], None, id="not known now"),
        pytest.param([80], None, id="nothing to compare with"),
    ],
)
def test_the_time_to_catch_up_goes_by_how_fast_what_is_left_shrinks(
    lefts: list[float | None], seconds: float | None
) -> None:
    samples = [
        ProgressSample(at=10.0 * place, records=0, bytes=0, left=left) for place, left in enumerate(lefts)
    ]
    assert seconds_to_catch_up(samples) == seconds


def test_progress_is_told_every_five_seconds_as_a_line_and_as_data(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pushed: list[dict[str, Any]] = []
    told = ProgressLine(SETTINGS, began=100.0, push=pushed.append)
    readers = [reader(0, 40_000), reader(1, 1_500)]

    told.tell(readers, records=10, total_bytes=10_000_000, now=101.0)
    told.tell(readers, records=1_000, total_bytes=20_000_000, now=110.0)
    readers[0].millis_behind = 20_000
    told.tell(readers, records=2_000, total_bytes=30_000_000, now=111.0)
    told.close()

    assert [record.message for record in caplog.records] == [
        "Stream clicks: 1,000 records, 20.0 MB read (2.0 MB/s); 2 shards, lag 0: 40.0 s, 1: 1.5 s; "
        "not catching up yet"
    ]
    assert datetime.fromisoformat(pushed[0].pop("at")).tzinfo is not None
    assert pushed == [
        {
            "application_name": "app",
            "stream_name": "clicks",
            "records": 1_000,
            "bytes": 20_000_000,
            "records_per_second": 100.0,
            "millis_behind_latest": 40_000,
            "shards": 2,
            "seconds_to_catch_up": None,
            "following_until": None,
        }
    ]


def test_a_push_that_fails_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Semaphore(0)

    def push(progress: dict[str, Any]) -> None:
        tried.release()
        raise ConnectionError("the API server is gone")

    told = ProgressLine(SETTINGS, began=0.0, push=push)
    for step in range(1, 3):
        tell_until(told, tried, step)
    told.close()

    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "The progress of this drain can't be shown: ConnectionError: the API server is gone"
    ]


def tell_until(told: ProgressLine, tried: threading.Semaphore, step: int) -> None:
    """Tell until a push is tried; while one is ending, further ones are left out."""
    now = step * 1_000.0
    while not tried.acquire(timeout=0.01):
        now += SECONDS_BETWEEN_LINES
        told.tell([], records=step, total_bytes=0, now=now)


def test_a_push_that_hangs_holds_up_neither_the_drain_nor_its_end() -> None:
    hangs, ended = threading.Event(), threading.Event()
    pushed: list[int] = []

    def push(progress: dict[str, Any]) -> None:
        pushed.append(progress["records"])
        hangs.wait(60)
        ended.set()

    told = ProgressLine(SETTINGS, began=0.0, push=push)
    for step in range(1, 4):
        told.tell([], records=step, total_bytes=0, now=step * SECONDS_BETWEEN_LINES)
    told.close()

    assert not ended.is_set()
    hangs.set()
    assert ended.wait(60)
    assert pushed == [1]


def test_nothing_is_pushed_after_the_end() -> None:
    pushed: list[dict[str, Any]] = []
    told = ProgressLine(SETTINGS, began=time.monotonic(), push=pushed.append)
    told.close()
    told.tell([], records=1, total_bytes=0, now=time.monotonic() + SECONDS_BETWEEN_LINES)
    assert pushed == []
