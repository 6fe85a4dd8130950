"""Numbers as people read them in a sentence."""

from __future__ import annotations

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(millis: float) -> str:
    """A length of time in its two largest units, such as ``2 h 10 min``; less than a second is ``0 s``."""
    seconds = max(0, int(millis // 1000))
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
        if parts and (len(parts) == 2 or not count or unit == "min"):
            break
    return " ".join(parts) or "0 s"


def ago(then: float, now: float) -> str:
    """How long before now a moment was, both in milliseconds since the epoch."""
    return "just now" if now - then < 1000 else f"{duration(now - then)} ago"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 shard`` or ``2,000 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def named(names: tuple[str, ...], *, most: int = 3) -> str:
    """Names in a sentence; of many, the first few and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
