"""Carrying out the plan of an import: the rows of the application that takes over are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.takeover.plan import check_target, incarnation_of_import
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import StartAt

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.takeover.plan import ImportPlan
    from airflow_kinesis_snowflake.maintenance.takeover.source import ImportedShard


def apply_import(plan: ImportPlan, *, store: CheckpointStoreHook, clock: Callable[[], int]) -> dict[str, int]:
    """Write the rows. Rows that an earlier try created stay as they are, so it can be repeated.

    Every row is created with a lease, so that no worker reads before all of them are there. If the source is
    the application's own table, as Openflow left it, nothing has to be written: the next drain goes on from
    it.

    :param clock: gives milliseconds since the epoch
    :return: how many rows were ``created``, and how many were ``there``
    :raises MaintenanceRefusedError: the application has rows of its own, or a worker has created some in the
        meantime
    """
    if plan.source == plan.application:
        return {"created": 0, "there": len(plan.shards)}
    store.create_table()
    table_created = check_target(store, plan.source, plan.stream)
    owner = f"import#{plan.source}"
    left = {row.shard_id: row for row in store.read_state(plan.stream).shards.values()}
    # Rows that a try left leased when it died are freed with the others.
    mine = [(plan.stream, row.shard_id) for row in left.values() if row.lease_owner == owner]
    rows = [_row(plan, shard, table_created) for shard in plan.shards]
    with holding(store, mine, owner=owner, clock=clock, force=False) as holds:
        created = [
            row for row in rows if holds.make((plan.stream, row.shard_id), _maker(store, plan, row, owner))
        ]
        _check_written(plan, rows, created, store)
    return {"created": len(created), "there": len(rows) - len(created)}


def _row(plan: ImportPlan, shard: ImportedShard, table_created: int) -> ShardState:
    return ShardState(
        shard_id=shard.shard_id,
        checkpoint=shard.checkpoint,
        start_at=StartAt.parse(shard.start_at),
        parents=shard.parents,
        ended=shard.ended,
        incarnation=incarnation_of_import(plan.source, plan.stream, shard.shard_id, table_created),
        stream_created=plan.stream_created,
        stream_arn=plan.stream_arn,
    )


def _maker(
    store: CheckpointStoreHook, plan: ImportPlan, row: ShardState, owner: str
) -> Callable[[int, int], bool]:
    return lambda now, until: store.reset_shard(plan.stream, row, owner=owner, now=now, made_until=until)


def _check_written(
    plan: ImportPlan, rows: Iterable[ShardState], created: Collection[ShardState], store: CheckpointStoreHook
) -> None:
    """Check that each row is the import's own, as it was written if it is new, and that there are no others.

    :raises MaintenanceRefusedError: a worker came between
    """
    found = dict(store.read_state(plan.stream).shards)
    for row in rows:
        there = found.pop(row.shard_id, None)
        if (
            there is None
            or there.incarnation != row.incarnation
            or (row in created and not _same(there, row))
        ):
            raise _came_between(plan, row.shard_id)
    for shard_id in found:
        raise _came_between(plan, shard_id)


def _same(found: ShardState, written: ShardState) -> bool:
    return (found.checkpoint, found.start_at, found.ended, frozenset(found.parents)) == (
        written.checkpoint,
        written.start_at,
        written.ended,
        frozenset(written.parents),
    )


def _came_between(plan: ImportPlan, shard_id: str) -> MaintenanceRefusedError:
    return MaintenanceRefusedError(
        f"Stop the drains of application {plan.application}, delete its state (DAG kinesis_state_reset, "
        f"method delete_table) and import again: in the meantime a worker created the row of shard "
        f"{shard_id} of stream {plan.stream}, which doesn't go on where the source stands. What the worker "
        "loads until then is loaded twice."
    )
