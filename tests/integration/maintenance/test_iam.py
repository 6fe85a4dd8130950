"""The policies that are printed, against the calls that are made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient

from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
from airflow_kinesis_snowflake.maintenance.backup import Backup, back_up, restore
from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
from airflow_kinesis_snowflake.maintenance.cleanup.plan import cleanup_text, plan_cleanup
from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy
from airflow_kinesis_snowflake.maintenance.takeover.apply import apply_import
from airflow_kinesis_snowflake.maintenance.takeover.plan import plan_import
from airflow_kinesis_snowflake.sources.fan_out import FanOutSource
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.times import now_millis
from local.services import AWS
from tests.faults.actions import aws_error

from .test_cloud import BUCKET, LATER, STREAM, cloud, moto, store  # noqa: F401 -- fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient

    from local.fan_out import FanOut
    from tests.faults.proxy import FaultProxy
    from tests.integration.drain.conftest import Pipeline

    from .conftest import Maintenance

pytest_plugins = ["tests.faults.fixtures"]

# CreateTable asks for it on behalf of its tags.
IMPLIED = {"dynamodb:TagResource"}


def allowed(purpose: Purpose, *, fan_out: bool = False) -> set[str]:
    resources = Resources(application="app", stream="orders", backups="bucket/prefix", fan_out=fan_out)
    return {action for statement in policy(purpose, resources)["Statement"] for action in statement["Action"]}


@contextmanager
def recorded() -> Iterator[set[str]]:
    """The actions of all calls of AWS within the block."""
    calls: set[str] = set()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def record(self: Any, operation: str, params: Any) -> Any:
        calls.add(f"{self.meta.service_model.signing_name}:{operation}")
        return call(self, operation, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", record)
        yield calls


def ask_who_holds_a_lease(store: CheckpointStoreHook, stream: str) -> None:  # noqa: F811
    """What a worker does whose write was refused."""
    store.save_checkpoint(
        stream,
        min(store.read_state(stream).shards),
        owner="nobody",
        checkpoint=Position("1"),
        expiry=0,
        now=0,
    )


def test_a_drain_needs_what_its_policy_allows(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(3)
    with recorded() as calls:
        pipeline.drain().run()
        ask_who_holds_a_lease(pipeline.store, pipeline.stream)
    assert calls | IMPLIED == allowed(Purpose.DRAIN)


def test_a_drain_with_fan_out_needs_what_its_policy_allows(
    make_pipeline: Callable[..., Pipeline], fan_out: FanOut
) -> None:
    pipeline = make_pipeline(1)
    pipeline.send(3)
    with recorded() as calls:
        source = FanOutSource(FanOutHook(pipeline.stream), application_name=pipeline.application)
        report = pipeline.drain(source=source).run()
        ask_who_holds_a_lease(pipeline.store, pipeline.stream)
    assert report.records == 3
    polling = {"kinesis:GetRecords", "kinesis:GetShardIterator"}
    assert calls | IMPLIED | polling == allowed(Purpose.DRAIN, fan_out=True)


def test_resets_backups_and_restores_need_what_their_policy_allows(
    drained: Pipeline, maintenance: Maintenance, tmp_path: Path
) -> None:
    files = BackupFilesHook()
    with recorded() as calls:
        saved = back_up(drained.store, files, folder=str(tmp_path), now=now_millis())
        drained.store.delete_table()
        maintenance.reset("recover")
        maintenance.reset("rewind", position="TRIM_HORIZON")
        maintenance.reset("rename", new_application_name=f"{drained.application}-2")
        ask_who_holds_a_lease(drained.store, drained.stream)
        maintenance.reset("delete_table")
        backup = Backup.decode(files.read(saved["file"]))
        less = Backup(backup.application, backup.saved_at, backup.items[:1])
        with maintenance.snowflake() as snowflake:
            restore(backup, store=drained.store, snowflake=snowflake, owner="restore#1", clock=now_millis)
            restore(less, store=drained.store, snowflake=snowflake, owner="restore#1", clock=now_millis)
    in_s3 = {"s3:GetObject", "s3:PutObject"}
    assert calls | in_s3 == allowed(Purpose.RESET)


def test_a_cleanup_needs_what_its_policy_allows(
    store: CheckpointStoreHook,  # noqa: F811
    cloud: str,  # noqa: F811
) -> None:
    kinesis = AWS.client("kinesis", endpoint_url=cloud)
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.register_stream_consumer(StreamARN=arn, ConsumerName=store.application_name)
    tables, consumers = DynamoDBTablesHook(), StreamConsumersHook()
    with recorded() as calls:
        plan = plan_cleanup(
            CleanupRules(days=30), tables=tables, consumers=consumers, clock=lambda: now_millis() + LATER
        )
        clean_up(
            plan,
            tables=tables,
            consumers=consumers,
            files=BackupFilesHook(),
            folder=f"s3://{BUCKET}",
            snowflake=None,
            clock=lambda: now_millis() + LATER,
        )
    assert calls == allowed(Purpose.CLEANUP)


def test_an_import_needs_what_its_policy_allows(drained: Pipeline) -> None:
    source, drained.application = drained.application, f"{drained.application}-2"
    with recorded() as calls:
        plan = plan_import(
            source=source,
            kinesis=KinesisStreamHook(drained.stream),
            tables=DynamoDBTablesHook(),
            store=drained.store,
            now=now_millis(),
        )
        apply_import(plan, store=drained.store, clock=now_millis)
        apply_import(plan, store=drained.store, clock=now_millis)
        ask_who_holds_a_lease(drained.store, drained.stream)
    assert calls | IMPLIED == allowed(Purpose.IMPORT)


@pytest.mark.parametrize("operation", ["DescribeTable", "Scan", "ListTagsOfResource"])
def test_a_table_that_may_not_be_looked_into_is_listed_and_stays(
    drained: Pipeline, dynamodb: DynamoDBClient, dynamodb_proxy: FaultProxy, operation: str
) -> None:
    other = f"{drained.application}-other"
    CheckpointStoreHook(other).create_table()

    dynamodb_proxy.add(
        aws_error("AccessDeniedException", "not yours"),
        operation=operation,
        when=lambda request: (
            drained.application in request.body.decode() and other not in request.body.decode()
        ),
    )
    plan = plan_cleanup(
        CleanupRules(days=30, most=100),
        tables=DynamoDBTablesHook(),
        consumers=StreamConsumersHook(),
        watch_seconds=0.1,
        clock=lambda: now_millis() + LATER,
    )
    assert plan.unseen == (drained.application,)
    assert drained.application in cleanup_text(plan)
    assert other in [decision.table.name for decision in plan.decisions]
