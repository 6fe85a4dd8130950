"""Plans of resets: what will be done to each shard, and what it will cause. Decisions only, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.inspection import (
    Inspection,
    ShardView,
    describe_lease,
    describe_position,
)
from airflow_kinesis_snowflake.maintenance.methods import Method
from airflow_kinesis_snowflake.maintenance.plain import as_json, from_json
from airflow_kinesis_snowflake.maintenance.text import Part, Table, markdown
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY
from airflow_kinesis_snowflake.stream.lineage import Shard, ShardProgress, new_shards
from airflow_kinesis_snowflake.stream.positions import Position, StartAt
from airflow_kinesis_snowflake.stream.times import millis, utc
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LATEST = "LATEST"
_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")


class Action(StrEnum):
    """What a plan does to a shard."""

    SET = "set"
    CREATE = "create"
    REMOVE = "remove"
    KEEP = "keep"
    LEAVE_TO_DRAIN = "leave to the next drain"


@dataclass(frozen=True, kw_only=True)
class ResetRequest:
    """What was asked for, checked when it is made.

    :param application: whose state
    :param stream: on which stream
    :param method: how
    :param shards: ``rewind`` only: these shards; none means all
    :param position: ``rewind``: ``TRIM_HORIZON``, ``LATEST``, an ISO-8601 timestamp with a time zone, or the
        sequence number of the last record that counts as loaded, which needs exactly one shard. ``recover``:
        where shards start of which Snowflake has nothing; default ``TRIM_HORIZON``
    :param new_application: ``rename`` only
    :param initial_position: where the next drain starts a new application, for the forecast of
        ``delete_table`` and ``rename``
    :param trust_snowflake: ``recover`` only: Snowflake went back in time (Time Travel, a clone, a failover);
        checkpoints go back to its offsets too
    :param force: take leases away from workers that may still be reading
    :raises InvalidSettingError: something is missing, superfluous or can't be
    """

    application: str
    stream: str
    method: Method
    shards: tuple[str, ...] = ()
    position: str | None = None
    new_application: str | None = None
    initial_position: str = "TRIM_HORIZON"
    trust_snowflake: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        if self.trust_snowflake and self.method is not Method.RECOVER:
            raise InvalidSettingError("trust_snowflake belongs to the method recover, and only to it")
        if self.shards and self.method is not Method.REWIND:
            raise InvalidSettingError(f"the method {self.method} is for all shards: leave shards empty")
        if self.method is Method.REWIND and not self.position:
            raise InvalidSettingError("a rewind needs a position")
        if self.method in {Method.DELETE_TABLE, Method.RENAME} and self.position:
            raise InvalidSettingError(f"the method {self.method} takes no position: leave it empty")
        if (self.method is Method.RENAME) != bool(self.new_application):
            raise InvalidSettingError("a new application name belongs to the method rename, and only to it")
        if self.new_application and not _NAME.fullmatch(self.new_application):
            raise InvalidSettingError(
                f"{self.new_application!r} can't name an application: give 3 to 255 letters, digits, '_', "
                "'.' or '-'"
            )
        if self.new_application == self.application:
            raise InvalidSettingError("the new application name is the present one")
        for text in filter(None, (self.position, self.initial_position)):
            checkpoint, _ = parse_position(text)
            if checkpoint is not None and (self.method is not Method.REWIND or len(self.shards) != 1):
                raise InvalidSettingError(
                    "a sequence number is of one shard: use it with rewind and exactly one shard"
                )


@dataclass(frozen=True)
class Committed:
    """How far Snowflake has loaded a shard under one incarnation.

    :param position: None: nothing yet
    :param closed: a reset ended the incarnation; channels don't tell
    :param updated: orders the incarnations of a shard by their last change
    :param sink: how; each sink has a memory of its own
    """

    shard_id: str
    incarnation: str
    position: Position | None
    closed: bool = False
    updated: float = 0.0
    sink: str = COPY


@dataclass(frozen=True)
class Seen:
    """A record of a shard.

    :param arrived: milliseconds since the epoch
    """

    position: Position
    arrived: int


@dataclass(frozen=True)
class Outlook:
    """Which record is read next.

    :param now: without the reset; None: no record is left, or the shard isn't read
    :param then: with it; None: no record is left
    """

    now: Seen | None
    then: Seen | None


@dataclass(frozen=True, kw_only=True)
class ShardChange:
    """What a plan does to one shard.

    :param checkpoint: now, as are ``start_at``, ``incarnation``, ``lease`` and ``updated``
    :param new_start_at: as ``StartAt`` writes it, or ``LATEST``: the moment when the plan is carried out
    :param new_offset: through which Snowflake has loaded under the new incarnation, by ``new_sink``
    :param new_sinks: which may have loaded under the new incarnation, or will, as far as is known
    :param new_caught_up_at: the shard can't have had records before this moment that count (ms); asks the
        drain to find out whether any aged out since
    :param effect: in words
    :param loaded_again: records in Snowflake that the next drain loads once more; None: not counted
    :param retained: the stream still has the records from the new position on; None: not known
    """

    shard_id: str
    action: Action
    checkpoint: Position | None = None
    start_at: str | None = None
    incarnation: str | None = None
    lease: str = "free"
    updated: int | None = None
    parents: tuple[str, ...] = ()
    new_checkpoint: Position | None = None
    new_start_at: str | None = None
    new_incarnation: str | None = None
    new_ended: bool = False
    new_offset: Position | None = None
    new_sink: str = COPY
    new_sinks: tuple[str, ...] = ()
    new_caught_up_at: int | None = None
    effect: str = ""
    loaded_again: int | None = None
    retained: bool | None = None

    @property
    def starts(self) -> bool:
        """Whether the plan decides where the shard is read next."""
        return self.action in {Action.SET, Action.CREATE, Action.LEAVE_TO_DRAIN} and not self.new_ended


@dataclass(frozen=True, kw_only=True)
class ResetPlan:
    """A reset as it will be carried out; the same as JSON and back.

    :param id: of the plan; carrying it out twice changes nothing more
    :param made_at: milliseconds since the epoch
    :param table_created: of the table it was made for; another table of the name is left alone
    :param stream_created: of the stream it was made for, as ``stream_arn``
    :param other_streams: of which the table has rows too, which ``delete_table`` deletes as well
    :param offsets_unseen: there is no offsets table, as far as the role can see: no incarnation is closed
    """

    id: str
    request: ResetRequest
    made_at: int
    table_created: int | None
    stream_created: int | None
    changes: tuple[ShardChange, ...]
    other_streams: tuple[str, ...] = ()
    offsets_unseen: bool = False
    notes: tuple[str, ...] = ()
    stream_arn: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it."""
        return as_json(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ResetPlan:
        """Read what :meth:`as_dict` made.

        :raises InvalidSettingError: it isn't a plan
        """
        return from_json(cls, plain, what="plan of a reset")


def parse_position(text: str) -> tuple[Position | None, str | None]:
    """Read a position: a checkpoint, or where a shard starts without one.

    :return: one of the two; the second as ``StartAt`` writes it, or ``LATEST``
    :raises InvalidSettingError: neither a sequence number, nor ``TRIM_HORIZON``, ``LATEST`` or a timestamp
    """
    try:
        if text.isdigit():
            return Position(text), None
        return None, text if text == LATEST else str(StartAt.parse(text))
    except ValueError as error:
        raise InvalidSettingError(
            f"the position {text!r} is neither TRIM_HORIZON, LATEST, a timestamp with a time zone, nor a "
            f"sequence number: {error}"
        ) from error


def refusals(request: ResetRequest, inspection: Inspection) -> list[str]:
    """Why the reset can't be planned at all."""
    reasons = []
    if inspection.table_created is None and request.method is not Method.RECOVER:
        reasons.append(f"the application {request.application} doesn't exist: there is no table of that name")
    if inspection.table_status in {"CREATING", "DELETING"}:
        reasons.append(
            f"the table {request.application} is {inspection.table_status} at the moment: wait for it"
        )
    if inspection.stream_created is None and request.method in {Method.REWIND, Method.RECOVER}:
        reasons.append(f"the stream {request.stream} doesn't exist in this account and region")
    if others := {shard.stream_arn for shard in inspection.shards} - {None, inspection.stream_arn}:
        reasons += _refused_arns(request, inspection, others)
    if inspection.protected and request.method is Method.DELETE_TABLE:
        reasons.append(
            f"the table {request.application} is protected against deletion: use rewind, or turn the "
            "protection off"
        )
    unknown = set(request.shards) - {shard.shard_id for shard in inspection.shards}
    if unknown and not reasons:
        reasons.append(f"the stream {request.stream} has no shard {', '.join(sorted(unknown))}")
    return [*reasons, *_refused_times(request, inspection)]


def _refused_arns(request: ResetRequest, inspection: Inspection, others: Iterable[str | None]) -> list[str]:
    """What writes rows for a stream would take them away from another that is perhaps alive."""
    if inspection.stream_arn is None or request.method not in {Method.REWIND, Method.RECOVER}:
        return []
    return [
        f"the application has the checkpoints of {', '.join(sorted(map(str, others)))}, and not of "
        f"{inspection.stream_arn}: give each of the two streams an application of its own"
    ]


def _refused_times(request: ResetRequest, inspection: Inspection) -> Iterable[str]:
    for text in filter(None, (request.position, request.initial_position)):
        _, start_at = parse_position(text)
        if start_at is None or start_at == LATEST:
            continue
        timestamp = StartAt.parse(start_at).timestamp
        if timestamp is None:
            continue
        age = inspection.at - timestamp.timestamp() * 1000
        if age < 0:
            yield f"the position {text} is in the future"
        elif inspection.stream_created is not None and age > inspection.retention_seconds * 1000:
            yield (
                f"the position {text} is older than the stream keeps records "
                f"({inspection.retention_seconds // 3600} hours): use TRIM_HORIZON"
            )


def committed_by_shard(
    offsets: Iterable[Committed], inspection: Inspection, *, backwards: bool = False
) -> tuple[dict[str, Committed], list[str]]:
    """The incarnation of each shard that a recovery goes on with.

    That of the row, if there is one that can be read; else the one that moved last. One that a reset has
    closed only if a row still names it: that reset didn't come to its end.

    :param backwards: also where Snowflake is before what a drain had committed
    :return: by shard id, and notes about offsets that can't be used
    """
    rows = {shard.shard_id: shard for shard in inspection.shards if shard.row and shard.readable}
    found = [*offsets, *_gone(offsets, rows, now=inspection.at)]
    chosen: dict[str, Committed] = {}
    notes: list[str] = []
    for offset in sorted(found, key=lambda offset: offset.updated):
        row = rows.get(offset.shard_id)
        if not _counts(offset, row):
            continue
        if row is not None and not (backwards and went_back(offset, row)):
            notes += _notes_of_behind(offset, row)
            if _behind(offset, row) and not offset.closed:
                continue
        chosen[offset.shard_id] = _of_both(chosen.get(offset.shard_id), offset, row, backwards=backwards)
    return chosen, notes


def _counts(offset: Committed, row: ShardView | None) -> bool:
    """Whether a recovery goes by an offset."""
    if row is None:
        return not offset.closed
    if row.incarnation != offset.incarnation:
        return row.incarnation is None and not offset.closed
    if row.sinks and offset.sink not in row.sinks:
        # What this sink had committed is in the checkpoint: it was asked before another one took over.
        return False
    new_sink = offset.position is None and row.committed_by(offset.sink) is None
    return not (new_sink and (row.offset or row.offsets))


def _of_both(one: Committed | None, other: Committed, row: ShardView | None, *, backwards: bool) -> Committed:
    """What holds where two sinks have committed under one incarnation: the later, or the earlier if one of
    them went back in time. Of two incarnations it is the second.
    """
    if one is None or one.incarnation != other.incarnation:
        return other
    back = backwards and row is not None and (went_back(one, row) or went_back(other, row))
    if one.position is None or other.position is None:
        without, other_one = (one, other) if one.position is None else (other, one)
        return without if back else other_one
    earlier, later = (one, other) if one.position < other.position else (other, one)
    return earlier if back else later


def _gone(offsets: Iterable[Committed], rows: Mapping[str, ShardView], *, now: int) -> list[Committed]:
    """Offsets that drains had committed and that Snowflake hasn't any more, though it doesn't forget them."""
    there = {(offset.shard_id, offset.incarnation, offset.sink) for offset in offsets}
    return [
        Committed(row.shard_id, row.incarnation, None, sink=sink)
        for row in rows.values()
        for sink in row.sinks or (COPY,)
        if row.incarnation
        and row.committed_by(sink) is not None
        and not row.forgotten_by(sink, now)
        and (row.shard_id, row.incarnation, sink) not in there
    ]


def went_back(offset: Committed, row: ShardView) -> bool:
    """Whether Snowflake is before what a drain had committed.

    A row that doesn't tell what was committed may have a checkpoint that nothing in Snowflake stands for,
    such as an imported one. But once something was loaded under its incarnation, the checkpoint was too. What
    was loaded under another incarnation says nothing: other software may have moved the checkpoint since.
    """
    if offset.incarnation != row.incarnation:
        return False
    committed = row.committed_by(offset.sink)
    if committed is not None:
        return offset.position is None or offset.position < committed
    return offset.position is not None and _behind(offset, row)


def _notes_of_behind(offset: Committed, row: ShardView) -> Iterable[str]:
    committed = row.committed_by(offset.sink)
    if went_back(offset, row) and committed is not None:
        yield (
            f"Shard {row.shard_id} keeps its checkpoint although Snowflake is before what a drain had "
            "committed: its tables went back in time, and drains refuse the shard. Plan again with "
            "trust_snowflake."
        )
    elif committed is None and _behind(offset, row):
        yield f"Shard {row.shard_id} keeps its checkpoint: it is further on than what Snowflake says."


def _behind(offset: Committed, row: ShardView) -> bool:
    return row.checkpoint is not None and (offset.position is None or offset.position < row.checkpoint)


def choose_changes(
    request: ResetRequest,
    inspection: Inspection,
    *,
    committed: Mapping[str, Committed],
    new_incarnation: Callable[[], str],
) -> tuple[ShardChange, ...]:
    """What the method does to each shard; what it causes isn't known yet.

    :param committed: for ``recover``: how far Snowflake is, per shard
    :param new_incarnation: makes an id no row has had
    """
    if request.method is Method.RECOVER:
        shards = {shard.shard_id: shard for shard in inspection.shards}
        extra = [ShardView(shard_id=shard_id) for shard_id in sorted(committed.keys() - shards.keys())]
        fresh = _fresh(inspection, committed)
        return tuple(
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
    if request.method is Method.REWIND:
        return tuple(
            _rewound(request, shard, inspection, new=new_incarnation())
            for shard in inspection.shards
            if not request.shards or shard.shard_id in request.shards
        )
    _, start_at = parse_position(request.initial_position)
    return tuple(
        replace(
            as_it_is(shard, inspection.at),
            action=Action.LEAVE_TO_DRAIN if shard.listed else Action.REMOVE,
            new_start_at=start_at if shard.listed else None,
        )
        for shard in inspection.shards
    )


def as_it_is(shard: ShardView, now: int) -> ShardChange:
    """No change of a shard."""
    return ShardChange(
        shard_id=shard.shard_id,
        action=Action.KEEP,
        checkpoint=shard.checkpoint,
        start_at=shard.start_at,
        incarnation=shard.incarnation,
        lease=describe_lease(shard, now),
        updated=shard.last_update,
        parents=shard.parents,
    )


def _rewound(request: ResetRequest, shard: ShardView, inspection: Inspection, *, new: str) -> ShardChange:
    change = as_it_is(shard, inspection.at)
    if not shard.listed:
        foreign = shard.stream_created not in {None, inspection.stream_created}
        if shard.readable and not foreign:
            return change
        return replace(change, action=Action.REMOVE)
    checkpoint, start_at = parse_position(request.position or "")
    return replace(
        change,
        action=Action.SET if shard.row else Action.CREATE,
        new_checkpoint=checkpoint,
        new_start_at=start_at or shard.start_at or "TRIM_HORIZON",
        new_incarnation=new,
        new_sinks=shard.sinks or _sinks_of_all(inspection),
    )


def _sinks_of_all(inspection: Inspection) -> tuple[str, ...]:
    return tuple(sorted({sink for shard in inspection.shards for sink in shard.sinks}))


def _recovered(
    request: ResetRequest, shard: ShardView, committed: Committed | None, *, new: str, fresh: bool, now: int
) -> ShardChange:
    change = as_it_is(shard, now)
    _, start_at = parse_position(request.position or "TRIM_HORIZON")
    if committed is None:
        if (shard.row and shard.readable) or not (fresh or shard.row):
            return change
        return replace(
            change,
            action=Action.SET if shard.row else Action.CREATE,
            new_start_at=start_at,
            new_incarnation=new,
            new_sinks=shard.sinks,
        )
    back = request.trust_snowflake and shard.row and went_back(committed, shard)
    checkpoint = shard.checkpoint if not back and _behind(committed, shard) else committed.position
    incarnation = new if committed.closed else committed.incarnation
    agrees = not back and (shard.checkpoint, shard.incarnation) == (checkpoint, incarnation)
    if shard.readable and agrees and (shard.listed or shard.ended):
        return change
    if not (back and request.position):
        start_at = shard.start_at or start_at
    return replace(
        change,
        action=Action.SET if shard.row else Action.CREATE,
        new_checkpoint=checkpoint,
        new_start_at=start_at,
        new_incarnation=incarnation,
        # What is lost of a shard that went back and has left the stream is for the drain to say.
        new_ended=not back and (not shard.listed or (shard.ended and agrees)),
        new_offset=None if committed.closed else committed.position,
        new_sink=committed.sink,
        new_sinks=_asked(shard, committed, kept=incarnation == committed.incarnation),
        new_caught_up_at=_began(shard, start_at) if back and checkpoint is None else None,
    )


def _asked(shard: ShardView, committed: Committed, *, kept: bool) -> tuple[str, ...]:
    """Which sinks a drain asks that goes on under an incarnation that is kept; of a new one, who may load."""
    if not kept:
        return shard.sinks
    of_row = shard.sinks if shard.incarnation == committed.incarnation else ()
    return tuple(sorted({*of_row, committed.sink}))


def _began(shard: ShardView, start_at: str | None) -> int:
    """The moment since which the records of a shard count: 0 if that isn't known."""
    start = StartAt.parse(start_at or "TRIM_HORIZON").timestamp if start_at != LATEST else None
    return millis(start) if start is not None else shard.made or 0


def _fresh(inspection: Inspection, committed: Mapping[str, Committed]) -> frozenset[str]:
    """Listed shards that will need a row once those that Snowflake knows have one."""
    listed = [Shard(shard.shard_id, parents=shard.parents) for shard in inspection.shards if shard.listed]
    known = {shard.shard_id: shard.parents for shard in inspection.shards if shard.row}
    known |= dict.fromkeys(committed.keys() - known.keys(), ())
    progress = {shard_id: ShardProgress(shard_id, parents) for shard_id, parents in known.items()}
    return frozenset(shard.shard_id for shard in new_shards(listed, progress))


def with_effect(change: ShardChange, outlook: Outlook, *, again: int | None) -> ShardChange:
    """Say what a change causes.

    :param again: how many records from ``outlook.then`` on are in Snowflake; None: not counted
    """
    loaded_again = again if outlook.then is not None else 0
    return replace(change, effect=_effect(outlook), loaded_again=loaded_again)


def _effect(outlook: Outlook) -> str:
    if outlook.now == outlook.then:
        return "goes on with the same record" if outlook.then else "has nothing to read, as before"
    if outlook.now is None and outlook.then is not None:
        return f"loads records that arrived from {utc(outlook.then.arrived)} on"
    if outlook.now is not None and outlook.then is not None and outlook.then.position < outlook.now.position:
        return f"loads records again that arrived from {utc(outlook.then.arrived)} on"
    began = "" if outlook.now is None else utc(outlook.now.arrived)
    until = "now" if outlook.then is None else utc(outlook.then.arrived)
    return f"skips records that arrived from {began} until {until}"


def without_outlook(change: ShardChange) -> ShardChange:
    """Say what a change causes after which nothing is read of a shard."""
    if change.action is Action.REMOVE:
        effect = "is forgotten: it isn't in the stream any more"
    elif change.new_ended:
        effect = "counts as read to its end; what came after its position has left the stream"
    elif change.starts:
        effect = "has left the stream with all after its position; the next drain reports the loss"
    else:
        effect = "stays as it is"
    return replace(change, effect=effect, loaded_again=0)


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
        f"before they are read again; the stream keeps them for {retention_seconds // 3600} hours. What aged "
        "out is lost: the next drain fails for it, unless on_data_loss=warn."
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
            "Snowflake has nothing of these shards under their present incarnations, and where those began "
            f"isn't known (a reset or an import may have said it): {', '.join(nothing)}. Mind how many "
            "records are loaded again; give a position, or rewind these shards instead, if that isn't right."
        )
    return notes


# --- text --------------------------------------------------------------------------------------------------


def plan_text(plan: ResetPlan) -> str:
    """The plan for people to read, as Markdown."""
    return markdown(plan_parts(plan))


def plan_parts(plan: ResetPlan) -> list[Part]:
    """The plan for people to read."""
    request = plan.request
    counted = [change.loaded_again for change in plan.changes]
    total = None if None in counted else sum(count for count in counted if count is not None)
    parts: list[Part] = [
        f"Reset **{request.method}** of application **{request.application}** on stream "
        f"**{request.stream}**: {_intention(plan)}",
        Table.of(
            ("shard", "checkpoint", "updated", "lease", "becomes", "what this causes", "loaded again"),
            [_line(change, plan.made_at) for change in plan.changes],
        ),
        "How many records in Snowflake will be loaded again wasn't counted."
        if total is None
        else f"{total:,} records that are in Snowflake will be loaded again by the next drain.",
    ]
    if plan.other_streams:
        parts.append(
            f"The table also has the state of {', '.join(plan.other_streams)}, which is deleted too."
        )
    if request.force:
        parts.append(
            "**Forced**: leases are taken from workers that may still be reading. What such a worker commits "
            "before Snowflake refuses it is loaded twice."
        )
    return [*parts, *plan.notes]


def _intention(plan: ResetPlan) -> str:
    request = plan.request
    if request.method is Method.DELETE_TABLE:
        return f"the table is deleted; the next drain starts at {request.initial_position}."
    if request.method is Method.RENAME:
        return (
            f"the next drain works as {request.new_application} and starts at {request.initial_position}; "
            "the table stays."
        )
    if request.trust_snowflake:
        return "checkpoints go to what Snowflake has, also where it went back in time."
    if request.method is Method.RECOVER:
        return "the table is rebuilt from what Snowflake has; nothing is loaded twice and nothing left out."
    return f"{len(request.shards) or 'all'} shards go to {request.position}."


def _line(change: ShardChange, now: int) -> tuple[str, ...]:
    new = (
        {
            Action.KEEP: "the same",
            Action.REMOVE: "gone",
        }.get(change.action)
        or describe_position(change.new_checkpoint)
        or change.new_start_at
        or ""
    )
    return (
        change.shard_id,
        describe_position(change.checkpoint) or change.start_at or "",
        ago(change.updated, now),
        change.lease,
        new,
        change.effect,
        "not counted" if change.loaded_again is None else f"{change.loaded_again:,}",
    )
