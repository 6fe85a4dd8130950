"""``delete_table``: the application forgets everything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.reset.new_start import INITIAL_POSITION, NewStart
from airflow_kinesis_snowflake.state.attributes import key_of
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
    from airflow_kinesis_snowflake.maintenance.reset.method import OpenStore
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

log = logging.getLogger(__name__)


class DeleteTable(NewStart):
    """Deletes the application's table, on all its streams; the next drain starts at its initial position."""

    name = "delete_table"
    summary = "forget everything; start at the initial position"
    fields = (INITIAL_POSITION,)

    def intention(self, request: ResetRequest) -> str:
        """What becomes of the table."""
        return f"the table is deleted; the next drain starts at {request.initial_position}."

    def refusals(self, request: ResetRequest, inspection: Inspection) -> Iterable[str]:
        """A table that is protected stays."""
        if inspection.protected:
            yield (
                f"use rewind, or turn deletion protection off: the table {request.application} is protected "
                "against deletion"
            )

    def survey(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        store: CheckpointStoreHook,
        open_store: OpenStore,
    ) -> tuple[str, ...]:
        """The other streams of which the table has rows, which are deleted with it."""
        streams = {stream for stream, _ in map(key_of, store.read_items())}
        return tuple(sorted(streams - {request.stream}))

    def apply(self, run: ResetRun) -> None:
        """Close all incarnations, and delete the table if it is still the one that was planned for."""
        facts = run.store.describe_table()
        if facts.created is None or millis(facts.created) != run.plan.table_created:
            log.info("The table that was to be deleted is gone already")
            return
        held = set(run.read_rows())
        with run.holding(held) as holds:
            # Before they were held, a drain may have changed them.
            rows = run.read_rows()
            if unheld := rows.keys() - held:
                raise run.begun_meanwhile(min(unheld))
            run.occupy(rows, holds)
            for stream in sorted({stream for stream, _ in rows}):
                run.close(stream, [row for key, row in rows.items() if key[0] == stream])
            holds.prolong()
            # Shards of a reshard since the plan, whose parents were read to their end, wait for nobody.
            planned = {(run.plan.request.stream, change.shard_id) for change in run.plan.changes}
            if begun := run.read_rows().keys() - rows.keys() - planned:
                raise run.begun_meanwhile(min(begun))
            run.store.delete_table()

    def unmet(self, plan: ResetPlan, inspection: Inspection) -> list[str]:
        """The table must be gone."""
        gone = inspection.table_created != plan.table_created
        return [] if gone else [f"the table {plan.request.application} is still there"]
