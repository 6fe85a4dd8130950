"""Which shards a worker takes: decisions over the state rows, without I/O."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine import leases
from airflow_kinesis_snowflake.engine.rows import caught_up_by
from airflow_kinesis_snowflake.engine.watching import PeerActivity
from airflow_kinesis_snowflake.printable import printable
from airflow_kinesis_snowflake.stream.times import utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.engine.settings import Worker
    from airflow_kinesis_snowflake.state.shards import ShardState, StreamState

HEARTBEAT_MILLIS = 40_000
# AWS refuses calls of machines whose clock is off by more.
CLOCKS_APART_MILLIS = 300_000
# Leases of maintenance, measured by such a clock.
MAX_LEASE_MILLIS = 600_000
# On top of the duration of a lease: how late a renewal may be seen.
LATE_MILLIS = 5_000
# A worker with more than its share loads what it has read, then lets go.
HAND_OVER_SECONDS = 60.0
NAMED_OWNERS = 3


@dataclass(frozen=True)
class Candidate:
    """A shard this worker may try to lease.

    :param state: the row as last read
    :param takeover: its last owner didn't release it, so a sink may have committed more than the checkpoint
    :param last_update: when the row was last written before this worker did
    """

    state: ShardState
    takeover: bool
    last_update: int | None = None


@dataclass(frozen=True)
class Assignment:
    """What this worker should do, according to one look at the state.

    :param take: shards to lease now, in order of preference
    :param left_over: how many more could be leased if they weren't left to other workers
    :param surplus: how many of the shards it holds it should hand over, because other workers have too few
    :param owed: how many it can expect from workers that hold more than their share
    :param held_by_others: readable shards that need reading but are leased by somebody else
    :param unclear: whether one of those leases may be a dead worker's: it has never been seen being renewed
    """

    take: tuple[Candidate, ...]
    left_over: int
    surplus: int
    owed: int
    held_by_others: tuple[ShardState, ...]
    unclear: bool = False


def live_workers(
    heartbeats: Mapping[str, int], *, worker: Worker, now: int, seen: PeerActivity | None = None
) -> int:
    """How many workers share the stream, including this one but not its predecessors.

    A worker is alive while its heartbeat is younger than 40 s, as the Openflow connector counts its nodes; at
    the first look by the clock of whoever wrote it, from then on by this worker's own.
    """
    seen = seen or PeerActivity()
    others = (
        other
        for other, beat in heartbeats.items()
        if _is_alive(other, beat, now=now, seen=seen) and other != worker.id and not worker.succeeds(other)
    )
    return 1 + sum(1 for _ in others)


def _is_alive(worker: str, beat: int, *, now: int, seen: PeerActivity) -> bool:
    if seen.silent_for.get(worker, 0.0) * 1000 >= HEARTBEAT_MILLIS:
        return False
    return worker in seen.beating or -CLOCKS_APART_MILLIS <= now - beat < HEARTBEAT_MILLIS


def is_over(shard: ShardState, *, now: int, seen: PeerActivity) -> bool:
    """Whether no live worker holds the lease of a shard any more.

    At the first look its expiry decides, as with the Openflow connector. Once the lease has been seen being
    renewed, its holder is alive, whatever the clocks say; and a lease that doesn't change for as long as it
    was granted for is over, even if it expires in a thousand years.
    """
    if seen.unchanged_for.get(shard.shard_id, 0.0) * 1000 >= lease_millis(shard) + LATE_MILLIS:
        return True
    if shard.shard_id in seen.renewed:
        return False
    return shard.lease_expiry is None or shard.lease_expiry < now


def lease_millis(shard: ShardState) -> int:
    """How long a lease was granted for: 30 s, or longer if the row says so plausibly."""
    usual = int(leases.LEASE_SECONDS * 1000)
    if shard.lease_expiry is None or shard.last_update is None:
        return usual
    given = shard.lease_expiry - shard.last_update
    return given if usual < given <= MAX_LEASE_MILLIS else usual


def is_leased(shard: ShardState, *, now: int) -> bool:
    """Whether somebody holds the lease of a shard, as far as one look can tell.

    A lease that ends in more than 10 minutes can't be genuine.
    """
    if shard.lease_owner is None:
        return False
    return shard.lease_expiry is None or now <= shard.lease_expiry <= now + MAX_LEASE_MILLIS


def holders(shards: Sequence[ShardState]) -> dict[str, int]:
    """How many shards each owner holds, the largest number first."""
    return dict(Counter(shard.lease_owner for shard in shards if shard.lease_owner).most_common())


def describe_holders(shards: Sequence[ShardState], *, now: int) -> str:
    """Who holds shards and until when, for the log."""
    named = []
    for owner, count in holders(shards).items():
        ends = [
            row.lease_expiry for row in shards if row.lease_owner == owner and row.lease_expiry is not None
        ]
        until = f" until {utc(max(ends))}, in {(max(ends) - now) / 1000:.0f} s" if ends else ""
        named.append(f"{printable(owner)} holds {count}{until}")
    more = len(named) - NAMED_OWNERS
    return "; ".join(named[:NAMED_OWNERS]) + (f"; {more} more workers hold others" if more > 0 else "")


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
    seen: PeerActivity | None = None,
) -> Assignment:
    """Choose shards to lease.

    Shards of an earlier start of the same task come first, then those with expired leases, then free ones.

    :param state: all rows of the stream
    :param readable: shards that lineage allows to read now
    :param held: shards this worker holds already
    :param worker: this worker
    :param drain_until: a free shard that somebody drained up to this moment (ms) needs no reading
    :param now: milliseconds since the epoch
    :param seen: what earlier looks and this one showed; ``None``: this is the first
    """
    seen = seen or PeerActivity()
    mine, expired, free, foreign = [], [], [], []
    for shard in state.shards.values():
        if shard.shard_id not in readable or shard.shard_id in held:
            continue
        if shard.lease_owner is None:
            caught_up = caught_up_by(shard, now=now)
            if caught_up is None or caught_up < drain_until:
                free.append(Candidate(shard, takeover=shard.unsettled, last_update=shard.last_update))
        elif shard.lease_owner == worker.id or worker.succeeds(shard.lease_owner):
            mine.append(Candidate(shard, takeover=True, last_update=shard.last_update))
        elif is_over(shard, now=now, seen=seen):
            expired.append(Candidate(shard, takeover=True, last_update=shard.last_update))
        else:
            foreign.append(shard)
    candidates = mine + expired + free
    workers = live_workers(state.workers, worker=worker, now=now, seen=seen)
    share = fair_share(state.shards.values(), workers=workers)
    room = share - len(held)
    # The Openflow connector calculates its share differently, and hands over nothing below that.
    excess = (
        max(0, count - share)
        for owner, count in holders(foreign).items()
        if seen.kept_for.get(owner, 0.0) < HAND_OVER_SECONDS
    )
    return Assignment(
        take=tuple(candidates[: max(0, room)]),
        left_over=len(candidates[max(0, room) :]),
        surplus=max(0, -room),
        owed=min(max(0, room), sum(excess)),
        held_by_others=tuple(foreign),
        unclear=any(shard.shard_id not in seen.renewed for shard in foreign),
    )
