"""One drain that follows, and its memory every second, as JSON.

``python -m benchmarks.following STREAM TABLE --sink streaming --seconds 60`` finds the services by the
Airflow connections of its environment.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING, Copy, Landing, Streaming
from airflow_kinesis_snowflake.sources.fan_out import FanOutSource
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from benchmarks.meter import Meter

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source

PAGE = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The memory of this process, looked at every second while the block runs.

    :ivar samples: in MB
    """

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.wait(1.0):
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            self.samples.append(round(resident * PAGE / 1e6, 1))

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def make_drain(asked: argparse.Namespace) -> Drain:
    """The drain, which stays for the seconds asked for; not begun."""
    table = TableName.parse(asked.table)
    landing, snowflake = Landing(table=table), SnowflakeLoadHook(database=table.database)
    sinks: dict[str, SinkSettings] = {
        COPY: Copy(landing, snowflake.open_session),
        STREAMING: Streaming(landing, snowflake.open_session, snowflake.open_channels),
    }
    source: Source = PollingSource(KinesisStreamHook(asked.stream))
    if asked.fan_out:
        source = FanOutSource(FanOutHook(asked.stream), application_name=asked.application)
    following = {"follow_seconds": asked.seconds} if asked.seconds else {}
    return Drain(
        DrainSettings(
            stream_name=asked.stream,
            application_name=asked.application,
            initial_position=TRIM_HORIZON,
            stop_at=datetime.now(UTC) + timedelta(seconds=asked.seconds),
            max_batch_seconds=asked.batch_seconds,
            **following,
        ),
        worker=Worker("benchmark", uuid.uuid4().hex),
        source=source,
        store=CheckpointStoreHook(asked.application),
        sink=sinks[asked.sink],
    )


def main() -> None:
    """Follow as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("stream")
    parser.add_argument("table", help="DB.SCHEMA.TABLE")
    parser.add_argument("--application", default=f"benchmark-{uuid.uuid4().hex}")
    parser.add_argument("--sink", choices=[COPY, STREAMING], default=STREAMING)
    parser.add_argument("--fan-out", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.0, help="0: drain once")
    parser.add_argument("--batch-seconds", type=float, default=1.0)
    drain = make_drain(parser.parse_args())
    meter = Meter()
    with Memory() as memory:
        report = drain.run()
    print(
        json.dumps(
            {
                **meter.read(),
                "records": report.records,
                "bytes": report.bytes,
                "batches": report.batches,
                "rss_mb": memory.samples,
            }
        )
    )


if __name__ == "__main__":
    main()
