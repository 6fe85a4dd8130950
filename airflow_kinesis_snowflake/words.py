"""Numbers and names for sentences."""

from __future__ import annotations

import pendulum


def duration(millis: float | None) -> str:
    """A duration in its two largest units, such as ``2 h 10 min``; less than a second is ``0 s``.

    ``None`` gives an empty text.
    """
    if millis is None:
        return ""
    # Rows that anybody may have written can hold times outside any calendar.
    days, seconds = divmod(max(0, int(millis // 1000)), 86_400)
    length = pendulum.duration(seconds=seconds)
    parts = ((days, "d"), (length.hours, "h"), (length.minutes, "min"))
    largest = next((number for number, (count, _) in enumerate(parts) if count), None)
    if largest is None:
        return f"{length.remaining_seconds} s"
    return " ".join(f"{count} {unit}" for count, unit in parts[largest : largest + 2] if count)


def ago(then: float | None, now: float) -> str:
    """How long before now a moment was, or how long after; both in milliseconds since the epoch.

    ``None`` gives an empty text.
    """
    if then is None:
        return ""
    if abs(now - then) < 1000:
        return "just now"
    return f"{duration(abs(now - then))} {'ago' if then < now else 'from now'}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 shard`` or ``2,000 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(names: tuple[str, ...], *, most: int = 3) -> str:
    """Names in a sentence; of many, the first few and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
