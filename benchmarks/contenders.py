"""Ways to get a backlog out of Kinesis and into zstd Parquet, one per process.

All read by GetRecords over HTTP, take KPL aggregates apart, check that each payload is JSON, and write the
same columns. ``python -m benchmarks.contenders NAME URL BACKLOG FOLDER`` runs one and prints, as JSON, what
it did and used.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.backlog import STREAM, Backlog, Kind
from benchmarks.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from airflow_kinesis_snowflake.formats.decoding import Encoder
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.stream.records import Record

Measures = dict[str, Any]

FORMATS: dict[Kind, dict[str, Any]] = {
    "gzip": {"compression": "gzip"},
    "lines": {"json_documents": "sequence"},
    "gzip lines": {"compression": "gzip", "json_documents": "sequence"},
    "logs": {"payload_format": "cloudwatch_logs"},
}
"""How this package is told what kind of backlog it reads."""

COMPRESSED = ("gzip", "gzip lines", "logs")

ENVELOPE = {"RECORD_CONTENT": "VARIANT"}
COLUMNS = {
    "ID": "VARCHAR",
    "AT": "VARCHAR",
    "KIND": "VARCHAR",
    "SESSION": "VARCHAR",
    "USER": "VARIANT",
    "PAGE": "VARIANT",
    "DEVICE": "VARIANT",
    "ITEMS": "VARIANT",
    "TOTAL": "FLOAT",
    "COUPON": "VARCHAR",
    "NOTE": "VARCHAR",
}
"""The keys of the benchmark's documents as columns of a table."""


def envelope(url: str, backlog: Backlog, folder: Path) -> Measures:
    """This package's own path with ``mapping="envelope"``."""
    from airflow_kinesis_snowflake.formats.catalog import payload_decoder
    from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
    from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping

    decode = payload_decoder(**FORMATS.get(backlog.kind, {}))
    return _ours(url, folder, DecodingEncoder(decode, EnvelopeMapping()) if decode else EnvelopeMapping())


def columns(url: str, backlog: Backlog, folder: Path) -> Measures:
    """This package's own path with ``mapping="columns"``, into a table that has all columns."""
    from airflow_kinesis_snowflake.formats.column_types import Column, ColumnType
    from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
    from airflow_kinesis_snowflake.formats.schema import ColumnsSettings

    table = {name: Column(ColumnType.parse(sql_type)) for name, sql_type in COLUMNS.items()}
    return _ours(url, folder, ColumnsMapping(ColumnsSettings(), read_columns=lambda: table))


def _ours(url: str, folder: Path, mapping: Encoder) -> Measures:
    """What a drain does with pages, one after the other."""
    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.sinks.snowflake.copy import LIMITS
    from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles

    files = BatchFiles(folder, application="benchmark", stream_name=STREAM)
    batch = Batch(lambda _: files, folder, limits=LIMITS)
    pages = _pages(url, mapping)
    meter = next(pages)
    for reader, page in pages:
        batch.add(reader, page, now=time.monotonic())
    paths = files.close()
    return {**meter.read(), "records": batch.records, "files": [str(path) for path in paths.landing]}


def _pages(url: str, encoder: Encoder) -> Iterator[Any]:
    """A meter, once what comes first is over; then each page of each shard with its reader."""
    from airflow_kinesis_snowflake.engine.reader import PageSource, ShardReader
    from airflow_kinesis_snowflake.engine.status import Status
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.sources.polling import PollingSource
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON

    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = aws_connection(url)
    kinesis = KinesisStreamHook(STREAM)
    shards = kinesis.list_shards()
    stop_at = int(datetime.now(UTC).timestamp() * 1000)
    pages = PageSource(PollingSource(kinesis), encoder, stop_at=stop_at)
    kinesis.get_page(kinesis.get_iterator(shards[0].shard_id, TRIM_HORIZON))
    yield Meter()
    for shard in shards:
        reader = ShardReader(ShardState(shard.shard_id), committed=None, shard=shard)
        while reader.status is Status.READING:
            page = pages.fetch(reader.request())
            yield reader, page
            reader.accept(page, caught_up_at=0)


def unread(url: str, backlog: Backlog, folder: Path) -> Measures:
    """This package's own path, but nothing looks into payloads: what no format of them can be faster than."""
    return _ours(url, folder, Unread(compressed=backlog.kind in COMPRESSED)) | {
        "records": backlog.total_records
    }


class Unread:
    """Writes payloads as they are, inflated where they are compressed."""

    def __init__(self, *, compressed: bool) -> None:
        from airflow_kinesis_snowflake.formats.compression import inflater

        self._read: Callable[[bytes], bytes] = inflater("gzip") if compressed else bytes

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """A row for each record, however many documents are in it."""
        import pyarrow as pa

        from airflow_kinesis_snowflake.formats import envelope

        payloads = [self._read(record.data) for record in records]
        arrays = [
            pa.array(payloads, pa.binary()),
            *envelope.metadata_arrays(records, stream_name=stream_name, shard_id=shard_id),
        ]
        names = [envelope.CONTENT, *(field.name for field in envelope.METADATA_FIELDS)]
        rows = pa.RecordBatch.from_arrays(arrays, names=names)
        return envelope.EncodedRecords(rows, (), sum(map(len, payloads)))


def libraries(url: str, backlog: Backlog, folder: Path) -> Measures:
    """What libraries in C take for log events, which no Python around the same calls can be faster than."""
    return _ours(url, folder, Events())


class Event(msgspec.Struct, gc=False):
    """A log event."""

    id: str
    timestamp: int
    message: str


class Message(msgspec.Struct):
    """What of a message of CloudWatch Logs can't be skipped."""

    events: list[Event] = msgspec.field(name="logEvents")


class Events:
    """Inflates messages, takes them apart and checks their events, but doesn't make documents of these."""

    def __init__(self) -> None:
        from airflow_kinesis_snowflake.formats.compression import inflater
        from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping

        self._inflate = inflater("gzip")
        self._decode = msgspec.json.Decoder(Message).decode
        self._check = msgspec.json.Decoder(msgspec.Raw).decode
        self._mapping = EnvelopeMapping()

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """A row for each log event, with its message alone."""
        from airflow_kinesis_snowflake.formats.decoding import Expansion

        found = [self._decode(self._inflate(record.data)).events for record in records]
        payloads = [event.message.encode() for events in found for event in events]
        for payload in payloads:
            self._check(payload)
        expansion = Expansion(payloads, list(records), runs=[len(events) for events in found])
        return self._mapping.encode_documents(expansion, stream_name=stream_name, shard_id=shard_id)


def streamed(url: str, backlog: Backlog, folder: Path) -> Measures:
    """This package's own path with ``sink="streaming"``, up to the lines that the SDK's core is given."""
    from airflow_kinesis_snowflake.engine.batch import Batch
    from benchmarks.channels import streaming_sink

    lines = Lines()
    sink = streaming_sink(lines.take)
    batch = Batch(sink.begin, folder, limits=sink.limits)
    pages = _pages(url, sink.encoder)
    meter = next(pages)

    def commit() -> None:
        sink.commit(batch, refused_before=0)
        batch.discard()

    for reader, page in pages:
        batch.add(reader, page, now=time.monotonic())
        if batch.full(now=0.0):
            commit()
            batch = Batch(sink.begin, folder, limits=sink.limits)
    if batch.records:
        commit()
    return lines.measures(meter)


def boto3_streamed(url: str, backlog: Backlog, folder: Path) -> Measures:
    """A plain boto3 loop with :mod:`json` that appends dicts, up to the same lines."""
    kinesis = boto3_client(url)
    lines = Lines()
    meter = Meter()
    for shard_id, records in boto3_pages(kinesis):
        lines.take(
            [
                {
                    "RECORD_CONTENT": json.loads(record["Data"]),
                    "KINESISMETADATA": metadata(
                        shard_id,
                        arrival=record["ApproximateArrivalTimestamp"],
                        partition_key=record["PartitionKey"],
                        sequence_number=record["SequenceNumber"],
                        sub_sequence_number=0,
                    ),
                }
                for record in records
            ]
        )
    return lines.measures(meter)


class Lines:
    """Stands in for the core of Snowflake's SDK, behind its ``append_rows``, which makes lines by msgspec."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._records = 0
        self._bytes = 0

    def take(self, rows: list[Any]) -> None:
        """What ``append_rows`` does with rows before the core gets them."""
        self._bytes += len(self._encoder.encode_lines(rows))
        self._records += len(rows)

    def measures(self, meter: Meter) -> Measures:
        """Say what it took."""
        return {**meter.read(), "records": self._records, "file_mb": self._bytes / 1e6}


def boto3_loop(url: str, backlog: Backlog, folder: Path) -> Measures:
    """A plain boto3 loop with :mod:`json` and :mod:`pyarrow`."""
    kinesis = boto3_client(url)
    sink = RowSink(folder)
    meter = Meter()
    for shard_id, records in boto3_pages(kinesis):
        sink.write(
            row(
                document,
                shard_id,
                arrival=record["ApproximateArrivalTimestamp"],
                partition_key=record["PartitionKey"],
                sequence_number=record["SequenceNumber"],
                sub_sequence_number=0,
            )
            for record in records
            for document in taken_apart(record["Data"], backlog.kind)
        )
    return sink.measures(meter)


def taken_apart(data: bytes, kind: str) -> Iterable[bytes]:
    """The documents of a payload, as most people would get at them."""
    if kind == "gzip":
        return [gzip.decompress(data)]
    if kind == "lines":
        return data.splitlines()
    if kind == "gzip lines":
        return gzip.decompress(data).splitlines()
    if kind == "logs":
        message = json.loads(gzip.decompress(data))
        shared = {name: message[name] for name in ("owner", "logGroup", "logStream")}
        return [json.dumps(shared | event | parsed(event)).encode() for event in message["logEvents"]]
    return [data]


def parsed(event: Mapping[str, Any]) -> dict[str, Any]:
    """The message of a log event, which may be JSON."""
    try:
        return {"message": json.loads(event["message"])}
    except ValueError:
        return {}


def json_columns(url: str, backlog: Backlog, folder: Path) -> Measures:
    """The plain boto3 loop with a column for each key, nested values as JSON."""
    kinesis = boto3_client(url)
    sink = RowSink(folder, columns=COLUMNS)
    meter = Meter()
    for shard_id, records in boto3_pages(kinesis):
        sink.write(
            {
                **metadata(
                    shard_id,
                    arrival=record["ApproximateArrivalTimestamp"],
                    partition_key=record["PartitionKey"],
                    sequence_number=record["SequenceNumber"],
                    sub_sequence_number=0,
                ),
                **{
                    key.upper(): json.dumps(value) if isinstance(value, dict | list) else value
                    for key, value in json.loads(record["Data"]).items()
                },
            }
            for record in records
        )
    return sink.measures(meter)


def aws_kinesis_agg(url: str, backlog: Backlog, folder: Path) -> Measures:
    """The plain boto3 loop, with ``aws-kinesis-agg`` to take the aggregates apart."""
    import base64

    from aws_kinesis_agg.deaggregator import iter_deaggregate_records

    kinesis = boto3_client(url)
    sink = RowSink(folder)
    meter = Meter()
    for shard_id, records in boto3_pages(kinesis):
        users = (user["kinesis"] for user in iter_deaggregate_records(records, data_format="Boto3"))
        sink.write(
            row(
                base64.b64decode(user["data"]),
                shard_id,
                arrival=user["approximateArrivalTimestamp"],
                partition_key=user["partitionKey"],
                sequence_number=user["sequenceNumber"],
                sub_sequence_number=user["subSequenceNumber"],
            )
            for user in users
        )
    return sink.measures(meter)


def kcl_rs(url: str, backlog: Backlog, folder: Path) -> Measures:
    """The KCL in Rust, polling; what it hands over is written as in the plain loop.

    Measured from the first shard's initialization, so that its start isn't counted.
    """
    from kcl_rs import RecordProcessorBase, Scheduler

    sink = RowSink(folder)
    lock = threading.Lock()
    done = threading.Event()
    meters: list[Meter] = []

    class Processor(RecordProcessorBase):
        def initialize(self, initialize_input: Any) -> None:
            self.shard_id = initialize_input.shard_id
            meters.append(Meter())

        def process_records(self, process_records_input: Any) -> None:
            rows = [
                row(
                    record.data,
                    self.shard_id,
                    arrival=record.approximate_arrival_timestamp,
                    partition_key=record.partition_key,
                    sequence_number=record.sequence_number,
                    sub_sequence_number=record.sub_sequence_number,
                )
                for record in process_records_input.records
            ]
            with lock:
                sink.write(rows)
                if sink.records >= backlog.total_records:
                    done.set()

        def lease_lost(self, lease_lost_input: Any) -> None:
            pass

        def shard_ended(self, shard_ended_input: Any) -> None:
            pass

        def shutdown_requested(self, shutdown_requested_input: Any) -> None:
            pass

    scheduler = Scheduler(
        stream_name=STREAM,
        application_name=f"kcl-rs-{os.getpid()}",
        record_processor_factory=Processor,
        region="us-east-1",
        endpoint_url=url,
        access_key_id="test",
        secret_access_key="test",
        initial_position="TRIM_HORIZON",
        retrieval_mode="POLLING",
        idle_time_between_reads_millis=200,
    )
    scheduler.start()
    if not done.wait(timeout=600):
        raise TimeoutError(f"kcl-rs delivered {sink.records} of {backlog.total_records} records")
    measures = sink.measures(meters[0])
    scheduler.shutdown()
    return measures


class RowSink:
    """Writes rows to one Parquet file, as most people would.

    :param folder: where the file goes
    :param columns: the columns of the payload, and their Snowflake types
    """

    def __init__(self, folder: Path, *, columns: Mapping[str, str] = ENVELOPE) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.records = 0
        self._schema = pa.schema(
            [
                *((name, pa.float64() if kind == "FLOAT" else pa.string()) for name, kind in columns.items()),
                ("stream", pa.string()),
                ("shardId", pa.string()),
                ("approximateArrival", pa.int64()),
                ("partitionKey", pa.string()),
                ("sequenceNumber", pa.string()),
                ("subSequenceNumber", pa.int64()),
            ]
        )
        self._path = folder / "landing.parquet"
        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows as one row group."""
        table = _table(list(rows), self._schema)
        self._writer.write_table(table)
        self.records += table.num_rows

    def measures(self, meter: Meter) -> Measures:
        """Finish the file and say what it took."""
        self._writer.close()
        return {**meter.read(), "records": self.records, "files": [str(self._path)]}


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema)


def row(data: bytes, shard_id: str, **origin: Any) -> dict[str, Any]:
    """A record as a row of the landing file: the payload as text, beside its metadata.

    :raises ValueError: the payload isn't JSON
    """
    json.loads(data)
    return {"RECORD_CONTENT": data.decode(), **metadata(shard_id, **origin)}


def metadata(
    shard_id: str,
    *,
    arrival: datetime,
    partition_key: str,
    sequence_number: str,
    sub_sequence_number: int,
) -> dict[str, Any]:
    """Where a record came from."""
    return {
        "stream": STREAM,
        "shardId": shard_id,
        "approximateArrival": round(arrival.timestamp() * 1000),
        "partitionKey": partition_key,
        "sequenceNumber": sequence_number,
        "subSequenceNumber": sub_sequence_number,
    }


def boto3_client(url: str) -> Any:
    """A plain Kinesis client that has read a page: what the first call takes isn't to be measured."""
    import boto3

    kinesis = boto3.client(
        "kinesis",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    next(boto3_pages(kinesis))
    return kinesis


def boto3_pages(kinesis: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """All pages of all shards: the shard's id and the records as boto3 gives them."""
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            if not answer["Records"]:
                break
            yield shard["ShardId"], answer["Records"]
            iterator = answer["NextShardIterator"]


def aws_connection(url: str) -> str:
    """An Airflow connection that leads to a server on this machine."""
    extra = {"region_name": "us-east-1", "endpoint_url": url}
    return json.dumps({"conn_type": "aws", "login": "test", "password": "test", "extra": extra})


def import_what_comes_late() -> None:
    """Have pyarrow import pandas, which it does at the first array: a second that isn't to be measured."""
    import pyarrow as pa

    pa.array([0])


CONTENDERS: dict[str, Callable[[str, Backlog, Path], Measures]] = {
    "envelope": envelope,
    "unread": unread,
    "libraries": libraries,
    "columns": columns,
    "streamed": streamed,
    "boto3": boto3_loop,
    "boto3-streamed": boto3_streamed,
    "json-columns": json_columns,
    "kcl-rs": kcl_rs,
    "aws-kinesis-agg": aws_kinesis_agg,
}


def main() -> None:
    """Run the contender named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("url")
    parser.add_argument("backlog", type=Backlog.loads)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    import_what_comes_late()
    measures = CONTENDERS[asked.name](asked.url, asked.backlog, asked.folder)
    if "files" in measures:
        measures["file_mb"] = sum(Path(file).stat().st_size for file in measures.pop("files")) / 1e6
    print(json.dumps(measures))


if __name__ == "__main__":
    main()
