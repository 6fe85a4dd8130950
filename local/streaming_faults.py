"""What a bad day may bring to calls of Snowpipe Streaming, on request of a test.

``POST /streaming/faults`` of the local Snowflake with a JSON object adds a fault and answers it; ``GET``
tells what became of all; ``DELETE`` removes all, or the one at ``/streaming/faults/ID``. The client of the
tests is ``tests/faults/streaming.py``; it says what each means.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# In this order they are done to one call.
KINDS = ("cut", "error", "late", "fence", "delay", "repeat", "lose_answer")


@dataclass
class Fault:
    """One fault and the calls it is done to.

    :ivar call: regular expression, searched in ``METHOD /path``
    :ivar options: what else the kind of fault needs
    :ivar under_way: what is yet to arrive
    """

    id: int
    do: str
    call: str = ""
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0
    under_way: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.do not in KINDS:
            raise ValueError(f"no such fault: {self.do!r}; there are {', '.join(KINDS)}")
        self._chance = random.Random(self.seed)
        self._call = re.compile(self.call)

    def takes(self, call: str) -> bool:
        """Whether to do it to a call; counts the call."""
        if self.times is not None and self.hits >= self.times:
            return False
        if not self._call.search(call) or self._chance.random() >= self.probability:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        return True

    def shown(self) -> dict[str, Any]:
        """The fault as JSON."""
        return {"id": self.id, "do": self.do, "hits": self.hits, "under_way": len(self.under_way)}


class Faults:
    """All faults that are to be done."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._lock = threading.Lock()

    def add(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Add a fault.

        :raises TypeError, ValueError: it can't be
        """
        fault = Fault(id=next(self._ids), **asked)
        with self._lock:
            self._faults[fault.id] = fault
        return fault.shown()

    def remove(self, id_: int | None = None) -> None:
        """End one fault, or all."""
        with self._lock:
            for each in list(self._faults) if id_ is None else [id_]:
                self._faults.pop(each, None)

    def shown(self) -> list[dict[str, Any]]:
        """All faults as JSON."""
        with self._lock:
            return [fault.shown() for fault in self._faults.values()]

    def taking(self, call: str) -> dict[str, Fault]:
        """The faults to do to a call, by kind."""
        with self._lock:
            taken: dict[str, Fault] = {}
            for fault in self._faults.values():
                if fault.do not in taken and fault.takes(call):
                    taken[fault.do] = fault
            return taken
