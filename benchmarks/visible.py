"""How long a record takes from its put until a query sees it, and how much memory a drain that follows takes.

All services are local: kinesalite, dynalite, fakesnow, and the stand-ins of fan-out and Snowpipe Streaming.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import copy
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import snowflake.connector

from benchmarks.measuring import REPOSITORY, Measures, PieceFailedError, environment
from local.fan_out import FanOut
from local.services import wait_until_active

if TYPE_CHECKING:
    from local.services import LocalServices

SHARDS = 2
SECONDS_BETWEEN_PUTS = 0.1
SECONDS_BETWEEN_LOOKS = 0.02


class Stage:
    """A stream and a database of its own, into which a drain of another process follows.

    :param services: local ones
    :param fan_out: have records pushed
    """

    def __init__(self, services: LocalServices, *, fan_out: bool = False) -> None:
        name = f"b{uuid.uuid4().hex[:12]}"
        self.stream, self.database = name, name.upper()
        self.table = f"{self.database}.PUBLIC.RECORDS"
        self.put_at: list[float] = []
        self.seen_at: dict[int, float] = {}
        self._services = copy(services)
        self._fan_out = fan_out
        self._kinesis = services.kinesis_client()
        self._kinesis.create_stream(StreamName=self.stream, ShardCount=SHARDS)
        wait_until_active(self._kinesis, self.stream)
        self._snowflake = snowflake.connector.connect(**services.snowflake_parameters())
        self._query(f"CREATE DATABASE {self.database}")
        self._query(f"CREATE SCHEMA IF NOT EXISTS {self.database}.PUBLIC")

    def follow(self, *options: str, records: int, size: int = 100, watch: bool = True) -> Measures:
        """Let a drain follow, and put records all the while.

        :param options: of :mod:`benchmarks.following`
        :param records: of each put; there are ten a second
        :param size: bytes of a record
        :param watch: look all the while which records are there
        :raises PieceFailedError: the drain failed
        """
        over = threading.Event()
        watching = threading.Thread(target=self._watch, args=(over,))
        with ExitStack() as running:
            if self._fan_out:
                self._services.kinesis_url = running.enter_context(FanOut(self._services.kinesis_url)).url
                options = (*options, "--fan-out")
            drain = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.following", self.stream, self.table, *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
                env=environment() | self._services.airflow_connections(),
            )
            if watch:
                watching.start()
            ended = running.enter_context(ThreadPoolExecutor(1)).submit(drain.communicate)
            while not ended.done():
                self._put(records, size)
                time.sleep(SECONDS_BETWEEN_PUTS)
            over.set()
            output, errors = ended.result()
        if watch:
            watching.join()
        self._snowflake.close()
        if drain.returncode:
            raise PieceFailedError(f"{' '.join(options)}: {errors[-3000:]}")
        measures: Measures = json.loads(output.splitlines()[-1])
        return measures

    def delays(self) -> list[float]:
        """Seconds from put to visible, of records that were put after the first one was seen."""
        first = min(self.seen_at.values())
        return [seen - self.put_at[n] for n, seen in self.seen_at.items() if self.put_at[n] > first]

    def _put(self, records: int, size: int) -> None:
        numbers = range(len(self.put_at), len(self.put_at) + records)
        self.put_at += [time.monotonic()] * records
        entries: Any = [
            {"PartitionKey": str(n), "Data": json.dumps({"n": n}).encode().ljust(size)} for n in numbers
        ]
        self._kinesis.put_records(StreamName=self.stream, Records=entries)

    def _watch(self, over: threading.Event) -> None:
        query = f'SELECT "RECORD_CONTENT":n::NUMBER FROM {self.table}'
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            try:
                rows = self._query(query)
            except snowflake.connector.errors.ProgrammingError:
                continue  # The drain hasn't made the table yet.
            now = time.monotonic()
            for (n,) in rows:
                self.seen_at.setdefault(int(n), now)

    def _query(self, sql: str) -> list[Any]:
        with self._snowflake.cursor() as cursor:
            return cursor.execute(sql).fetchall()  # type: ignore[union-attr]


def put_to_visible(services: LocalServices, *, sink: str, fan_out: bool, seconds: float) -> Measures:
    """Percentiles of the seconds from put to visible, with batches of a second."""
    stage = Stage(services, fan_out=fan_out)
    measured = stage.follow("--sink", sink, "--seconds", str(seconds), records=2)
    delays = stage.delays()
    percentiles = quantiles(delays, n=100)
    return {
        "records": len(delays),
        "batches": measured["batches"],
        **{f"p{nth}": percentiles[nth - 1] for nth in (50, 95, 99)},
    }


def memory_of_following(services: LocalServices, *, sink: str, seconds: float) -> Measures:
    """Memory of a drain that follows and loads as often as it can, so that minutes have the loads of more.

    With the streaming sink, somebody else opens a channel before every twentieth request of rows, so that
    channels are opened anew all the time.
    """
    from tests.faults.streaming import NastyStreaming

    stage = Stage(services)
    options = ("--sink", sink, "--seconds", str(seconds), "--batch-seconds", "0.1")
    with NastyStreaming(services, stage.table).fence(probability=0.05) as fences:
        measured = stage.follow(*options, records=10, size=600, watch=False)
    samples = measured["rss_mb"]
    third = len(samples) // 3
    return measured | {
        "renewals": fences.hits,
        "second_third_mb": sum(samples[third : 2 * third]) / third,
        "last_third_mb": sum(samples[2 * third : 3 * third]) / third,
    }
