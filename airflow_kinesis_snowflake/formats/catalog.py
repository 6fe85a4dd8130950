"""The names of formats. To add a format, write a module beside these, and add a line here."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.avro import Avro, AvroContainer, AvroSingleObject
from airflow_kinesis_snowflake.formats.basic import Binary, Json, Text
from airflow_kinesis_snowflake.formats.cloudwatch import CloudWatchLogs
from airflow_kinesis_snowflake.formats.compression import decompressing, inflater
from airflow_kinesis_snowflake.formats.debezium import Debezium
from airflow_kinesis_snowflake.formats.delimited import CSV, TSV, Pattern
from airflow_kinesis_snowflake.formats.dms import DMS
from airflow_kinesis_snowflake.formats.dynamodb import DynamoDB
from airflow_kinesis_snowflake.formats.headed import JsonSchema
from airflow_kinesis_snowflake.formats.messagepack import MessagePack
from airflow_kinesis_snowflake.formats.protobuf import Protobuf

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.formats.engine import Decoder, Format
    from airflow_kinesis_snowflake.formats.schema_registry import SchemaRegistry

FORMATS: dict[str, type[Any]] = {
    "json": Json,
    "text": Text,
    "binary": Binary,
    "avro": Avro,
    "avro_container": AvroContainer,
    "avro_single_object": AvroSingleObject,
    "protobuf": Protobuf,
    "json_schema": JsonSchema,
    "msgpack": MessagePack,
    "csv": CSV,
    "tsv": TSV,
    "pattern": Pattern,
    "cloudwatch_logs": CloudWatchLogs,
    "dynamodb": DynamoDB,
    "dms": DMS,
    "debezium": Debezium,
}
"""The settings class of each format; settings without a default must be given."""


NAMED = tuple(
    name
    for name, settings in FORMATS.items()
    if not any(field.default is MISSING is field.default_factory for field in fields(settings))
)
"""Formats that can be chosen by name alone."""

EXPECTED = (
    f"one of {', '.join(NAMED)}, or an object with the settings of a format, such as "
    f"{', '.join(sorted(settings.__name__ for settings in FORMATS.values()))}"
)
"""What may be written, as the end of "must be ..."."""


def payload_decoder(
    payload_format: str | Format = "json",
    *,
    compression: str | None = None,
    json_documents: str = "one",
    avro_schema: Any = None,
    avro_schema_resolver: Callable[[int | str], Any] | None = None,
    registry: SchemaRegistry | None = None,
) -> Decoder | None:
    """The decoder for a user's settings; ``None`` if a payload is its document already.

    :param payload_format: one of :data:`FORMATS`, or its settings
    :param compression: how payloads are compressed: see :func:`inflater`; ``None``: not at all
    :param json_documents: for the name ``json``: see :class:`Json`
    :param avro_schema: for the name ``avro``, like the next: see :class:`Avro`
    :param registry: holds the schemas of ``avro``, ``protobuf`` and ``json_schema``
    :raises InvalidSettingError: a value is unknown, or the settings don't go together
    """
    chosen = _format(
        payload_format,
        json_documents=json_documents,
        avro_schema=avro_schema,
        avro_schema_resolver=avro_schema_resolver,
    )
    if registry is not None:
        chosen = _with_registry(chosen, registry)
    decode = chosen.decoder()
    return decode if compression is None else decompressing(inflater(compression), decode)


HAVE_SCHEMAS = (Avro, Protobuf, JsonSchema)
"""Formats whose schemas may be in a registry."""


def _with_registry(chosen: Format, registry: SchemaRegistry) -> Format:
    if not isinstance(chosen, HAVE_SCHEMAS):
        raise InvalidSettingError(
            f"Leave out registry_conn_id: {type(chosen).__name__} takes no schema registry, only "
            f"{', '.join(each.__name__ for each in HAVE_SCHEMAS)} do"
        )
    return replace(chosen, registry=registry)


def _format(
    payload_format: str | Format,
    *,
    json_documents: str,
    avro_schema: Any,
    avro_schema_resolver: Callable[[int | str], Any] | None,
) -> Format:
    if payload_format == "avro":
        return Avro(avro_schema, avro_schema_resolver)
    if avro_schema is not None or avro_schema_resolver is not None:
        raise InvalidSettingError(
            "Leave out avro_schema and avro_schema_resolver, or set payload_format='avro': they don't go "
            f"with {payload_format!r}"
        )
    if payload_format == "json":
        return Json(json_documents)
    if json_documents != "one":
        raise InvalidSettingError(
            f"Leave out json_documents, or set payload_format='json': it doesn't go with {payload_format!r}"
        )
    if not isinstance(payload_format, str):
        return payload_format
    if payload_format not in NAMED:
        raise InvalidSettingError(f"payload_format must be {EXPECTED}, not {payload_format!r}")
    made: Format = FORMATS[payload_format]()
    return made
