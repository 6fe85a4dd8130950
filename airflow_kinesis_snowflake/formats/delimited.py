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
"""Characters of a line that a pattern is tried on: some patterns take the square of the length, or more."""

MAX_VALUES = 2_000_000
"""Values of a payload, over all of its lines."""

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
    "origin-lbl", "asn",
)
# fmt: on
"""Fields of a real-time log of CloudFront ("Use real-time access logs" in its developer guide), in the order
in which they come. A configuration sends those that it names, in this order: leave out the others."""

# fmt: off
VPC_FLOW_LOG_V2: tuple[str, ...] = (
    "version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol",
    "packets", "bytes", "start", "end", "action", "log-status",
)
# fmt: on
"""Fields of a VPC flow log of the default format ("Flow log records" in the Amazon VPC user guide)."""


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise InvalidSettingError("names must be a list of texts that aren't empty, such as ['id', 'name']")
    if len(set(names)) < len(names):
        raise InvalidSettingError("names must differ from each other: a row has one value for each")


@dataclass(frozen=True)
class Delimited:
    """Lines of values with a delimiter.

    :param names: of the values, in order; a line with more or fewer of them makes a dead letter. Without
        names the first line of each payload has them
    :param delimiter: one character
    :param quote: the character around values that hold delimiters or line ends, doubled where it is meant
        itself; ``None``: there is none
    :param null: a value that stands for none; the default is ``-`` for ``tsv`` and nothing for ``csv``.
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
                raise InvalidSettingError(f"{name} must be one character, and no line end, not {sign!r}")
        if self.delimiter is None or self.delimiter == self.quote:
            raise InvalidSettingError("delimiter must be a character of its own")
        if self.null is not None and not isinstance(self.null, str):
            raise InvalidSettingError("null must be text, or None")

    def decoder(self) -> Decoder:
        """The decoder."""
        return partial(_rows, self)


@dataclass(frozen=True)
class CSV(Delimited):
    """Comma-separated values (RFC 4180); see :class:`Delimited`."""


@dataclass(frozen=True)
class TSV(Delimited):
    """Tab-separated values without quotes, with ``-`` for none, as in access logs; see :class:`Delimited`."""

    delimiter: str = "\t"
    quote: str | None = None
    null: str | None = "-"


@dataclass(frozen=True)
class Pattern:
    """Lines that a regular expression takes apart.

    :param pattern: of Python's ``re``, with named groups, which become the keys; it must match the whole of a
        line without its line end. A group that takes no part is null. Write it so that no part of a line can
        be matched in many ways (``[^ ]+`` rather than ``.*``): ``re`` has no limit of time, only lines of up
        to 64 Ki characters are tried, and patterns with a repetition inside a repetition are refused
    :param null: a value that stands for none; ``None``: there is no such value
    :raises InvalidSettingError: no such pattern, or one without named groups or with nested repetitions
    """

    pattern: str
    null: str | None = "-"
    has_keys: ClassVar[bool] = True

    def __post_init__(self) -> None:
        try:
            compiled = re.compile(self.pattern)
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            raise InvalidSettingError(f"pattern must be a regular expression of Python: {error}") from error
        if not compiled.groupindex:
            raise InvalidSettingError("pattern must have named groups, such as (?P<host>[^ ]+)")
        if repeats_repetitions(self.pattern):
            raise InvalidSettingError(
                "pattern must not repeat what repeats, as in (a+)+: a line could take it hours to refuse"
            )

    def decoder(self) -> Decoder:
        """The decoder."""
        return partial(_matches, re.compile(self.pattern), self.null)


def repeats_repetitions(pattern: str) -> bool:
    """Whether an unbounded repetition stands inside another, which is what most slow patterns have.

    It isn't the only way to be slow, but the others take a power of the length of a line, and that is
    bounded. Possessive repetitions and atomic groups don't go back, so they are fast.
    """
    from re import _parser  # type: ignore[attr-defined]

    return _repeats(_parser.parse(pattern), inside=False)


def _repeats(parsed: Iterable[tuple[object, object]], *, inside: bool) -> bool:
    for operation, argument in parsed:
        name = str(operation)
        repeating = name in ("MAX_REPEAT", "MIN_REPEAT") and str(argument[1]) == "MAXREPEAT"  # type: ignore[index]
        if repeating and inside:
            return True
        if name in ("ATOMIC_GROUP", "POSSESSIVE_REPEAT"):
            continue
        if any(_repeats(part, inside=inside or repeating) for part in _parts(argument)):
            return True
    return False


def _parts(argument: object) -> list[Iterable[tuple[object, object]]]:
    """The sub-patterns in an argument of the parser."""
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
            else "nothing after the line that names the values; if no line does, the setting names must"
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
        # What is more than there are names is counted, not built.
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
            f"line {reader.line_num} has quotes that don't fit, or a value of more than "
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
        raise UndecodableError(f"a line has {count} values, and there are {len(names)} names")
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
