"""Random histories of a stream, and drains over them that may die at any step.

The stream, the state table and Snowflake are models in memory. A worker decides with the functions of
``stream.lineage`` alone. It is a generator that pauses before each change of the outside world, so that a
history can interleave workers, reshard under their feet, and kill them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream.lineage import (
    Shard,
    ShardProgress,
    forgettable,
    missed,
    new_shards,
    readable,
    vanished,
)

if TYPE_CHECKING:
    from collections.abc import Generator

RETENTION = 6
PAGE = 2


@dataclass
class ModelShard:
    shard_id: str
    parents: tuple[str, ...]
    records: list[tuple[int, int]] = field(default_factory=list)  # (number, time)
    closed_at: int | None = None


class Stream:
    """Kinesis: records expire one by one, a closed shard leaves the list once its last record could have."""

    def __init__(self) -> None:
        self.now = 0
        self.put_count = 0
        self.shards = {"s0": ModelShard("s0", ()), "s1": ModelShard("s1", ())}

    def open_shards(self) -> list[ModelShard]:
        return [shard for shard in self.shards.values() if shard.closed_at is None]

    def put(self, choice: int) -> None:
        shards = self.open_shards()
        shards[choice % len(shards)].records.append((self.put_count, self.now))
        self.put_count += 1

    def reshard(self, choices: tuple[int, ...], children: int) -> None:
        shards = self.open_shards()
        parents = {shards[choice % len(shards)].shard_id for choice in choices}
        for shard_id in parents:
            self.shards[shard_id].closed_at = self.now
        for _ in range(children):
            shard_id = f"s{len(self.shards)}"
            self.shards[shard_id] = ModelShard(shard_id, tuple(sorted(parents)))

    def retained(self, time: int) -> bool:
        return time + RETENTION > self.now

    def listed(self) -> list[Shard]:
        """Youngest first, so that nothing may rely on the order."""
        return [
            Shard(shard.shard_id, shard.parents, closed=shard.closed_at is not None)
            for shard in reversed(self.shards.values())
            if shard.closed_at is None or self.retained(shard.closed_at)
        ]

    def read(self, shard_id: str, after: int) -> tuple[list[int], bool]:
        shard = self.shards[shard_id]
        records = [number for number, time in shard.records if number > after and self.retained(time)]
        return records[:PAGE], shard.closed_at is not None and len(records) <= PAGE


@dataclass
class Row:
    parents: tuple[str, ...]
    committed: int = -1
    ended: bool = False
    owner: object = None


class World:
    """The stream, the state table, and Snowflake."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.rows: dict[str, Row] = {}
        self.ever_had_a_row: set[str] = set()
        self.delivered: list[int] = []
        self.before_the_start: set[int] = set()
        self.said_lost: set[str] = set()
        self.workers: list[tuple[object, Generator[None, None, None]]] = []

    def known(self) -> dict[str, ShardProgress]:
        return {
            shard_id: ShardProgress(shard_id, row.parents, row.ended) for shard_id, row in self.rows.items()
        }

    def make_row(self, shard: Shard) -> None:
        self.rows.setdefault(shard.shard_id, Row(shard.parents))
        self.ever_had_a_row.add(shard.shard_id)

    def begin(self, *, imported: bool) -> None:
        """The first run; or an import that knows the open shards only, at their tips, without parents."""
        if not imported:
            for listed in self.stream.listed():
                self.make_row(listed)
            return
        self.before_the_start = set(range(self.stream.put_count))
        for shard in self.stream.open_shards():
            self.make_row(Shard(shard.shard_id))
            self.rows[shard.shard_id].committed = self.stream.put_count - 1

    def start_worker(self, *, imported: bool = False) -> None:
        if not self.rows:
            self.begin(imported=imported)
        me = object()
        self.workers.append((me, self.drain(me)))

    def step(self, choice: int, count: int) -> None:
        for _ in range(count if self.workers else 0):
            me, worker = self.workers[choice % len(self.workers)]
            if next(worker, "done") == "done":
                self.workers.remove((me, worker))
                return

    def kill(self, choice: int) -> None:
        if self.workers:
            me, worker = self.workers.pop(choice % len(self.workers))
            worker.close()
            for row in self.rows.values():
                if row.owner is me:
                    row.owner = None

    def forget(self) -> None:
        """Maintenance, between drains."""
        while self.workers:
            self.kill(0)
        known, listed = self.known(), self.stream.listed()
        gone = forgettable(listed, known)
        left = {shard_id: row for shard_id, row in known.items() if shard_id not in gone}
        for decide in (new_shards, readable, vanished, missed):
            assert set(decide(listed, left)) == set(decide(listed, known))
        for shard_id in gone:
            del self.rows[shard_id]

    def drain(self, me: object) -> Generator[None, None, None]:
        busy = True
        while busy:
            busy = False
            known, listed = self.known(), self.stream.listed()
            never_seen = missed(listed, known)
            assert never_seen.isdisjoint(self.ever_had_a_row), "a false alarm"
            self.said_lost |= never_seen
            for shard in new_shards(listed, known):
                yield
                self.make_row(shard)
                busy = True
            for shard_id in vanished(listed, known):
                row = self.rows[shard_id]
                if row.owner is None and not row.ended:
                    self.said_lost.add(shard_id)
                    row.ended = busy = True
            for shard_id in sorted(readable(listed, known)):
                row = self.rows[shard_id]
                if row.owner is None and not row.ended:
                    row.owner = me
                    busy |= yield from self.read_shard(shard_id, row)
                    row.owner = None

    def read_shard(self, shard_id: str, row: Row) -> Generator[None, None, bool]:
        busy = False
        while not row.ended:
            yield
            records, at_end = self.stream.read(shard_id, row.committed)
            if records:
                yield
                self.delivered += records
                row.committed = records[-1]
                busy = True
            if at_end:
                yield
                row.ended = busy = True
            elif not records:
                break
        return busy

    def finish(self) -> None:
        """All workers die, and one drain has all the time it needs."""
        while self.workers:
            self.kill(0)
        self.start_worker()
        while self.workers:
            self.step(0, 100)


def ancestors(stream: Stream, shard_id: str) -> set[str]:
    parents = stream.shards[shard_id].parents
    return set(parents).union(*(ancestors(stream, parent) for parent in parents))


def check(world: World) -> None:
    stream = world.stream
    place = {number: index for index, number in enumerate(world.delivered)}
    assert len(place) == len(world.delivered), "a record was delivered twice"
    assert world.before_the_start.isdisjoint(place), "a record before the start was delivered"

    places = {
        shard_id: [place[number] for number, _ in shard.records if number in place]
        for shard_id, shard in stream.shards.items()
    }
    for shard_id, shard in stream.shards.items():
        assert places[shard_id] == sorted(places[shard_id]), "a shard was delivered out of order"
        for ancestor in ancestors(stream, shard_id):
            if places[shard_id] and places[ancestor]:
                assert max(places[ancestor]) < min(places[shard_id]), "a child came before its parent"
        for number, time in shard.records:
            if number not in place and number not in world.before_the_start:
                assert not stream.retained(time), "a retained record wasn't delivered"

    for listed in stream.listed():
        row = world.rows.get(listed.shard_id)
        if row is None:
            numbers = {number for number, _ in stream.shards[listed.shard_id].records}
            assert numbers <= world.before_the_start, "a shard was forgotten"
        else:
            assert row.ended == listed.closed, "the end of a shard went unnoticed"
    check_losses(world)


def check_losses(world: World) -> None:
    """A shard that was never read has a name among the lost, or its nearest lost descendant has."""
    stream = world.stream
    assert world.said_lost.isdisjoint(shard.shard_id for shard in stream.listed())
    named = world.said_lost.union(*(ancestors(stream, shard_id) for shard_id in world.said_lost))
    for shard_id, shard in stream.shards.items():
        unread = {number for number, _ in shard.records} - world.before_the_start
        began_earlier = ancestors(stream, shard_id) & world.ever_had_a_row
        if unread and began_earlier and shard_id not in world.ever_had_a_row:
            assert shard_id in named, "a shard was lost without a word"


numbers = st.integers(0, 7)
events = st.one_of(
    st.tuples(st.just("put"), numbers),
    st.tuples(st.just("split"), numbers),
    st.tuples(st.just("merge"), numbers, numbers),
    st.tuples(st.just("replace"), numbers),
    st.tuples(st.just("wait"), st.sampled_from([1, 1, 2, 3, RETENTION])),
    st.tuples(st.just("start"), st.booleans()),
    st.tuples(st.just("step"), numbers, st.integers(1, 20)),
    st.tuples(st.just("kill"), numbers),
    st.tuples(st.just("forget")),
)


def happen(world: World, event: tuple[str, int, int]) -> None:
    match event:
        case ("put", choice):
            world.stream.put(choice)
        case ("split", choice):
            world.stream.reshard((choice,), 2)
        case ("merge", one, other):
            world.stream.reshard((one, other), 1)
        case ("replace", choice):
            world.stream.reshard((choice,), 1)
        case ("wait", ticks):
            world.stream.now += ticks
        case ("start", imported):
            world.start_worker(imported=imported)
        case ("step", choice, count):
            world.step(choice, count)
        case ("kill", choice):
            world.kill(choice)
        case ("forget",):
            world.forget()


@settings(max_examples=2000)
@given(history=st.lists(events, max_size=60))
def test_every_retained_record_is_delivered_once_and_after_its_parents(
    history: list[tuple[Any, ...]],
) -> None:
    world = World()
    for event in history:
        happen(world, event)
    world.finish()
    check(world)
    rows, delivered = world.known(), len(world.delivered)
    world.forget()
    world.finish()
    check(world)
    assert len(world.delivered) == delivered
    assert world.known().items() <= rows.items()


def test_a_closed_shard_without_records_is_ended_all_the_same() -> None:
    world = World()
    world.start_worker()
    world.stream.reshard((0,), 2)
    world.finish()
    assert [shard_id for shard_id, row in world.rows.items() if row.ended] == ["s0"]
    check(world)


def test_a_child_waits_while_a_worker_still_loads_the_last_records_of_its_parent() -> None:
    world = World()
    world.stream.put(0)
    world.start_worker()
    world.step(0, 2)  # it has read the record and is about to load it
    world.stream.reshard((0,), 1)
    world.stream.now += RETENTION  # the parent leaves the list
    world.stream.put(1)
    world.start_worker()
    world.step(1, 100)
    assert world.delivered == []
    world.finish()
    assert world.said_lost == {"s0"}
    assert world.delivered == [1]
