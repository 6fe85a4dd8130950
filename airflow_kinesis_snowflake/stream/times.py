"""Moments, and the milliseconds since the epoch by which state rows and Kinesis represent them."""

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
    """A moment in UTC, in human-readable form."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def utc(millis: int) -> str:
    """Milliseconds since the epoch, in human-readable form; unchanged if no calendar has such a year."""
    try:
        return in_utc(moment(millis))
    except (OverflowError, OSError, ValueError):
        return f"{millis} ms since 1970"
