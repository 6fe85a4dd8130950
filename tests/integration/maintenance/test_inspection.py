"""What an inspection finds in state that isn't as it should be, and that what it advises mends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_kinesis_snowflake.exceptions import ThrottledError
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.maintenance.inspection import StateFinding, inspect_state, inspection_text
from airflow_kinesis_snowflake.maintenance.reset.apply import apply_reset
from airflow_kinesis_snowflake.maintenance.reset.plan import plan_reset
from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.faults.actions import THROTTLED, aws_error, edit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from tests.faults.proxy import FaultProxy

pytest_plugins = ["tests.faults.fixtures"]

AN_HOUR = 3_600_000
SPOILT, OTHER = "shardId-000000000000", "shardId-000000000001"


@dataclass(frozen=True)
class State:
    """Rows of two shards with a checkpoint each, as a drain leaves them.

    :param numbers: sequence numbers of the checkpoints, by shard
    """

    dynamodb: DynamoDBClient
    store: CheckpointStoreHook
    kinesis: KinesisStreamHook
    numbers: dict[str, str]

    def spoil(self, **attributes: dict[str, Any] | None) -> None:
        """Set attributes of the first shard's row; None removes one."""
        self.dynamodb.update_item(
            TableName=self.store.application_name,
            Key={"streamName": {"S": self.kinesis.stream_name}, "shardId": {"S": SPOILT}},
            AttributeUpdates={
                name: {"Action": "DELETE"} if value is None else {"Action": "PUT", "Value": value}
                for name, value in attributes.items()
            },
        )

    def findings(self) -> tuple[StateFinding, ...]:
        return inspect_state(self.store, self.kinesis, now=now_millis()).findings

    def finding(self) -> StateFinding:
        [found] = self.findings()
        return found

    def rewind(self, position: str, *, force: bool = False) -> None:
        """Rewind the first shard, without Snowflake."""
        request = ResetRequest(
            application=self.store.application_name,
            stream=self.kinesis.stream_name,
            method="rewind",
            shards=(SPOILT,),
            position=position,
            force=force,
        )
        plan = plan_reset(
            request,
            store=self.store,
            kinesis=self.kinesis,
            snowflake=None,
            open_store=CheckpointStoreHook,
            now=now_millis(),
        )
        apply_reset(
            plan,
            store=self.store,
            snowflake=None,
            open_store=CheckpointStoreHook,
            remember=lambda _: None,
            clock=now_millis,
        )


@pytest.fixture
def state(
    make_stream: Callable[..., str],
    kinesis: KinesisClient,
    dynamodb: DynamoDBClient,
    application_name: str,
) -> State:
    stream = make_stream(2)
    hook = KinesisStreamHook(stream)
    store = CheckpointStoreHook(application_name)
    store.create_table()
    numbers = {}
    for shard_id, hash_key in ((SPOILT, 0), (OTHER, 2**127)):
        sent = kinesis.put_record(
            StreamName=stream, PartitionKey="key", ExplicitHashKey=str(hash_key), Data=b"{}"
        )
        numbers[shard_id] = sent["SequenceNumber"]
        created = int(hook.describe().created.timestamp() * 1000)
        store.create_shard(
            stream, shard_id, start_at=TRIM_HORIZON, parents=(), incarnation=shard_id, stream_created=created
        )
        now = now_millis()
        assert store.hold(stream, shard_id, owner="me", expiry=now + 1000, now=now)
        assert store.save_checkpoint(
            stream,
            shard_id,
            owner="me",
            checkpoint=Position(numbers[shard_id]),
            expiry=now,
            now=now,
        )
        store.release_lease(stream, shard_id, owner="me", now=now)
    return State(dynamodb, store, hook, numbers)


def test_nothing_is_found_in_what_a_drain_leaves(state: State) -> None:
    inspection = inspect_state(state.store, state.kinesis, now=now_millis())
    assert inspection.findings == ()
    assert "No problem was found" in inspection_text(inspection)


def test_attributes_of_other_software_are_nothing_wrong(state: State) -> None:
    state.spoil(checkpointMigrated={"BOOL": True}, name={"M": {}}, leaseCounter={"N": "7"})
    assert state.findings() == ()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("sequenceNumber", {"S": "four"}),
        ("sequenceNumber", {"S": "-1"}),
        ("sequenceNumber", {"N": "4"}),
        ("subSequenceNumber", {"S": "4"}),
        ("startAt", {"S": "noon"}),
        ("shardEnded", {"S": "yes"}),
        ("parentShardIds", {"S": "shardId-000000000000"}),
        ("incarnation", {"N": "1"}),
        ("streamCreated", {"S": "today"}),
        ("lastUpdateTimestamp", {"S": "now"}),
        ("leaseExpiry", {"N": "1.5"}),
    ],
)
def test_an_attribute_that_nobody_writes_is_named_and_a_rewind_mends_it(
    state: State, attribute: str, value: dict[str, str]
) -> None:
    state.spoil(**{attribute: value})
    found = state.finding()
    assert found.where == SPOILT
    assert attribute in found.what
    assert next(iter(value.values())) in found.what
    assert "rewind" in found.remedy
    state.rewind("TRIM_HORIZON")
    assert state.findings() == ()


def test_a_row_without_checkpoint_and_start_is_named_and_a_rewind_mends_it(state: State) -> None:
    state.spoil(sequenceNumber=None, startAt=None)
    assert "neither a checkpoint nor a start" in state.finding().what
    state.rewind("LATEST")
    assert state.findings() == ()


@pytest.mark.parametrize(
    ("attribute", "what"), [("lastUpdateTimestamp", "last update"), ("caughtUpAt", "caught up at")]
)
def test_a_time_in_the_future_is_named_and_a_rewind_to_the_checkpoint_mends_it(
    state: State, attribute: str, what: str
) -> None:
    state.spoil(**{attribute: {"N": str(now_millis() + 3 * AN_HOUR)}})
    assert f"its {what} is 2 h " in state.finding().what
    state.rewind(state.numbers[SPOILT])
    assert state.findings() == ()


def test_a_lease_in_the_future_is_named_and_taken_by_force(state: State) -> None:
    state.spoil(leaseOwner={"S": "somebody"}, leaseExpiry={"N": str(now_millis() + 3 * AN_HOUR)})
    assert "lease expiry" in state.finding().what
    state.rewind("LATEST", force=True)
    assert state.findings() == ()


def test_a_start_in_the_future_is_named_and_a_rewind_mends_it(state: State) -> None:
    state.spoil(sequenceNumber=None, startAt={"S": "2100-01-01T00:00:00+00:00"})
    assert "starts in the future" in state.finding().what
    state.rewind("LATEST")
    assert state.findings() == ()


def test_a_checkpoint_of_another_shard_is_named_and_a_rewind_mends_it(state: State) -> None:
    state.spoil(sequenceNumber={"S": state.numbers[OTHER]})
    assert "was assigned by shard number 1" in state.finding().what
    state.rewind("LATEST")
    assert state.findings() == ()


def test_a_row_of_a_deleted_stream_is_named_and_a_rewind_mends_it(state: State) -> None:
    state.spoil(streamCreated={"N": "1"})
    assert "deleted stream of the same name" in state.finding().what
    state.rewind("TRIM_HORIZON")
    assert state.findings() == ()


def test_an_open_shard_that_its_row_gives_up_is_named_and_a_rewind_mends_it(state: State) -> None:
    state.spoil(shardEnded={"BOOL": True}, lastUpdateTimestamp={"N": "1"})
    assert "read to its end, but the shard is open" in state.finding().what
    state.rewind("TRIM_HORIZON")
    assert state.findings() == ()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("caughtUpAt", {"N": "-62135596800001"}),
        ("caughtUpAt", {"N": "9" * 30}),
        ("caughtUpAt", {"S": "yesterday"}),
        ("millisBehindLatest", {"S": "many"}),
        ("lastUpdateTimestamp", {"N": "9" * 30}),
    ],
)
def test_a_time_that_no_calendar_has_is_named_and_a_rewind_mends_it(
    state: State, attribute: str, value: dict[str, str]
) -> None:
    state.spoil(**{attribute: value})
    assert state.finding().where == SPOILT
    state.rewind("TRIM_HORIZON")
    assert state.findings() == ()


@pytest.mark.parametrize("beat", [{"N": "1.5"}, {"S": "now"}, {"N": "9" * 30}])
def test_a_node_with_an_odd_heartbeat_does_not_hide_the_shards(state: State, beat: dict[str, str]) -> None:
    key = {"streamName": {"S": state.kinesis.stream_name}, "shardId": {"S": "__node__#odd"}}
    state.dynamodb.put_item(TableName=state.store.application_name, Item={**key, "nodeHeartbeat": beat})
    assert "odd" in inspect_state(state.store, state.kinesis, now=now_millis()).workers


def test_a_commit_of_unknown_outcome_is_named(state: State) -> None:
    state.spoil(unsettled={"BOOL": True})
    assert "outcome of a commit unknown" in state.finding().what


def test_records_that_may_have_aged_out_are_named(state: State, kinesis_proxy: FaultProxy) -> None:
    kinesis_proxy.add(
        edit(lambda answer: answer["StreamDescriptionSummary"].update(RetentionPeriodHours=0)),
        operation="DescribeStreamSummary",
    )
    through = replace(state, kinesis=KinesisStreamHook(state.kinesis.stream_name))
    assert ["may have aged out" in finding.what for finding in through.findings()] == [True, True]


def test_a_table_that_is_missing_or_empty_is_named(state: State) -> None:
    state.store.delete_table()
    assert "doesn't exist" in state.finding().what
    state.store.create_table()
    assert "no row of this stream" in state.finding().what


def test_a_stream_that_does_not_exist_is_named(state: State) -> None:
    nobodys = replace(state, kinesis=KinesisStreamHook("nobodys"))
    assert [finding.where for finding in nobodys.findings()] == ["table", "stream"]


@pytest.fixture
def behind_proxy(state: State, dynamodb_proxy: FaultProxy) -> State:
    """The state, read through the proxy."""
    return replace(state, store=CheckpointStoreHook(state.store.application_name))


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_a_table_that_someone_makes_or_deletes_meanwhile_is_not_read(
    behind_proxy: State, dynamodb_proxy: FaultProxy, status: str
) -> None:
    dynamodb_proxy.add(
        edit(lambda answer: answer["Table"].update(TableStatus=status)), operation="DescribeTable"
    )
    reads = dynamodb_proxy.add(aws_error("ResourceNotFoundException"), operation="Query")
    assert f"it is {status}" in behind_proxy.finding().what
    assert reads.hits == 0


def test_a_throttled_table_is_read_a_little_later(behind_proxy: State, dynamodb_proxy: FaultProxy) -> None:
    throttled = dynamodb_proxy.add(aws_error(THROTTLED), operation="Query", times=1)
    assert behind_proxy.findings() == ()
    assert throttled.hits == 1


def test_a_table_that_stays_throttled_is_an_error_that_another_try_may_mend(
    state: State, dynamodb_proxy: FaultProxy
) -> None:
    dynamodb_proxy.add(aws_error(THROTTLED), operation="Query")
    impatient = CheckpointStoreHook(
        state.store.application_name, config={"retries": {"mode": "standard", "total_max_attempts": 1}}
    )
    with pytest.raises(ThrottledError):
        replace(state, store=impatient).findings()
