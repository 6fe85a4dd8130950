"""Which shard is asked next, and how much may be under way at once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.engine.reader import ShardReader

# Each thread keeps for itself some of the memory that it once used.
FETCHERS = 6
BYTES_UNDER_WAY = 18 * 2**20
# A page takes a fraction of a second. A call that takes longer than this may hang until its timeout.
SLOW_SECONDS = 3.0
MAX_SLOW = 18


@dataclass(eq=False)
class Call:
    """A fetch under way.

    :param generation: the reader's when the page was asked for; another one now means that it was rewound
    :param asked_at: on the monotonic clock
    :param bytes: of the page, as far as it is like those before
    :param slow: it is taken for one that hangs, so others have its thread and its bytes
    """

    reader: ShardReader
    generation: int
    asked_at: float
    bytes: int
    slow: bool = False


class Fetching:
    """Says when to ask for pages of many shards: at most one at a time of each, no sooner than it is due.

    The bytes under way are bounded, as far as a shard's records are like those before them, so that memory
    doesn't grow with the number of shards. On its way a page takes up to three times its weight.

    A call that isn't answered within 3 s leaves its thread and its bytes to another one, so that a shard that
    hangs holds up no other; at most 18 do so at a time.

    :param pause_seconds: the time from one read of a shard to the next
    """

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._agenda: list[tuple[float, int, ShardReader]] = []
        self._planned = 0
        self._calls: set[Call] = set()

    def plan(self, reader: ShardReader) -> None:
        """Ask for the reader's next page when it is due."""
        self._planned += 1
        heapq.heappush(self._agenda, (reader.due, self._planned, reader))

    def due(self, now: float) -> list[Call]:
        """Calls to make now: for all pages that are due and fit."""
        self._pass_slow_ones(now)
        calls = []
        while self._agenda and self._agenda[0][0] <= now and self._fits(self._agenda[0][2]):
            _, _, reader = heapq.heappop(self._agenda)
            if reader.wants_page:
                calls.append(self._begin(reader, now))
        return calls

    def next_due(self) -> float:
        """The moment the next page is due, on the monotonic clock; infinite while none is planned or fits."""
        if not self._agenda or not self._fits(self._agenda[0][2]):
            return float("inf")
        return self._agenda[0][0]

    def ended(self, call: Call, *, now: float) -> bool:
        """Account for a call that ended, well or not.

        :return: ``False`` when its reader was rewound or left off meanwhile; one that was rewound waited for
            this call to end, and is asked again
        """
        reader = call.reader
        self._calls.remove(call)
        reader.in_flight = False
        if call.generation == reader.generation:
            return True
        reader.due = now + self._pause_seconds
        self.plan(reader)
        return False

    @property
    def under_way(self) -> int:
        """How many calls haven't ended."""
        return len(self._calls)

    @property
    def threads(self) -> int:
        """How many threads there should be for calls."""
        return FETCHERS + sum(call.slow for call in self._calls)

    def _pass_slow_ones(self, now: float) -> None:
        room = MAX_SLOW - sum(call.slow for call in self._calls)
        slow = [call for call in self._calls if not call.slow and now - call.asked_at >= SLOW_SECONDS]
        for call in slow[:room]:
            call.slow = True

    def _fits(self, reader: ShardReader) -> bool:
        taken = sum(call.bytes for call in self._calls if not call.slow)
        return taken == 0 or taken + reader.page_bytes <= BYTES_UNDER_WAY

    def _begin(self, reader: ShardReader, now: float) -> Call:
        reader.in_flight = True
        reader.due = now + self._pause_seconds
        call = Call(reader, reader.generation, now, reader.page_bytes)
        self._calls.add(call)
        return call
