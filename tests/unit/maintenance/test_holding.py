"""Shards stay held for as long as maintenance takes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from airflow_kinesis_snowflake.engine.assignment import is_leased
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    MaintenanceRefusedError,
    ServiceUnavailableError,
)
from airflow_kinesis_snowflake.maintenance.holding import HOLD_MILLIS, LAST_STEP_MILLIS, holding
from airflow_kinesis_snowflake.state.shards import ShardState, TableFacts

KEYS = [("stream", "a"), ("stream", "b")]
PATIENCE = 30.0


class Store:
    """A state table of which a test says who holds what, and what renewals come to."""

    application_name = "application"

    def __init__(self) -> None:
        self.owners: dict[tuple[str, str], str | None] = dict.fromkeys(KEYS)
        self.expiries: list[int] = []
        self.error: Exception | None = None
        self.there = True
        self.changed = threading.Condition()

    def hold(self, stream_name: str, shard_id: str, owner: str, force: bool, **_: Any) -> bool:
        if self.owners[stream_name, shard_id] is not None and not force:
            return False
        self.owners[stream_name, shard_id] = owner
        return True

    def renew_lease(self, stream_name: str, shard_id: str, owner: str, expiry: int, **_: Any) -> bool:
        with self.changed:
            self.expiries.append(expiry)
            self.changed.notify_all()
        if self.error is not None:
            raise self.error
        return self.owners.get((stream_name, shard_id)) == owner

    def release_lease(self, stream_name: str, shard_id: str, owner: str, **_: Any) -> bool:
        if self.owners.get((stream_name, shard_id)) != owner:
            return False
        self.owners[stream_name, shard_id] = None
        return True

    def lease_owner(self, stream_name: str, shard_id: str) -> str | None:
        return self.owners.get((stream_name, shard_id))

    def describe_table(self) -> TableFacts:
        return TableFacts(exists=self.there)

    def wait_for_renewals(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.expiries) >= count, timeout=PATIENCE)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("airflow_kinesis_snowflake.maintenance.holding.RENEW_SECONDS", 0.01)
    return Store()


def held(store: Any, *, force: bool = False) -> Any:
    return holding(store, KEYS, owner="me", clock=lambda: 1000, force=force)


def test_shards_are_held_and_renewed_until_the_end(store: Store) -> None:
    with held(store):
        assert store.owners == dict.fromkeys(KEYS, "me")
        store.wait_for_renewals(6)
    assert store.owners == dict.fromkeys(KEYS)
    assert set(store.expiries) == {1000 + HOLD_MILLIS}


def test_a_last_step_is_held_for_longer_and_nothing_shortens_it(store: Store) -> None:
    with held(store) as holds:
        store.wait_for_renewals(2)
        holds.prolong()
        assert holds._ended.is_set(), "it is still renewed for a minute at a time"
    assert store.expiries[-2:] == [1000 + LAST_STEP_MILLIS] * 2
    assert store.owners == dict.fromkeys(KEYS)


def test_workers_believe_the_lease_of_a_last_step() -> None:
    held_row = ShardState("a", lease_owner="me", lease_expiry=1000 + LAST_STEP_MILLIS)
    assert is_leased(held_row, now=1000)


@pytest.mark.parametrize("owner", ["worker", None])
def test_a_last_step_is_not_taken_after_a_worker_had_a_shard(store: Store, owner: str | None) -> None:
    def last_step() -> None:
        with held(store) as holds:
            store.owners["stream", "b"] = owner
            holds.prolong()
            pytest.fail("it goes on")

    with pytest.raises(MaintenanceRefusedError, match="took shard b"):
        last_step()


def test_a_shard_that_is_being_read_is_left_alone_and_so_are_the_others(store: Store) -> None:
    store.owners["stream", "b"] = "worker"
    with pytest.raises(MaintenanceRefusedError, match="Nothing was changed"), held(store):
        pytest.fail("it isn't held")
    assert store.owners == {("stream", "a"): None, ("stream", "b"): "worker"}


def test_a_shard_that_was_taken_away_meanwhile_is_reported(store: Store) -> None:
    with pytest.raises(MaintenanceRefusedError, match="worker took shard b"), held(store):
        store.owners["stream", "b"] = "worker"
    assert store.owners == {("stream", "a"): None, ("stream", "b"): "worker"}


def test_a_row_that_maintenance_removed_itself_is_not_missed(store: Store) -> None:
    with held(store):
        del store.owners["stream", "a"]
        store.wait_for_renewals(4)
    assert store.owners == {("stream", "b"): None}


def test_a_table_that_maintenance_removed_itself_is_not_missed(store: Store) -> None:
    with held(store):
        store.error, store.there = AccessDeniedError("no such table"), False
        store.wait_for_renewals(2)


def test_an_error_of_the_work_itself_is_not_hidden(store: Store) -> None:
    def work() -> None:
        with held(store):
            store.owners["stream", "b"] = "worker"
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert store.owners["stream", "a"] is None


def test_a_renewal_that_fails_for_good_is_reported(store: Store) -> None:
    store.error = AccessDeniedError("not allowed")
    with pytest.raises(AccessDeniedError), held(store):
        store.wait_for_renewals(1)


def test_a_renewal_that_fails_for_the_time_being_is_tried_again(store: Store) -> None:
    with held(store):
        store.error = ServiceUnavailableError("no answer")
        store.wait_for_renewals(4)
        store.error = None
    assert store.owners == dict.fromkeys(KEYS)
