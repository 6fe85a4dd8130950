"""Resets on the local services: what drains load before and after, against what the plan says."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.engine.offsets import OffsetKey, OffsetMove
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    DataLossError,
    ForeignCheckpointError,
    IncarnationClosedError,
    InvalidSettingError,
    MaintenanceRefusedError,
    OffsetWentBackError,
    ServiceUnavailableError,
)
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
from airflow_kinesis_snowflake.maintenance.reset.changes import Action
from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan, plan_text
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, find_method
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import wait_until_active
from tests.faults.actions import aws_error
from tests.toy_reset import Nudge

from .conftest import Maintenance

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from airflow_kinesis_snowflake.state.shards import ShardState
    from tests.faults.proxy import FaultProxy
    from tests.integration.drain.conftest import Pipeline

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures"]


def again(plan: ResetPlan) -> int:
    counts = [change.loaded_again for change in plan.changes]
    assert None not in counts
    return sum(count or 0 for count in counts)


def duplicates(pipeline: Pipeline) -> int:
    return sum(count - 1 for count in Counter(pipeline.landed).values())


def one_shard(pipeline: Pipeline) -> str:
    return min(pipeline.state.shards)


def hold(pipeline: Pipeline, shard_id: str) -> None:
    shard = pipeline.state.shards[shard_id]
    now = now_millis()
    taken = pipeline.store.take_lease(
        pipeline.stream, shard, owner="alive", expiry=now + 30_000, now=now, incarnation="any"
    )
    assert taken is not None


def test_a_rewind_to_the_horizon_loads_everything_again_as_the_plan_said(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    plan = maintenance.reset("rewind", position="TRIM_HORIZON")
    drained.drain().run()
    assert again(plan) == 20
    assert duplicates(drained) == 20
    assert find_method(plan.request.method).unmet(plan, maintenance.inspect()) == []


def test_a_rewind_to_a_timestamp_loads_what_arrived_since(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    moment = datetime.now(UTC)
    drained.send(6)
    drained.drain().run()
    plan = maintenance.reset("rewind", position=moment.isoformat())
    drained.drain().run()
    assert again(plan) == duplicates(drained) == 6


def test_a_rewind_to_a_sequence_number_goes_on_behind_it_in_that_shard_alone(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    shard_id = one_shard(drained)
    numbers = drained.query(
        'SELECT "KINESISMETADATA":sequenceNumber::VARCHAR FROM {table} '
        f"WHERE \"KINESISMETADATA\":shardId::VARCHAR = '{shard_id}' ORDER BY 1"
    )
    third = str(numbers[2][0])
    plan = maintenance.reset("rewind", position=third, shards=(shard_id,))
    drained.drain().run()
    assert [change.shard_id for change in plan.changes] == [shard_id]
    assert again(plan) == duplicates(drained) == len(numbers) - 3


def test_a_rewind_to_latest_skips_what_has_arrived(drained: Pipeline, maintenance: Maintenance) -> None:
    drained.send(5)
    plan = maintenance.reset("rewind", position="LATEST")
    drained.send(3)
    drained.drain().run()
    assert drained.landed == [*range(20), 25, 26, 27]
    assert again(plan) == 0
    assert "skips the records that arrived" in plan_text(plan)


def test_a_deleted_table_is_made_again_and_everything_loaded_again(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    plan = maintenance.reset("delete_table")
    assert not drained.store.exists()
    assert find_method(plan.request.method).unmet(plan, maintenance.inspect()) == []
    drained.drain().run()
    assert again(plan) == duplicates(drained) == 20


@pytest.mark.parametrize("missing", [1, 2])
def test_no_drain_begins_with_another_shard_while_the_table_is_being_deleted(
    drained: Pipeline, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    shards = sorted(drained.state.shards)
    for shard_id in shards[-missing:]:
        now = now_millis()
        drained.store.hold(drained.stream, shard_id, owner="me", expiry=now + 1000, now=now)
        drained.store.remove_shard(drained.stream, shard_id, owner="me")
    delete = CheckpointStoreHook.delete_table
    rows: list[ShardState] = []

    def delete_table(store: CheckpointStoreHook) -> None:
        rows.extend(drained.state.shards.values())
        delete(store)

    monkeypatch.setattr(CheckpointStoreHook, "delete_table", delete_table)
    plan = maintenance.reset("delete_table")
    assert {row.shard_id: row.lease_owner for row in rows} == dict.fromkeys(shards, f"reset#{plan.id}")
    assert len({row.incarnation for row in rows}) == len(shards)
    assert not drained.store.exists()


def test_a_rename_goes_on_under_the_new_name_and_keeps_the_old_table(
    drained: Pipeline, maintenance: Maintenance, dynamodb: DynamoDBClient
) -> None:
    new_name = f"{drained.application}-2"
    plan = maintenance.reset("rename", new_application_name=new_name)
    assert maintenance.remembered == [new_name]
    arn = str(drained.store.describe_table().arn)
    tags = {tag["Key"]: tag["Value"] for tag in dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]}
    assert tags["superseded-by"] == new_name
    assert len(drained.state.shards) == 2
    assert again(plan) == 20
    drained.application = new_name
    drained.drain().run()
    assert duplicates(drained) == 20


def test_a_rename_to_a_name_in_use_is_refused(drained: Pipeline, maintenance: Maintenance) -> None:
    other = CheckpointStoreHook(f"{drained.application}-other")
    other.create_table()
    other.heartbeat(drained.stream, "somebody", now=now_millis())
    with pytest.raises(MaintenanceRefusedError, match="choose another name"):
        maintenance.plan("rename", new_application_name=other.application_name)
    other.delete_table()


def test_a_lost_table_is_recovered_without_duplicates_and_gaps(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    before = drained.state
    drained.store.delete_table()
    drained.send(7)
    plan = maintenance.reset("recover")
    # A worker that should be dead may still commit, and only the next drain by COPY gets ahead of it.
    assert {(row.sinks, row.unsettled) for row in drained.state.shards.values()} == {
        (frozenset({"copy"}), True)
    }
    after = drained.state
    assert again(plan) == 0
    assert {shard_id: row.checkpoint for shard_id, row in after.shards.items()} == {
        shard_id: row.checkpoint for shard_id, row in before.shards.items()
    }
    drained.drain().run()
    assert drained.landed == list(range(27))


def test_a_recovery_starts_a_shard_that_snowflake_never_saw(make_pipeline: Any, kinesis: Any) -> None:
    pipeline = make_pipeline(2)
    pipeline.send(1)
    pipeline.drain().run()
    pipeline.store.delete_table()
    pipeline.send(9)
    Maintenance(pipeline).reset("recover")
    assert len(pipeline.state.shards) == 2
    pipeline.drain().run()
    assert pipeline.landed == list(range(10))


def back_in_time(pipeline: Pipeline, *, count: int) -> None:
    """Drain some more numbers, and let Snowflake go back to before that."""
    rows = pipeline.query('SELECT "SHARD_ID", "INCARNATION", "POSITION" FROM {offsets}')
    before = len(pipeline.sent)
    pipeline.send(count)
    pipeline.drain().run()
    pipeline.query(f'DELETE FROM {{table}} WHERE "RECORD_CONTENT":n::NUMBER >= {before}')
    for shard_id, incarnation, position in rows:
        pipeline.query(
            f"UPDATE {{offsets}} SET \"POSITION\" = '{position}' WHERE \"SHARD_ID\" = '{shard_id}' "
            f"AND \"INCARNATION\" = '{incarnation}'"
        )


def test_snowflake_that_went_back_in_time_is_followed_and_everything_is_there_once(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    back_in_time(drained, count=20)
    drained.send(5)
    with pytest.raises(OffsetWentBackError, match="recover and trust_snowflake"):
        drained.drain().run()
    assert "trust_snowflake" in plan_text(maintenance.plan("recover"))

    plan = maintenance.reset("recover", trust_snowflake=True)

    assert again(plan) == 0
    assert "2 shards go back" in plan_text(plan)
    assert find_method(plan.request.method).unmet(plan, maintenance.inspect()) == []
    drained.drain().run()
    assert drained.landed == drained.sent


def test_a_recovery_counts_what_came_back_in_time_without_its_offsets(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    drained.query("UPDATE {offsets} SET \"POSITION\" = '000'")
    plan = maintenance.reset("recover", trust_snowflake=True)
    assert again(plan) == 20
    drained.drain().run()
    assert duplicates(drained) == 20


def test_snowflake_that_has_nothing_any_more_is_loaded_from_the_start(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    shard_id = one_shard(drained)
    drained.query(f"DELETE FROM {{offsets}} WHERE \"SHARD_ID\" = '{shard_id}'")
    drained.query(f"DELETE FROM {{table}} WHERE \"KINESISMETADATA\":shardId::VARCHAR = '{shard_id}'")
    drained.send(4)
    with pytest.raises(OffsetWentBackError):
        drained.drain().run()
    assert again(maintenance.reset("recover", trust_snowflake=True)) == 0
    drained.drain().run()
    assert drained.landed == drained.sent


def test_what_may_have_aged_out_since_is_for_the_next_drain_to_say(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    drained.query("DELETE FROM {table}")
    drained.query("UPDATE {offsets} SET \"POSITION\" = '000'")
    plan = maintenance.plan("recover", trust_snowflake=True)
    long_ago = now_millis() - 9 * 86_400_000
    assert all((change.new_caught_up_at or 0) > long_ago for change in plan.changes)
    # As if the shards were older than the stream keeps records.
    old = [replace(change, new_caught_up_at=long_ago) for change in plan.changes]
    maintenance.carry_out(replace(plan, changes=tuple(old)))
    with pytest.raises(DataLossError):
        drained.drain().run()
    drained.drain(on_data_loss="warn").run()
    assert drained.landed == drained.sent
    assert drained.query("SELECT COUNT(*) FROM {dead_letters} WHERE \"KIND\" = 'gap'") == [(2,)]


def test_ended_parents_and_their_children_follow_snowflake_back(make_pipeline: Any, kinesis: Any) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(2)
    pipeline.drain().run()
    offsets = pipeline.query('SELECT "POSITION" FROM {offsets} WHERE "SHARD_ID" LIKE \'shard%\'')
    pipeline.send(3)
    kinesis.split_shard(
        StreamName=pipeline.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    wait_until_active(kinesis, pipeline.stream)
    pipeline.send(6)
    # Kinesalite dates the records of young shards a few seconds into the future.
    later = datetime.now(UTC) + timedelta(seconds=30)
    pipeline.drain(stop_at=later).run()
    assert pipeline.state.shards["shardId-000000000000"].ended
    pipeline.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER >= 2')
    pipeline.query("DELETE FROM {offsets} WHERE \"SHARD_ID\" NOT LIKE '%0000'")
    pipeline.query(f"UPDATE {{offsets}} SET \"POSITION\" = '{offsets[0][0]}'")

    plan = Maintenance(pipeline).reset("recover", trust_snowflake=True)

    assert [change.action for change in plan.changes] == [Action.SET] * 3
    pipeline.drain(stop_at=later).run()
    assert pipeline.landed == pipeline.sent


def test_an_odd_position_in_snowflake_stops_a_recovery_and_no_rewind(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    shard_id = one_shard(drained)
    drained.query(f"UPDATE {{offsets}} SET \"POSITION\" = 'odd' WHERE \"SHARD_ID\" = '{shard_id}'")
    with pytest.raises(MaintenanceRefusedError, match=f"'odd' as the position of {shard_id}"):
        maintenance.plan("recover")
    assert again(maintenance.reset("rewind", position="TRIM_HORIZON")) == 20
    drained.drain().run()
    assert duplicates(drained) == 20


def test_a_table_without_any_offsets_of_the_application_is_not_trusted(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    drained.query("DELETE FROM {offsets}")
    with pytest.raises(MaintenanceRefusedError, match="has no offsets of it"):
        maintenance.plan("recover", trust_snowflake=True)


def test_a_reset_that_died_after_it_closed_a_shard_can_be_run_again(
    drained: Pipeline, maintenance: Maintenance, dynamodb_proxy: FaultProxy
) -> None:
    plan = maintenance.plan("rewind", position="TRIM_HORIZON")
    die_before_rows_are_set(maintenance, plan, dynamodb_proxy)
    drained.send(3)
    with pytest.raises(IncarnationClosedError, match="Clear the failed task"):
        drained.drain().run()

    maintenance.carry_out(plan)
    drained.drain().run()
    assert Counter(drained.landed) == Counter([*range(20), *range(20), 20, 21, 22])


def test_a_shard_that_a_dead_reset_closed_goes_on_where_it_stood(
    drained: Pipeline, maintenance: Maintenance, dynamodb_proxy: FaultProxy
) -> None:
    plan = maintenance.plan("rewind", position="TRIM_HORIZON")
    die_before_rows_are_set(maintenance, plan, dynamodb_proxy)
    drained.send(3)

    assert again(maintenance.reset("recover")) == 0
    drained.drain().run()
    assert drained.landed == drained.sent


def die_before_rows_are_set(maintenance: Maintenance, plan: ResetPlan, proxy: FaultProxy) -> None:
    """Carry out a plan up to where the old incarnations are closed."""
    rule = proxy.add(
        aws_error("AccessDeniedException", "not today"),
        operation="UpdateItem",
        when=lambda request: "incarnation" in request.json["ExpressionAttributeNames"].values(),
    )
    with pytest.raises(AccessDeniedError):
        maintenance.carry_out(plan)
    rule.remove()
    assert all(
        "~" in row[0][:1]
        for row in maintenance.pipeline.query(
            'SELECT "POSITION" FROM {offsets} WHERE "SHARD_ID" LIKE \'shard%\''
        )
    )


def test_a_second_plan_before_the_next_drain_forecasts_the_same(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    assert again(maintenance.reset("rewind", position="TRIM_HORIZON")) == 20
    assert again(maintenance.plan("rewind", position="TRIM_HORIZON")) == 20
    shard_id = one_shard(drained)
    others = maintenance.plan("recover")
    assert again(others) == 20
    assert {change.action for change in others.changes} == {Action.KEEP}
    drained.drain().run()
    assert duplicates(drained) == 20
    assert again(maintenance.plan("rewind", position="TRIM_HORIZON", shards=(shard_id,))) < 20


def test_a_forecast_counts_records_once_and_only_own_dead_letters(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    drained.send_payloads([("1", b"no json"), ("2", b"neither")])
    drained.drain().run()
    drained.query("INSERT INTO {table} SELECT * FROM {table}")
    drained.query("INSERT INTO {dead_letters} SELECT * FROM {dead_letters}")
    drained.query("UPDATE {dead_letters} SET \"APPLICATION\" = 'somebody' WHERE \"PAYLOAD\" = 'neither'")
    assert again(maintenance.plan("rewind", position="TRIM_HORIZON")) == 21


@pytest.mark.parametrize(
    ("place", "found"),
    [("{database}.PUBLIC.RECORD", "isn't known"), ("{database}.PUBLICK.RECORDS", "can't see it")],
)
def test_a_landing_table_that_cannot_be_seen_is_never_an_empty_one(
    settled: Pipeline, planner: Maintenance, place: str, found: str
) -> None:
    planner.table = place.format(database=settled.table.database)
    if found == "isn't known":
        plan = planner.plan("rewind", position="TRIM_HORIZON")
        assert [change.loaded_again for change in plan.changes] == [None, None]
        assert found in plan_text(plan)
    else:
        for method in ("rewind", "recover"):
            asked = {"position": "TRIM_HORIZON"} if method == "rewind" else {}
            with pytest.raises(MaintenanceRefusedError, match=found):
                planner.plan(method, **asked)


def test_corrupt_rows_are_named_and_recovered(
    drained: Pipeline, maintenance: Maintenance, dynamodb: DynamoDBClient
) -> None:
    shard_id = one_shard(drained)
    dynamodb.update_item(
        TableName=drained.application,
        Key={"streamName": {"S": drained.stream}, "shardId": {"S": shard_id}},
        UpdateExpression="SET sequenceNumber = :bad",
        ExpressionAttributeValues={":bad": {"S": "four"}},
    )
    findings = maintenance.inspect().findings
    assert [(finding.where, "sequenceNumber" in finding.what) for finding in findings] == [(shard_id, True)]
    maintenance.reset("recover")
    drained.send(4)
    drained.drain().run()
    assert drained.landed == list(range(24))


@pytest.mark.parametrize("method", ["delete_table", "rewind", "recover"])
def test_nothing_changes_while_a_worker_reads(
    drained: Pipeline, maintenance: Maintenance, method: str
) -> None:
    asked = {"position": "TRIM_HORIZON"} if method == "rewind" else {}
    if method == "recover":
        move_back(drained)
    hold(drained, max(drained.state.shards))
    before = settings(drained)
    plan = maintenance.plan(method, **asked)
    with pytest.raises(MaintenanceRefusedError, match="a worker is reading"):
        maintenance.carry_out(plan)
    assert settings(drained) == before


def settings(pipeline: Pipeline) -> dict[str, ShardState]:
    """The rows without the time of their last change."""
    return {shard_id: replace(row, last_update=None) for shard_id, row in pipeline.state.shards.items()}


def move_back(pipeline: Pipeline) -> None:
    """Let the checkpoints fall behind what Snowflake has."""
    for shard in pipeline.state.shards.values():
        assert shard.checkpoint is not None
        older = Position(str(int(shard.checkpoint.sequence_number) - 1))
        now = now_millis()
        pipeline.store.hold(pipeline.stream, shard.shard_id, owner="me", expiry=now + 1000, now=now)
        pipeline.store.reset_shard(pipeline.stream, replace(shard, checkpoint=older), owner="me", now=now)
        pipeline.store.release_lease(pipeline.stream, shard.shard_id, owner="me", now=now)


def test_force_takes_the_lease_of_a_live_worker(drained: Pipeline, maintenance: Maintenance) -> None:
    hold(drained, one_shard(drained))
    maintenance.reset("rewind", position="TRIM_HORIZON", force=True)
    drained.drain().run()
    assert duplicates(drained) == 20


def test_a_plan_that_was_carried_out_changes_nothing_more(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    plan = maintenance.reset("rewind", position="TRIM_HORIZON")
    drained.drain().run()
    before = drained.state
    maintenance.carry_out(ResetPlan.from_dict(json.loads(json.dumps(plan.as_dict()))))
    assert drained.state == before
    assert duplicates(drained) == 20


def test_a_reset_that_was_interrupted_goes_on(
    drained: Pipeline, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = maintenance.plan("rewind", position="TRIM_HORIZON")
    before = {row.incarnation for row in drained.state.shards.values()}
    reset_shard = CheckpointStoreHook.reset_shard

    def reset_one(store: CheckpointStoreHook, stream: str, row: ShardState, **how: Any) -> bool:
        if row.shard_id != one_shard(drained):
            raise ServiceUnavailableError("interrupted")
        return reset_shard(store, stream, row, **how)

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointStoreHook, "reset_shard", reset_one)
        with pytest.raises(ServiceUnavailableError, match="interrupted"):
            maintenance.carry_out(plan)
    assert len(before & {row.incarnation for row in drained.state.shards.values()}) == 1
    maintenance.carry_out(plan)
    drained.drain().run()
    assert duplicates(drained) == 20


def test_a_worker_that_should_be_dead_cannot_commit_after_a_reset(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    shard = drained.state.shards[one_shard(drained)]
    assert shard.checkpoint is not None
    assert shard.incarnation is not None
    maintenance.reset("rewind", position="TRIM_HORIZON")
    with maintenance.snowflake() as snowflake:
        key = OffsetKey(shard.shard_id, shard.incarnation)
        names = {"application": drained.application, "stream": drained.stream}
        with snowflake.session.transaction() as transaction:
            snowflake.session.move_offsets(
                snowflake.target,
                **names,
                batch_id="zombie",
                transaction=transaction,
                moves=[
                    OffsetMove(shard.shard_id, shard.incarnation, shard.checkpoint, Position("9" * 100), 1)
                ],
            )
        offsets = snowflake.session.read_offsets(snowflake.target, **names, keys=[key])
    assert isinstance(offsets.refused[key], IncarnationClosedError)


def test_a_plan_is_refused_once_the_shard_was_reset_by_someone_else(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    stale = maintenance.plan("rewind", position="TRIM_HORIZON")
    maintenance.reset("rewind", position="LATEST")
    with pytest.raises(MaintenanceRefusedError, match="Make a new plan"):
        maintenance.carry_out(stale)


def begin_a_shard(pipeline: Pipeline) -> str:
    """Make the row of a shard that came since a plan was made, as a drain does."""
    row = pipeline.state.shards[one_shard(pipeline)]
    assert pipeline.store.create_shard(
        pipeline.stream,
        "shardId-000000000099",
        start_at=TRIM_HORIZON,
        parents=(row.shard_id,),
        incarnation="new",
        stream_created=row.stream_created or 0,
    )
    return "shardId-000000000099"


def test_a_rewind_of_all_shards_is_refused_once_there_are_others(
    drained: Pipeline, maintenance: Maintenance
) -> None:
    plan = maintenance.plan("rewind", position="TRIM_HORIZON")
    of_some = maintenance.plan("rewind", position="TRIM_HORIZON", shards=(one_shard(drained),))
    new = begin_a_shard(drained)
    before = drained.state
    with pytest.raises(MaintenanceRefusedError, match=f"Make a new plan.*drains have begun {new} since"):
        maintenance.carry_out(plan)
    assert drained.state == before
    maintenance.carry_out(of_some)


def test_no_table_is_deleted_once_a_drain_has_begun_a_shard_that_came_since_the_plan(
    drained: Pipeline, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = maintenance.plan("delete_table", initial_position="TRIM_HORIZON")
    close = ResetRun.close

    def begin_meanwhile(run: ResetRun, *args: Any, **more: Any) -> None:
        close(run, *args, **more)
        begin_a_shard(drained)

    with monkeypatch.context() as patched:
        patched.setattr(ResetRun, "close", begin_meanwhile)
        with pytest.raises(MaintenanceRefusedError, match="one has begun shard shardId-000000000099"):
            maintenance.carry_out(plan)
    assert drained.store.exists()
    maintenance.carry_out(plan)
    assert not drained.store.exists()


def test_a_position_of_another_shard_is_refused(settled: Pipeline, planner: Maintenance) -> None:
    first, second = sorted(settled.state.shards)
    number = settled.state.shards[second].checkpoint
    assert number is not None
    with pytest.raises((ForeignCheckpointError, MaintenanceRefusedError)):
        planner.plan("rewind", position=number.sequence_number, shards=(first,))


@pytest.mark.parametrize("offset", [-1, 1])
def test_a_position_without_a_record_is_refused(settled: Pipeline, planner: Maintenance, offset: int) -> None:
    shard_id = one_shard(settled)
    checkpoint = settled.state.shards[shard_id].checkpoint
    assert checkpoint is not None
    number = str(int(checkpoint.sequence_number) + offset * 2**20)
    with pytest.raises((ForeignCheckpointError, MaintenanceRefusedError)):
        planner.plan("rewind", position=number, shards=(shard_id,))


@pytest.mark.parametrize("position", ["2015-01-01T00:00:00Z", "2100-01-01T00:00:00Z"])
def test_a_time_that_the_stream_does_not_reach_is_refused(planner: Maintenance, position: str) -> None:
    with pytest.raises(MaintenanceRefusedError, match=r"older than the stream keeps|in the future"):
        planner.plan("rewind", position=position)


def test_an_application_that_does_not_exist_is_refused(settled: Pipeline, planner: Maintenance) -> None:
    settled.application = f"nobody-{uuid.uuid4().hex[:8]}"
    with pytest.raises(MaintenanceRefusedError, match="there is no table nobody"):
        planner.plan("rewind", position="LATEST")


def test_a_rewind_covers_children_and_the_parents_before_the_start(make_pipeline: Any, kinesis: Any) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(4)
    kinesis.split_shard(
        StreamName=pipeline.stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127)
    )
    kinesis.get_waiter("stream_exists").wait(
        StreamName=pipeline.stream, WaiterConfig={"Delay": 0, "MaxAttempts": 999}
    )
    pipeline.send(6)
    # Kinesalite dates the records of young shards a few seconds into the future.
    later = datetime.now(UTC) + timedelta(seconds=30)
    pipeline.drain(stop_at=later).run()
    plan = Maintenance(pipeline).reset("rewind", position="TRIM_HORIZON")
    pipeline.drain(stop_at=later).run()
    assert {change.action for change in plan.changes} == {Action.SET}
    assert again(plan) == duplicates(pipeline) == 10


def test_bad_requests_are_refused_before_anything_is_read(planner: Maintenance) -> None:
    for asked in (
        {"method": "rewind"},
        {"method": "rewind", "position": "yesterday"},
        {"method": "rewind", "position": "12"},
        {"method": "rename"},
        {"method": "rename", "new_application_name": "no spaces"},
        {"method": "delete_table", "shards": ("shardId-000000000000",)},
        {"method": "delete_table", "position": "LATEST"},
    ):
        with pytest.raises(InvalidSettingError):
            planner.plan(**asked)


def test_a_method_that_is_registered_is_planned_carried_out_and_drained_after(
    drained: Pipeline, maintenance: Maintenance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, Nudge.name, Nudge())
    plan = maintenance.reset(Nudge.name, position="TRIM_HORIZON")
    assert "2 offsets were pushed over." in plan_text(plan)
    assert find_method(Nudge.name).unmet(plan, maintenance.inspect()) == []
    drained.drain().run()
    assert again(plan) == duplicates(drained) == 20
