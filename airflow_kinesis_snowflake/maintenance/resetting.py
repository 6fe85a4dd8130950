"""Carrying out the plan of a reset.

Nothing changes before every row concerned is leased to the reset, so no worker reads meanwhile. Each step can
be repeated: a reset that was interrupted is run again with the same plan and does what is left.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    MaintenanceRefusedError,
)
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.inspection import inspect_state
from airflow_kinesis_snowflake.maintenance.methods import Method
from airflow_kinesis_snowflake.maintenance.reset import LATEST, Action
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.state.attributes import key_of
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import StartAt
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.holding import Holds
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.maintenance.loaded import Loaded
    from airflow_kinesis_snowflake.maintenance.reset import ResetPlan, ShardChange

    # Shard rows by stream and shard id; None: the row can't be read.
    Rows = Mapping[tuple[str, str], ShardState | None]

log = logging.getLogger(__name__)


class Resetting:
    """Carries out one plan.

    :param plan: what to do
    :param store: of the plan's application
    :param loaded: where to close incarnations; None: what a zombie commits isn't refused
    :param clock: gives milliseconds since the epoch
    """

    def __init__(
        self,
        plan: ResetPlan,
        *,
        store: CheckpointStoreHook,
        loaded: Loaded | None,
        clock: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._store = store
        self._loaded = loaded
        self._clock = clock
        self._owner = f"reset#{plan.id}"

    def run(
        self, *, open_store: Callable[[str], CheckpointStoreHook], remember: Callable[[str], None]
    ) -> Mapping[str, int]:
        """Carry out the plan.

        :param open_store: the store of another application, for ``rename``
        :param remember: makes the drain use the new name, for ``rename``
        :return: number of shards per action
        :raises MaintenanceRefusedError: a worker is reading, or the state isn't the one planned for; nothing
            was changed
        """
        request = self._plan.request
        if request.method is Method.DELETE_TABLE:
            self._delete_table()
        elif request.method is Method.RENAME:
            self._rename(open_store, remember)
        else:
            self._change_shards()
        done = Counter(str(change.action) for change in self._plan.changes)
        log.info("Reset %s of application %s is done: %s", request.method, request.application, dict(done))
        return dict(done)

    # --- methods ---

    def _delete_table(self) -> None:
        facts = self._store.describe_table()
        if facts.created is None or millis(facts.created) != self._plan.table_created:
            log.info("The table that was planned to be deleted is gone already")
            return
        rows = self._rows(self._store.read_items())
        with self._holding(rows):
            for stream in sorted({stream for stream, _ in rows}):
                self._close(stream, [row for key, row in rows.items() if key[0] == stream])
            self._store.delete_table()

    def _rename(
        self, open_store: Callable[[str], CheckpointStoreHook], remember: Callable[[str], None]
    ) -> None:
        new_name = self._plan.request.new_application or ""
        rows = self._rows(self._store.read_items(self._plan.request.stream))
        with self._holding(rows):
            new = open_store(new_name)
            new.create_table()
            new.tag({"succeeds": self._store.application_name})
            remember(new_name)
            self._store.tag({"superseded-by": new_name})

    def _change_shards(self) -> None:
        plan = self._plan
        if plan.request.method is Method.RECOVER:
            self._store.create_table()
        rows = self._rows(self._store.read_items(self._plan.request.stream))
        by_shard = {shard_id: row for (_, shard_id), row in rows.items()}
        changes = [change for change in plan.changes if change.action is not Action.KEEP]
        self._check_still_as_planned(changes, by_shard)
        todo = [change for change in changes if not _is_done(change, by_shard)]
        concerned = {change.shard_id for change in todo}
        # Rows that an earlier run has made and left leased are freed with the others.
        with self._holding(
            key for key, row in rows.items() if key[1] in concerned or self._left(row)
        ) as holds:
            self._close(plan.request.stream, _ended_by(todo, by_shard), also=self._opened_again(todo))
            for change in todo:
                self._change(change, holds)

    def _left(self, row: ShardState | None) -> bool:
        return row is not None and row.lease_owner == self._owner

    def _change(self, change: ShardChange, holds: Holds) -> None:
        stream = self._plan.request.stream
        if change.action is Action.REMOVE:
            done = self._store.remove_shard(stream, change.shard_id, owner=self._owner)
        else:
            write = partial(self._store.reset_shard, stream, self._new_state(change), owner=self._owner)
            if change.action is Action.SET:
                done = write(now=self._clock())
            else:
                key = (stream, change.shard_id)
                done = holds.make(key, lambda now, until: write(now=now, made_until=until))
        if not done:
            raise MaintenanceRefusedError(
                f"The row of shard {change.shard_id} of stream {stream} changed while application "
                f"{self._store.application_name} was being reset; make a new plan."
            )

    def _new_state(self, change: ShardChange) -> ShardState:
        latest = change.new_start_at == LATEST
        return ShardState(
            shard_id=change.shard_id,
            checkpoint=change.new_checkpoint,
            start_at=StartAt(moment(self._clock())) if latest else StartAt.parse(change.new_start_at or ""),
            parents=change.parents,
            ended=change.new_ended,
            incarnation=change.new_incarnation,
            stream_created=self._plan.stream_created,
            stream_arn=self._plan.stream_arn,
            offset=change.new_offset if change.new_sink == COPY else None,
            offsets={change.new_sink: change.new_offset}
            if change.new_offset is not None and change.new_sink != COPY
            else {},
            sinks=frozenset(change.new_sinks),
            # A worker that should be dead may stream until the next drain opens the channel, so it has to.
            unsettled=change.new_offset is not None and STREAMING in change.new_sinks,
            caught_up_at=change.new_caught_up_at,
        )

    # --- steps ---

    def _rows(self, items: Iterable[Mapping[str, Any]]) -> Rows:
        rows: dict[tuple[str, str], ShardState | None] = {}
        for item in items:
            key = key_of(item)
            try:
                row = self._store.shard_state(item)
            except CorruptStateError:
                rows[key] = None
            else:
                if row is not None:
                    rows[key] = row
        return rows

    def _check_still_as_planned(
        self, changes: Iterable[ShardChange], rows: Mapping[str, ShardState | None]
    ) -> None:
        stream = self._plan.request.stream
        for change in changes:
            row = rows.get(change.shard_id)
            expected = {change.incarnation, change.new_incarnation}
            if row is not None and row.incarnation not in expected:
                raise MaintenanceRefusedError(
                    f"Shard {change.shard_id} of stream {stream} has changed hands since the plan was "
                    "made; nothing was changed. Make a new plan for application "
                    f"{self._store.application_name}."
                )

    def _holding(self, rows: Iterable[tuple[str, str]]) -> AbstractContextManager[Holds]:
        return holding(
            self._store, rows, owner=self._owner, clock=self._clock, force=self._plan.request.force
        )

    def _opened_again(self, changes: Iterable[ShardChange]) -> list[OffsetKey]:
        """Incarnations of the past that are open because Snowflake went back to when they were."""
        if self._loaded is None or self._plan.offsets_unseen or not self._plan.request.trust_snowflake:
            return []
        kept = {change.shard_id: change.new_incarnation for change in changes}
        rows = self._loaded.session.list_offsets(
            self._loaded.target.offsets, application=self._store.application_name
        )
        return [
            OffsetKey(row.shard_id, row.incarnation)
            for row in rows
            if row.stream == self._plan.request.stream
            and row.shard_id in kept
            and row.incarnation != kept[row.shard_id]
        ]

    def _close(
        self, stream: str, rows: Iterable[ShardState | None], *, also: Iterable[OffsetKey] = ()
    ) -> None:
        """Refuse from now on what workers of old incarnations would still commit.

        :param also: incarnations in the offsets table that no row names
        """
        if self._loaded is None:
            return
        ended = [row for row in rows if row is not None and row.incarnation]
        if not self._plan.offsets_unseen:
            copied = [OffsetKey.of(row) for row in ended if row.offset is not None or COPY in row.sinks]
            self._loaded.session.close_offsets(
                self._loaded.target,
                application=self._store.application_name,
                stream=stream,
                keys=[*copied, *also],
            )
        # A channel belongs to whoever opened it last. Its token stays: a recovery may need it.
        fenced = self._loaded.channels.fence(
            application=self._store.application_name,
            stream=stream,
            keys=[OffsetKey.of(row) for row in ended if STREAMING in row.sinks],
        )
        if fenced:
            log.info("%d channels of stream %s are taken from whoever had them", fenced, stream)


def verify_reset(
    plan: ResetPlan, *, store: CheckpointStoreHook, kinesis: KinesisStreamHook, now: int
) -> Inspection:
    """See that a plan which was carried out has left the state as planned.

    :param now: milliseconds since the epoch
    :return: the state
    :raises MaintenanceRefusedError: it hasn't
    """
    inspection = inspect_state(store, kinesis, now=now)
    problems = unmet(plan, inspection)
    if problems:
        raise MaintenanceRefusedError(
            f"Carry out the plan once more: the reset of application {plan.request.application} isn't "
            f"complete: {'; '.join(problems)}."
        )
    return inspection


def unmet(plan: ResetPlan, inspection: Inspection) -> list[str]:
    """What isn't as a plan that was carried out leaves it; nothing if all is well."""
    if plan.request.method is Method.DELETE_TABLE:
        gone = inspection.table_created != plan.table_created
        return [] if gone else [f"the table {plan.request.application} is still there"]
    if plan.request.method is Method.RENAME:
        return []
    shards = {shard.shard_id: shard for shard in inspection.shards}
    problems = []
    for change in plan.changes:
        shard = shards.get(change.shard_id)
        if change.action is Action.REMOVE and shard is not None and shard.row:
            problems.append(f"shard {change.shard_id} still has a row")
        if change.action not in {Action.SET, Action.CREATE}:
            continue
        if shard is None or not _is_as_planned(shard, change):
            problems.append(f"shard {change.shard_id} wasn't reset")
        elif shard.leased(inspection.at):
            problems.append(f"shard {change.shard_id} is leased to {shard.lease_owner}")
    return problems


def _is_as_planned(shard: ShardView, change: ShardChange) -> bool:
    """Whether a shard goes on as planned; a drain may have moved its checkpoint since."""
    if shard.incarnation != change.new_incarnation:
        return False
    kept = change.incarnation == change.new_incarnation
    return not (kept and shard.checkpoint == change.checkpoint != change.new_checkpoint)


def _ended_by(changes: Iterable[ShardChange], rows: Mapping[str, ShardState | None]) -> list[ShardState]:
    """Rows whose incarnations end with the change; those that can't be read don't tell theirs."""
    return [
        row
        for change in changes
        if (row := rows.get(change.shard_id)) is not None
        and row.incarnation
        and row.incarnation != change.new_incarnation
    ]


def _is_done(change: ShardChange, rows: Mapping[str, ShardState | None]) -> bool:
    """Whether an earlier run of the plan has made the change."""
    if change.action is Action.REMOVE:
        return change.shard_id not in rows
    row = rows.get(change.shard_id)
    if row is None or row.incarnation != change.new_incarnation:
        return False
    if change.incarnation != change.new_incarnation:
        return True
    return (row.checkpoint, row.ended, row.committed_by(change.new_sink)) == (
        change.new_checkpoint,
        change.new_ended,
        change.new_offset,
    )
