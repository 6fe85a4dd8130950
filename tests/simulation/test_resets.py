"""Scenes of resets that histories found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED
from tests.simulation.resets import RECOVER, REWIND
from tests.simulation.scenes import drain, play
from tests.simulation.snowflake import Key

if TYPE_CHECKING:
    import pytest

    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from tests.simulation.history import History


def load_some(history: History, name: str, sink: str = "copy") -> None:
    history.world.stream.put()
    history.world.scheduler.sleep(2)
    assert drain(history, name, sink) is None


def planned(history: History, method: str, **asked: Any) -> ResetPlan:
    resets = history.resets
    assert resets.plan(lambda: resets.request(method=method, **asked), name="reset", tries=1)
    assert resets.planned is not None
    return resets.planned


def closed(history: History, plan: ResetPlan) -> set[str]:
    """Those of the shards whose old incarnations are closed in Snowflake."""
    offsets = history.world.server.now.offsets
    return {
        change.shard_id
        for change in plan.changes
        if (row := offsets.get(Key(plan.request.application, change.shard_id, change.incarnation or "")))
        and row.position.startswith(CLOSED)
    }


def test_a_recovery_that_comes_late_sets_no_checkpoint_back() -> None:
    def scene(history: History) -> None:
        load_some(history, "first")
        for row in history.world.table("simulated").rows.values():
            row.pop("sequenceNumber", None)
        plan = planned(history, RECOVER)
        for number in range(5):
            drain(history, f"later-{number}")
        history.resets.carry_out(plan, tries=1)
        assert not history.resets.unfinished

    play(scene)


def test_a_plan_for_a_stream_that_was_made_anew_since_is_refused() -> None:
    def scene(history: History) -> None:
        load_some(history, "first")
        before = set(history.world.stream.shards)
        history.world.stream.reshard()
        children = tuple(set(history.world.stream.shards) - before)
        late = planned(history, REWIND, position="TRIM_HORIZON", shards=children)
        history.world.stream.recreate(shards=2)
        history.resets.carry_out(planned(history, REWIND, position="TRIM_HORIZON"), tries=1)

        history.resets.carry_out(late, tries=1)

        assert history.world.counts["refused resets"] == 1
        assert not history.resets.is_of_another_stream

    play(scene)


def test_an_incarnation_is_closed_that_was_copied_into_only_after_the_plan() -> None:
    plans: list[ResetPlan] = []

    def scene(history: History) -> None:
        load_some(history, "first", "streaming")
        plans.append(planned(history, REWIND, position="TRIM_HORIZON"))
        load_some(history, "second", "copy")
        history.resets.carry_out(plans[0], tries=1)

    assert closed(play(scene), plans[0])


def test_an_incarnation_is_closed_that_was_copied_into_just_before_the_shard_was_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[ResetPlan] = []
    real = CheckpointStoreHook.hold

    def scene(history: History) -> None:
        load_some(history, "first", "streaming")
        plans.append(planned(history, REWIND, position="TRIM_HORIZON"))

        def hold(store: CheckpointStoreHook, stream: str, shard_id: str, **given: Any) -> bool:
            history.world.table("simulated").rows[shard_id]["sinks"] = {"SS": ["copy"]}
            return real(store, stream, shard_id, **given)

        monkeypatch.setattr(CheckpointStoreHook, "hold", hold)
        history.resets.carry_out(plans[0], tries=1)

    assert len(closed(play(scene), plans[0])) == len(plans[0].changes)


def test_a_shard_of_a_stream_that_was_made_anew_waits_for_no_parents_of_the_old_one() -> None:
    def scene(history: History) -> None:
        history.world.stream.reshard()
        load_some(history, "first")
        child = next(shard for shard in history.world.stream.shards.values() if shard.parents)
        history.world.stream.recreate(shards=child.number + 1)
        plan = planned(history, REWIND, position="TRIM_HORIZON")
        assert {change.parents for change in plan.changes if change.starts} == {()}

    play(scene)
