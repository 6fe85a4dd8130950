"""The state of an application on a stream, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.rows import caught_up_by, contradiction
from airflow_kinesis_snowflake.exceptions import CorruptStateError, StreamNotFoundError
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown
from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.printable import printable
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.sinks.snowflake.streaming import MEMORY_MILLIS
from airflow_kinesis_snowflake.state.attributes import key_of, worker_of
from airflow_kinesis_snowflake.state.items import number_of
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import Position, StartAt, sequence_facts
from airflow_kinesis_snowflake.stream.retention import may_have_aged_out, read_until, why_foreign
from airflow_kinesis_snowflake.stream.times import in_utc, millis, moment
from airflow_kinesis_snowflake.words import ago, duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.state.shards import TableFacts
    from airflow_kinesis_snowflake.stream.facts import StreamFacts
    from airflow_kinesis_snowflake.stream.lineage import Shard

# Clocks of workers differ by seconds, not by more.
_CLOCK_MARGIN = 600_000


@dataclass(frozen=True)
class StateFinding:
    """Something that isn't as it should be.

    :param where: the table, a shard or another row
    :param what: what was found
    :param remedy: what to do about it: a method of the reset, or something else
    """

    where: str
    what: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class ShardView:
    """One shard, as its row and Kinesis show it. Times are milliseconds since the epoch.

    :param row: it has a state row
    :param listed: Kinesis lists it
    :param readable: its row could be read; else ``checkpoint`` and the rest are unknown
    :param written: when the record of the checkpoint was written, if its number reveals it
    :param millis_behind: how far behind its end the shard was read at ``last_update``
    :param offset: the position through which a drain has committed by COPY, as far as the row says
    :param offsets: the same of other sinks, by name
    :param committed_at: when sinks that forget had last committed something, by name
    :param sinks: those that may have committed more than the row says
    :param made: when Kinesis created the shard, if its first number reveals it
    """

    shard_id: str
    row: bool = False
    listed: bool = False
    closed: bool = False
    readable: bool = True
    parents: tuple[str, ...] = ()
    checkpoint: Position | None = None
    written: int | None = None
    start_at: str | None = None
    ended: bool = False
    unsettled: bool = False
    incarnation: str | None = None
    stream_created: int | None = None
    stream_arn: str | None = None
    lease_owner: str | None = None
    lease_expiry: int | None = None
    last_update: int | None = None
    caught_up_at: int | None = None
    millis_behind: int | None = None
    offset: Position | None = None
    offsets: Mapping[str, Position] = field(default_factory=dict)
    committed_at: Mapping[str, int] = field(default_factory=dict)
    sinks: tuple[str, ...] = ()
    made: int | None = None

    def committed_by(self, sink: str) -> Position | None:
        """The position through which a drain has committed by a sink, as far as the row says."""
        return self.offset if sink == COPY else self.offsets.get(sink)

    def forgotten_by(self, sink: str, now: int) -> bool:
        """Whether a sink may by now have forgotten what it had committed."""
        return sink == STREAMING and now - self.committed_at.get(sink, 0) > MEMORY_MILLIS

    def leased(self, now: int) -> bool:
        """Whether a worker has the right to read it now."""
        return self.lease_owner is not None and (self.lease_expiry is None or self.lease_expiry >= now)

    def lease_text(self, now: int) -> str:
        """Who may read it, for people."""
        if self.lease_owner is None:
            return "free"
        return f"{'held' if self.leased(now) else 'expired'}: {self.lease_owner}"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The state of one application on one stream at a moment. Times are milliseconds since the epoch.

    :param at: when it was read
    :param table_created: None: there is no table
    :param table_status: of the table, or None
    :param stream_created: None: there is no such stream
    :param stream_arn: None: there is no such stream, or Kinesis wasn't asked
    :param retention_seconds: how long the stream keeps records
    :param shards: by shard id: those with a row and those that Kinesis lists
    :param workers: those that gave a sign of life, and when they last did
    """

    application: str
    stream: str
    at: int
    table_created: int | None
    table_status: str | None
    protected: bool
    stream_created: int | None
    retention_seconds: int
    shards: tuple[ShardView, ...]
    workers: Mapping[str, int]
    findings: tuple[StateFinding, ...]
    stream_arn: str | None = None

    def is_foreign(self, shard: ShardView) -> bool:
        """Whether the row of a shard is that of a deleted stream of the same name."""
        return shard.stream_created not in {None, self.stream_created}

    @property
    def leased(self) -> tuple[ShardView, ...]:
        """Shards that a worker may be reading at this moment."""
        return tuple(shard for shard in self.shards if shard.leased(self.at))

    def shard(self, shard_id: str) -> ShardView:
        """What is known of a shard: nothing, if neither a row nor Kinesis names it."""
        return next(
            (shard for shard in self.shards if shard.shard_id == shard_id), ShardView(shard_id=shard_id)
        )

    def as_dict(self) -> dict[str, Any]:
        """The inspection as JSON takes it."""
        return as_json(self)


def inspect_state(store: CheckpointStoreHook, kinesis: KinesisStreamHook, *, now: int) -> Inspection:
    """Read the state of an application on a stream. Changes nothing, and reads rows that are corrupt.

    :param now: milliseconds since the epoch
    :raises NotACheckpointTableError: the application's table belongs to other software
    """
    facts, items = _read_table(store, kinesis.stream_name)
    stream, listed = _describe(kinesis)
    inspection, rows = _inspect_rows(store, kinesis.stream_name, facts, items, listed=listed, now=now)
    created = None if stream is None else millis(stream.created)
    parents = {shard.shard_id: shard.parents for shard in listed}
    return replace(
        inspection,
        # A row of a deleted stream names parents that the shard of its id doesn't have in this one.
        shards=tuple(
            replace(view, parents=parents[view.shard_id])
            if view.shard_id in parents and view.stream_created not in {None, created}
            else view
            for view in inspection.shards
        ),
        stream_created=created,
        stream_arn=None if stream is None else stream.arn,
        retention_seconds=0 if stream is None else int(stream.retention.total_seconds()),
        findings=(
            *inspection.findings,
            *_stream_findings(stream, kinesis.stream_name),
            *(
                finding
                for shard in listed
                if stream is not None and shard.shard_id in rows
                for finding in (
                    *_contradiction_findings(rows[shard.shard_id], shard, now=now),
                    *_position_findings(rows[shard.shard_id], shard, stream, now=now),
                )
            ),
            *(finding for row in rows.values() for finding in _belonging_findings(row, stream)),
        ),
    )


def inspect_table(store: CheckpointStoreHook, stream_name: str, *, now: int) -> Inspection:
    """Read what the application's table says, without asking Kinesis. Changes nothing.

    No shard counts as listed or closed, nothing is known about the stream, and findings that need Kinesis are
    missing: checkpoints of other streams and records that have aged out.

    :param now: milliseconds since the epoch
    :raises NotACheckpointTableError: the application's table belongs to other software
    """
    facts, items = _read_table(store, stream_name)
    return _inspect_rows(store, stream_name, facts, items, listed=(), now=now)[0]


def inspection_text(inspection: Inspection) -> str:
    """The inspection for people to read, as Markdown."""
    return markdown(inspection_parts(inspection))


def inspection_parts(inspection: Inspection) -> list[Part]:
    """The inspection for people to read."""
    now = inspection.at
    shards = Table.of(
        ("shard", "lag", "checkpoint", "written", "starts at", "lease", "updated", ""),
        (
            (
                shard.shard_id,
                duration(shard.millis_behind),
                describe_position(shard.checkpoint),
                ago(shard.written, now),
                shard.start_at or "",
                shard.lease_text(now),
                ago(shard.last_update, now),
                _remarks(shard),
            )
            for shard in inspection.shards
        ),
    )
    findings = [printable(f"- {found.where}: {found.what}. {found.remedy}") for found in inspection.findings]
    heading = (
        f"Application **{inspection.application}** on stream **{inspection.stream}**: table "
        f"{inspection.table_status or 'not there'}, {len(inspection.shards)} shards, "
        f"{len(inspection.leased)} leased, {len(inspection.workers)} workers seen"
    )
    return [heading, shards, "\n".join(findings) or "No problem was found."]


def describe_position(position: Position | None) -> str:
    """A position for people to read."""
    if position is None:
        return ""
    sub = position.sub_sequence_number
    return position.sequence_number if sub is None else f"{position.sequence_number}/{sub}"


def _read_table(store: CheckpointStoreHook, stream_name: str) -> tuple[TableFacts, list[dict[str, Any]]]:
    facts = store.describe_table()
    return facts, store.read_items(stream_name) if facts.status in {"ACTIVE", "UPDATING"} else []


def _inspect_rows(
    store: CheckpointStoreHook,
    stream_name: str,
    facts: TableFacts,
    items: list[dict[str, Any]],
    *,
    listed: tuple[Shard, ...],
    now: int,
) -> tuple[Inspection, dict[str, ShardState]]:
    rows, corrupt = _read_rows(store, items)
    workers = {
        worker: number_of(item, "nodeHeartbeat") or 0
        for item in items
        if (worker := worker_of(item)) is not None
    }
    inspection = Inspection(
        application=store.application_name,
        stream=stream_name,
        at=now,
        table_created=None if facts.created is None else millis(facts.created),
        table_status=facts.status,
        protected=facts.protected,
        stream_created=None,
        retention_seconds=0,
        shards=_views(rows, listed, unreadable=[finding.where for finding in corrupt]),
        workers=workers,
        findings=(
            *_table_findings(facts, rows, corrupt),
            *corrupt,
            *(finding for row in rows.values() for finding in _row_findings(row, now=now)),
        ),
    )
    return inspection, rows


def _describe(kinesis: KinesisStreamHook) -> tuple[StreamFacts | None, tuple[Shard, ...]]:
    try:
        return kinesis.describe(), kinesis.list_shards()
    except StreamNotFoundError:
        return None, ()


def _read_rows(
    store: CheckpointStoreHook, items: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, ShardState], list[StateFinding]]:
    """Shard rows that can be read, and a finding for each that can't."""
    rows: dict[str, ShardState] = {}
    corrupt: list[StateFinding] = []
    for item in items:
        _, shard_id = key_of(item)
        try:
            row = store.shard_state(item)
        except CorruptStateError as error:
            corrupt.append(
                StateFinding(shard_id, str(error).partition(". Correct")[0], "Reset with recover or rewind")
            )
        else:
            if row is not None:
                rows[shard_id] = row
    return rows, corrupt


def _views(
    rows: Mapping[str, ShardState], listed: Iterable[Shard], *, unreadable: Iterable[str]
) -> tuple[ShardView, ...]:
    shards = {shard.shard_id: shard for shard in listed}
    broken = set(unreadable)
    return tuple(
        _view(shard_id, rows.get(shard_id), shards.get(shard_id), broken=shard_id in broken)
        for shard_id in sorted({*rows, *shards, *broken})
    )


def _view(shard_id: str, row: ShardState | None, shard: Shard | None, *, broken: bool) -> ShardView:
    state = row or ShardState(shard_id)
    return ShardView(
        shard_id=shard_id,
        row=row is not None or broken,
        listed=shard is not None,
        closed=shard is not None and shard.closed,
        readable=not broken,
        parents=state.parents or (shard.parents if shard else ()),
        checkpoint=state.checkpoint,
        written=_written(state.checkpoint),
        start_at=None if state.start_at is None else str(state.start_at),
        ended=state.ended,
        unsettled=state.unsettled,
        incarnation=state.incarnation,
        stream_created=state.stream_created,
        stream_arn=state.stream_arn,
        lease_owner=state.lease_owner,
        lease_expiry=state.lease_expiry,
        last_update=state.last_update,
        caught_up_at=state.caught_up_at,
        millis_behind=state.millis_behind,
        offset=state.offset,
        offsets=state.offsets,
        committed_at=state.committed_at,
        sinks=tuple(sorted(state.sinks)),
        made=None if shard is None else shard.made,
    )


def _written(checkpoint: Position | None) -> int | None:
    facts = None if checkpoint is None else sequence_facts(checkpoint.sequence_number)
    return None if facts is None else millis(facts.written)


def _remarks(shard: ShardView) -> str:
    remarks = {
        "no row": not shard.row,
        "corrupt": not shard.readable,
        "ended": shard.ended,
        "closed": shard.closed and not shard.ended,
        "not listed": not shard.listed,
        "unsettled": shard.unsettled,
        f"by {' and '.join(shard.sinks)}": bool(set(shard.sinks) - {COPY}),
    }
    return ", ".join(remark for remark, holds in remarks.items() if holds)


# --- findings ----------------------------------------------------------------------------------------------


def _table_findings(
    facts: TableFacts, rows: Mapping[str, ShardState], corrupt: list[StateFinding]
) -> Iterable[StateFinding]:
    if not facts.exists:
        yield StateFinding("table", "it doesn't exist", "The next drain creates it; recover rebuilds it")
    elif facts.status in {"CREATING", "DELETING"}:
        yield StateFinding("table", f"it is {facts.status}", "Wait, then inspect again")
    elif not rows and not corrupt:
        yield StateFinding(
            "table",
            "it has no row of this stream",
            "The next drain starts at its initial position; recover goes on after what Snowflake has",
        )


def _stream_findings(stream: StreamFacts | None, name: str) -> Iterable[StateFinding]:
    if stream is None:
        yield StateFinding("stream", f"{name} doesn't exist", "Check its name and the connection's region")


def _contradiction_findings(row: ShardState, shard: Shard, *, now: int) -> Iterable[StateFinding]:
    why = contradiction(row, shard, now=now)
    if why is not None:
        yield StateFinding(shard.shard_id, f"its row {why}", "Rewind it to where it should go on")


def _position_findings(
    row: ShardState, shard: Shard, stream: StreamFacts, *, now: int
) -> Iterable[StateFinding]:
    if row.checkpoint is None:
        return
    foreign = why_foreign(row.checkpoint, shard, now=moment(now))
    if foreign is not None:
        yield StateFinding(
            shard.shard_id, f"its checkpoint {foreign}", "Reset with recover, or rewind the shard"
        )
        return
    caught_up = caught_up_by(row, now=now)
    until = read_until(row.checkpoint, caught_up_at=None if caught_up is None else moment(caught_up))
    if row.ended or until is None:
        return
    if may_have_aged_out(until, retention=stream.retention, now=moment(now)):
        yield StateFinding(
            shard.shard_id,
            f"records after its checkpoint may have aged out: read until {in_utc(until)}, "
            f"kept for {stream.retention}",
            "Rewind to TRIM_HORIZON to go on with what is left, or run the drain with on_data_loss=warn",
        )


def _belonging_findings(row: ShardState, stream: StreamFacts | None) -> Iterable[StateFinding]:
    if stream is None:
        return
    if row.stream_arn not in {None, stream.arn}:
        yield StateFinding(
            row.shard_id,
            f"it belongs to {row.stream_arn}, not to {stream.arn}",
            "Give each of the two streams an application of its own",
        )
    elif row.stream_created not in {None, millis(stream.created)}:
        yield StateFinding(
            row.shard_id,
            "it belongs to a deleted stream of the same name",
            "Reset with rewind or delete_table to read the new stream",
        )


def _row_findings(row: ShardState, *, now: int) -> Iterable[StateFinding]:
    for name in ("last_update", "caught_up_at", "lease_expiry"):
        time = getattr(row, name)
        if time is not None and time > now + _CLOCK_MARGIN:
            what = name.replace("_", " ")
            yield StateFinding(row.shard_id, f"its {what} is {ago(time, now)}", _remedy_of_time(name))
        if time is not None and time < 0:
            what = name.replace("_", " ")
            yield StateFinding(
                row.shard_id, f"its {what} is {time}, which isn't a time", _remedy_of_time(name)
            )
    for oddity in row.oddities:
        yield StateFinding(row.shard_id, f"{oddity}, which makes no sense", "Reset with rewind")
    if row.start_at is not None and row.checkpoint is None and _after(row.start_at, now):
        yield StateFinding(row.shard_id, "it starts in the future", "Rewind it to LATEST")
    if row.checkpoint is None and row.start_at is None and not row.ended:
        yield StateFinding(
            row.shard_id,
            "it has neither a checkpoint nor a start, so a drain begins at TRIM_HORIZON",
            "Rewind it to where it should start",
        )
    yield from _doubt_findings(row, now=now)


def _doubt_findings(row: ShardState, *, now: int) -> Iterable[StateFinding]:
    if not row.unsettled or row.ended:
        return
    rested = 0 if row.last_update is None else now - row.last_update
    if STREAMING in row.sinks and rested > MEMORY_MILLIS:
        yield StateFinding(
            row.shard_id,
            f"its last worker left {ago(row.last_update, now)} with the outcome of a commit unknown, and "
            "Snowflake forgets a channel that is idle for 30 days",
            "Compare its last records with the landing table, and rewind it to where they end",
        )
        return
    yield StateFinding(
        row.shard_id,
        "its last worker left with the outcome of a commit unknown",
        f"None needed: the next drain asks Snowflake ({' and '.join(sorted(row.sinks)) or COPY})",
    )


def _remedy_of_time(name: str) -> str:
    if name == "lease_expiry":
        return "A drain takes it once it hasn't changed for the length of a lease; a reset needs force"
    return "Rewind it to its checkpoint, or wait for the next drain"


def _after(start_at: StartAt, now: int) -> bool:
    return start_at.timestamp is not None and millis(start_at.timestamp) > now + _CLOCK_MARGIN
