"""Finding and deleting tables of applications, on the local services."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan, cleanup_text, plan_cleanup
from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
from airflow_kinesis_snowflake.sinks.snowflake.statements import stage_folder
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient

    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState
    from tests.integration.drain.conftest import Pipeline

    from .conftest import Maintenance

LATER = 40 * 86_400_000


def plan(*, at: int = LATER, snowflake: SnowflakeState | None = None, **rules: Any) -> CleanupPlan:
    """A plan as it would be made so many milliseconds from now."""
    return plan_cleanup(
        CleanupRules(**{"days": 30, "most": 100, **rules}),
        tables=DynamoDBTablesHook(),
        consumers=StreamConsumersHook(),
        snowflake=snowflake,
        watch_seconds=0.1,
        clock=lambda: now_millis() + at,
    )


def carry_out(
    made: CleanupPlan,
    folder: Path,
    *,
    at: int = LATER,
    maintenance: Maintenance,
    files: BackupFilesHook | None = None,
) -> dict[str, Any]:
    with maintenance.snowflake() as snowflake:
        return clean_up(
            made,
            tables=DynamoDBTablesHook(),
            consumers=StreamConsumersHook(),
            files=files or BackupFilesHook(),
            folder=str(folder),
            snowflake=snowflake,
            clock=lambda: now_millis() + at,
        )


def decision(made: CleanupPlan, name: str) -> tuple[bool, str]:
    return next((found.delete, found.reason) for found in made.decisions if found.table.name == name)


def only(made: CleanupPlan, *names: str) -> CleanupPlan:
    """The part of a plan about some tables; other tests have tables too."""
    return CleanupPlan(
        made_at=made.made_at,
        decisions=tuple(found for found in made.decisions if found.table.name in names),
    )


@pytest.fixture
def drained(drained: Pipeline) -> Pipeline:
    """A pipeline whose table has the tags that the local DynamoDB doesn't take when it makes a table."""
    drained.store.tag({"created-by": "airflow-kinesis-snowflake"})
    return drained


@pytest.fixture
def foreign(dynamodb: DynamoDBClient, application_name: str) -> str:
    """A table that nobody here knows."""
    name = f"{application_name}-orders"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    return name


def test_a_stale_application_is_saved_and_deleted_with_its_offsets(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    made = plan()
    assert decision(made, drained.application)[0]
    done = carry_out(only(made, drained.application), tmp_path, maintenance=maintenance)
    assert done["deleted"] == [drained.application]
    assert not drained.store.exists()
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())["items"]) == 2
    assert drained.query("SELECT COUNT(*) FROM {offsets}") == [(0,)]
    assert len(drained.landed) == 20


def test_files_that_loads_of_a_deleted_application_left_go_and_those_of_others_stay(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    left = tmp_path / "left.parquet"
    left.write_bytes(b"left behind")
    applications = (drained.application, "somebody")
    with maintenance.snowflake() as snowflake:
        for application in applications:
            folder = stage_folder(application, drained.stream, "batch")
            snowflake.session.upload(left, target=snowflake.target, folder=folder)
        stage = snowflake.target.stage.sql
    assert len(drained.query(f"LIST @{stage}")) == 2
    made = only(plan(), drained.application)
    carry_out(made, tmp_path / "backups", maintenance=maintenance)
    [row] = drained.query(f"LIST @{stage}")
    assert f"/{stage_folder('somebody', drained.stream, 'batch')}/" in row[0]


def test_an_application_that_was_used_lately_or_is_known_stays(drained: Pipeline) -> None:
    assert decision(plan(at=0), drained.application) == (False, "it is younger than 30 days")
    assert decision(plan(used=frozenset({drained.application})), drained.application)[1] == "it is in use"


def test_a_table_that_is_used_again_after_the_plan_stays(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    made = only(plan(), drained.application)
    drained.send(1)
    drained.drain().run()
    assert carry_out(made, tmp_path, maintenance=maintenance)["kept"] == [drained.application]
    assert drained.store.exists()


def test_a_table_that_is_used_while_it_is_saved_stays(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    class Files(BackupFilesHook):
        def write(self, *args: Any) -> Any:
            drained.send(1)
            drained.drain().run()
            return super().write(*args)

    made = only(plan(), drained.application)
    done = carry_out(made, tmp_path, maintenance=maintenance, files=Files())
    assert done["kept"] == [drained.application]
    assert drained.store.exists()


def test_offsets_of_an_application_that_has_begun_again_since_the_plan_stay(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    before = incarnations(drained)
    made = replace(only(plan(), drained.application), made_at=now_millis() - LATER)
    assert carry_out(made, tmp_path, maintenance=maintenance)["deleted"] == [drained.application]
    assert incarnations(drained) == before


def test_a_table_of_other_software_is_not_even_listed(foreign: str) -> None:
    assert foreign not in [found.table.name for found in plan(named=frozenset({foreign})).decisions]


def test_a_table_without_our_tag_goes_only_when_named(
    drained: Pipeline, maintenance: Maintenance, dynamodb: DynamoDBClient, tmp_path: Path
) -> None:
    arn = str(drained.store.describe_table().arn)
    dynamodb.untag_resource(ResourceArn=arn, TagKeys=["created-by"])
    assert "name it" in decision(plan(), drained.application)[1]
    made = only(plan(named=frozenset({drained.application})), drained.application)
    assert carry_out(made, tmp_path, maintenance=maintenance)["deleted"] == [drained.application]


def test_a_live_lease_keeps_a_table(drained: Pipeline) -> None:
    shard = drained.state.shards[min(drained.state.shards)]
    now = now_millis()
    drained.store.take_lease(
        drained.stream, shard, owner="alive", expiry=now + 2 * LATER, now=now, incarnation="any"
    )
    assert decision(plan(), drained.application)[1] == "a worker is alive"


def incarnations(pipeline: Pipeline) -> set[str]:
    rows = pipeline.query('SELECT "INCARNATION" FROM {offsets} WHERE "SHARD_ID" LIKE \'shard%\'')
    return {row[0] for row in rows}


def test_offsets_of_incarnations_before_a_reset_go_and_those_of_today_stay(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    old = incarnations(drained)
    maintenance.reset("rewind", position="TRIM_HORIZON")
    drained.drain().run()
    new = incarnations(drained) - old
    with maintenance.snowflake() as snowflake:
        assert plan(snowflake=snowflake, at=0).offsets == ()
        made = plan(snowflake=snowflake, used=frozenset({drained.application}))
    assert {row.incarnation for row in made.offsets} == old
    assert f"2 of {drained.application}" in cleanup_text(made)

    done = carry_out(CleanupPlan.from_dict(made.as_dict()), tmp_path, maintenance=maintenance)

    assert done["offsets"] == 2
    assert incarnations(drained) == new
    drained.send(3)
    drained.drain().run()
    assert len(drained.landed) == 43


def test_offsets_that_a_state_row_names_again_or_that_changed_since_the_plan_stay(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path, dynamodb: DynamoDBClient
) -> None:
    before = drained.store.read_items(drained.stream)
    maintenance.reset("rewind", position="TRIM_HORIZON")
    drained.drain().run()
    with maintenance.snowflake() as snowflake:
        made = plan(snowflake=snowflake, used=frozenset({drained.application}))
    named, changed = sorted(made.offsets, key=lambda row: row.shard_id)
    for item in before:
        if item["shardId"]["S"] == named.shard_id:
            dynamodb.put_item(TableName=drained.application, Item=item)
    drained.query(
        'UPDATE {offsets} SET "UPDATED_AT" = DATEADD(day, 1, "UPDATED_AT") '
        f"WHERE \"INCARNATION\" = '{changed.incarnation}'"
    )

    assert carry_out(made, tmp_path, maintenance=maintenance)["offsets"] == 0
    assert {named.incarnation, changed.incarnation} < incarnations(drained)


def test_offsets_stay_that_a_lost_table_would_be_recovered_from(
    drained: Pipeline, maintenance: Maintenance, dynamodb: DynamoDBClient
) -> None:
    for item in drained.store.read_items(drained.stream):
        key = {name: item[name] for name in ("streamName", "shardId")}
        dynamodb.delete_item(TableName=drained.application, Key=key)
    with maintenance.snowflake() as snowflake:
        assert plan(snowflake=snowflake, used=frozenset({drained.application})).offsets == ()
