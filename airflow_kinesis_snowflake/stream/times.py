"""Moments, and the milliseconds since the epoch as which state rows and Kinesis keep them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_millis() -> int:
    """This machine's wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def millis(moment: datetime) -> int:
    """A moment as milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)


def moment(millis: int) -> datetime:
    """Milliseconds since the epoch as a moment, in UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC)


def in_utc(moment: datetime) -> str:
    """A moment in UTC for people to read."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def utc(millis: int) -> str:
    """Milliseconds since the epoch for people to read; as they are where no calendar has such a year."""
    try:
        return in_utc(moment(millis))
    except (OverflowError, OSError, ValueError):
        return f"{millis} ms since 1970"
