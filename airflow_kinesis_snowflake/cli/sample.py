"""``sample``: what the records of a stream contain, and the columns to pin for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import AWS, STREAM, open_stream
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.basic import DOCUMENTS
from airflow_kinesis_snowflake.formats.catalog import NAMED, payload_decoder
from airflow_kinesis_snowflake.formats.compression import COMPRESSIONS
from airflow_kinesis_snowflake.formats.names import NAMES

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal
    from airflow_kinesis_snowflake.formats.engine import Decoder


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Read a sample of a stream."""
    from airflow_kinesis_snowflake.maintenance.sampling import SampleRequest, sample_parts, take_sample
    from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt, parse_timestamp

    if options.records < 1 or options.seconds <= 0 or options.flatten < 0:
        raise InvalidSettingError("--records and --seconds must be positive, --flatten not negative")
    try:
        start = StartAt(parse_timestamp(options.since)) if options.since else TRIM_HORIZON
    except ValueError:
        raise InvalidSettingError(
            "--since must be ISO-8601 with a time zone, such as 2026-01-31T06:00:00Z"
        ) from None
    request = SampleRequest(records=options.records, seconds=options.seconds, start=start)
    decode = _decoder(options)
    with terminal.working("Reading records"):
        sample = take_sample(request, kinesis=open_stream(options), decode=decode, names=options.names)
    return Answer(sample.as_dict(), sample_parts(sample))


def _decoder(options: argparse.Namespace) -> Decoder | None:
    from airflow_kinesis_snowflake.formats.flattening import flattening
    from airflow_kinesis_snowflake.formats.protobuf import Protobuf
    from airflow_kinesis_snowflake.hooks.schema_registry import open_schema_registry

    chosen: Any = options.payload_format
    if options.descriptors:
        chosen = Protobuf(descriptors=_content(options.descriptors), message=options.message)
    decode = payload_decoder(
        chosen,
        compression=options.compression,
        json_documents=options.json_documents,
        avro_schema=_content(options.avro_schema).decode() if options.avro_schema else None,
        registry=open_schema_registry(options.registry_conn_id) if options.registry_conn_id else None,
    )
    return flattening(decode, depth=options.flatten, paths={})


def _content(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InvalidSettingError(
            f"Name a file that can be read: {file!r} can't ({error.strerror})"
        ) from None


COMMAND = Command(
    "sample",
    run,
    "read some records of a stream, and print the columns to pin for them; touches no state",
    (
        STREAM,
        option("--payload-format", choices=NAMED, default="json", help="default is json"),
        option("--compression", choices=COMPRESSIONS, help="default is none"),
        option("--json-documents", choices=DOCUMENTS, default="one", help="default is one"),
        option("--avro-schema", metavar="FILE", help="schema of all payloads, as JSON"),
        option("--descriptors", metavar="FILE", help="of protoc, for Protobuf without a registry"),
        option("--message", help="full name of the message, for --descriptors"),
        option("--registry-conn-id", help="Airflow connection of the schema registry"),
        option("--flatten", type=int, default=0, help="levels of nested objects to turn into keys"),
        option("--names", choices=NAMES, default="upper", help="of columns; default is upper"),
        option("--since", help="ISO-8601 with a time zone; default is the oldest record"),
        option("--records", type=int, default=1_000, help="at most this many; default is 1000"),
        option("--seconds", type=float, default=30, help="at most this long; default is 30"),
        *AWS,
    ),
)
