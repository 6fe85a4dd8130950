"""What the hooks make of services that fail and connections that break."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config
from snowflake.connector import connect

from airflow_kinesis_snowflake.engine.offsets import OffsetKey, OffsetMove
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    IteratorExpiredError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
    UnknownOutcomeError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position
from tests.faults.actions import (
    ACCESS_DENIED,
    CANCELLED,
    EXPIRED_ITERATOR,
    INTERNAL_FAILURE,
    LOCK_WAITERS,
    LOGIN_EXPIRED,
    NO_WAREHOUSE,
    SERVICE_UNAVAILABLE,
    SESSION_EXPIRED,
    SESSION_GONE,
    THROTTLED,
    Hold,
    aws_error,
    created_at,
    cut,
    forget_up_to,
    http_error,
    lose_answer,
    renew_session,
    snowflake_error,
    truncate,
)
from tests.helpers import CONNECTOR_TELLS_OF_TRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from local.services import LocalServices
    from tests.faults.proxy import Action, Answer, FaultProxy, Forward, Request

pytestmark = pytest.mark.slow

pytest_plugins = ["tests.faults.fixtures"]

SHARD = "shardId-000000000000"


async def truncated_error(request: Request, forward: Forward) -> Answer:
    """Refuse the call, and close the connection in the middle of saying so."""
    refuse = aws_error(THROTTLED)
    return await truncate(request, lambda refused: refuse(refused, forward))


TWO_TRIES = Config(retries={"mode": "standard", "total_max_attempts": 2})

# --- Kinesis -----------------------------------------------------------------------------------------------


@pytest.fixture
def stream(make_stream: Callable[..., str]) -> str:
    return make_stream()


@pytest.fixture
def reader(kinesis_proxy: FaultProxy, stream: str) -> KinesisStreamHook:
    return KinesisStreamHook(stream, config=TWO_TRIES)


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        pytest.param(aws_error(THROTTLED), ThrottledError, id="throttled"),
        pytest.param(aws_error("LimitExceededException"), ThrottledError, id="limit exceeded"),
        pytest.param(aws_error("KMSThrottlingException"), ThrottledError, id="key throttled"),
        pytest.param(aws_error(EXPIRED_ITERATOR), IteratorExpiredError, id="iterator expired"),
        pytest.param(aws_error(INTERNAL_FAILURE), ServiceUnavailableError, id="internal failure"),
        pytest.param(aws_error(SERVICE_UNAVAILABLE), ServiceUnavailableError, id="service unavailable"),
        pytest.param(http_error(502), ServiceUnavailableError, id="bad gateway"),
        pytest.param(cut, ServiceUnavailableError, id="connection cut"),
        pytest.param(lose_answer, ServiceUnavailableError, id="answer lost"),
        pytest.param(truncate, ServiceUnavailableError, id="answer truncated"),
        pytest.param(truncated_error, ServiceUnavailableError, id="error truncated"),
        pytest.param(aws_error(ACCESS_DENIED), AccessDeniedError, id="denied"),
        pytest.param(aws_error("KMSAccessDeniedException"), AccessDeniedError, id="key denied"),
        pytest.param(aws_error("KMSDisabledException"), AccessDeniedError, id="key disabled"),
        pytest.param(aws_error("ValidationException"), ServiceRefusedError, id="invalid"),
    ],
)
def test_a_page_that_fails_is_asked_for_once_and_can_be_asked_for_again(
    kinesis_proxy: FaultProxy,
    reader: KinesisStreamHook,
    kinesis: KinesisClient,
    stream: str,
    fault: Action,
    meaning: type[KinesisSnowflakeError],
) -> None:
    kinesis.put_record(StreamName=stream, PartitionKey="key", Data=b"payload")
    iterator = reader.get_iterator(SHARD, TRIM_HORIZON)
    kinesis_proxy.add(fault, operation="GetRecords", times=1)

    with pytest.raises(KinesisSnowflakeError) as caught:
        reader.get_page(iterator)

    assert type(caught.value) is meaning
    assert kinesis_proxy.calls["GetRecords"] == 1
    assert [record.data for record in reader.get_page(iterator).records] == [b"payload"]


CONTROL_CALLS: dict[str, Callable[[KinesisStreamHook], object]] = {
    "DescribeStreamSummary": KinesisStreamHook.describe,
    "ListShards": KinesisStreamHook.list_shards,
    "GetShardIterator": lambda reader: reader.get_iterator(SHARD, TRIM_HORIZON),
}


@pytest.mark.parametrize("operation", CONTROL_CALLS)
@pytest.mark.parametrize(
    "fault",
    [aws_error(THROTTLED), aws_error(INTERNAL_FAILURE), cut, lose_answer, truncate],
    ids=["throttled", "internal failure", "connection cut", "answer lost", "answer truncated"],
)
def test_a_call_about_the_stream_is_tried_again(
    kinesis_proxy: FaultProxy, reader: KinesisStreamHook, operation: str, fault: Action
) -> None:
    kinesis_proxy.add(fault, operation=operation, times=1)

    assert CONTROL_CALLS[operation](reader)
    assert kinesis_proxy.calls[operation] == 2


@pytest.mark.parametrize("operation", CONTROL_CALLS)
def test_a_call_about_the_stream_that_is_denied_is_not_tried_again(
    kinesis_proxy: FaultProxy, reader: KinesisStreamHook, operation: str
) -> None:
    kinesis_proxy.add(aws_error(ACCESS_DENIED), operation=operation)

    with pytest.raises(AccessDeniedError, match=f"Allow kinesis:{operation}"):
        CONTROL_CALLS[operation](reader)

    assert kinesis_proxy.calls[operation] == 1


@pytest.mark.parametrize("operation", CONTROL_CALLS)
def test_a_truncated_answer_about_the_stream_is_not_believed(
    kinesis_proxy: FaultProxy, reader: KinesisStreamHook, operation: str
) -> None:
    kinesis_proxy.add(truncate, operation=operation)

    with pytest.raises(ServiceUnavailableError):
        CONTROL_CALLS[operation](reader)


def test_an_iterator_at_a_record_that_aged_out_begins_at_the_oldest_record(
    kinesis_proxy: FaultProxy, reader: KinesisStreamHook, kinesis: KinesisClient, stream: str
) -> None:
    numbers = [
        kinesis.put_record(StreamName=stream, PartitionKey="key", Data=data)["SequenceNumber"]
        for data in (b"a", b"b", b"c")
    ]
    kinesis_proxy.add(forget_up_to(numbers[1]), shard_id=SHARD)

    page = reader.get_page(reader.get_iterator_at(SHARD, numbers[0]), limit=1)

    assert [record.sequence_number for record in page.records] == [numbers[2]]


def test_a_stream_that_was_made_again_has_another_creation_time(
    kinesis_proxy: FaultProxy, reader: KinesisStreamHook
) -> None:
    moment = datetime(2020, 1, 2, tzinfo=UTC)
    kinesis_proxy.add(created_at(moment), operation="DescribeStreamSummary")

    assert reader.describe().created == moment


# --- DynamoDB ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(services: LocalServices) -> Iterator[CheckpointStoreHook]:
    """The checkpoint table of all tests, reached without a proxy."""
    made = CheckpointStoreHook("hooks-under-faults")
    made.create_table()
    yield made
    made.delete_table()


@pytest.fixture
def store(
    made: CheckpointStoreHook, dynamodb_proxy: FaultProxy, dynamodb: DynamoDBClient
) -> CheckpointStoreHook:
    """The table, with the fresh row of one shard."""
    key = {"streamName": {"S": "orders"}, "shardId": {"S": SHARD}}
    dynamodb.delete_item(TableName=made.application_name, Key=key)
    made.create_shard(
        "orders", SHARD, start_at=TRIM_HORIZON, parents=(), incarnation="first", stream_created=1
    )
    return CheckpointStoreHook(made.application_name, config=TWO_TRIES)


def row(store: CheckpointStoreHook) -> ShardState:
    return store.read_state("orders").shards[SHARD]


def take(store: CheckpointStoreHook, *, owner: str = "me") -> ShardState | None:
    return store.take_lease(
        "orders", ShardState(SHARD), owner=owner, expiry=200, now=100, incarnation="first"
    )


def save(store: CheckpointStoreHook) -> bool:
    return store.save_checkpoint("orders", SHARD, owner="me", checkpoint=Position("7"), expiry=300, now=150)


LOST = [cut, lose_answer, truncate, aws_error(THROTTLED), aws_error("InternalServerError")]
LOST_IDS = ["connection cut", "answer lost", "answer truncated", "throttled", "internal error"]


@pytest.mark.parametrize("fault", LOST, ids=LOST_IDS)
def test_a_lease_is_taken_though_the_first_try_failed(
    dynamodb_proxy: FaultProxy, store: CheckpointStoreHook, fault: Action
) -> None:
    dynamodb_proxy.add(fault, operation="UpdateItem", shard_id=SHARD, times=1)

    taken = take(store)

    assert taken is not None
    assert (taken.lease_owner, taken.lease_expiry) == ("me", 200)
    assert dynamodb_proxy.calls["UpdateItem"] == 2
    assert take(store, owner="other") is None


@pytest.mark.parametrize("fault", LOST, ids=LOST_IDS)
def test_a_checkpoint_is_saved_though_the_first_try_failed(
    dynamodb_proxy: FaultProxy, store: CheckpointStoreHook, fault: Action
) -> None:
    take(store)
    dynamodb_proxy.add(fault, operation="UpdateItem", shard_id=SHARD, times=1)

    assert save(store)
    assert row(store).checkpoint == Position("7")


@pytest.mark.parametrize("fault", LOST, ids=LOST_IDS)
def test_a_lease_is_renewed_though_the_first_try_failed(
    dynamodb_proxy: FaultProxy, store: CheckpointStoreHook, fault: Action
) -> None:
    take(store)
    dynamodb_proxy.add(fault, operation="UpdateItem", shard_id=SHARD, times=1)

    assert store.renew_lease("orders", SHARD, owner="me", expiry=300, now=150)
    assert row(store).lease_expiry == 300


@pytest.mark.parametrize("fault", LOST, ids=LOST_IDS)
def test_a_lease_is_free_though_the_first_try_to_release_it_failed(
    dynamodb_proxy: FaultProxy, store: CheckpointStoreHook, fault: Action
) -> None:
    take(store)
    dynamodb_proxy.add(fault, operation="UpdateItem", shard_id=SHARD, times=1)

    store.release_lease("orders", SHARD, owner="me", now=150)

    assert row(store).lease_owner is None


NEW_ROW: dict[str, Any] = {
    "start_at": TRIM_HORIZON,
    "parents": ("b", "a"),
    "incarnation": "second",
    "stream_created": 1,
}
RESET = ShardState("new", start_at=TRIM_HORIZON, parents=("b", "a"), incarnation="second")
SAVED = {"streamName": {"S": "orders"}, "shardId": {"S": "new"}, "name": {"SS": ["b", "a"]}}

WRITES: dict[str, Callable[[CheckpointStoreHook], bool]] = {
    "create": lambda store: store.create_shard("orders", "new", **NEW_ROW),
    "make by a reset": lambda store: store.reset_shard("orders", RESET, owner="me", now=150, made_until=900),
    "restore": lambda store: store.restore_item(SAVED, owner="me", now=150, made_until=900),
    "release": lambda store: store.release_lease("orders", SHARD, owner="me", now=150, unsettled=True),
    "remove": lambda store: store.remove_shard("orders", SHARD, owner="me"),
    "forget": lambda store: store.forget_shard("orders", "ended"),
    "withdraw": lambda store: store.withdraw_shard("orders", "untaken", incarnation="second"),
    "forget a worker": lambda store: store.forget_worker("orders", "gone", heartbeat=7),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fault", [lose_answer, truncate], ids=["answer lost", "answer truncated"])
def test_a_write_whose_first_try_was_carried_out_counts_as_done(
    dynamodb_proxy: FaultProxy, store: CheckpointStoreHook, write: str, fault: Action
) -> None:
    prepare_rows(store)
    dynamodb_proxy.add(fault, times=1)

    assert WRITES[write](store)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_somebody_else_came_before_is_refused(store: CheckpointStoreHook, write: str) -> None:
    prepare_rows(store)
    store.create_shard("orders", "new", **{**NEW_ROW, "incarnation": "theirs"})
    store.hold("orders", SHARD, owner="other", expiry=900, now=150, force=True)
    for shard_id in ("ended", "untaken"):
        store.hold("orders", shard_id, owner="other", expiry=900, now=150)
    store.heartbeat("orders", "gone", now=8)
    before = store.read_items("orders")

    assert not WRITES[write](store)
    assert store.read_items("orders") == before


def prepare_rows(store: CheckpointStoreHook) -> None:
    """A shard that is leased to ``me``, one that nobody has leased, and one that is read to its end; a worker
    that is gone; none new.
    """
    for shard_id in ("new", "ended"):
        store.hold("orders", shard_id, owner="cleaner", expiry=900, now=1, force=True)
        store.remove_shard("orders", shard_id, owner="cleaner")
    store.create_shard("orders", "ended", **NEW_ROW)
    store.create_shard("orders", "untaken", **NEW_ROW)
    ended = store.read_state("orders").shards["ended"]
    store.take_lease("orders", ended, owner="me", expiry=200, now=100, incarnation="any")
    store.release_lease("orders", "ended", owner="me", now=150, ended=True)
    store.heartbeat("orders", "gone", now=7)
    take(store)


def test_a_lease_that_another_worker_took_in_the_same_millisecond_is_not_renewed(
    store: CheckpointStoreHook,
) -> None:
    take(store)
    store.hold("orders", SHARD, owner="other", expiry=300, now=150, force=True)

    assert not store.renew_lease("orders", SHARD, owner="me", expiry=300, now=150)


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        pytest.param(aws_error(THROTTLED), ThrottledError, id="throttled"),
        pytest.param(aws_error("RequestLimitExceeded"), ThrottledError, id="account throttled"),
        pytest.param(aws_error("InternalServerError"), ServiceUnavailableError, id="internal error"),
        pytest.param(cut, ServiceUnavailableError, id="connection cut"),
        pytest.param(lose_answer, ServiceUnavailableError, id="answer lost"),
        pytest.param(truncate, ServiceUnavailableError, id="answer truncated"),
        pytest.param(aws_error(ACCESS_DENIED), AccessDeniedError, id="denied"),
        pytest.param(aws_error("ResourceNotFoundException"), ServiceRefusedError, id="no table"),
    ],
)
@pytest.mark.parametrize("call", [take, save, row], ids=["take a lease", "save", "read"])
def test_a_call_to_the_checkpoint_table_that_keeps_failing_says_whether_another_try_helps(
    dynamodb_proxy: FaultProxy,
    store: CheckpointStoreHook,
    call: Callable[[CheckpointStoreHook], object],
    fault: Action,
    meaning: type[KinesisSnowflakeError],
) -> None:
    take(store)
    with dynamodb_proxy.add(fault), pytest.raises(KinesisSnowflakeError) as caught:
        call(store)

    assert type(caught.value) is meaning


# --- Snowflake ---------------------------------------------------------------------------------------------

MAPPING = EnvelopeMapping()
DATABASE = "HOOKS_UNDER_FAULTS"
TARGET = LandingTarget.beside(TableName.parse(f"{DATABASE}.PUBLIC.RECORDS"))
OF_THE_APPLICATION: dict[str, Any] = {"application": "loader", "stream": "orders"}


@pytest.fixture(scope="module")
def tables(services: LocalServices) -> None:
    """The tables and the stage of all tests."""
    with connect(**services.snowflake_parameters()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {DATABASE}")
        cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {DATABASE}.PUBLIC")
    with SnowflakeLoadHook(database=DATABASE).open_session() as session:
        session.ensure_objects(TARGET, mapping=MAPPING)


@pytest.fixture
def session(tables: None, snowflake_proxy: FaultProxy) -> Iterator[SnowflakeSession]:
    with SnowflakeLoadHook(database=DATABASE).open_session() as session:
        yield session


@dataclass(frozen=True)
class Load:
    """A load that moves one offset."""

    session: SnowflakeSession
    key: OffsetKey

    def __call__(self) -> None:
        move = OffsetMove(self.key.shard_id, self.key.incarnation, None, Position("7"), 1)
        with self.session.transaction() as transaction:
            self.session.copy_landing(TARGET, mapping=MAPPING, folder="loader/1")
            self.session.move_offsets(
                TARGET, batch_id="1", transaction=transaction, moves=[move], **OF_THE_APPLICATION
            )

    def committed(self) -> bool:
        """Whether the offset moved, as another session sees it."""
        with SnowflakeLoadHook(database=DATABASE).open_session() as other:
            offsets = other.read_offsets(TARGET, keys=[self.key], **OF_THE_APPLICATION)
        return offsets.found[self.key].position is not None


@pytest.fixture
def load(session: SnowflakeSession, snowflake_proxy: FaultProxy) -> Load:
    key = OffsetKey(SHARD, uuid.uuid4().hex)
    session.ensure_offsets(TARGET, keys=[key], **OF_THE_APPLICATION)
    snowflake_proxy.calls.clear()
    return Load(session, key)


@pytest.mark.parametrize(
    ("operation", "fault", "meaning"),
    [
        pytest.param("UPDATE", snowflake_error(*LOCK_WAITERS), ServiceUnavailableError, id="lock waiters"),
        pytest.param("COPY", snowflake_error(*CANCELLED), ServiceUnavailableError, id="cancelled"),
        pytest.param("BEGIN", snowflake_error(*SESSION_GONE), ServiceUnavailableError, id="session gone"),
        pytest.param("UPDATE", snowflake_error(*SESSION_GONE), ServiceUnavailableError, id="gone midway"),
        pytest.param("COPY", snowflake_error(*NO_WAREHOUSE), ServiceRefusedError, id="no warehouse"),
        pytest.param("COPY", snowflake_error("003001", "42501"), AccessDeniedError, id="denied"),
        pytest.param("BEGIN", truncate, ServiceUnavailableError, id="BEGIN truncated"),
        pytest.param("COPY", truncate, ServiceUnavailableError, id="COPY truncated"),
    ],
)
def test_a_statement_that_fails_leaves_nothing_and_says_whether_another_try_helps(
    snowflake_proxy: FaultProxy,
    load: Load,
    operation: str,
    fault: Action,
    meaning: type[KinesisSnowflakeError],
) -> None:
    snowflake_proxy.add(fault, operation=operation)

    with pytest.raises(KinesisSnowflakeError) as caught:
        load()

    assert type(caught.value) is meaning
    assert snowflake_proxy.calls[operation] == 1
    assert not load.committed()


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        pytest.param("BEGIN", lose_answer, id="BEGIN lost"),
        pytest.param("COPY", cut, id="COPY cut"),
        pytest.param("COPY", http_error(503), id="COPY unavailable"),
        pytest.param("COPY", lose_answer, id="COPY lost"),
        pytest.param("UPDATE", lose_answer, id="UPDATE lost"),
        pytest.param("COMMIT", cut, id="COMMIT cut"),
        pytest.param("COMMIT", lose_answer, id="COMMIT lost"),
    ],
)
def test_a_statement_survives_a_connection_that_breaks_once(
    snowflake_proxy: FaultProxy,
    session: SnowflakeSession,
    load: Load,
    operation: str,
    fault: Action,
) -> None:
    assert session.fit is CONNECTOR_TELLS_OF_TRIES
    snowflake_proxy.add(fault, operation=operation, times=1)

    load()

    assert snowflake_proxy.calls[operation] == 2
    assert load.committed()
    assert not session.fit


@pytest.mark.parametrize(
    "fault", [cut, lose_answer, http_error(503)], ids=["connection cut", "answer lost", "unavailable"]
)
def test_a_copy_over_a_connection_that_stays_broken_is_given_up_and_leaves_nothing(
    snowflake_proxy: FaultProxy,
    load: Load,
    fault: Action,
) -> None:
    snowflake_proxy.add(fault, operation="COPY")

    with pytest.raises(ServiceUnavailableError):
        load()

    assert not load.committed()


@pytest.mark.parametrize(
    ("fault", "happened"),
    [
        pytest.param(cut, False, id="connection cut"),
        pytest.param(lose_answer, True, id="answer lost"),
        pytest.param(truncate, True, id="answer truncated"),
        pytest.param(snowflake_error(*CANCELLED), False, id="cancelled"),
        pytest.param(snowflake_error(*SESSION_GONE), False, id="session gone"),
    ],
)
def test_a_commit_without_an_answer_is_an_unknown_outcome_that_the_offsets_tell(
    snowflake_proxy: FaultProxy,
    load: Load,
    fault: Action,
    happened: bool,
) -> None:
    snowflake_proxy.add(fault, operation="COMMIT")

    with pytest.raises(UnknownOutcomeError, match="offsets table"):
        load()

    assert load.committed() is happened
    with pytest.raises(ServiceUnavailableError, match="closed"):
        load.session.version()


@pytest.mark.parametrize("operation", ["BEGIN", "COPY", "COMMIT"])
def test_a_session_whose_token_expired_is_renewed_and_goes_on(
    snowflake_proxy: FaultProxy,
    load: Load,
    operation: str,
) -> None:
    snowflake_proxy.add(snowflake_error(*SESSION_EXPIRED), operation=operation, times=1)
    renewal = snowflake_proxy.add(renew_session, operation="token-request")

    load()

    assert renewal.hits == 1
    assert load.committed()


def test_a_session_that_can_not_be_renewed_needs_a_new_login(
    snowflake_proxy: FaultProxy,
    load: Load,
) -> None:
    snowflake_proxy.add(snowflake_error(*SESSION_EXPIRED), operation="COPY")
    snowflake_proxy.add(snowflake_error(*LOGIN_EXPIRED), operation="token-request")

    with pytest.raises(ServiceUnavailableError):
        load()

    assert not load.committed()


def test_a_commit_counts_before_its_answer_arrives(
    snowflake_proxy: FaultProxy,
    load: Load,
) -> None:
    with ThreadPoolExecutor() as pool, Hold(answer=True) as hold:
        snowflake_proxy.add(hold, operation="COMMIT")
        loading = pool.submit(load)
        hold.wait()
        assert load.committed()
        assert not loading.done()
        hold.release()
        loading.result()


def test_an_upload_that_breaks_once_is_complete(
    snowflake_proxy: FaultProxy, session: SnowflakeSession, tmp_path: Path
) -> None:
    file = tmp_path / "file.parquet"
    file.write_bytes(b"content")
    upload = snowflake_proxy.add(cut, operation="UPLOAD", times=1)

    session.upload(file, target=TARGET, folder="loader/1")

    assert upload.hits == 1
    assert snowflake_proxy.calls["UPLOAD"] == 2


def test_an_upload_that_the_storage_refuses_is_an_error(
    snowflake_proxy: FaultProxy, session: SnowflakeSession, tmp_path: Path
) -> None:
    file = tmp_path / "file.parquet"
    file.write_bytes(b"content")
    snowflake_proxy.add(http_error(403), operation="UPLOAD")

    with pytest.raises(ServiceUnavailableError, match="upload"):
        session.upload(file, target=TARGET, folder="loader/1")


def test_a_login_over_a_broken_connection_is_given_up(snowflake_proxy: FaultProxy) -> None:
    snowflake_proxy.add(cut, operation="login-request")

    with pytest.raises(ServiceUnavailableError):
        SnowflakeLoadHook().open_session()
