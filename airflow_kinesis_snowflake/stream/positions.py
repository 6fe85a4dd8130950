"""Where a reader stands in a shard, and where it starts while it has no checkpoint."""

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

    Positions of one shard are ordered as its records are. ``Position(s)`` stands at the end of the Kinesis
    record ``s``, after every user record in it.

    :param sequence_number: decimal digits, as Kinesis gives them: at most 129, no zero in front
        (``SequenceNumber`` in the Kinesis API reference)
    :param sub_sequence_number: index of the user record inside the aggregate, from 0, at most ten digits;
        ``None`` means the whole Kinesis record
    :raises ValueError: a number out of these limits
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
    """Write a position so that text compares as positions do; ``None`` (nothing read yet) sorts first.

    The digits are preceded by their count, because sequence numbers differ in length; a position inside an
    aggregate ends in its zero-padded sub-sequence number, a whole record in a character that sorts after it.
    """
    if position is None:
        return BEFORE_THE_FIRST
    digits = position.sequence_number
    sub = position.sub_sequence_number
    return f"{len(digits):03d}{digits}" + (_WHOLE_RECORD if sub is None else f".{sub:0{_SUB_DIGITS}d}")


def decode_position(text: str) -> Position | None:
    """Read what :func:`encode_position` wrote.

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

    :param timestamp: read records that arrived at or after it, cut to whole milliseconds as Kinesis counts
        them; ``None`` means ``TRIM_HORIZON``
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
        """Read what ``str()`` wrote.

        :raises ValueError: neither ``TRIM_HORIZON`` nor an ISO-8601 timestamp with a time zone
        """
        return TRIM_HORIZON if text == "TRIM_HORIZON" else cls(parse_timestamp(text))


def parse_timestamp(value: str | datetime) -> datetime:
    """A moment, in UTC.

    :param value: ISO-8601 text or a datetime, with any time zone
    :raises ValueError: not ISO-8601, or without a time zone, so that nobody could say which moment is meant
    """
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment.tzinfo is None:
        raise ValueError(f"the timestamp {value} needs a time zone, for example {moment.isoformat()}Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the timestamp {value} is out of range") from None


def _whole_millis(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


TRIM_HORIZON = StartAt()


def initial_position(kind: str, timestamp: str | datetime | None = None, *, now: datetime) -> StartAt:
    """Where the shards of a first run start.

    ``LATEST`` becomes the moment of that run: kept as it is, it would skip records between two drains.

    :param kind: ``TRIM_HORIZON``, ``LATEST`` or ``AT_TIMESTAMP``
    :param timestamp: for ``AT_TIMESTAMP``, and only for it; not in the future, because Kinesis gives no
        iterator there
    :param now: the moment of the run
    :raises ValueError: another kind, or a timestamp that is missing, superfluous, naive or in the future
    """
    if (kind == "AT_TIMESTAMP") != (timestamp is not None):
        raise ValueError("set initial_timestamp for initial_position='AT_TIMESTAMP', and only for it")
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
    """What a sequence number says of the record it was given to.

    :param shard_number: the digits of the shard id
    :param shard_created: when the shard was made, to the second
    :param written: when the record was written, to the second
    """

    shard_number: int
    shard_created: datetime
    written: datetime


# Version 2, as 47 hex digits: "2", seconds when the shard was made (9), last digit of the shard number (1),
# record count (16), unknown (2), seconds when the record was written (9), shard number (8), "2".
_VERSION_2 = re.compile(
    "2(?P<created>[0-9a-f]{9})(?P<check>[0-9a-f])[0-7][0-9a-f]{15}[0-9a-f]{2}"
    "(?P<written>[0-9a-f]{9})(?P<shard>[0-7][0-9a-f]{6}(?P=check))2"
)


def sequence_facts(sequence_number: str) -> SequenceFacts | None:
    """Read the shard and the times out of a sequence number.

    AWS doesn't document the layout. It is the one that the emulator Kinesalite found, holds for the numbers
    Kinesis has given out since 2014, and says the shard number twice, so other numbers are told apart. Use it
    to notice a checkpoint that can't be the shard's own, never to compute a position.

    :return: ``None`` when the number has another layout, as those of some emulators have
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
    """Whether a position lies after another, or after the very beginning."""
    return other is None or position > other
