"""Whole drains of a replayed stream, with real checkpoints and a sink that stands in for Snowflake.

``python -m benchmarks.drains URL BACKLOG --sink-seconds 2 --times 2`` drains in one process and prints, as
JSON, what each drain did and used.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from airflow_kinesis_snowflake.engine.drain import Drain
from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, OffsetMove, Offsets
from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING, Copy, Landing, Streaming
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON
from benchmarks.backlog import STREAM
from benchmarks.channels import Owner, Session
from benchmarks.contenders import Lines, aws_connection
from benchmarks.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.ports import SinkSettings


class SlowSink:
    """Takes the place of the Snowflake hook and its session: loads nothing, and takes its time.

    A stub, because the local Snowflake is so much slower than the drain that it alone would be measured.

    :param seconds: how long the upload and the COPY of a batch take together
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rows = 0
        self._offsets: dict[OffsetKey, Offset] = {}
        self.fresh = True
        self.files_mb: list[float] = []
        self.statements = 0

    def open_session(self) -> SlowSink:
        return self

    def ensure_objects(self, *args: Any, **kwargs: Any) -> None:
        pass

    def upload(self, file: Path, **kwargs: Any) -> None:
        self.statements += 1
        self._rows += pq.read_metadata(file).num_rows
        self.files_mb.append(file.stat().st_size / 1e6)

    @property
    def fit(self) -> bool:
        return True

    @contextmanager
    def transaction(self) -> Iterator[str]:
        self.statements += 3
        yield "1"

    def copy_landing(self, *args: Any, **kwargs: Any) -> int:
        self.statements += 1
        time.sleep(self._seconds)
        rows, self._rows = self._rows, 0
        return rows

    def ensure_offsets(self, *args: Any, keys: list[OffsetKey], **kwargs: Any) -> None:
        self.statements += 1
        for key in keys:
            self._offsets.setdefault(key, Offset(key.shard_id, key.incarnation, None, None))

    def read_offsets(self, *args: Any, keys: list[OffsetKey], **kwargs: Any) -> Offsets:
        self.statements += 1
        return Offsets({key: self._offsets[key] for key in keys if key in self._offsets}, {})

    def lock_offsets(self, *args: Any, **kwargs: Any) -> None:
        self.statements += 1

    def move_offsets(self, *args: Any, batch_id: str, moves: list[OffsetMove], **kwargs: Any) -> None:
        self.statements += 1
        for move in moves:
            key = OffsetKey(shard_id=move.shard_id, incarnation=move.incarnation)
            self._offsets[key] = Offset(move.shard_id, move.incarnation, move.through, batch_id)

    def cancel(self) -> None:
        pass

    def done(self) -> None:
        pass

    def close(self) -> None:
        pass


def settings_of(name: str, sink: SlowSink) -> SinkSettings:
    """The sink by its name; one that streams goes into channels that only make lines of rows."""
    landing = Landing(table=TableName.parse("BENCHMARK.PUBLIC.RECORDS"))
    if name == STREAMING:
        lines = Lines()
        return Streaming(landing, Session, lambda _: Owner(lines.take))  # type: ignore[arg-type]
    return Copy(landing, lambda: sink)  # type: ignore[arg-type, return-value]


def drain(application: str, sink: SinkSettings, **limits: Any) -> dict[str, Any]:
    """Drain the stream once."""
    meter = Meter()
    report = Drain(
        DrainSettings(
            stream_name=STREAM,
            application_name=application,
            initial_position=TRIM_HORIZON,
            stop_at=datetime.now(UTC),
            **limits,
        ),
        worker=Worker("benchmark", uuid.uuid4().hex),
        source=PollingSource(KinesisStreamHook(STREAM)),
        store=CheckpointStoreHook(application),
        sink=sink,
    ).run()
    used = meter.read()
    return {**used, "records": report.records, "bytes": report.bytes, "batches": report.batches}


def main() -> None:
    """Drain as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--application", default="benchmark")
    parser.add_argument("--sink", choices=[COPY, STREAMING], default=COPY)
    parser.add_argument("--sink-seconds", type=float, default=0.0)
    parser.add_argument("--max-batch-bytes", type=float)
    asked = parser.parse_args()
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = aws_connection(asked.url)
    limits = {"max_batch_bytes": asked.max_batch_bytes} if asked.max_batch_bytes else {}
    sink = SlowSink(asked.sink_seconds)
    measures = drain(asked.application, settings_of(asked.sink, sink), **limits)
    print(json.dumps({**measures, "files_mb": sink.files_mb, "statements": sink.statements}))


if __name__ == "__main__":
    main()
