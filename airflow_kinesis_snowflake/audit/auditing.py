"""Collects the evidence for an audit, and has it judged. Changes nothing."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.audit.counts import Evidence
from airflow_kinesis_snowflake.audit.findings import AuditReport, judge
from airflow_kinesis_snowflake.audit.queries import SnowflakeAuditSession
from airflow_kinesis_snowflake.audit.retained import compare_shards, due
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_kinesis_snowflake.audit.counts import ShardCounts, StreamComparison
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.state.shards import StreamState


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What an audit is asked to do.

    :param applications: those that have loaded the stream into the table; not empty
    :param several_documents: a record may become several rows, as ``json_documents`` lets it
    :param compare_counts: whether the tables should hold as many records as were committed: false where rows
        or dead letters were removed, or where other software has loaded into the table
    :param with_stream: read what the stream still retains, and look for each record
    """

    stream: str
    applications: tuple[str, ...]
    several_documents: bool = False
    compare_counts: bool = True
    with_stream: bool = False


@dataclass(frozen=True)
class AuditTarget:
    """A landing table and its companions, with an open session."""

    session: SnowflakeAuditSession
    target: LandingTarget


@contextmanager
def open_landed(table: str, *, snowflake_conn_id: str) -> Iterator[AuditTarget]:
    """Open a session that ends with the block.

    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``
    :param snowflake_conn_id: Airflow connection of type ``snowflake``
    :raises InvalidSettingError: not a full name
    """
    target = LandingTarget.beside(TableName.parse(table))
    hook = SnowflakeLoadHook(
        snowflake_conn_id=snowflake_conn_id, database=target.table.database, schema=target.table.schema
    )
    with SnowflakeAuditSession(hook.get_conn, name=snowflake_conn_id) as session:
        yield AuditTarget(session, target)


def audit(
    request: AuditRequest,
    *,
    landed: AuditTarget,
    open_store: Callable[[str], CheckpointStoreHook],
    kinesis: KinesisStreamHook,
) -> AuditReport:
    """Compare landing table, dead letters, offsets and checkpoints, and say whether all is exactly once.

    Drains may run meanwhile: Snowflake counts rows, dead letters and offsets in one statement, checkpoints
    are read before it, and the ends of parents after it.

    :param open_store: the state of an application
    :param kinesis: the stream; only read with ``with_stream``
    :raises SnowflakeObjectNotFoundError: a table isn't there, which doesn't mean that nothing was loaded
    :raises NotACheckpointTableError: a table of an application belongs to other software
    :raises CorruptStateError: a row of state, or an offset, can't be read
    """
    session, target = landed.session, landed.target
    before = _states(request, open_store)
    shards = session.count_records(
        target,
        stream=request.stream,
        applications=request.applications,
        several_documents=request.several_documents,
    )
    after = _states(request, open_store)
    applications = session.list_applications(target.offsets, stream=request.stream)
    evidence = Evidence(
        stream=request.stream,
        table=str(target.table),
        audited=request.applications,
        others=tuple(name for name in applications if name not in request.applications),
        shards=shards,
        state_before=before,
        state_after=after,
        compared=_compare(request, landed, kinesis, shards, before) if request.with_stream else None,
        compare_counts=request.compare_counts,
        several_documents=request.several_documents,
    )
    return judge(evidence)


def _states(
    request: AuditRequest, open_store: Callable[[str], CheckpointStoreHook]
) -> Mapping[str, StreamState]:
    stores = {name: open_store(name) for name in request.applications}
    return {name: store.read_state(request.stream) for name, store in stores.items() if store.exists()}


def _compare(
    request: AuditRequest,
    landed: AuditTarget,
    kinesis: KinesisStreamHook,
    shards: Sequence[ShardCounts],
    states: Mapping[str, StreamState],
) -> tuple[StreamComparison, ...]:
    since = now_millis() - int(kinesis.describe().retention.total_seconds() * 1000)
    rows = {
        shard.shard_id: [
            state.shards[shard.shard_id] for state in states.values() if shard.shard_id in state.shards
        ]
        for shard in shards
    }
    coordinates = landed.session.list_coordinates(
        landed.target, stream=request.stream, applications=request.applications, since=since
    )
    with closing(coordinates):
        return compare_shards(
            kinesis,
            there=coordinates,
            dues={shard.shard_id: due(shard, rows[shard.shard_id]) for shard in shards},
            since=since,
        )
