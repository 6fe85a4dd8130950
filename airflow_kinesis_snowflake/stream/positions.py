"""The position of a reader in a shard, and where it starts while it has no checkpoint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import total_ordering

_WHOLE_RECORD = "~"
_SUB_DIGITS = 10
BEFORE_THE_FIRST = "000"


@total_ordering
@dataclass(frozen=True)
class Position:
    """A record of a shard, and inside a KPL aggregate one of its user records.

    Positions of one shard are ordered like its records. ``Position(s)`` is the end of the Kinesis record
    ``s``, after every user record in it.

    :param sequence_number: decimal digits, as returned by Kinesis: at most 129, without a leading zero
        (``SequenceNumber`` in the Kinesis API reference)
    :param sub_sequence_number: index of the user record inside the aggregate, from 0, at most ten digits;
        ``None`` means the whole Kinesis record
    :raises ValueError: a number is outside these limits
    """

    sequence_number: str
    sub_sequence_number: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch("0|[1-9][0-9]{0,128}", self.sequence_number):
            raise ValueError(f"a sequence number has up to 129 decimal digits, not {self.sequence_number!r}")
        if self.sub_sequence_number is not None and not 0 <= self.sub_sequence_number < 10**_SUB_DIGITS:
            raise ValueError(f"a sub-sequence number can't be {self.sub_sequence_number}")

    def __lt__(self, other: Position) -> bool:
        return encode_position(self) < encode_position(other)


def encode_position(position: Position | None) -> str:
    """Encode a position so that encoded positions sort like positions; ``None`` (nothing read yet) sorts
    first.

    The digits are preceded by their count, because sequence numbers differ in length; a position inside an
    aggregate ends with its zero-padded sub-sequence number, a whole record with a character that sorts after
    it.
    """
    if position is None:
        return BEFORE_THE_FIRST
    digits = position.sequence_number
    sub = position.sub_sequence_number
    return f"{len(digits):03d}{digits}" + (_WHOLE_RECORD if sub is None else f".{sub:0{_SUB_DIGITS}d}")


def decode_position(text: str) -> Position | None:
    """Decode what :func:`encode_position` encoded.

    :raises ValueError: the text isn't an encoded position
    """
    if text == BEFORE_THE_FIRST:
        return None
    if text.endswith(_WHOLE_RECORD):
        position = Position(text[3:-1])
    else:
        digits, _, sub = text[3:].partition(".")
        position = Position(digits, int(sub))
    if encode_position(position) != text:
        raise ValueError(f"not an encoded position: {text!r}")
    return position


@dataclass(frozen=True)
class StartAt:
    """Where a shard starts while it has no checkpoint: the oldest retained record, or a moment.

    :param timestamp: read records that arrived at or after it, truncated to milliseconds like Kinesis' own
        times; ``None`` means ``TRIM_HORIZON``
    """

    timestamp: datetime | None = None

    def __post_init__(self) -> None:
        if self.timestamp is not None:
            object.__setattr__(self, "timestamp", _whole_millis(parse_timestamp(self.timestamp)))

    def __str__(self) -> str:
        if self.timestamp is None:
            return "TRIM_HORIZON"
        return self.timestamp.isoformat(timespec="milliseconds")

    @classmethod
    def parse(cls, text: str) -> StartAt:
        """Parse what ``str()`` returned.

        :raises ValueError: neither ``TRIM_HORIZON`` nor an ISO-8601 timestamp with a time zone
        """
        return TRIM_HORIZON if text == "TRIM_HORIZON" else cls(parse_timestamp(text))


def parse_timestamp(value: str | datetime) -> datetime:
    """A moment, in UTC.

    :param value: ISO-8601 text or a datetime, with any time zone
    :raises ValueError: not ISO-8601, or without a time zone, so that the moment would be ambiguous
    """
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        raise ValueError(f"give the timestamp {value} a time zone, for example {moment.isoformat()}Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the timestamp {value} is out of range") from None


def _whole_millis(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


TRIM_HORIZON = StartAt()


def initial_position(kind: str, timestamp: str | datetime | None = None, *, now: datetime) -> StartAt:
    """Where the shards of a first run start.

    ``LATEST`` becomes the moment of that run: kept as such, it would skip records between two drains.

    :param kind: ``TRIM_HORIZON``, ``LATEST`` or ``AT_TIMESTAMP``
    :param timestamp: for ``AT_TIMESTAMP``, and only for it; not in the future, where Kinesis gives no
        iterator
    :param now: the moment of the run
    :raises ValueError: the kind is unknown, or the timestamp is missing, superfluous, naive or in the future
    """
    if (kind == "AT_TIMESTAMP") != (timestamp is not None):
        raise ValueError("set initial_timestamp for initial_position='AT_TIMESTAMP', and only then")
    if timestamp is not None:
        moment = parse_timestamp(timestamp)
        if moment > now:
            raise ValueError(f"set initial_timestamp to a time in the past: {timestamp} is in the future")
        return StartAt(moment)
    if kind == "TRIM_HORIZON":
        return TRIM_HORIZON
    if kind == "LATEST":
        return StartAt(now)
    raise ValueError(f"the initial position is TRIM_HORIZON, LATEST or AT_TIMESTAMP, not {kind!r}")


@dataclass(frozen=True)
class SequenceFacts:
    """What a sequence number reveals about its record.

    :param shard_number: the digits of the shard id
    :param shard_created: when the shard was created, to the second
    :param written: when the record was written, to the second
    """

    shard_number: int
    shard_created: datetime
    written: datetime


# Version 2, as 47 hex digits: "2", shard creation in seconds (9), last digit of the shard number (1),
# record count (16), unknown (2), record creation in seconds (9), shard number (8), "2".
_VERSION_2 = re.compile(
    "2(?P<created>[0-9a-f]{9})(?P<check>[0-9a-f])[0-7][0-9a-f]{15}[0-9a-f]{2}"
    "(?P<written>[0-9a-f]{9})(?P<shard>[0-7][0-9a-f]{6}(?P=check))2"
)


def sequence_facts(sequence_number: str) -> SequenceFacts | None:
    """Read the shard and the times from a sequence number.

    AWS doesn't document the layout. The authors of the emulator Kinesalite discovered it; it holds for all
    numbers Kinesis has assigned since 2014, and contains the shard number twice, so other numbers can be
    recognized. Use it to detect a checkpoint that can't be the shard's own, never to compute a position.

    :return: ``None`` if the number has another layout, as with some emulators
    """
    match = _VERSION_2.fullmatch(f"{int(sequence_number):x}")
    if match is None:
        return None
    return SequenceFacts(
        shard_number=int(match["shard"], 16),
        shard_created=datetime.fromtimestamp(int(match["created"], 16), UTC),
        written=datetime.fromtimestamp(int(match["written"], 16), UTC),
    )


def is_after(position: Position, other: Position | None) -> bool:
    """Whether a position is after another, or after the very start."""
    return other is None or position > other


def later(one: Position | None, other: Position | None) -> Position | None:
    """The later of two positions; ``None`` is before all."""
    return one if one is not None and is_after(one, other) else other
