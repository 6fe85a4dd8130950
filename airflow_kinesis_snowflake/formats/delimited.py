"""Lines of values: CSV, TSV, and text that a pattern takes apart. Each value lands as text under its name."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, UndecodableError
from airflow_kinesis_snowflake.formats.basic import utf8
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK, MAX_DOCUMENTS, check_size, made

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow_kinesis_snowflake.formats.engine import Decoder

MAX_LINE_LENGTH = 64 * 2**10
"""Characters of a line that a pattern is tried on: some take time that grows with their square, or faster."""

MAX_VALUES = 2_000_000
"""Values of a payload, in all of its lines."""

# How often a pattern may repeat a repetition: enough to skip some fields of a line.
_FEW = 16
_encode = msgspec.json.Encoder().encode

# fmt: off
CLOUDFRONT_REAL_TIME: tuple[str, ...] = (
    "timestamp", "c-ip", "s-ip", "time-to-first-byte", "sc-status", "sc-bytes", "cs-method", "cs-protocol",
    "cs-host", "cs-uri-stem", "cs-bytes", "x-edge-location", "x-edge-request-id", "x-host-header",
    "time-taken", "cs-protocol-version", "c-ip-version", "cs-user-agent", "cs-referer", "cs-cookie",
    "cs-uri-query", "x-edge-response-result-type", "x-forwarded-for", "ssl-protocol", "ssl-cipher",
    "x-edge-result-type", "fle-encrypted-fields", "fle-status", "sc-content-type", "sc-content-len",
    "sc-range-start", "sc-range-end", "c-port", "x-edge-detailed-result-type", "c-country",
    "cs-accept-encoding", "cs-accept", "cache-behavior-path-pattern", "cs-headers", "cs-header-names",
    "cs-headers-count", "primary-distribution-id", "primary-distribution-dns-name", "origin-fbl",
    "origin-lbl", "asn", "cmcd-encoded-bitrate", "cmcd-buffer-length", "cmcd-buffer-starvation",
    "cmcd-content-id", "cmcd-object-duration", "cmcd-deadline", "cmcd-measured-throughput",
    "cmcd-next-object-request", "cmcd-next-range-request", "cmcd-object-type", "cmcd-playback-rate",
    "cmcd-requested-maximum-throughput", "cmcd-streaming-format", "cmcd-session-id", "cmcd-stream-type",
    "cmcd-startup", "cmcd-top-bitrate", "cmcd-version", "r-host", "sr-reason", "x-edge-mqcs",
    "distribution-tenant-id", "connection-id",
)
# fmt: on
"""Fields of CloudFront's real-time logs ("Use real-time access logs" in its developer guide), in order. A
configuration sends only those that it selects, in this order: leave out the others. AWS adds new ones at the
end, such as the log data of CloudFront functions: append them."""

# fmt: off
VPC_FLOW_LOG_V2: tuple[str, ...] = (
    "version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol",
    "packets", "bytes", "start", "end", "action", "log-status",
)
# fmt: on
"""Fields of VPC flow logs in the default format ("Flow log records" in the Amazon VPC user guide)."""


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise InvalidSettingError("names must be a list of strings that aren't empty, such as ['id', 'name']")
    if len(set(names)) < len(names):
        raise InvalidSettingError("names must differ from each other: a row has one value for each")


@dataclass(frozen=True)
class Delimited:
    """Lines of values with a delimiter.

    :param names: of the values, in order; a line with more or fewer values makes its record a dead letter.
        Without names, the first line of each payload holds them
    :param delimiter: one character
    :param quote: the character around values that contain delimiters or line breaks, doubled inside them;
        ``None``: there is none
    :param null: the value that stands for null; the default is ``-`` for ``tsv`` and empty text for ``csv``.
        ``None``: there is no such value
    :raises InvalidSettingError: a value is invalid
    """

    names: Sequence[str] = ()
    delimiter: str = ","
    quote: str | None = '"'
    null: str | None = ""
    has_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_names(self.names)
        for name, sign in (("delimiter", self.delimiter), ("quote", self.quote)):
            if sign is not None and (not isinstance(sign, str) or len(sign) != 1 or sign in "\r\n\0"):
                raise InvalidSettingError(f"{name} must be one character, and no line break, not {sign!r}")
        if self.delimiter is None or self.delimiter == self.quote:
            raise InvalidSettingError("delimiter must be one character, and differ from quote")
        if self.null is not None and not isinstance(self.null, str):
            raise InvalidSettingError("null must be a string, or None")

    def decoder(self) -> Decoder:
        """The decoder."""
        return partial(_rows, self)


@dataclass(frozen=True)
class CSV(Delimited):
    """Comma-separated values (RFC 4180); see :class:`Delimited`."""


@dataclass(frozen=True)
class TSV(Delimited):
    """Tab-separated values without quotes, with ``-`` for null, as in access logs; see :class:`Delimited`."""

    delimiter: str = "\t"
    quote: str | None = None
    null: str | None = "-"


@dataclass(frozen=True)
class Pattern:
    """Lines that a regular expression takes apart.

    :param pattern: of Python's ``re``, with named groups, which become the keys; it must match a whole line,
        without its line break. A group that doesn't participate is null. Write it so that no part of a line
        can be matched in many ways (``[^ ]+`` rather than ``.*``), because ``re`` has no timeout: only lines
        of up to 64 Ki characters are tried, and patterns that repeat a repetition of no fixed number more
        than 16 times are refused
    :param null: the value that stands for null; ``None``: there is no such value
    :raises InvalidSettingError: the pattern is invalid, has no named groups, or repeats a repetition
    """

    pattern: str
    null: str | None = "-"
    has_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            compiled = re.compile(self.pattern)
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            raise InvalidSettingError(f"pattern must be a Python regular expression: {error}") from error
        if not compiled.groupindex:
            raise InvalidSettingError("pattern must have named groups, such as (?P<host>[^ ]+)")
        if repeats_repetitions(self.pattern):
            raise InvalidSettingError(
                f"pattern must not repeat a repetition more than {_FEW} times, as (a+)+ and (a{{1,9}}){{99}} "
                "do: a line could keep it busy for hours"
            )

    def decoder(self) -> Decoder:
        """The decoder."""
        return partial(_matches, re.compile(self.pattern), self.null)


def repeats_repetitions(pattern: str) -> bool:
    """Whether a repetition of no fixed number is repeated many times, as it is in most slow patterns.

    There are other ways to be slow, among them an optional part or alternatives inside a repetition: try a
    pattern on lines that nearly match. Possessive quantifiers and atomic groups don't backtrack, so they are
    fast.
    """
    from re import _parser  # type: ignore[attr-defined]

    return _repeats(_parser.parse(pattern), times=1)


def _repeats(parsed: Iterable[tuple[object, object]], *, times: int) -> bool:
    """Whether a pattern, which is repeated so many times, holds a repetition of no fixed number."""
    for operation, argument in parsed:
        name = str(operation)
        if name in ("ATOMIC_GROUP", "POSSESSIVE_REPEAT"):
            continue
        least, most = argument[:2] if name in ("MAX_REPEAT", "MIN_REPEAT") else (1, 1)  # type: ignore[index]
        if times > _FEW and most > 1 and least < most:
            return True
        if any(_repeats(part, times=times * most) for part in _parts(argument)):
            return True
    return False


def _parts(argument: object) -> list[Iterable[tuple[object, object]]]:
    """The subpatterns in the argument of a parsed operation."""
    from re import _parser  # type: ignore[attr-defined]

    if isinstance(argument, _parser.SubPattern):
        return [argument]
    if isinstance(argument, (list, tuple)):
        return [part for item in argument for part in _parts(item)]
    return []


# --- decoding ----------------------------------------------------------------------------------------------


def _rows(settings: Delimited, payload: bytes, _key: str = "", /) -> list[bytes]:
    check_size(payload)
    text = utf8(payload.removeprefix(BYTE_ORDER_MARK))
    lines = _quoted_lines(settings, text) if settings.quote else _plain_lines(settings, text)
    filled = (line for line in lines if line)
    names = settings.names or _header(next(filled, None))
    documents = made(_documents(filled, names, settings.null))
    if not documents:
        raise UndecodableError(
            "empty: no line with values"
            if settings.names
            else "nothing after the first line, which names the values unless the setting names does"
        )
    return documents


def _documents(lines: Iterable[list[str]], names: Sequence[str], null: str | None) -> Iterator[bytes]:
    for number, line in enumerate(lines, 1):
        if number * len(names) > MAX_VALUES:
            raise UndecodableError(f"more than {MAX_VALUES:,} values")
        yield _encode(_named(names, line, null))


def _plain_lines(settings: Delimited, text: str) -> Iterable[list[str]]:
    most = len(settings.names) or MAX_DOCUMENTS
    for line in text.split("\n", MAX_DOCUMENTS + 1):
        whole = line.removesuffix("\r")
        # Values beyond the names are noticed, but not built.
        yield whole.split(settings.delimiter, most) if whole else []


def _quoted_lines(settings: Delimited, text: str) -> Iterable[list[str]]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=settings.delimiter,
        quotechar=settings.quote,
        strict=True,
    )
    try:
        yield from reader
    except csv.Error:
        raise UndecodableError(
            f"line {reader.line_num} has misplaced quotes, or a value of more than "
            f"{csv.field_size_limit():,} characters"
        ) from None


def _header(line: list[str] | None) -> list[str]:
    if line is None:
        raise UndecodableError("empty: no line with values")
    if len(set(line)) < len(line) or not all(line):
        raise UndecodableError("the first line doesn't name the values: a name is missing or occurs twice")
    return line


def _named(names: Sequence[str], line: list[str], null: str | None) -> dict[str, str | None]:
    if len(line) != len(names):
        count = f"more than {len(names)}" if len(line) > len(names) else str(len(line))
        raise UndecodableError(f"a line has {count} values, but there are {len(names)} names")
    return {name: None if value == null else value for name, value in zip(names, line, strict=True)}


def _matches(pattern: re.Pattern[str], null: str | None, payload: bytes, _key: str = "", /) -> list[bytes]:
    check_size(payload)
    documents = made(_matched(pattern, null, utf8(payload.removeprefix(BYTE_ORDER_MARK))))
    if not documents:
        raise UndecodableError("empty: no line")
    return documents


def _matched(pattern: re.Pattern[str], null: str | None, text: str) -> Iterator[bytes]:
    for number, line in enumerate(text.split("\n", MAX_DOCUMENTS + 1), 1):
        whole = line.removesuffix("\r")
        if not whole:
            continue
        if len(whole) > MAX_LINE_LENGTH:
            raise UndecodableError(f"a line has more than {MAX_LINE_LENGTH:,} characters")
        found = pattern.fullmatch(whole)
        if found is None:
            raise UndecodableError(f"line {number} doesn't match the pattern")
        yield _encode({name: None if value == null else value for name, value in found.groupdict().items()})
