"""Carrying out the plan of a reset.

Nothing changes before every row concerned is leased to the reset, so no worker reads in the meantime. Each
step can be repeated: a reset that was interrupted is run again with the same plan, and does what is left.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import CorruptStateError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.holding import holding
from airflow_kinesis_snowflake.maintenance.inspection import inspect_state
from airflow_kinesis_snowflake.maintenance.reset.changes import Action, has_copied
from airflow_kinesis_snowflake.maintenance.reset.positions import LATEST
from airflow_kinesis_snowflake.maintenance.reset.registry import find_method
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.state.attributes import key_of
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt, is_after
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.holding import Holds
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from airflow_kinesis_snowflake.maintenance.reset.method import OpenStore
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

    # Shard rows by stream and shard id; None: the row can't be read.
    Rows = Mapping[tuple[str, str], ShardState | None]

    ChooseKeys = Callable[[Sequence[ShardChange]], Iterable[OffsetKey]]
    """Chooses further incarnations to close, given the changes that are left to make."""

    Check = Callable[[Sequence[ShardChange], Sequence[ShardState]], None]
    """Raises an error if these changes mustn't be made, which have ended the incarnations of these rows."""

log = logging.getLogger(__name__)


def apply_reset(
    plan: ResetPlan,
    *,
    store: CheckpointStoreHook,
    snowflake: SnowflakeState | None,
    open_store: OpenStore,
    remember: Callable[[str], None],
    clock: Callable[[], int],
) -> dict[str, int]:
    """Carry out the plan of a reset. Can be repeated.

    :param store: of the plan's application
    :param snowflake: where to close incarnations; None: what a zombie commits isn't refused
    :param open_store: opens the store of another application
    :param remember: makes the drain use a new application name
    :param clock: gives milliseconds since the epoch
    :return: number of shards per action
    :raises MaintenanceRefusedError: a worker is reading, or the state isn't the one planned for; nothing was
        changed
    """
    request = plan.request
    run = ResetRun(
        plan, store=store, snowflake=snowflake, open_store=open_store, remember=remember, clock=clock
    )
    find_method(request.method).apply(run)
    done = Counter(str(change.action) for change in plan.changes)
    log.info("Reset %s of application %s is done: %s", request.method, request.application, dict(done))
    return dict(done)


class ResetRun:
    """The steps that methods carry out a plan with, and what they need for it.

    The parameters are those of :func:`apply_reset`, and attributes of the same names.
    """

    def __init__(
        self,
        plan: ResetPlan,
        *,
        store: CheckpointStoreHook,
        snowflake: SnowflakeState | None,
        open_store: OpenStore,
        remember: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self.plan = plan
        self.store = store
        self.snowflake = snowflake
        self.open_store = open_store
        self.remember = remember
        self._clock = clock
        self._owner = f"reset#{plan.id}"

    def read_rows(self, stream: str | None = None) -> Rows:
        """The rows of shards.

        :param stream: None: of all streams
        """
        rows: dict[tuple[str, str], ShardState | None] = {}
        for item in self.store.read_items(stream):
            key = key_of(item)
            try:
                row = self.store.shard_state(item)
            except CorruptStateError:
                rows[key] = None
            else:
                if row is not None:
                    rows[key] = row
        return rows

    def holding(self, rows: Iterable[tuple[str, str]]) -> AbstractContextManager[Holds]:
        """Keep workers away from the shards of some rows, all or none, until the block ends.

        :raises MaintenanceRefusedError: a worker is reading one of them
        """
        return holding(self.store, rows, owner=self._owner, clock=self._clock, force=self.plan.request.force)

    def close(
        self, stream: str, rows: Iterable[ShardState | None], *, also: Iterable[OffsetKey] = ()
    ) -> None:
        """Refuse from now on what workers of old incarnations would still commit.

        :param also: incarnations in the offsets table that no row names
        """
        if self.snowflake is None:
            return
        ended = [row for row in rows if row is not None and row.incarnation]
        if not self.plan.offsets_unseen:
            copied = [OffsetKey.of(row) for row in ended if has_copied(row)]
            self.snowflake.session.close_offsets(
                self.snowflake.target,
                application=self.store.application_name,
                stream=stream,
                keys=[*copied, *also],
            )
        # A channel belongs to whoever opened it last. Its token stays: a recovery may need it.
        fenced = self.snowflake.channels.fence(
            application=self.store.application_name,
            stream=stream,
            keys=[OffsetKey.of(row) for row in ended if STREAMING in row.sinks],
        )
        if fenced:
            log.info("%d channels of stream %s are taken from whoever had them", fenced, stream)

    def occupy(self, rows: Rows, holds: Holds) -> None:
        """Make and hold the rows that a drain would make, so that none begins with another shard meanwhile.

        Shards that a reshard makes from now on wait for their parents, which are held. If this process dies,
        drains read the shards from where they would have.

        :param rows: those that there are, all held
        :raises MaintenanceRefusedError: a drain has begun with a shard
        """
        stream = self.plan.request.stream
        begun = [row for (of, _), row in rows.items() if of == stream and row is not None]
        founded = {
            shard_id: row.initial_start or row.start_at for row in begun for shard_id in row.initial_shards
        }
        for change in self.plan.changes:
            if change.action is Action.LEAVE_TO_DRAIN and (stream, change.shard_id) not in rows:
                start_at = str(founded.get(change.shard_id) or TRIM_HORIZON) if begun else change.new_start_at
                incarnation = uuid5(NAMESPACE_OID, f"{self.plan.id}/{change.shard_id}").hex
                made = replace(change, new_start_at=start_at, new_incarnation=incarnation)
                if not self._make(made, holds):
                    raise self.begun_meanwhile((stream, change.shard_id))

    def begun_meanwhile(self, key: tuple[str, str]) -> MaintenanceRefusedError:
        """Why nothing was deleted: a drain has begun with a shard that had no row."""
        stream, shard_id = key
        return MaintenanceRefusedError(
            f"Stop the drains of application {self.store.application_name} and carry out the plan once more: "
            f"one has begun shard {shard_id} of stream {stream} in the meantime. No row that was there was "
            "changed."
        )

    def change_shards(
        self,
        *,
        whole: bool = False,
        also_close: ChooseKeys = lambda _: (),
        check: Check = lambda *_: None,
    ) -> None:
        """Close the incarnations that end, and write the rows of the shards.

        :param whole: the plan is meant for all shards, so there mustn't be rows of others since
        :param also_close: further incarnations, which no row names
        :param check: is called in between, when nothing more is loaded under the incarnations that end
        :raises MaintenanceRefusedError: a worker is reading, or the state isn't the one planned for
        """
        stream = self.plan.request.stream
        rows, todo = self._look(whole=whole)
        concerned = {change.shard_id for change in todo}
        # Rows that an earlier run has made and left leased are freed with the others.
        with self.holding(
            (stream, shard_id) for shard_id, row in rows.items() if shard_id in concerned or self._left(row)
        ) as holds:
            # Before they were held, a drain or another run of the plan may have changed them.
            rows, todo = self._look(whole=whole)
            ended = _ended_by(todo, rows)
            self.close(stream, ended, also=also_close(todo))
            check(todo, ended)
            for change in todo:
                self._change(change, holds)

    def _look(self, *, whole: bool) -> tuple[Mapping[str, ShardState | None], list[ShardChange]]:
        """The rows of the stream as they are, by shard id, and what is left to do to them."""
        rows = self.read_rows(self.plan.request.stream)
        by_shard = {shard_id: row for (_, shard_id), row in rows.items()}
        changes = [change for change in self.plan.changes if change.action is not Action.KEEP]
        self._check_still_as_planned(changes, by_shard)
        todo = [change for change in changes if not _is_done(change, by_shard)]
        if whole and todo:
            self._check_that_all_are_planned(by_shard)
        return by_shard, todo

    def _left(self, row: ShardState | None) -> bool:
        return row is not None and row.lease_owner == self._owner

    def _change(self, change: ShardChange, holds: Holds) -> None:
        stream = self.plan.request.stream
        if change.action is Action.REMOVE:
            done = self.store.remove_shard(stream, change.shard_id, owner=self._owner)
        elif change.action is Action.SET:
            state = self._new_state(change)
            done = self.store.reset_shard(stream, state, owner=self._owner, now=self._clock())
        else:
            done = self._make(change, holds)
        if not done:
            raise MaintenanceRefusedError(
                f"Make a new plan: the row of shard {change.shard_id} of stream {stream} changed while "
                f"application {self.store.application_name} was being reset."
            )

    def _make(self, change: ShardChange, holds: Holds) -> bool:
        """Make the row of a shard, held from its first moment on; ``False``: there is one."""
        stream = self.plan.request.stream
        write = partial(self.store.reset_shard, stream, self._new_state(change), owner=self._owner)
        return holds.make((stream, change.shard_id), lambda now, until: write(now=now, made_until=until))

    def _new_state(self, change: ShardChange) -> ShardState:
        latest = change.new_start_at == LATEST
        return ShardState(
            shard_id=change.shard_id,
            checkpoint=change.new_checkpoint,
            start_at=StartAt(moment(self._clock())) if latest else StartAt.parse(change.new_start_at or ""),
            parents=change.parents,
            ended=change.new_ended,
            incarnation=change.new_incarnation,
            stream_created=self.plan.stream_created,
            stream_arn=self.plan.stream_arn,
            offset=change.new_offset if change.new_sink == COPY else None,
            offsets={change.new_sink: change.new_offset}
            if change.new_offset is not None and change.new_sink != COPY
            else {},
            sinks=frozenset(change.new_sinks),
            # A worker that should be dead may commit until the next drain has opened the channel or moved the
            # offset.
            unsettled=bool(change.new_sinks) and not change.new_ended,
            caught_up_at=change.new_caught_up_at,
        )

    def _check_that_all_are_planned(self, shard_ids: Iterable[str]) -> None:
        new = sorted(set(shard_ids) - {change.shard_id for change in self.plan.changes})
        if new:
            raise MaintenanceRefusedError(
                f"Make a new plan for application {self.store.application_name}: this one is for all shards "
                f"of stream {self.plan.request.stream}, and drains have begun {', '.join(new)} since. "
                "Nothing was changed."
            )

    def _check_still_as_planned(
        self, changes: Iterable[ShardChange], rows: Mapping[str, ShardState | None]
    ) -> None:
        stream, created = self.plan.request.stream, self.plan.stream_created
        if created and any(
            row and row.stream_created and row.stream_created > created for row in rows.values()
        ):
            raise MaintenanceRefusedError(
                f"Make a new plan for application {self.store.application_name}: stream {stream} was deleted "
                "and created again since this plan was made. Nothing was changed."
            )
        for change in changes:
            row = rows.get(change.shard_id)
            expected = {change.incarnation, change.new_incarnation}
            if row is not None and row.incarnation not in expected:
                raise MaintenanceRefusedError(
                    f"Make a new plan for application {self.store.application_name}: shard "
                    f"{change.shard_id} of stream {stream} has been reset or imported since this plan was "
                    "made. Nothing was changed."
                )


def verify_reset(
    plan: ResetPlan, *, store: CheckpointStoreHook, kinesis: KinesisStreamHook, now: int
) -> Inspection:
    """See that a plan which was carried out has left the state as planned.

    :param now: milliseconds since the epoch
    :return: the state
    :raises MaintenanceRefusedError: it hasn't
    """
    inspection = inspect_state(store, kinesis, now=now)
    problems = find_method(plan.request.method).unmet(plan, inspection)
    if problems:
        raise MaintenanceRefusedError(
            f"Carry out the plan once more: the reset of application {plan.request.application} isn't "
            f"complete: {'; '.join(problems)}."
        )
    return inspection


def _ended_by(changes: Iterable[ShardChange], rows: Mapping[str, ShardState | None]) -> list[ShardState]:
    """Rows whose incarnations end with the change.

    Of a row that is lost or can't be read, the plan may know the incarnation, and the sink that used it.
    """
    return [
        row
        for change in changes
        if (row := rows.get(change.shard_id) or _as_known(change)).incarnation
        and row.incarnation != change.new_incarnation
    ]


def _as_known(change: ShardChange) -> ShardState:
    return ShardState(change.shard_id, incarnation=change.incarnation, sinks=frozenset({change.new_sink}))


def _is_done(change: ShardChange, rows: Mapping[str, ShardState | None]) -> bool:
    """Whether an earlier run of the plan has made the change, or a drain has gone on past it since."""
    if change.action is Action.REMOVE:
        return change.shard_id not in rows
    row = rows.get(change.shard_id)
    if row is None or row.incarnation != change.new_incarnation:
        return False
    if change.incarnation != change.new_incarnation:
        return True
    if row.checkpoint not in {None, change.checkpoint} and is_after(row.checkpoint, change.new_checkpoint):
        return True
    return (row.checkpoint, row.ended, row.committed_by(change.new_sink)) == (
        change.new_checkpoint,
        change.new_ended,
        change.new_offset,
    )
