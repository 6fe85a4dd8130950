"""Says what the bytes of a payload look like that can't be read, and which setting reads them."""

from __future__ import annotations

from airflow_kinesis_snowflake.formats.compression import kind_of

_BEGINNINGS = (
    (b"Obj\x01", "an Avro container, which no setting reads"),
    (b"\xc3\x01", "an Avro single object, which no setting reads"),
    (b"\xf3\x89\x9a\xc2", "a KPL aggregate whose MD5 is wrong"),
    (b"\xef\xbb\xbf", "text with a byte order mark"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def hint(payload: bytes) -> str:
    """The end of a reason; empty where the bytes look like nothing known. Never quotes them."""
    for beginning, description in _BEGINNINGS:
        if payload.startswith(beginning):
            return f"; looks like {description}"
    kind = kind_of(payload)
    return f"; looks like {kind}, which compression='auto' reads" if kind else ""
