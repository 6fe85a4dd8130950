"""The life of a shard in one drain: its statuses and transitions."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Set


class Status(StrEnum):
    """The status of a shard in a drain."""

    READING = "reading"
    CAUGHT_UP = "caught_up"
    ENDED = "ended"
    HANDED_OVER = "handed_over"
    FAILED = "failed"
    FENCED = "fenced"
    RELEASED = "released"
    LOST = "lost"


FINISHED = frozenset((Status.CAUGHT_UP, Status.ENDED, Status.HANDED_OVER, Status.FAILED))
"""Statuses of shards that need no more reading in this drain; each is an ``outcome`` in the report."""

# A finished shard is read again if the batch that holds its last records isn't committed.
_AFTER_FINISH = {Status.READING, Status.FAILED, Status.FENCED, Status.RELEASED, Status.LOST}

TRANSITIONS: Mapping[Status, Set[Status]] = {
    Status.READING: {*FINISHED, Status.FENCED, Status.RELEASED, Status.LOST},
    **{finished: _AFTER_FINISH - {finished} for finished in FINISHED},
    Status.FENCED: {Status.READING, Status.RELEASED, Status.LOST},
    Status.RELEASED: set(),
    Status.LOST: set(),
}
"""Which status may follow which."""


class IllegalTransitionError(RuntimeError):
    """A shard was about to make an illegal transition; a bug in this package."""


def check_transition(shard_id: str, before: Status, after: Status) -> None:
    """Refuse transitions that the table doesn't have.

    :raises IllegalTransitionError: it is such a transition
    """
    if after not in TRANSITIONS[before]:
        raise IllegalTransitionError(
            f"Please report this bug: shard {shard_id} was {before}, and got {after}"
        )
