"""What a worker believes of its leases."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_kinesis_snowflake.drain.leases import LEASE_SECONDS, Leases
from airflow_kinesis_snowflake.drain.settings import Worker
from airflow_kinesis_snowflake.hooks.checkpoint import ShardState

SHARD = ShardState("shardId-000000000000")


class Store:
    """A state table in which this worker owns every lease, until it is told otherwise."""

    def __init__(self) -> None:
        self.ours = True

    def take_lease(self, _: str, shard: ShardState, **__: Any) -> ShardState:
        return shard

    def save_checkpoint(self, *_: Any, **__: Any) -> bool:
        return self.ours

    def release_lease(self, *_: Any, **__: Any) -> bool:
        return self.ours


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("airflow_kinesis_snowflake.drain.leases.time.monotonic", clock.monotonic)
    return clock


@pytest.fixture
def leases(store: Any, clock: Clock) -> Leases:
    leases = Leases(store, "stream", Worker("task", "1-a"))
    assert leases.take(SHARD, incarnation="any") == SHARD
    return leases


def save(leases: Leases) -> bool:
    return leases.save(SHARD.shard_id, None, millis_behind=None)


def test_a_lease_is_believed_in_for_as_long_as_others_respect_it(leases: Leases, clock: Clock) -> None:
    clock.now += LEASE_SECONDS - 1
    assert leases.holds(SHARD.shard_id)
    assert save(leases)
    clock.now += LEASE_SECONDS - 1
    assert leases.holds(SHARD.shard_id)
    clock.now += 1
    assert not leases.holds(SHARD.shard_id)
    assert leases.drop_lost() == {SHARD.shard_id}


def test_a_lease_that_a_write_found_lost_is_no_longer_believed_in(leases: Leases, store: Store) -> None:
    store.ours = False
    assert not save(leases)
    assert not leases.holds(SHARD.shard_id)


def test_a_lost_shard_isnt_free_to_be_taken_again_before_the_loss_was_told(
    leases: Leases, store: Store
) -> None:
    store.ours = False
    save(leases)
    assert leases.held == {SHARD.shard_id}
    assert leases.drop_lost() == {SHARD.shard_id}
    assert leases.held == frozenset()
    assert leases.drop_lost() == frozenset()


def test_a_released_lease_isnt_lost(leases: Leases, store: Store, clock: Clock) -> None:
    leases.release(SHARD.shard_id)
    clock.now += 2 * LEASE_SECONDS
    assert leases.drop_lost() == frozenset()
    assert leases.held == frozenset()
