"""Values as JSON takes them, for XCom and programs."""

from __future__ import annotations

from typing import Any

import msgspec


def as_json(value: Any) -> dict[str, Any]:
    """A dataclass as a dictionary that holds lists, dictionaries, texts, numbers and the like only."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value))
    return plain
