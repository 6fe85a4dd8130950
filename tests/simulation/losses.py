"""Records that age out unread, and whether somebody is told."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.simulation.kinesis import ShardModel, Stream, User

_SPAN = re.compile(r"data loss: records of \S+ that arrived between (?P<since>.+) and (?P<until>.+)")


class Span(NamedTuple):
    """When records arrived that may be gone, to the second, in seconds since the epoch."""

    since: float
    until: float

    @classmethod
    def of(cls, since: str | None, until: str | None) -> Span:
        """As gaps tell it; ``None``: not known, or now."""
        return cls(
            -inf if since is None else datetime.fromisoformat(since).timestamp(),
            inf if until is None else datetime.fromisoformat(until).timestamp(),
        )

    def has(self, user: User) -> bool:
        """Whether a record may be one of them."""
        return self.since - 1 <= user.arrival < self.until + 1


def span_of(reason: str) -> Span | None:
    """What the dead letter of a gap says; ``None``: it is that of a record."""
    match = _SPAN.match(reason)
    if match is None:
        return None
    since = None if match["since"] == "an unknown time" else match["since"].replace(" UTC", "+00:00")
    until = None if match["until"] == "now" else match["until"].replace(" UTC", "+00:00")
    return Span.of(since, until)


class Losses:
    """What people were told of.

    :param stream: from which records age out
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._told: defaultdict[tuple[str, str], list[tuple[Span, float]]] = defaultdict(list)

    def tell(self, shard_id: str, incarnation: str, span: Span) -> None:
        """Somebody is told that records may be gone."""
        self._told[shard_id, incarnation].append((span, self._stream.horizon))

    def of_whole(self, shard: ShardModel) -> bool:
        """Whether somebody was told of a shard that was missed as a whole."""
        return bool(self._told.get((shard.shard_id, "")))

    def untold(self, shard: ShardModel, users: Iterable[User], *, incarnation: str) -> list[User]:
        """Without those that aged out before somebody was told so.

        :param users: that weren't loaded
        """
        told = self._told[shard.shard_id, incarnation]
        return [
            user
            for user in users
            if not any(span.has(user) and user.arrival < horizon for span, horizon in told)
        ]


class Gaps(list[dict[str, str | None]]):
    """The gaps of a report.

    :param note: is called with the shard and the span of each
    """

    def __init__(self, note: Callable[[str, Span], None]) -> None:
        self._note = note

    def append(self, gap: dict[str, str | None]) -> None:
        """Add one."""
        super().append(gap)
        assert gap["shard_id"] is not None
        self._note(gap["shard_id"], Span.of(gap["loaded_until"], gap["oldest_available"]))
