"""Which shard is asked next, and how much may be under way at once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from airflow_kinesis_snowflake.engine.reader import Fetched, PageSource, ShardReader
    from airflow_kinesis_snowflake.engine.runtime import Runtime

# Each thread keeps for itself some of the memory that it once used.
FETCHERS = 6
BYTES_UNDER_WAY = 18 * 2**20
# A page takes a fraction of a second. A call that takes longer than this may hang until its timeout.
SLOW_SECONDS = 3.0
MOST_SLOW = 18


@dataclass(eq=False)
class _Call:
    """A fetch under way.

    :param bytes: of the page, as far as it is like those before
    :param slow: it is taken for one that hangs, so others have its thread and its bytes
    """

    asked_at: float
    bytes: int
    slow: bool = False


@dataclass(frozen=True)
class PageArrived:
    """A fetch ended, well or not.

    :param generation: the reader's when the page was asked for; another one now means that it was rewound
    """

    reader: ShardReader
    generation: int
    call: _Call
    result: Future[Fetched]


class Fetching:
    """Asks for pages of many shards, at most one at a time of each, and no sooner than its source wants it.

    The bytes under way are bounded, as far as a shard's records are like those before them, so that memory
    doesn't grow with the number of shards. On its way a page takes up to three times its weight.

    A call that isn't answered within 3 s leaves its thread and its bytes to another one, so that a shard that
    hangs holds up no other; at most 18 do so at a time.

    :param pages: fetches one page
    :param deliver: called from a fetching thread with each result
    :param runtime: where the threads run
    """

    def __init__(
        self, pages: PageSource, deliver: Callable[[PageArrived], None], *, runtime: Runtime = MACHINE
    ) -> None:
        self._pages = pages
        self._deliver = deliver
        self._threads = DaemonThreads(FETCHERS, name="fetch", runtime=runtime)
        self._agenda: list[tuple[float, int, ShardReader]] = []
        self._planned = 0
        self._calls: set[_Call] = set()

    def plan(self, reader: ShardReader) -> None:
        """Ask for the reader's next page when it is due."""
        self._planned += 1
        heapq.heappush(self._agenda, (reader.due, self._planned, reader))

    def request_due(self, now: float) -> None:
        """Ask for all pages that are due and fit."""
        self._pass_slow_ones(now)
        while self._agenda and self._agenda[0][0] <= now and self._fits(self._agenda[0][2]):
            _, _, reader = heapq.heappop(self._agenda)
            if reader.wants_page:
                self._request(reader, now)

    def next_due(self) -> float:
        """The moment the next page is due, on the monotonic clock; infinite while none is planned or fits."""
        if not self._agenda or not self._fits(self._agenda[0][2]):
            return float("inf")
        return self._agenda[0][0]

    def arrived(self, page: PageArrived, *, now: float) -> bool:
        """Account for a page that arrived.

        :return: ``False`` when its reader was rewound or dropped meanwhile; one that was rewound waited for
            this call to end, and is asked again
        """
        reader = page.reader
        self._calls.remove(page.call)
        self._resize()
        reader.in_flight = False
        if page.generation == reader.generation:
            return True
        if page.result.exception() is None and (cursor := page.result.result().cursor) is not None:
            cursor.close()
        reader.due = now + self._pages.pause_seconds
        self.plan(reader)
        return False

    @property
    def under_way(self) -> int:
        """How many calls haven't ended."""
        return len(self._calls)

    @property
    def threads(self) -> int:
        """How many threads there are for calls."""
        return self._threads.count

    def close(self) -> None:
        """Let the threads end; a call under way is left to itself."""
        self._threads.close()

    def _pass_slow_ones(self, now: float) -> None:
        room = MOST_SLOW - sum(call.slow for call in self._calls)
        slow = [call for call in self._calls if not call.slow and now - call.asked_at >= SLOW_SECONDS]
        for call in slow[:room]:
            call.slow = True
        self._resize()

    def _resize(self) -> None:
        self._threads.resize(FETCHERS + sum(call.slow for call in self._calls))

    def _fits(self, reader: ShardReader) -> bool:
        taken = sum(call.bytes for call in self._calls if not call.slow)
        return taken == 0 or taken + reader.page_bytes <= BYTES_UNDER_WAY

    def _request(self, reader: ShardReader, now: float) -> None:
        reader.in_flight = True
        reader.due = now + self._pages.pause_seconds
        generation, call = reader.generation, _Call(now, reader.page_bytes)
        self._calls.add(call)
        self._threads.submit(self._pages.fetch, reader.request()).add_done_callback(
            lambda result: self._deliver(PageArrived(reader, generation, call, result))
        )
