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
    :param bytes: expected size of the page, judging by earlier ones
    :param slow: it is considered hung, so its thread and bytes are given to others
    """

    reader: ShardReader
    generation: int
    asked_at: float
    bytes: int
    slow: bool = False


class Fetching:
    """Schedules requests for pages of many shards: for each shard one at a time, no sooner than it is due.

    The bytes under way are bounded, provided that a shard's records resemble earlier ones, so that memory
    doesn't grow with the number of shards. While being processed, a page takes up to three times its size.

    A call that isn't answered within 3 s cedes its thread and its bytes to another, so that a hung shard
    delays no other; at most 18 do so at a time.

    :param pause_seconds: the time from one read of a shard to the next
    """

    def __init__(self, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._agenda: list[tuple[float, int, ShardReader]] = []
        self._planned = 0
        self._calls: set[Call] = set()

    def plan(self, reader: ShardReader) -> None:
        """Schedule the reader's next page for when it is due."""
        self._planned += 1
        heapq.heappush(self._agenda, (reader.due, self._planned, reader))

    def due(self, now: float) -> list[Call]:
        """The calls to make now, for all pages that are due and fit."""
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
        """Account for a call that ended, successfully or not.

        :return: ``False`` when its reader was rewound or dropped meanwhile; a rewound one waited for this
            call to end, and is scheduled again
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
        """The number of calls that haven't ended."""
        return len(self._calls)

    @property
    def threads(self) -> int:
        """The number of threads needed for calls."""
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
