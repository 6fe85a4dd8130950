"""Splits and merges: no shard is forgotten, none is read twice, parents come first."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.stream.positions import Position
from tests.faults.actions import Hold, without_shards
from tests.integration.stream.history import later, pages_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import FaultProxy
    from tests.integration.stream.history import History

pytestmark = pytest.mark.slow


def test_children_of_a_split_are_read_behind_their_parent_in_the_same_drain(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 5)
    children = history.split(parent)
    for child in children:
        history.put(child, 5)

    report = history.run()

    assert history.landed == history.sent
    assert {shard_id: shard.outcome for shard_id, shard in report.shards.items()} == {
        parent: "ended",
        **dict.fromkeys(children, "caught_up"),
    }


def test_the_child_of_a_merge_is_read_behind_both_parents_in_the_same_drain(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=2)
    parents = history.open_shards
    for parent in parents:
        history.put(parent, 5)
    child = history.merge(*parents)
    history.put(child, 5)

    report = history.run()

    assert history.landed == history.sent
    assert {report.shards[parent].outcome for parent in parents} == {"ended"}
    assert report.shards[child].outcome == "caught_up"


def test_several_generations_between_two_drains_are_read_in_order_and_only_once(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=2)
    first, second = history.open_shards
    history.put(first, 3)
    history.run()

    history.put(first, 3)
    left, right = history.split(first)
    history.put(left, 3)
    merged = history.merge(right, second)  # right stays empty
    history.put(merged, 3)
    leaves = history.split(merged)
    history.put(leaves[1], 3)
    history.run()

    assert history.landed == history.sent
    assert [shard.ended for _, shard in sorted(history.state.shards.items())] == [
        shard_id not in history.open_shards for shard_id in sorted(history.listed)
    ]
    assert history.run().records == 0


def test_a_closed_shard_without_records_ends_and_lets_its_children_start(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.run()
    children = history.split(parent)
    grandchildren = history.split(children[0])
    history.put(grandchildren[1], 2)

    report = history.run()

    assert history.landed == history.sent
    assert report.shards[parent].outcome == report.shards[children[0]].outcome == "ended"
    assert history.run().shards.keys().isdisjoint([parent, children[0]])


def test_a_closed_shard_is_read_to_its_end_before_its_row_says_so(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    """Its last records were often left behind: "closed" isn't "read"."""
    kinesis_proxy.add(pages_of(2), operation="GetRecords")
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 5)
    child, _ = history.split(parent)
    history.put(child, 2)

    history.run(max_records=3)
    assert history.landed == history.sent[:4]
    assert not history.state.shards[parent].ended

    history.run(max_records=1)
    assert history.landed == history.sent[:5]

    history.run()
    assert history.landed == history.sent


# kinesalite doesn't end a shard on the page behind its last record.
@pytest.mark.parametrize("emulator", ["kinesis-local"])
def test_children_that_appear_while_a_drain_reads_their_parent_are_read_by_that_drain(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history(shards=2)
    parents = history.open_shards
    for parent in parents:
        history.put(parent, 2)

    with ThreadPoolExecutor() as pool, Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        drain = pool.submit(history.run)
        hold.wait()
        history.put(parents[0], 2)
        child = history.merge(*parents)
        history.put(child, 2)
        hold.release()
        drain.result()

    assert history.landed == history.sent


def test_generations_that_appear_while_a_drain_runs_are_read_by_that_drain(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 2)
    left, right = history.split(parent)

    with ThreadPoolExecutor() as pool, Hold() as hold:
        kinesis_proxy.add(hold, operation="GetRecords")
        drain = pool.submit(history.run)
        hold.wait()
        history.put(left, 2)
        leaves = history.split(left)
        history.put(leaves[1], 2)
        merged = history.merge(leaves[1], right)
        history.put(merged, 2)
        hold.release()
        drain.result()

    assert history.landed == history.sent
    assert {shard_id for shard_id, row in history.state.shards.items() if not row.ended} == {
        leaves[0],
        merged,
    }


def test_a_child_of_a_merge_waits_for_the_slower_parent(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history(shards=2)
    fast, slow = history.open_shards
    history.put(fast, 2)
    history.put(slow, 2)
    child = history.merge(fast, slow)
    history.put(child, 2)

    with ThreadPoolExecutor() as pool, Hold() as hold, Hold() as listing:
        kinesis_proxy.add(hold, operation="GetRecords", shard_id=slow)
        kinesis_proxy.add(listing, operation="ListShards", skip=1)  # asked again when a shard has ended
        drain = pool.submit(history.run, max_batch_records=1)
        hold.wait()
        listing.wait()
        assert history.state.shards[fast].ended
        assert history.landed == history.sent[:2]
        listing.release()
        hold.release()
        drain.result()

    assert history.landed == history.sent


def test_children_are_read_when_their_finished_parents_have_left_the_list(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 2)
    history.run()
    children = history.split(parent)
    history.run()

    kinesis_proxy.add(without_shards(parent), operation="ListShards")
    for child in children:
        history.put(child, 2)
    report = history.run()

    assert history.landed == history.sent
    assert report.gaps == []
    # No list names the parent again once it was ended for longer than records are kept.
    assert history.state.shards.keys() == {parent, *children}


def test_the_end_of_a_shard_is_not_overwritten_by_a_late_checkpoint(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    (number,) = history.put(parent, 1)
    history.split(parent)
    history.run()
    row, late = history.state.shards[parent], "a worker that was thought dead"

    history.store.take_lease(history.stream, row, owner=late, expiry=1, now=0, incarnation="any")
    history.store.save_checkpoint(
        history.stream, parent, owner=late, checkpoint=Position(number), expiry=1, now=0
    )

    assert history.state.shards[parent].ended
    assert parent not in history.run().shards


def test_children_are_read_from_their_beginning_though_the_application_began_at_latest(
    make_history: Callable[..., History],
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.run(initial_position=history.latest())

    history.put(parent, 2)
    children = history.split(parent)
    for child in children:
        history.put(child, 2)
    history.run(initial_position=history.latest())

    assert history.landed == history.sent


@pytest.mark.parametrize("emulator", ["kinesalite"])
def test_two_workers_share_a_resharded_stream_and_read_each_record_once(
    make_history: Callable[..., History],
) -> None:
    history = make_history(shards=4)
    shards = history.open_shards
    for shard_id in shards:
        history.put(shard_id, 3)
    for pair in (shards[:2], shards[2:]):
        child = history.merge(*pair)
        history.put(child, 3)
        for leaf in history.split(child):
            history.put(leaf, 3)

    with ThreadPoolExecutor() as pool:
        drains = [pool.submit(history.drain(stop_at=later()).run) for _ in range(2)]
        for drain in drains:
            drain.result()
    history.run()

    assert history.landed == history.sent


@pytest.mark.parametrize("emulator", ["kinesalite"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_history_with_drains_that_stop_anywhere_is_read_once_and_in_order(
    make_history: Callable[..., History], kinesis_proxy: FaultProxy, seed: int
) -> None:
    chance = random.Random(seed)
    kinesis_proxy.add(pages_of(2), operation="GetRecords")
    history = make_history(shards=3)
    for _ in range(4):
        for _ in range(4):
            history.put(chance.choice(history.open_shards), chance.randint(1, 4))
        history.reshard_somewhere(chance)
        history.run(max_records=chance.choice([1, 5, 20]), max_batch_records=chance.choice([5, 1000]))

    history.run()

    assert history.landed == history.sent
    ended = {shard_id for shard_id, row in history.state.shards.items() if row.ended}
    assert ended == history.listed.keys() - set(history.open_shards)
