"""Which shards a worker takes: decisions over the state rows, without I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_kinesis_snowflake.drain.settings import Worker
    from airflow_kinesis_snowflake.hooks.checkpoint import ShardState, StreamState

HEARTBEAT_MILLIS = 40_000


@dataclass(frozen=True)
class Candidate:
    """A shard this worker may try to lease.

    :param state: the row as last read
    :param takeover: its last owner didn't release it, so the offsets table may be ahead of the checkpoint
    """

    state: ShardState
    takeover: bool


@dataclass(frozen=True)
class Assignment:
    """What one look at the state says this worker should do.

    :param take: shards to lease now, in order of preference
    :param left_over: how many more could be leased, were they not left to other workers
    :param surplus: how many of the shards it holds it should hand over, because other workers have too few
    :param owed: how many it may expect from workers that hold more than their share
    :param held_by_others: readable shards that need reading but are leased by somebody else
    """

    take: tuple[Candidate, ...]
    left_over: int
    surplus: int
    owed: int
    held_by_others: tuple[ShardState, ...]


def live_workers(heartbeats: Mapping[str, int], *, worker: Worker, now: int) -> int:
    """How many workers share the stream, this one included and its predecessors left out.

    A worker is alive while its heartbeat is younger than 40 s, as the Openflow connector counts its nodes.
    """
    others = (
        other
        for other, beat in heartbeats.items()
        if now - beat < HEARTBEAT_MILLIS and other != worker.id and not worker.succeeds(other)
    )
    return 1 + sum(1 for _ in others)


def fair_share(shards: Iterable[ShardState], *, workers: int) -> int:
    """The number of shards one worker should hold: unfinished shards per live worker, rounded up."""
    unfinished = sum(1 for shard in shards if not shard.ended)
    return math.ceil(unfinished / workers)


def assign(
    state: StreamState,
    *,
    readable: frozenset[str],
    held: frozenset[str],
    worker: Worker,
    drain_until: int,
    now: int,
) -> Assignment:
    """Choose shards to lease.

    Shards of an earlier start of the same task come first, then expired leases, then free ones.

    :param state: all rows of the stream
    :param readable: shards that lineage allows to read now
    :param held: shards this worker holds already
    :param worker: this worker
    :param drain_until: a free shard that somebody drained up to this moment (ms) needs no reading
    :param now: milliseconds since the epoch
    """
    mine, expired, free, foreign = [], [], [], []
    for shard in state.shards.values():
        if shard.shard_id not in readable or shard.shard_id in held:
            continue
        if shard.lease_owner is None:
            if shard.caught_up_at is None or shard.caught_up_at < drain_until:
                free.append(Candidate(shard, takeover=shard.unsettled))
        elif shard.lease_owner == worker.id or worker.succeeds(shard.lease_owner):
            mine.append(Candidate(shard, takeover=True))
        elif shard.lease_expiry is None or shard.lease_expiry < now:
            expired.append(Candidate(shard, takeover=True))
        else:
            foreign.append(shard)
    candidates = mine + expired + free
    share = fair_share(state.shards.values(), workers=live_workers(state.workers, worker=worker, now=now))
    room = share - len(held)
    owners = Counter(shard.lease_owner for shard in foreign)
    return Assignment(
        take=tuple(candidates[: max(0, room)]),
        left_over=len(candidates[max(0, room) :]),
        surplus=max(0, -room),
        owed=min(max(0, room), sum(max(0, count - share) for count in owners.values())),
        held_by_others=tuple(foreign),
    )
