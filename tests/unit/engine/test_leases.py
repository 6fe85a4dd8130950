"""What a worker believes of its leases, and how it keeps them."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.leases import LEASE_SECONDS, RENEW_SECONDS, Leases
from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.exceptions import AccessDeniedError, ThrottledError
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARD = ShardState("shardId-000000000000")


class Store:
    """A state table in which this worker owns every lease, until it is told otherwise."""

    def __init__(self) -> None:
        self.ours = True
        self.sink: str | None = None
        self.confirmations = 0
        self.granted = 0
        self.released: list[dict[str, Any]] = []

    def take_lease(self, _: str, shard: ShardState, *, sink: str | None, **__: Any) -> ShardState:
        self.sink = sink
        return shard

    def save_checkpoint(self, *_: Any, expiry: int, now: int, **__: Any) -> bool:
        self.granted = expiry - now
        return self.ours

    def renew_lease(self, *_: Any, **__: Any) -> bool:
        self.confirmations += 1
        return self.ours

    def release_lease(self, *_: Any, owner: str, now: int, **facts: Any) -> bool:
        self.released.append(facts)
        return self.ours


class Clock(Machine):
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(store: Any, clock: Clock) -> Leases:
    leases = Leases(store, "stream", Worker("task", "1-a"), sink="copy", runtime=clock)
    assert leases.take(SHARD, incarnation="any") == SHARD
    return leases


def save(leases: Leases) -> bool:
    return leases.save(SHARD.shard_id, None, millis_behind=None)


def test_a_shard_is_not_taken_again_while_what_was_read_of_it_is_loaded(leases: Leases, store: Store) -> None:
    """It may have been reset since, and be another incarnation of itself."""
    leases.begin_load({SHARD.shard_id})
    store.ours = False
    assert not save(leases)
    assert leases.drop_lost() == {SHARD.shard_id}
    assert leases.take(SHARD, incarnation="any") is None
    leases.end_load()
    assert leases.take(SHARD, incarnation="any") == SHARD


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


def test_a_lease_always_says_who_loads(leases: Leases, store: Store) -> None:
    """Also where it can be guessed from the row: the same write may remove what tells."""
    store.sink = None
    leases.release(SHARD.shard_id)
    assert leases.take(replace(SHARD, sinks=frozenset({"copy"})), incarnation="any")
    assert store.sink == "copy"


def test_a_lease_is_confirmed_by_renewing_it(leases: Leases, store: Store, clock: Clock) -> None:
    assert leases.confirm(SHARD.shard_id)
    clock.now += 1
    store.ours = False
    assert not leases.confirm(SHARD.shard_id)
    assert store.confirmations == 2


def test_a_lease_that_was_given_up_is_not_renewed(leases: Leases, store: Store, clock: Clock) -> None:
    """Nobody would release it."""
    clock.now += LEASE_SECONDS
    assert not leases.confirm(SHARD.shard_id)
    assert store.confirmations == 0


def test_a_checkpoint_extends_no_lease_that_was_given_up(leases: Leases, store: Store, clock: Clock) -> None:
    assert save(leases)
    assert store.granted == int(LEASE_SECONDS * 1000)
    clock.now += LEASE_SECONDS
    leases.drop_lost()
    assert save(leases)
    assert store.granted == 0


@pytest.mark.parametrize(("row", "unsettled"), [(SHARD, False), (replace(SHARD, lease_owner="dead"), True)])
def test_a_lease_that_is_taken_while_the_worker_leaves_is_released(
    leases: Leases, store: Store, monkeypatch: pytest.MonkeyPatch, row: ShardState, unsettled: bool
) -> None:
    def take(*_: Any, **__: Any) -> ShardState:
        leases.retire()
        return row

    monkeypatch.setattr(store, "take_lease", take)
    leases.release(SHARD.shard_id)
    assert leases.take(row, incarnation="any") is None
    assert leases.held == frozenset()
    assert store.released == [{}, {"unsettled": unsettled}]


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


def test_a_moment_that_is_still_to_come_is_not_believed_of_a_row_that_was_taken(leases: Leases) -> None:
    ahead = replace(SHARD, caught_up_at=now_millis() + 240_000)
    taken = leases.take(ahead, incarnation="any")
    assert taken
    assert taken.caught_up_at is None


# --- keeping leases ----------------------------------------------------------------------------------------

PATIENCE = 30.0


class RenewedStore(Store):
    """A state table that lets a test have a hand in renewals and heartbeats."""

    def __init__(self) -> None:
        super().__init__()
        self.renewals: list[str] = []
        self.beats: list[bool] = []
        self.on_renewal: Callable[[str], None] = lambda _: None
        self.on_beat: Callable[[], None] = lambda: None
        self.present = False
        self.changed = threading.Condition()

    def heartbeat(self, _: str, __: str, *, again: bool = False, **___: Any) -> bool:
        self.on_beat()
        with self.changed:
            if again and not self.present:
                return False
            self.present = True
            self.beats.append(again)
            self.changed.notify_all()
        return True

    def leave(self, *_: Any) -> None:
        self.present = False

    def renew_lease(self, _: str, shard_id: str, **__: Any) -> bool:
        self.on_renewal(shard_id)
        with self.changed:
            self.renewals.append(shard_id)
            self.changed.notify_all()
        return self.ours

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=PATIENCE)


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> RenewedStore:
    """A state table whose leases are to be renewed all the time."""
    for name in ("RENEW_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(f"airflow_kinesis_snowflake.engine.leases.{name}", 0.01)
    return RenewedStore()


class Joinable(Machine):
    """Remembers the threads that it started."""

    def __init__(self) -> None:
        self.threads: dict[str, threading.Thread] = {}

    def start(self, target: Callable[[], None], *, name: str) -> None:
        self.threads[name] = threading.Thread(target=target, name=name, daemon=True)
        self.threads[name].start()


@pytest.fixture
def machine() -> Joinable:
    return Joinable()


@pytest.fixture
def keeper(renewed: RenewedStore, machine: Joinable) -> Iterator[Leases]:
    """Leases of 20 shards, kept alive."""
    leases = Leases(renewed, "stream", Worker("task", "1-a"), sink="copy", runtime=machine)  # type: ignore[arg-type]
    for number in range(20):
        leases.take(ShardState(f"shard-{number}"), incarnation="any")
    yield leases
    leases.leave()


def failure_of(leases: Leases) -> Exception:
    """The error that ends the drain; it must come."""
    for _ in range(int(PATIENCE / 0.01)):
        try:
            leases.drop_lost()
        except Exception as error:
            return error
        threading.Event().wait(0.01)
    raise AssertionError("renewals fail in silence")


@pytest.mark.parametrize("error", [AccessDeniedError("not allowed"), RuntimeError("a defect")], ids=repr)
@pytest.mark.parametrize("call", ["on_renewal", "on_beat"])
def test_an_error_that_no_try_cures_ends_the_drain(
    keeper: Leases, renewed: RenewedStore, call: str, error: Exception
) -> None:
    keeper.join()

    def fail(*_: str) -> None:
        raise error

    setattr(renewed, call, fail)

    assert failure_of(keeper) is error


def test_the_thread_that_renews_does_not_end_in_silence(
    keeper: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: float) -> list[str]:
        raise error

    error = RuntimeError("a defect")
    monkeypatch.setattr(keeper, "_due", fail)

    keeper.join()

    assert failure_of(keeper) is error


def test_a_passing_error_is_logged_and_the_renewal_tried_again(
    keeper: Leases, renewed: RenewedStore, caplog: pytest.LogCaptureFixture
) -> None:
    throttled = threading.Event()

    def throttle(shard_id: str) -> None:
        if shard_id == "shard-7" and "shard-7" not in renewed.renewals and not throttled.is_set():
            throttled.set()
            raise ThrottledError("too many calls")

    renewed.on_renewal = throttle
    with caplog.at_level(logging.WARNING):
        keeper.join()
        renewed.wait_until(lambda: renewed.renewals.count("shard-7") >= 2)

    assert "too many calls" in caplog.text
    assert keeper.drop_lost() == frozenset()


def test_leases_are_renewed_side_by_side(keeper: Leases, renewed: RenewedStore) -> None:
    """None of these renewals ends before eight are under way."""
    together = threading.Barrier(8, timeout=PATIENCE)

    def meet(_: str) -> None:
        if len(renewed.renewals) < 8:
            together.wait()

    renewed.on_renewal = meet
    keeper.join()
    renewed.wait_until(lambda: len(renewed.renewals) >= 8)

    assert not together.broken


def test_a_renewal_that_hangs_costs_no_other_lease(keeper: Leases, renewed: RenewedStore) -> None:
    hung = threading.Event()
    renewed.on_renewal = lambda shard_id: hung.wait(PATIENCE) if shard_id == "shard-3" else None  # type: ignore[assignment]
    keeper.join()

    others = {f"shard-{number}" for number in range(20)} - {"shard-3"}
    renewed.wait_until(lambda: all(renewed.renewals.count(shard_id) >= 3 for shard_id in others))
    assert "shard-3" not in renewed.renewals
    hung.set()


def test_the_lease_that_ends_first_is_renewed_first(store: Any, clock: Clock) -> None:
    leases = Leases(store, "stream", Worker("task", "1-a"), sink="copy", runtime=clock)
    for name in ("c", "a", "b"):
        leases.take(ShardState(name), incarnation="any")
        clock.now += 1
    leases.save("c", None, millis_behind=None)

    assert leases._due(clock.now + RENEW_SECONDS) == ["a", "b", "c"]
    assert leases._due(clock.now + RENEW_SECONDS) == []


def test_a_worker_whose_row_was_removed_while_it_slept_shows_up_again(
    keeper: Leases, renewed: RenewedStore
) -> None:
    keeper.join()
    renewed.present = False
    renewed.wait_until(lambda: renewed.beats.count(False) == 2)


def test_a_heartbeat_under_way_does_not_bring_a_worker_back_that_left(
    keeper: Leases, renewed: RenewedStore, machine: Joinable
) -> None:
    under_way, left = threading.Event(), threading.Event()
    keeper.join()

    def hold() -> None:
        under_way.set()
        left.wait(PATIENCE)

    renewed.on_beat = hold
    assert under_way.wait(PATIENCE)
    keeper.leave()
    left.set()
    machine.threads["lease-renewal"].join(PATIENCE)

    assert not renewed.present
