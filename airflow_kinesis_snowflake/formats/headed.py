"""JSON after the header of a schema registry, as the serializers for JSON Schema write it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from airflow_kinesis_snowflake.formats.basic import checked, utf8
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK
from airflow_kinesis_snowflake.formats.schema_registry import (
    JSON,
    SchemaRegistry,
    made_once,
    of_kind,
    without_header,
)

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.formats.engine import Decoder


@dataclass(frozen=True)
class JsonSchema:
    """One JSON document after the header of Confluent's or AWS Glue's schema registry.

    The header is removed. JSON describes itself, so no schema is needed.

    :param registry: refuse payloads whose schema isn't in it, or is of another kind there
    """

    registry: SchemaRegistry | None = None
    has_keys: ClassVar[bool] = True

    def decoder(self) -> Decoder:
        """The decoder."""
        if self.registry is None:
            return _document
        look_up = made_once(self.registry.schema, partial(of_kind, JSON))

        def decode(payload: bytes, _key: str = "", /) -> list[bytes]:
            schema_id, _ = without_header(payload)
            look_up(schema_id)
            return _document(payload)

        return decode


def _document(payload: bytes, _key: str = "", /) -> list[bytes]:
    _, rest = without_header(payload)
    document = rest.removeprefix(BYTE_ORDER_MARK)
    utf8(document)
    return [checked(document)]
