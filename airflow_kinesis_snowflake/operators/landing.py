"""The common base of operators that turn records into rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.basic import DOCUMENTS
from airflow_kinesis_snowflake.formats.catalog import FORMATS
from airflow_kinesis_snowflake.formats.compression import COMPRESSIONS
from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.mappings import MAPPING, Columns
from airflow_kinesis_snowflake.operators.settings import CheckedSettings, SettingType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.formats.engine import Decoder, Format
    from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
    from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing


_OF_COLUMNS = (
    "columns",
    "rename",
    "include",
    "exclude",
    "schema_evolution",
    "unknown_keys",
    "infer_timestamps",
)
"""Settings of :class:`Columns` that are parameters too."""


class LandingOperator(CheckedSettings, BaseOperator):
    """Base of the operators that load records of a stream into a landing table.

    :param stream_name: name of the Kinesis stream, or its ARN if it is of another account or region
        (templated)
    :param application_name: whose checkpoints these are: the name of the DynamoDB table with the state
        (templated)
    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``; unquoted parts fold to upper case
        (templated)
    :param mapping: ``envelope``: the payload in ``RECORD_CONTENT`` (VARIANT); ``columns``: a column per
        first-level key of a JSON object, nested values as VARIANT. Both with the record's origin in
        ``KINESISMETADATA``; or :class:`~airflow_kinesis_snowflake.operators.mappings.Columns`, which is
        ``columns`` with more settings, the next seven among them (templated)
    :param columns: for ``mapping="columns"``, as the next six: Snowflake types of columns, by name, for when
        they are created, as in ``{"AMOUNT": "NUMBER(12,2)"}``; an existing column keeps its type. By default,
        types are inferred from the values seen before the column is created (templated)
    :param rename: column names, by key (templated)
    :param include: the keys that land; by default all (templated)
    :param exclude: keys that don't land (templated)
    :param schema_evolution: add a column for each new key, drop NOT NULL where a value is missing, and widen
        the precision of NUMBER when a number needs it; nothing is ever narrowed or dropped. Needs OWNERSHIP
        of the table. Default: true (templated)
    :param unknown_keys: without ``schema_evolution``, what to do about a key that has no column: ``ignore``
        it, as Openflow does, or make the record a ``dead_letter`` (templated)
    :param infer_timestamps: create TIMESTAMP_NTZ or TIMESTAMP_TZ columns for new keys whose values are all
        ISO-8601; by default they become VARCHAR (templated)
    :param metadata_columns: facts about a record that get columns of their own, by which Snowflake can prune:
        some of ``arrival_time`` (``KINESIS_ARRIVAL_TIME``), ``stream``, ``shard_id``, ``sequence_number``,
        ``sub_sequence_number``, ``partition_key`` and ``loaded_at``. A table that exists must have them.
        Default: none (templated)
    :param payload_format: what a payload is: a name (templated), or an object with the settings of a format,
        such as :class:`~airflow_kinesis_snowflake.formats.delimited.CSV`, which is taken as it is. The
        names: ``json``; ``text``, which lands as a string; ``binary``, which lands as a string in base64;
        ``avro``, one datum per payload, and ``avro_container``, for which the extra ``avro`` must be
        installed; ``protobuf``; ``json_schema``, JSON after the header of a schema registry; ``msgpack``;
        ``csv`` and ``tsv``, whose first line has the
        names; ``cloudwatch_logs``, a row per log event; and ``dynamodb``, ``dms`` and ``debezium``, the row
        with what happened to it. Text and bytes need ``mapping="envelope"``
    :param compression: how payloads are compressed (templated): ``gzip``, ``zlib``, ``zstd``, ``lz4`` or
        ``snappy``; ``auto``, which detects these by their first bytes and leaves other payloads unchanged; by
        default not at all. A payload may inflate to 64 MiB; a larger one becomes a dead letter
    :param json_documents: what a JSON payload holds (templated): ``one`` document; the items of an ``array``
        (a payload that isn't an array is one document); or a ``sequence`` of documents, newline-separated or
        concatenated. Each document becomes a row; those of one record share its ``KINESISMETADATA``
    :param avro_schema: schema of Avro payloads that have no header: JSON, as text or parsed (templated)
    :param avro_schema_resolver: for Avro payloads with the header of Confluent's or AWS Glue's schema
        registry: called with the id in the header (an ``int``, or a UUID as text), returns the schema; a
        ``LookupError`` makes the record a dead letter, other errors fail the task
    :param registry_conn_id: Airflow connection of the schema registry that has the schemas of payloads with
        its header, for ``avro``, ``protobuf`` and ``json_schema`` (templated): type ``http`` for the REST API
        of Confluent's, type ``aws`` for AWS Glue's. See
        :func:`~airflow_kinesis_snowflake.hooks.schema_registry.open_schema_registry`. If it doesn't have a
        schema, the record becomes a dead letter; while it doesn't answer, the drain retries
    :param create_table: how the landing table is created if it is missing: a dict of options of
        :class:`~airflow_kinesis_snowflake.sinks.snowflake.table_options.TableOptions` (``transient``,
        ``cluster_by``, ``error_logging``, ``enable_schema_evolution``, ``comment``,
        ``data_retention_days``, ``iceberg``, ``external_volume``, ``base_location``); or ``never``:
        nothing is created, and what is missing fails
        the task with the DDL to run (templated)
    :param snowflake_conn_id: Airflow connection of type ``snowflake`` (templated)
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "stream_name": types.STREAM,
        "application_name": types.TEXT,
        "table": types.TABLE,
        "mapping": MAPPING,
        **{name: Columns.setting_types[name] for name in _OF_COLUMNS},
        "metadata_columns": types.several(*types.METADATA_COLUMNS),
        "payload_format": types.FORMAT,
        "compression": types.optional(types.choice(*COMPRESSIONS)),
        "json_documents": types.choice(*DOCUMENTS),
        "avro_schema": types.SCHEMA,
        "avro_schema_resolver": types.FUNCTION,
        "registry_conn_id": types.optional(types.TEXT),
        "create_table": types.TABLE_OPTIONS,
        "snowflake_conn_id": types.TEXT,
    }
    ui_color = "#e6f2fb"

    def __init__(  # noqa: PLR0913 -- every setting is a parameter
        self,
        *,
        stream_name: str,
        application_name: str,
        table: str,
        mapping: str | Columns = "envelope",
        columns: Mapping[str, str] | str | None = None,
        rename: Mapping[str, str] | str | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        schema_evolution: bool | str = True,
        unknown_keys: str = "ignore",
        infer_timestamps: bool | str = False,
        metadata_columns: Sequence[str] | str = (),
        payload_format: str | Format = "json",
        compression: str | None = None,
        json_documents: str = "one",
        avro_schema: dict[str, Any] | list[Any] | str | None = None,
        avro_schema_resolver: Callable[[int | str], Any] | None = None,
        registry_conn_id: str | None = None,
        create_table: dict[str, Any] | str | None = None,
        snowflake_conn_id: str = "snowflake_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name
        self.application_name = application_name
        self.table = table
        self.mapping = mapping
        self.columns = columns
        self.rename = rename
        self.include = include
        self.exclude = exclude
        self.schema_evolution = schema_evolution
        self.unknown_keys = unknown_keys
        self.infer_timestamps = infer_timestamps
        self.metadata_columns = metadata_columns
        self.payload_format = payload_format
        self.compression = compression
        self.json_documents = json_documents
        self.avro_schema = avro_schema
        self.avro_schema_resolver = avro_schema_resolver
        self.registry_conn_id = registry_conn_id
        self.create_table = create_table
        self.snowflake_conn_id = snowflake_conn_id
        self.check_settings()

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check that settings fit the mapping they need.

        :raises InvalidSettingError: one of them needs the other mapping
        """
        super().check_together(settings)
        mapping = settings.get("mapping")
        if isinstance(mapping, Columns):
            plain = Columns().read_settings()
            doubled = [name for name in _OF_COLUMNS if settings.get(name, plain[name]) != plain[name]]
            if doubled:
                raise InvalidSettingError(f"{' and '.join(doubled)} must be written in mapping=Columns(...)")
        named = [name for name in ("columns", "rename", "include", "exclude") if settings.get(name)]
        if settings.get("mapping") == "envelope" and named:
            raise InvalidSettingError(
                f"{' and '.join(named)} must be left out, or mapping be 'columns': an envelope holds all keys"
            )
        payload_format = settings.get("payload_format")
        if isinstance(payload_format, str):
            payload_format = FORMATS[payload_format]
        has_columns = mapping == "columns" or isinstance(mapping, Columns)
        if has_columns and payload_format and not payload_format.has_keys:
            raise InvalidSettingError(
                f"payload_format={settings['payload_format']!r} has no keys to make columns of; use "
                f"mapping='envelope'"
            )

    def columns_settings(self) -> ColumnsSettings | None:
        """How keys become columns; ``None`` for the mapping without settings."""
        from airflow_kinesis_snowflake.formats.schema import ColumnsSettings

        mapping = self.setting("mapping")
        if mapping == "envelope":
            return None
        if isinstance(mapping, Columns):
            _, chosen = mapping.split()
        else:
            chosen = {name: self.setting(name) for name in _OF_COLUMNS}
        return ColumnsSettings(**chosen, iceberg=self.setting("create_table").iceberg)

    def landing(self, given: Mapping[str, Any]) -> Landing:
        """Where records land, and in which form.

        :param given: the converted settings
        """
        from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing

        return Landing(
            table=given["table"],
            columns=self.columns_settings(),
            metadata_columns=given["metadata_columns"],
            decoder=self.decoder(),
            options=given["create_table"],
        )

    def decoder(self) -> Decoder | None:
        """How payloads become documents; ``None`` where they are documents already.

        :raises InvalidSettingError: settings of the format don't fit together, or the registry's connection
            doesn't exist
        """
        from airflow_kinesis_snowflake.formats.catalog import payload_decoder
        from airflow_kinesis_snowflake.formats.flattening import flattening
        from airflow_kinesis_snowflake.hooks.schema_registry import open_schema_registry

        registry_conn_id = self.setting("registry_conn_id")
        decode = payload_decoder(
            self.setting("payload_format"),
            compression=self.setting("compression"),
            json_documents=self.setting("json_documents"),
            avro_schema=self.setting("avro_schema"),
            avro_schema_resolver=self.setting("avro_schema_resolver"),
            registry=open_schema_registry(registry_conn_id) if registry_conn_id else None,
        )
        mapping = self.setting("mapping")
        return flattening(decode, **mapping.split()[0]) if isinstance(mapping, Columns) else decode
