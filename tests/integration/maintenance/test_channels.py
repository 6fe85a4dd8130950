"""State of applications that stream: resets, backups and cleanup know channels as they know offsets."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    FencedError,
    InvalidSettingError,
    MaintenanceRefusedError,
    SinkInDoubtError,
)
from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.maintenance import backup
from airflow_kinesis_snowflake.maintenance.backup import Backup, back_up, restore
from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan, cleanup_text, plan_cleanup
from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.inspection import inspection_text
from airflow_kinesis_snowflake.sinks.snowflake import channels
from airflow_kinesis_snowflake.sinks.snowflake.streaming import channel_name
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.integration.maintenance.conftest import Maintenance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

LATER = 40 * 86_400_000


@pytest.fixture
def streamed(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """A pipeline of two shards with twenty numbers, all streamed, and a dead letter in each shard."""
    pipeline = make_pipeline(2)
    pipeline.send(20)
    pipeline.send_payloads([(str(number), b"\xff") for number in range(20)])
    stream(pipeline)
    return pipeline


@pytest.fixture
def maintenance(streamed: Pipeline) -> Maintenance:
    return Maintenance(streamed)


def stream(pipeline: Pipeline) -> Any:
    return pipeline.drain(sink="streaming").run()


def names(pipeline: Pipeline) -> list[str]:
    return [
        channel_name(pipeline.application, pipeline.stream, OffsetKey(row.shard_id, row.incarnation or ""))
        for row in pipeline.state.shards.values()
    ]


def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise InvalidSettingError('Install the extra "streaming"')

    monkeypatch.setattr(channels, "_sdk", missing)


# --- resets ------------------------------------------------------------------------------------------------


def test_a_rewind_takes_the_channels_from_whoever_had_them_and_drops_none(
    maintenance: Maintenance, streamed: Pipeline
) -> None:
    before = names(streamed)
    tables = (streamed.table, streamed.table.beside("KINESIS_DEAD_LETTERS"))
    hook = SnowflakeLoadHook(database=streamed.table.database)
    clients = [hook.open_channels(table) for table in tables]
    zombies = [client.open(name) for client in clients for name in before]
    try:
        maintenance.reset("rewind", position="TRIM_HORIZON")
        for zombie in zombies:
            with pytest.raises(FencedError):  # noqa: PT012 -- either call may be told
                zombie.append([b"{}"], "9" * 60, "9" * 60)
                zombie.wait("9" * 60, timeout=30, stopping=threading.Event())
        for client in clients:
            assert client.states(before).keys() == set(before)
    finally:
        for client in clients:
            client.close()

    stream(streamed)
    assert streamed.landed == sorted([*range(20), *range(20)])


def test_a_table_that_is_gone_is_rebuilt_from_the_channels(
    maintenance: Maintenance, streamed: Pipeline
) -> None:
    was = {row.shard_id: (row.checkpoint, row.incarnation) for row in streamed.state.shards.values()}
    streamed.store.delete_table()
    plan = maintenance.reset("recover")

    assert "2 shards without a row go on after what their channels have" in " ".join(plan.notes)
    rows = streamed.state.shards.values()
    assert {row.shard_id: (row.checkpoint, row.incarnation) for row in rows} == was
    assert {(row.sinks, row.unsettled) for row in rows} == {(frozenset({"streaming"}), True)}
    streamed.send(10)
    stream(streamed)
    assert streamed.landed == list(range(30))


def test_an_empty_channel_doesnt_say_where_its_incarnation_began(
    maintenance: Maintenance, streamed: Pipeline
) -> None:
    """Dead letters ahead of its beginning aren't taken for committed, and its owner is fenced."""
    maintenance.reset("rewind", position="LATEST")
    begun = names(streamed)
    hook = SnowflakeLoadHook(database=streamed.table.database)
    tables = (streamed.table, streamed.table.beside("KINESIS_DEAD_LETTERS"))
    clients = [hook.open_channels(table) for table in tables]
    zombies = [client.open(name) for client in clients for name in begun]
    streamed.store.delete_table()
    try:
        plan = maintenance.reset("recover")
        assert sum(change.loaded_again or 0 for change in plan.changes) == 40
        assert "go on after what their channels have" not in " ".join(plan.notes)
        for zombie in zombies:
            with pytest.raises(FencedError):  # noqa: PT012 -- either call may be told
                zombie.append([b"{}"], "9" * 60, "9" * 60)
                zombie.wait("9" * 60, timeout=30, stopping=threading.Event())
    finally:
        for client in clients:
            client.close()

    assert not {row.incarnation for row in streamed.state.shards.values()} & {
        name.rpartition(":")[2] for name in begun
    }
    stream(streamed)
    assert streamed.landed == sorted([*range(20), *range(20)])


def test_what_an_empty_channel_gets_between_plan_and_recovery_is_not_loaded_again(
    maintenance: Maintenance, streamed: Pipeline
) -> None:
    maintenance.reset("rewind", position="TRIM_HORIZON")
    with SnowflakeLoadHook(database=streamed.table.database).open_channels(streamed.table) as client:
        for name in names(streamed):
            client.open(name).close()
    rows = streamed.store.read_items(streamed.stream)
    streamed.store.delete_table()
    plan = maintenance.plan("recover")
    streamed.store.create_table()
    for row in rows:
        streamed.store.restore_item(row, owner="me", now=now_millis(), made_until=now_millis())
    stream(streamed)
    streamed.store.delete_table()
    with pytest.raises(MaintenanceRefusedError, match=r"Make a new plan: .* loaded more of shardId-"):
        maintenance.carry_out(plan)

    maintenance.reset("recover")
    stream(streamed)
    assert streamed.landed == sorted([*range(20), *range(20)])


def test_a_recovered_application_may_go_on_by_copy(maintenance: Maintenance, streamed: Pipeline) -> None:
    streamed.store.delete_table()
    maintenance.reset("recover")
    streamed.send(10)
    with pytest.raises(SinkInDoubtError):
        streamed.drain(sink="copy").run()
    stream(streamed)
    streamed.send(10)
    streamed.drain(sink="copy").run()

    assert streamed.landed == list(range(40))


def test_what_went_back_in_time_is_read_again_only_if_asked(
    maintenance: Maintenance, streamed: Pipeline
) -> None:
    hook = SnowflakeLoadHook(database=streamed.table.database)
    with hook.open_channels(streamed.table) as client:
        for name in names(streamed):
            client.drop(name)
    streamed.query("DELETE FROM {table}")

    assert "Plan again with trust_snowflake" in " ".join(maintenance.plan("recover").notes)
    maintenance.reset("recover", trust_snowflake=True)
    stream(streamed)
    assert streamed.landed == list(range(20))


def test_a_reset_names_the_extra_before_anything_is_changed(
    maintenance: Maintenance, streamed: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = streamed.store.read_items()
    without_the_extra(monkeypatch)
    with pytest.raises(InvalidSettingError, match='extra "streaming"'):
        maintenance.reset("rewind", position="TRIM_HORIZON")

    assert streamed.store.read_items() == rows


@pytest.mark.parametrize("method", ["rewind", "recover", "delete_table"])
def test_applications_that_never_streamed_need_no_extra(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(3)
    pipeline.drain().run()
    without_the_extra(monkeypatch)
    asked = {"position": "TRIM_HORIZON"} if method == "rewind" else {}
    Maintenance(pipeline).reset(method, **asked)


def test_the_inspection_says_how_shards_are_loaded(maintenance: Maintenance) -> None:
    inspection = maintenance.inspect()

    assert {shard.sinks for shard in inspection.shards} == {("streaming",)}
    assert all(shard.committed_by("streaming") == shard.checkpoint for shard in inspection.shards)
    assert "by streaming" in inspection_text(inspection)


# --- backups -----------------------------------------------------------------------------------------------


def restored_to_before_the_change(pipeline: Pipeline, folder: Path) -> Maintenance:
    """Change the sink, and go back to a backup from before."""
    pipeline.send(20)
    pipeline.drain(sink="copy").run()
    file = back_up(pipeline.store, BackupFilesHook(), folder=str(folder), now=now_millis())["file"]
    pipeline.send(20)
    stream(pipeline)

    maintenance = Maintenance(pipeline)
    put_back(maintenance, file)
    return maintenance


def put_back(maintenance: Maintenance, file: str, *, at: int = 0) -> None:
    """Restore a backup, so many milliseconds from now."""
    with maintenance.snowflake() as snowflake:
        restore(
            Backup.decode(BackupFilesHook().read(file)),
            store=maintenance.pipeline.store,
            snowflake=snowflake,
            owner="restore#1",
            clock=lambda: now_millis() + at,
        )


def test_a_backup_of_before_the_sink_was_changed_loads_nothing_twice(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = make_pipeline(2)
    maintenance = restored_to_before_the_change(pipeline, tmp_path)
    assert {row.sinks for row in pipeline.state.shards.values()} == {frozenset({"copy", "streaming"})}
    pipeline.send(20)
    for sink in ("copy", "streaming"):
        with pytest.raises(SinkInDoubtError, match="method recover"):
            pipeline.drain(sink=sink).run()

    maintenance.reset("recover")
    pipeline.drain(sink="copy").run()
    pipeline.send(20)
    stream(pipeline)
    assert pipeline.landed == list(range(80))


def test_what_is_loaded_between_plan_and_recovery_is_not_loaded_again(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = make_pipeline(2)
    maintenance = restored_to_before_the_change(pipeline, tmp_path)
    plan = maintenance.plan("recover")
    pipeline.send(20)
    settle(pipeline, sink="streaming")
    stream(pipeline)
    with pytest.raises(
        MaintenanceRefusedError, match=r"Make a new plan: .* loaded more of shardId-\S+, shardId"
    ):
        maintenance.carry_out(plan)

    maintenance.reset("recover")
    pipeline.send(20)
    pipeline.drain(sink="copy").run()
    assert pipeline.landed == list(range(80))


def settle(pipeline: Pipeline, *, sink: str) -> None:
    """Write to rows what a drain writes that has settled them."""
    for row in pipeline.state.shards.values():
        owner: dict[str, Any] = {"owner": "settling", "now": now_millis()}
        lease = {**owner, "expiry": now_millis() + 30_000}
        pipeline.store.take_lease(pipeline.stream, row, incarnation=row.incarnation or "", **lease)
        pipeline.store.save_checkpoint(pipeline.stream, row.shard_id, checkpoint=None, sink=sink, **lease)
        pipeline.store.release_lease(pipeline.stream, row.shard_id, **owner)


@pytest.mark.parametrize(("sink", "other"), [("copy", "streaming"), ("streaming", "copy")])
def test_a_backup_whose_sink_has_loaded_more_since_keeps_the_other_one_out(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path, sink: str, other: str
) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(20)
    pipeline.drain(sink=sink).run()
    file = back_up(pipeline.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    pipeline.send(20)
    pipeline.drain(sink=sink).run()
    put_back(Maintenance(pipeline), file)

    with pytest.raises(SinkInDoubtError, match=f"Run a drain with sink='{sink}' once more"):
        pipeline.drain(sink=other).run()
    pipeline.drain(sink=sink).run()
    pipeline.send(20)
    pipeline.drain(sink=other).run()
    assert pipeline.landed == list(range(60))


def test_what_another_sink_loads_while_a_restore_begins_is_not_loaded_again(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(20)
    pipeline.drain(sink="copy").run()
    file = back_up(pipeline.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    pipeline.send(20)

    def late(*args: Any, **kwargs: Any) -> Any:
        stream(pipeline)
        return holding(*args, **kwargs)

    monkeypatch.setattr(backup, "holding", late)
    put_back(Maintenance(pipeline), file)

    with pytest.raises(SinkInDoubtError, match="method recover"):
        pipeline.drain(sink="copy").run()


def test_a_sink_that_no_row_names_any_more_is_asked_after_a_restore(
    streamed: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    """The sink was changed after the backup, and then the table was lost."""
    file = back_up(streamed.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    streamed.send(10)
    streamed.drain(sink="copy").run()
    streamed.store.delete_table()
    put_back(maintenance, file)

    with pytest.raises(SinkInDoubtError, match="method recover"):
        stream(streamed)
    maintenance.reset("recover")
    streamed.send(10)
    stream(streamed)
    assert streamed.landed == list(range(40))


def test_a_backup_is_too_old_for_what_snowflake_may_have_forgotten(
    streamed: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    file = back_up(streamed.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    before = streamed.state
    with SnowflakeLoadHook(database=streamed.table.database).open_channels(streamed.table) as client:
        for name in names(streamed):
            client.drop(name)
    with pytest.raises(MaintenanceRefusedError, match="may have forgotten what was streamed since"):
        put_back(maintenance, file, at=LATER)
    assert {row.checkpoint for row in streamed.state.shards.values()} == {
        row.checkpoint for row in before.shards.values()
    }
    assert not any(row.unsettled for row in streamed.state.shards.values())


def test_a_shard_that_has_ended_is_put_back_without_doubt(
    streamed: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    """Nobody reads it, so nobody would settle it."""
    streamed.kinesis.split_shard(
        StreamName=streamed.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**125)
    )
    stream(streamed)
    file = back_up(streamed.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    put_back(maintenance, file)
    assert {(row.ended, row.unsettled) for row in streamed.state.shards.values()} == {
        (True, False),
        (False, True),
    }


def test_a_backup_of_a_stream_comes_back_after_a_reset(
    maintenance: Maintenance, streamed: Pipeline, tmp_path: Path
) -> None:
    file = back_up(streamed.store, BackupFilesHook(), folder=str(tmp_path), now=now_millis())["file"]
    was = streamed.state.shards
    maintenance.reset("rewind", position="LATEST")
    put_back(maintenance, file)
    assert {row.incarnation for row in streamed.state.shards.values()} == {
        row.incarnation for row in was.values()
    }
    streamed.send(5)
    stream(streamed)
    assert streamed.landed == list(range(25))


# --- cleanup -----------------------------------------------------------------------------------------------


def planned(maintenance: Maintenance, *, at: int = LATER, **rules: Any) -> CleanupPlan:
    with maintenance.snowflake() as snowflake:
        return plan_cleanup(
            CleanupRules(**{"days": 30, "most": 100, **rules}),
            tables=DynamoDBTablesHook(),
            consumers=StreamConsumersHook(),
            snowflake=snowflake,
            watch_seconds=0.1,
            clock=lambda: now_millis() + at,
        )


def cleaned(maintenance: Maintenance, plan: CleanupPlan, folder: Path) -> Any:
    with maintenance.snowflake() as snowflake:
        return clean_up(
            plan,
            tables=DynamoDBTablesHook(),
            consumers=StreamConsumersHook(),
            files=BackupFilesHook(),
            folder=str(folder),
            snowflake=snowflake,
            clock=lambda: now_millis() + LATER,
        )


def there(pipeline: Pipeline) -> set[str]:
    with Maintenance(pipeline).snowflake() as snowflake:
        tables = snowflake.target.table, snowflake.target.dead_letters
        return {channel.name for table in tables for channel in snowflake.channels.list(table)}


def test_channels_of_incarnations_before_a_reset_go_and_those_of_today_stay(
    maintenance: Maintenance, streamed: Pipeline, tmp_path: Path
) -> None:
    before = set(names(streamed))
    maintenance.reset("rewind", position="TRIM_HORIZON")
    stream(streamed)
    today = set(names(streamed))
    used = frozenset({streamed.application})
    assert there(streamed) == before | today

    assert planned(maintenance, at=0, used=used).channels == ()
    plan = CleanupPlan.from_dict(planned(maintenance, used=used).as_dict())
    assert ({channel.name for channel in plan.channels}, len(plan.channels)) == (before, 4)
    assert plan.fullest == 4
    assert "4 channels can be dropped" in cleanup_text(plan)
    plan = replace(plan, decisions=())
    assert cleaned(maintenance, plan, tmp_path)["channels"] == 4
    assert there(streamed) == today


def test_channels_of_a_deleted_application_go(
    maintenance: Maintenance, streamed: Pipeline, tmp_path: Path
) -> None:
    plan = planned(maintenance, named=frozenset({streamed.application}))
    to_delete = tuple(each for each in plan.to_delete if each.table.application == streamed.application)
    assert len(plan.channels) == 4
    plan = replace(plan, decisions=to_delete, consumers=(), offsets=())

    assert cleaned(maintenance, plan, tmp_path)["channels"] == 4
    assert there(streamed) == set()


def test_a_cleanup_names_the_extra_before_anything_is_changed(
    maintenance: Maintenance, streamed: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(maintenance, named=frozenset({streamed.application}))
    without_the_extra(monkeypatch)
    with pytest.raises(InvalidSettingError, match='extra "streaming"'):
        cleaned(maintenance, plan, tmp_path)

    assert streamed.store.exists()
    assert len(there(streamed)) == 2
