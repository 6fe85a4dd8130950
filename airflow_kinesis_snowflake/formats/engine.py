"""What a format is: how the bytes of one payload become documents.

A format is a frozen dataclass with its settings, in a module of its own, and has a name in
:mod:`~airflow_kinesis_snowflake.formats.catalog`. Nothing here knows records, tables or Airflow.

A payload may hold any bytes. Whatever they are, a decoder answers in one of three ways: with documents, with
:class:`DroppedPayload`, or with :class:`~airflow_kinesis_snowflake.exceptions.UndecodableError`. What it
builds on the way is bounded by the limits below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ClassVar, Protocol, TypeAlias

import msgspec

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats.looks import hint

MAX_BUILT_BYTES = 16 * 2**20
"""Bytes that a payload may have in formats that build objects from it, which take many times its size."""

MAX_DOCUMENTS = 100_000
"""Documents that a payload may hold; Python needs about 500 bytes for each, however short it is."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs write in front of UTF-8; RFC 8259 lets readers of JSON skip it."""

MAX_OUTPUT_BYTES = 64 * 2**20
"""Bytes that the documents of a payload may have, if each of them repeats what the payload has once."""

MAX_OBJECTS = 2_000_000
"""Objects and arrays that may be built from a payload; Python needs about 250 bytes for a small one."""


@dataclass(frozen=True)
class DroppedPayload:
    """The answer for a payload that holds no data by the rules of its format: counted, but not landed.

    :param what: what it is, such as ``control message``
    """

    what: str


Documents: TypeAlias = Sequence[bytes] | DroppedPayload
"""One or more JSON texts, in order; or why there are none."""


class CheckedDocuments(list[bytes]):
    """Documents that are known to be JSON in UTF-8, so that nobody reads them once more to learn it."""


class Decoder(Protocol):
    """Takes one payload apart."""

    def __call__(self, payload: bytes, key: str = "", /) -> Documents:
        """Decode a payload.

        :param key: partition key of the record; some formats keep the key of a row there
        :raises UndecodableError: the payload isn't in the format; the message never quotes it
        """
        ...


class Format(Protocol):
    """The settings of a format, checked when they are created: wrong ones raise ``InvalidSettingError``."""

    has_keys: ClassVar[bool]
    """Whether documents are usually JSON objects, so that keys can become columns."""

    def decoder(self) -> Decoder | None:
        """The decoder; ``None`` if a payload is its document already."""
        ...


def check_size(payload: bytes) -> None:
    """Refuse a payload from which objects can't be built in bounded memory.

    :raises UndecodableError: it is larger than :data:`MAX_BUILT_BYTES`
    """
    if len(payload) > MAX_BUILT_BYTES:
        raise UndecodableError(f"larger than {MAX_BUILT_BYTES >> 20} MiB, the most that this format reads")


def check_count(documents: int) -> None:
    """Refuse a payload with too many documents.

    :raises UndecodableError: more than :data:`MAX_DOCUMENTS`
    """
    if documents > MAX_DOCUMENTS:
        raise UndecodableError(f"more than {MAX_DOCUMENTS:,} documents")


def check_objects(objects: float) -> None:
    """Refuse a payload that may hold too many objects, however few its bytes.

    :param objects: how many it may hold
    :raises UndecodableError: more than :data:`MAX_OBJECTS`
    """
    if objects > MAX_OBJECTS:
        raise UndecodableError(f"may hold more than {MAX_OBJECTS:,} objects and arrays")


def check_output(size: int) -> None:
    """Refuse a payload whose documents are too large.

    :param size: bytes of its documents so far
    :raises UndecodableError: more than :data:`MAX_OUTPUT_BYTES`
    """
    if size > MAX_OUTPUT_BYTES:
        raise UndecodableError(f"makes documents of more than {MAX_OUTPUT_BYTES >> 20} MiB")


def made(documents: Iterable[bytes]) -> list[bytes]:
    """Collect documents, unless there are too many or they are too large together.

    :raises UndecodableError: more than :data:`MAX_DOCUMENTS`, or than :data:`MAX_OUTPUT_BYTES` bytes
    """
    done: list[bytes] = []
    size = 0
    for document in documents:
        done.append(document)
        check_count(len(done))
        size += len(document)
        check_output(size)
    return done


def not_json(error: Exception, payload: bytes) -> UndecodableError:
    """Why a payload isn't JSON, or isn't JSON of the expected structure.

    :param error: of msgspec, or a ``RecursionError``
    """
    if isinstance(error, RecursionError):
        return UndecodableError("nested too deeply")
    if not payload.strip():
        return UndecodableError("empty")
    if isinstance(error, msgspec.ValidationError):
        # Its message may quote a value that doesn't fit, or a key in the path to it.
        return UndecodableError(f"JSON whose structure isn't that of the format{hint(payload)}")
    return UndecodableError(f"not JSON: {error}{hint(payload)}")


def of_json(decode: Callable[[bytes, str], Documents]) -> Decoder:
    """A decoder that reads JSON with msgspec, whose errors become ``UndecodableError``.

    :param decode: may raise ``msgspec.DecodeError`` and ``RecursionError``
    """

    @wraps(decode)
    def guarded(payload: bytes, key: str = "", /) -> Documents:
        check_size(payload)
        payload = payload.removeprefix(BYTE_ORDER_MARK)
        try:
            if not payload.isascii():
                payload.decode()
            return decode(payload, key)
        except UnicodeDecodeError as error:
            raise UndecodableError(
                f"not UTF-8: {error.reason} at byte {error.start}{hint(payload)}"
            ) from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise not_json(error, payload) from None

    return guarded
