"""What a proxy before Kinesis knows of shard iterators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Iterators:
    """The iterators that were handed out, for which shard and when. GetRecords requests are the clock."""

    def __init__(self) -> None:
        self._now = 0
        self._handed_out: dict[str, tuple[str, int]] = {}

    def tick(self) -> None:
        """A GetRecords request came."""
        self._now += 1

    def note(self, shard_id: str, answer: Mapping[str, Any]) -> None:
        """Remember the iterator that an answer about a shard hands out, if any."""
        iterator = answer.get("ShardIterator") or answer.get("NextShardIterator")
        if iterator:
            self._handed_out[iterator] = (shard_id, self._now)

    def shard(self, iterator: str) -> str | None:
        """The shard an iterator reads; None if it was handed out by somebody else."""
        return self._handed_out.get(iterator, (None, 0))[0]

    def age(self, iterator: str) -> int:
        """How many GetRecords requests came since it was handed out, the one that uses it included."""
        return self._now - self._handed_out.get(iterator, ("", self._now))[1]
