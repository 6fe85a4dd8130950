"""What a worker observes of the others, by its own clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.state.shards import StreamState


@dataclass(frozen=True)
class PeerActivity:
    """What successive looks at the state showed; times are in seconds. Empty: it is the first look.

    :param unchanged_for: shard id to how long its lease has been seen with the same owner and expiry
    :param renewed: shards whose lease was seen to change while its owner stayed the same
    :param silent_for: worker id to how long its heartbeat has been seen the same
    :param beating: workers whose heartbeat was seen to change
    :param kept_for: worker id to how long it has let go of no lease
    """

    unchanged_for: Mapping[str, float] = field(default_factory=dict)
    renewed: frozenset[str] = frozenset()
    silent_for: Mapping[str, float] = field(default_factory=dict)
    beating: frozenset[str] = frozenset()
    kept_for: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _Sighting:
    value: Any
    since: float
    changed: bool = False


class Watch:
    """Remembers since when leases and heartbeats have been unchanged.

    The expiry of a lease is a moment of its owner's clock, which may be minutes off or count in other units.
    A renewed lease changes, whatever its content, and one that doesn't change for as long as a lease lasts
    has no live owner.
    """

    def __init__(self) -> None:
        self._leases: dict[str, _Sighting] = {}
        self._heartbeats: dict[str, _Sighting] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._let_go: dict[str, float] = {}

    def look(self, state: StreamState, *, now: float) -> PeerActivity:
        """Note the present rows.

        :param now: seconds on the monotonic clock
        """
        leases = {
            shard.shard_id: (shard.lease_owner, shard.lease_expiry)
            for shard in state.shards.values()
            if shard.lease_owner is not None
        }
        # With another owner it is another lease.
        self._leases = {
            shard_id: sighting
            for shard_id, sighting in self._leases.items()
            if shard_id in leases and leases[shard_id][0] == sighting.value[0]
        }
        self._heartbeats = {
            worker: sighting for worker, sighting in self._heartbeats.items() if worker in state.workers
        }
        _note(self._leases, leases, now=now)
        _note(self._heartbeats, state.workers, now=now)
        held = defaultdict(set)
        for shard_id, (owner, _) in leases.items():
            held[owner].add(shard_id)
        self._let_go = {
            owner: now if self._held.get(owner, shards) - shards else self._let_go.get(owner, now)
            for owner, shards in held.items()
        }
        self._held = {owner: frozenset(shards) for owner, shards in held.items()}
        return PeerActivity(
            unchanged_for=_ages(self._leases, now=now),
            renewed=_changed(self._leases),
            silent_for=_ages(self._heartbeats, now=now),
            beating=_changed(self._heartbeats),
            kept_for={owner: now - since for owner, since in self._let_go.items()},
        )


def _note(sightings: dict[str, _Sighting], values: Mapping[str, Any], *, now: float) -> None:
    for name, value in values.items():
        before = sightings.setdefault(name, _Sighting(value, now))
        if before.value != value:
            sightings[name] = _Sighting(value, now, changed=True)


def _ages(sightings: Mapping[str, _Sighting], *, now: float) -> dict[str, float]:
    return {name: now - sighting.since for name, sighting in sightings.items()}


def _changed(sightings: Mapping[str, _Sighting]) -> frozenset[str]:
    return frozenset(name for name, sighting in sightings.items() if sighting.changed)
