"""What operators that make rows of records have in common: how their parameters become settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.landing.avro import Decoder
    from airflow_kinesis_snowflake.landing.schema import ColumnsSettings

TEMPLATED = (
    "mapping",
    "columns",
    "rename",
    "include",
    "exclude",
    "schema_evolution",
    "unknown_keys",
    "infer_timestamps",
    "payload_format",
    "json_documents",
    "avro_schema",
    "create_table",
)


class LandingParameters(Protocol):
    """Parameters of :class:`~airflow_kinesis_snowflake.operators.kinesis_to_snowflake
    .KinesisToSnowflakeOperator` that say how records become rows.
    """

    mapping: str
    columns: Mapping[str, str] | None
    rename: Mapping[str, str] | None
    include: Sequence[str] | None
    exclude: Sequence[str]
    schema_evolution: bool | str
    unknown_keys: str
    infer_timestamps: bool | str
    payload_format: str
    json_documents: str
    avro_schema: dict[str, Any] | list[Any] | str | None
    avro_schema_resolver: Callable[[int | str], Any] | None


def columns_settings(given: LandingParameters) -> ColumnsSettings | None:
    """How keys become columns; ``None`` for the mapping that needs no settings."""
    from airflow_kinesis_snowflake.landing.schema import ColumnsSettings

    if given.mapping == "columns":
        return ColumnsSettings(
            columns=dict(given.columns or {}),
            rename=dict(given.rename or {}),
            include=None if given.include is None else tuple(given.include),
            exclude=tuple(given.exclude or ()),
            schema_evolution=truth("schema_evolution", given.schema_evolution),
            unknown_keys=given.unknown_keys,
            infer_timestamps=truth("infer_timestamps", given.infer_timestamps),
        )
    if given.mapping != "envelope":
        raise InvalidSettingError(f"mapping must be 'envelope' or 'columns', not {given.mapping!r}")
    if given.columns or given.rename or given.include is not None or given.exclude:
        raise InvalidSettingError("columns, rename, include and exclude are for mapping='columns'")
    return None


def decoder(given: LandingParameters) -> Decoder | None:
    """How payloads become documents; ``None`` where they are documents already."""
    from airflow_kinesis_snowflake.landing.payloads import payload_decoder

    if given.mapping == "columns" and given.payload_format in ("text", "binary"):
        raise InvalidSettingError(
            f"payload_format={given.payload_format!r} has no keys to make columns of; use mapping='envelope'"
        )
    return payload_decoder(
        given.payload_format,
        json_documents=given.json_documents,
        avro_schema=given.avro_schema or None,
        avro_schema_resolver=given.avro_schema_resolver,
    )


def truth(name: str, value: bool | str) -> bool:
    """A choice between yes and no that may come out of a template.

    :raises InvalidSettingError: neither
    """
    found = {"true": True, "false": False}.get(str(value).strip().lower())
    if found is None:
        raise InvalidSettingError(f"{name} must be true or false, not {value!r}")
    return found
