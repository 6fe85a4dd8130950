"""``recover``: rows are rebuilt from what Snowflake says is committed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.reset.changes import Action, has_copied, unchanged
from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
from airflow_kinesis_snowflake.maintenance.reset.method import Decision, MethodField, ResetMethod, refuse
from airflow_kinesis_snowflake.maintenance.reset.positions import LATEST, parse_start
from airflow_kinesis_snowflake.state.attributes import COPY
from airflow_kinesis_snowflake.stream.lineage import Shard, ShardProgress, new_shards
from airflow_kinesis_snowflake.stream.positions import StartAt, is_after, sequence_facts
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
    from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from airflow_kinesis_snowflake.maintenance.reset.method import ListShards
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
    from airflow_kinesis_snowflake.state.shards import ShardState


class Recover(ResetMethod):
    """Rebuilds the table from Snowflake, so that nothing is loaded twice and nothing is left out.

    It works even without a table. A checkpoint never goes back, unless ``trust_snowflake`` says that
    Snowflake itself went back in time.
    """

    name = "recover"
    summary = "rebuild the table from what Snowflake has"
    fields = (
        MethodField("position", "where shards start that Snowflake has nothing of; TRIM_HORIZON by default"),
        MethodField(
            "trust_snowflake",
            "Snowflake went back in time (Time Travel, a clone, a failover to a replica). Checkpoints go "
            "back to its offsets too, and the records that are missing there are read again",
        ),
    )
    needs_table = False
    needs_offsets = True

    def check(self, request: ResetRequest) -> None:
        """The position must be one for any shard."""
        if request.position:
            parse_start(request.position)

    def intention(self, request: ResetRequest) -> str:
        """Which way checkpoints may go."""
        if request.trust_snowflake:
            return "checkpoints go to what Snowflake has, even where it went back in time."
        return "the table is rebuilt from what Snowflake has; nothing is loaded twice and nothing left out."

    def decide(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        offsets: Sequence[CommittedOffset],
        new_incarnation: Callable[[], str],
    ) -> Decision:
        """Set each shard to its offset, and leave those alone that stand there already."""
        if any(inspection.is_foreign(shard) for shard in inspection.shards):
            refuse(
                request,
                [
                    f"use delete_table or rewind: its checkpoints belong to a stream {request.stream} that "
                    "was deleted, and the present one has none of their records"
                ],
            )
        committed, notes = committed_by_shard(offsets, inspection, backwards=request.trust_snowflake)
        if not committed and not any(shard.row for shard in inspection.shards):
            refuse(request, [f"Snowflake has no offsets of it on stream {request.stream} to recover from"])
        known = {shard.shard_id for shard in inspection.shards}
        extra = [
            inspection.shard(shard_id)
            for shard_id in sorted(committed.keys() - known)
            if _is_as_young_as_the_stream(committed[shard_id], inspection)
        ]
        fresh = _fresh(inspection, committed)
        changes = tuple(
            _recovered(
                request,
                shard,
                committed.get(shard.shard_id),
                new=new_incarnation(),
                fresh=shard.shard_id in fresh,
                now=inspection.at,
            )
            for shard in (*inspection.shards, *extra)
        )
        return Decision(changes, (*notes, *_notes_of_channels(committed, inspection)))

    def review(
        self,
        request: ResetRequest,
        inspection: Inspection,
        changes: Sequence[ShardChange],
        *,
        list_shards: ListShards,
    ) -> Iterable[str]:
        """Say what isn't known of shards that follow Snowflake back in time."""
        return notes_of_return(changes, inspection.retention_seconds) if request.trust_snowflake else ()

    def apply(self, run: ResetRun) -> None:
        """Make the table if there is none, and set the shards in it."""
        run.store.create_table()
        run.change_shards(
            also_close=lambda changes: _opened_again(run, changes),
            check=lambda changes, ended: _refuse_what_came(run, changes, ended),
        )


# --- which offset counts -----------------------------------------------------------------------------------


def committed_by_shard(
    offsets: Sequence[CommittedOffset], inspection: Inspection, *, backwards: bool = False
) -> tuple[dict[str, CommittedOffset], list[str]]:
    """The incarnation of each shard that a recovery goes on with.

    It is that of the row, if there is one that can be read, or else the one that moved last. One that a reset
    has closed counts only if a row still names it: that reset didn't come to its end. Channels don't say
    whether they were closed, but an incarnation that is closed for one sink is closed for all. One that
    several sinks left in doubt is as good as closed: none of them can tell what the others may still commit.
    So is one of which only an empty channel is left: where it began was in its row.

    :param backwards: also where Snowflake is before what a drain had committed
    :return: by shard id, and notes about offsets that can't be used
    """
    rows = {shard.shard_id: shard for shard in inspection.shards if shard.row and shard.readable}
    contested = {
        (row.shard_id, row.incarnation) for row in rows.values() if len(row.sinks) > 1 and not row.ended
    }
    closed = contested | {(offset.shard_id, offset.incarnation) for offset in offsets if offset.closed}
    known = [*offsets, *_gone(offsets, rows, now=inspection.at)]
    unknown = contested - {(offset.shard_id, offset.incarnation) for offset in known}
    known += [CommittedOffset(shard_id, incarnation or "", None) for shard_id, incarnation in unknown]
    found = [replace(offset, closed=(offset.shard_id, offset.incarnation) in closed) for offset in known]
    chosen: dict[str, CommittedOffset] = {}
    notes: list[str] = []
    for offset in sorted(found, key=lambda offset: offset.updated):
        row = rows.get(offset.shard_id)
        if row is None and _is_of_another_stream(offset, inspection.shard(offset.shard_id)):
            continue
        if not _counts(offset, row):
            continue
        if row is not None and not (backwards and went_back(offset, row)):
            notes += _notes_of_kept(offset, row)
            if _is_before(offset, row) and not offset.closed:
                continue
        chosen[offset.shard_id] = _of_both(
            chosen.get(offset.shard_id), _closed_without_beginning(offset, row), row, backwards=backwards
        )
    return chosen, notes


def _closed_without_beginning(offset: CommittedOffset, row: ShardView | None) -> CommittedOffset:
    """The offset, as good as closed if nothing says where its incarnation began.

    Dead letters are committed ahead of rows. Under an incarnation that is read from an earlier record than it
    was before, those up to there would be taken for committed.
    """
    unknown = offset.position is None and (row is None or row.incarnation is None)
    return replace(offset, closed=offset.closed or unknown)


def _is_of_another_stream(offset: CommittedOffset, shard: ShardView) -> bool:
    """Whether an offset is of a stream that was deleted: all numbers of a shard say when it was made."""
    return bool(_made(offset)) and shard.made is not None and _made(offset) != shard.made


def _is_as_young_as_the_stream(offset: CommittedOffset, inspection: Inspection) -> bool:
    """Whether a shard that isn't listed was made since the stream was, to the second, as numbers tell it.

    A row of another's shard would be taken for that of a shard of its name that comes later.
    """
    return _made(offset) >= (inspection.stream_created or 0) // 1000 * 1000


def _made(offset: CommittedOffset) -> int:
    """When the shard was made that gave out an offset's number (ms); 0: the number doesn't say."""
    facts = sequence_facts(offset.position.sequence_number) if offset.position else None
    return 0 if facts is None else millis(facts.shard_created)


def _counts(offset: CommittedOffset, row: ShardView | None) -> bool:
    """Whether a recovery goes by an offset."""
    if row is None or row.incarnation is None:
        return not offset.closed
    if row.incarnation != offset.incarnation:
        return False
    if row.sinks and offset.sink not in row.sinks:
        # What this sink had committed is in the checkpoint: it was asked before another one took over. But
        # whichever sink comes next, it can't load under an incarnation that is closed.
        return offset.closed
    new_sink = offset.position is None and row.committed_by(offset.sink) is None
    return offset.closed or not (new_sink and (row.offset or row.offsets))


def _of_both(
    one: CommittedOffset | None, other: CommittedOffset, row: ShardView | None, *, backwards: bool
) -> CommittedOffset:
    """The offset that counts where two sinks have committed under one incarnation: the later one, or the
    earlier one if either of them went back in time. Of two incarnations it is the second.
    """
    if one is None or one.incarnation != other.incarnation:
        return other
    back = backwards and row is not None and (went_back(one, row) or went_back(other, row))
    if one.position is None or other.position is None:
        without, other_one = (one, other) if one.position is None else (other, one)
        return without if back else other_one
    earlier, later = (one, other) if one.position < other.position else (other, one)
    return earlier if back else later


def _gone(
    offsets: Iterable[CommittedOffset], rows: Mapping[str, ShardView], *, now: int
) -> list[CommittedOffset]:
    """Offsets that drains had committed and that Snowflake has no more, although it doesn't forget them."""
    there = {(offset.shard_id, offset.incarnation, offset.sink) for offset in offsets}
    return [
        CommittedOffset(row.shard_id, row.incarnation, None, sink=sink)
        for row in rows.values()
        for sink in row.sinks or (COPY,)
        if row.incarnation
        and row.committed_by(sink) is not None
        and not row.forgotten_by(sink, now)
        and (row.shard_id, row.incarnation, sink) not in there
    ]


def went_back(offset: CommittedOffset, row: ShardView) -> bool:
    """Whether Snowflake is before what a drain had committed.

    A row that doesn't say what was committed may have a checkpoint that nothing in Snowflake stands for, such
    as an imported one. But once something was loaded under its incarnation, the checkpoint was too. What was
    loaded under another incarnation says nothing: other software may have moved the checkpoint since.
    """
    if offset.incarnation != row.incarnation:
        return False
    committed = row.committed_by(offset.sink)
    if committed is not None:
        return offset.position is None or offset.position < committed
    return offset.position is not None and _is_before(offset, row)


def _is_before(offset: CommittedOffset, row: ShardView) -> bool:
    return row.checkpoint is not None and (offset.position is None or offset.position < row.checkpoint)


# --- what becomes of a shard -------------------------------------------------------------------------------


def _recovered(
    request: ResetRequest,
    shard: ShardView,
    committed: CommittedOffset | None,
    *,
    new: str,
    fresh: bool,
    now: int,
) -> ShardChange:
    change = unchanged(shard, now)
    start_at = parse_start(request.position or "TRIM_HORIZON")
    if committed is None:
        if (shard.row and shard.readable) or not (fresh or shard.row):
            return change
        return replace(
            change,
            action=Action.SET if shard.row else Action.CREATE,
            new_start_at=start_at,
            new_incarnation=new,
        )
    back = request.trust_snowflake and shard.row and went_back(committed, shard)
    checkpoint = shard.checkpoint if not back and _is_before(committed, shard) else committed.position
    incarnation = new if committed.closed else committed.incarnation
    agrees = not back and (shard.checkpoint, shard.incarnation) == (checkpoint, incarnation)
    if shard.readable and agrees and (shard.listed or shard.ended):
        return change
    if not (back and request.position):
        start_at = shard.start_at or start_at
    return replace(
        change,
        action=Action.SET if shard.row else Action.CREATE,
        # Of a row that is lost or can't be read, so that it is closed.
        incarnation=shard.incarnation or (committed.incarnation if committed.closed else None),
        new_checkpoint=checkpoint,
        new_start_at=start_at,
        new_incarnation=incarnation,
        # What is lost of a shard that went back and has left the stream is for the drain to report.
        new_ended=not back and (not shard.listed or (shard.ended and agrees)),
        new_offset=None if committed.closed else committed.position,
        new_sink=committed.sink,
        new_sinks=_asked(shard, committed, kept=incarnation == committed.incarnation),
        new_caught_up_at=_began(shard, start_at) if back and checkpoint is None else None,
    )


def _asked(shard: ShardView, committed: CommittedOffset, *, kept: bool) -> tuple[str, ...]:
    """The sinks that a drain asks that goes on under this incarnation; none if it is new."""
    if not kept:
        return ()
    of_row = shard.sinks if shard.incarnation == committed.incarnation else ()
    return tuple(sorted({*of_row, committed.sink}))


def _began(shard: ShardView, start_at: str) -> int:
    """The moment from which on the records of a shard count: 0 if it isn't known."""
    start = StartAt.parse(start_at).timestamp if start_at != LATEST else None
    return millis(start) if start is not None else shard.made or 0


def _fresh(inspection: Inspection, committed: Mapping[str, CommittedOffset]) -> frozenset[str]:
    """Listed shards that will need a row once those that Snowflake knows have one."""
    listed = [Shard(shard.shard_id, parents=shard.parents) for shard in inspection.shards if shard.listed]
    known = {shard.shard_id: shard.parents for shard in inspection.shards if shard.row}
    known |= dict.fromkeys(committed.keys() - known.keys(), ())
    progress = {shard_id: ShardProgress(shard_id, parents) for shard_id, parents in known.items()}
    return frozenset(shard.shard_id for shard in new_shards(listed, progress))


# --- what a person should know -----------------------------------------------------------------------------


def _notes_of_kept(offset: CommittedOffset, row: ShardView) -> Iterable[str]:
    committed = row.committed_by(offset.sink)
    if went_back(offset, row) and committed is not None:
        yield (
            f"Plan again with trust_snowflake: shard {row.shard_id} keeps its checkpoint although Snowflake "
            "is before what a drain had committed. Its tables went back in time, and drains refuse the shard."
        )
    elif committed is None and _is_before(offset, row):
        yield f"Shard {row.shard_id} keeps its checkpoint, which is after what Snowflake has."


def _notes_of_channels(committed: Mapping[str, CommittedOffset], inspection: Inspection) -> Iterable[str]:
    rows = {shard.shard_id for shard in inspection.shards if shard.incarnation}
    unnamed = sorted(
        shard_id
        for shard_id, each in committed.items()
        if each.sink != COPY and not each.closed and shard_id not in rows
    )
    if unnamed:
        yield (
            f"Rewind the shards that an earlier reset meant to be read again: {len(unnamed)} shards without "
            "a row go on after what their channels have, and channels don't say whether a reset ended them: "
            f"{', '.join(unnamed)}."
        )


def notes_of_return(changes: Iterable[ShardChange], retention_seconds: int) -> list[str]:
    """What isn't known of shards whose checkpoints follow Snowflake back in time."""
    back = [
        change
        for change in changes
        if change.checkpoint is not None
        and (change.new_checkpoint is None or change.new_checkpoint < change.checkpoint)
        and change.action is Action.SET
    ]
    if not back:
        return []
    notes = [
        f"{len(back)} shards go back to what Snowflake has. How many records are missing there isn't known "
        f"before they are read again; the stream keeps them for {retention_seconds // 3600} hours. Records "
        "that have aged out are lost: the next drain fails because of them, unless on_data_loss=warn."
    ]
    lost = sorted(change.shard_id for change in back if change.retained is False)
    if lost:
        notes.append(
            f"The record at Snowflake's offset has left the stream, and others after it may have too: "
            f"{', '.join(lost)}."
        )
    nothing = sorted(change.shard_id for change in back if change.new_checkpoint is None)
    if nothing:
        notes.append(
            "Check how many records are loaded again; if that isn't right, give a position, or rewind these "
            "shards instead. Snowflake has nothing of them under their present incarnations, and it isn't "
            "known where those began (a reset or an import may have set it): "
            f"{', '.join(nothing)}."
        )
    return notes


def _refuse_what_came(run: ResetRun, changes: Iterable[ShardChange], ended: Collection[ShardState]) -> None:
    """Don't begin anew before the end of what was loaded until the old incarnations were closed.

    :raises MaintenanceRefusedError: a worker has loaded more since the plan was made
    """
    # Here, because files of DAGs import this module.
    from airflow_kinesis_snowflake.maintenance.reset.offsets import positions_under

    request = run.plan.request
    if run.snowflake is None or request.trust_snowflake or not ended:
        return
    begins = {change.shard_id: change.new_checkpoint for change in changes}
    came = {
        shard_id
        for shard_id, position in positions_under(
            ended, request, run.snowflake, unseen=run.plan.offsets_unseen
        )
        if is_after(position, begins[shard_id])
    }
    if came:
        raise MaintenanceRefusedError(
            f"Make a new plan: since this one was made, workers loaded more of {', '.join(sorted(came))} of "
            f"stream {request.stream}. Nothing more can be loaded under their incarnations, and no row was "
            "changed."
        )


def _opened_again(run: ResetRun, changes: Iterable[ShardChange]) -> list[OffsetKey]:
    """Incarnations of the past that are open because Snowflake went back to when they were."""
    plan = run.plan
    if run.snowflake is None or plan.offsets_unseen or not plan.request.trust_snowflake:
        return []
    there = run.read_rows(plan.request.stream).values()
    if there and not any(row is None or has_copied(row) for row in there):
        return []
    kept = {change.shard_id: change.new_incarnation for change in changes}
    rows = run.snowflake.session.list_offsets(
        run.snowflake.target.offsets, application=run.store.application_name
    )
    return [
        OffsetKey(row.shard_id, row.incarnation)
        for row in rows
        if row.stream == plan.request.stream
        and row.shard_id in kept
        and row.incarnation != kept[row.shard_id]
    ]
