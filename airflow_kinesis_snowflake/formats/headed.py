"""JSON behind the header of a schema registry, as the serializers for JSON Schema write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airflow_kinesis_snowflake.formats.avro import without_header
from airflow_kinesis_snowflake.formats.plain import checked, utf8

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder


@dataclass(frozen=True)
class JsonSchema:
    """One JSON document behind the header of Confluent's or AWS Glue's schema registry.

    The header is taken off; no schema is asked for, because JSON tells by itself what it holds.
    """

    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        return _document


def _document(payload: bytes, _key: str = "", /) -> list[bytes]:
    _, document = without_header(payload)
    utf8(document)
    return [checked(document)]
