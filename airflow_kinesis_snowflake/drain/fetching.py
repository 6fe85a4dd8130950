"""Which shard is asked next, and how much may be under way at once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.drain.reader import SECONDS_BETWEEN_CALLS, Fetched, PageSource, ShardReader
from airflow_kinesis_snowflake.drain.threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

# Each thread keeps for itself some of the memory that it once used.
FETCHERS = 6
BYTES_UNDER_WAY = 18 * 2**20


@dataclass(frozen=True)
class PageArrived:
    """A fetch ended, well or not.

    :param generation: the reader's when the page was asked for; another one now means that it was rewound
    :param reserved: bytes the page was expected to have
    """

    reader: ShardReader
    generation: int
    reserved: int
    result: Future[Fetched]


class Fetching:
    """Asks for pages of many shards, at most one at a time and five a second of each.

    The bytes under way are bounded, as far as a shard's records are like those before them, so that memory
    doesn't grow with the number of shards. On its way a page takes up to three times its weight.

    :param pages: fetches one page
    :param deliver: called from a fetching thread with each result
    """

    def __init__(self, pages: PageSource, deliver: Callable[[PageArrived], None]) -> None:
        self._pages = pages
        self._deliver = deliver
        self._threads = DaemonThreads(FETCHERS, name="fetch")
        self._agenda: list[tuple[float, int, ShardReader]] = []
        self._planned = 0
        self._bytes = 0
        self.under_way = 0

    def plan(self, reader: ShardReader) -> None:
        """Ask for the reader's next page when it is due."""
        self._planned += 1
        heapq.heappush(self._agenda, (reader.due, self._planned, reader))

    def request_due(self, now: float) -> None:
        """Ask for all pages that are due and fit."""
        while self._agenda and self._agenda[0][0] <= now and self._fits(self._agenda[0][2]):
            _, _, reader = heapq.heappop(self._agenda)
            if reader.wants_page:
                self._request(reader, now)

    def next_due(self) -> float:
        """The moment the next page is due, on the monotonic clock; infinite when none is planned."""
        return self._agenda[0][0] if self._agenda else float("inf")

    def arrived(self, page: PageArrived, *, now: float) -> bool:
        """Account for a page that arrived.

        :return: ``False`` when its reader was rewound or dropped meanwhile; one that was rewound waited for
            this call to end, and is asked again
        """
        reader = page.reader
        self.under_way -= 1
        self._bytes -= page.reserved
        reader.in_flight = False
        if page.generation == reader.generation:
            return True
        reader.due = now + SECONDS_BETWEEN_CALLS
        self.plan(reader)
        return False

    def close(self) -> None:
        """Let the threads end; a call under way is left behind."""
        self._threads.close()

    def _fits(self, reader: ShardReader) -> bool:
        return self._bytes == 0 or self._bytes + reader.page_bytes <= BYTES_UNDER_WAY

    def _request(self, reader: ShardReader, now: float) -> None:
        reader.in_flight = True
        reader.due = now + SECONDS_BETWEEN_CALLS
        reserved = reader.page_bytes
        self.under_way += 1
        self._bytes += reserved
        generation = reader.generation
        self._threads.submit(self._pages.fetch, reader.request()).add_done_callback(
            lambda result: self._deliver(PageArrived(reader, generation, reserved, result))
        )
