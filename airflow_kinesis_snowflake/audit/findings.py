"""What the evidence of an audit means: whether all is exactly once, for how much, and what can't be known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.maintenance.serialization import as_json
from airflow_kinesis_snowflake.stream.positions import Position, decode_position

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_kinesis_snowflake.audit.counts import Evidence, Incarnation, ShardCounts, StreamComparison
    from airflow_kinesis_snowflake.state.shards import ShardState


class DiscrepancyKind(StrEnum):
    """What a discrepancy is about."""

    DOUBLED = "doubled"
    BEYOND_OFFSET = "beyond_offset"
    NO_OFFSET = "no_offset"
    TOO_FEW = "too_few"
    TOO_MANY = "too_many"
    MISSING_IN_AGGREGATE = "missing_in_aggregate"
    DATA_LOSS = "data_loss"
    REPEATED_OFFSET = "repeated_offset"
    CHECKPOINT_AHEAD = "checkpoint_ahead"
    OFFSET_WENT_BACK = "offset_went_back"
    CHILD_BEFORE_PARENT = "child_before_parent"
    NOT_LANDED = "not_landed"
    NOT_IN_STREAM = "not_in_stream"


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """Something that isn't exactly once.

    :param count: records, or 1 where it is about a row of state
    :param what: what was found, for people
    :param example: a record, as sequence number or sequence number/sub-sequence number
    """

    kind: DiscrepancyKind
    shard_id: str
    count: int
    what: str
    example: str | None = None


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """The answer of an audit.

    :param records: distinct records in the landing table or among the dead letters
    :param landed: rows of the landing table
    :param dead_letters: records that are dead letters
    :param loaded_again: records present more than once because of resets or several applications
    :param compared: records of the stream that were searched for; None: the stream wasn't read
    :param findings: what isn't exactly once
    :param limits: what this audit can't know
    """

    stream: str
    table: str
    applications: tuple[str, ...]
    records: int
    landed: int
    dead_letters: int
    loaded_again: int
    compared: int | None
    shards: tuple[ShardCounts, ...]
    findings: tuple[Discrepancy, ...]
    limits: tuple[str, ...]

    @property
    def exactly_once(self) -> bool:
        """Whether no discrepancy was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        return {"exactly_once": self.exactly_once, **as_json(self)}


def judge(evidence: Evidence) -> AuditReport:
    """Interpret the evidence."""
    shards = evidence.shards
    compared = evidence.compared
    return AuditReport(
        stream=evidence.stream,
        table=evidence.table,
        applications=evidence.audited,
        records=sum(shard.records for shard in shards),
        landed=sum(shard.landed for shard in shards),
        dead_letters=sum(shard.dead_letters for shard in shards),
        loaded_again=sum(shard.repeated - shard.doubled for shard in shards),
        compared=None if compared is None else sum(each.compared for each in compared),
        shards=shards,
        findings=(
            *chain.from_iterable(_of_records(shard) for shard in shards),
            *chain.from_iterable(_of_numbers(shard) for shard in shards if evidence.compare_counts),
            *chain.from_iterable(_of_state(application, evidence) for application in evidence.audited),
            *chain.from_iterable(_of_comparison(each) for each in compared or ()),
        ),
        limits=tuple(_limits(evidence)),
    )


def describe(code: str | None) -> str | None:
    """A record in human-readable form, from its code."""
    position = decode_position(code) if code else None
    if position is None:
        return None
    sub = position.sub_sequence_number
    return f"{position.sequence_number}/{sub}" if sub else position.sequence_number


# --- findings ----------------------------------------------------------------------------------------------


def _of_records(shard: ShardCounts) -> Iterator[Discrepancy]:
    """What is wrong with the records that are present."""
    shard_id = shard.shard_id
    if shard.doubled:
        both = f", of these {shard.in_both:,} landed and as dead letters" if shard.in_both else ""
        yield Discrepancy(
            kind=DiscrepancyKind.DOUBLED,
            shard_id=shard_id,
            count=shard.doubled,
            what=f"{_records(shard.doubled)} there more often than can have been loaded{both}",
            example=describe(shard.doubled_example),
        )
    if shard.records and not shard.incarnations:
        yield Discrepancy(
            kind=DiscrepancyKind.NO_OFFSET,
            shard_id=shard_id,
            count=shard.records,
            what=f"{_records(shard.records)} there without an offset that says they were committed: another "
            "loader wrote them, or the application's offsets were deleted",
            example=describe(shard.first),
        )
    elif shard.beyond:
        yield Discrepancy(
            kind=DiscrepancyKind.BEYOND_OFFSET,
            shard_id=shard_id,
            count=shard.beyond,
            what=f"{_records(shard.beyond)} after the offset: committed without it, or written by another "
            "loader",
            example=describe(shard.beyond_example),
        )
    if shard.missing_inside:
        yield Discrepancy(
            kind=DiscrepancyKind.MISSING_IN_AGGREGATE,
            shard_id=shard_id,
            count=shard.missing_inside,
            what=f"{_records(shard.missing_inside)} missing inside aggregates of which a later user "
            "record is present",
            example=describe(shard.missing_example),
        )
    if shard.gaps:
        yield Discrepancy(
            kind=DiscrepancyKind.DATA_LOSS,
            shard_id=shard_id,
            count=shard.gaps,
            what="records aged out before they were read, and nothing says how many; dead letters of the "
            f"kind 'gap' say when: {shard.gaps:,}",
        )


def _of_numbers(shard: ShardCounts) -> Iterator[Discrepancy]:
    """Whether as many are present as were committed."""
    if not shard.incarnations:
        return
    difference = shard.there - shard.committed
    parts = f"rows {shard.landed:,}, dead letters {shard.dead_letters:,}, gaps {shard.gaps:,}"
    if difference < 0:
        what = f"{shard.committed:,} were committed, {-difference:,} fewer are present ({parts})"
        yield Discrepancy(kind=DiscrepancyKind.TOO_FEW, shard_id=shard.shard_id, count=-difference, what=what)
    elif difference > 0:
        what = f"{shard.committed:,} were committed, {difference:,} more are present ({parts})"
        yield Discrepancy(kind=DiscrepancyKind.TOO_MANY, shard_id=shard.shard_id, count=difference, what=what)


def _of_state(application: str, evidence: Evidence) -> Iterator[Discrepancy]:
    """What is wrong with the state of an application, and with its offsets."""
    offsets: dict[tuple[str, str], Incarnation] = {}
    for shard in evidence.shards:
        for row in shard.incarnations:
            if row.application != application:
                continue
            if (shard.shard_id, row.incarnation) in offsets:
                yield _about_state(
                    DiscrepancyKind.REPEATED_OFFSET,
                    shard.shard_id,
                    f"its offset exists more than once for incarnation {row.incarnation}",
                )
            offsets[shard.shard_id, row.incarnation] = row
    before, after = evidence.state_before.get(application), evidence.state_after.get(application)
    for state in before.shards.values() if before else ():
        yield from _of_row(state, offsets.get((state.shard_id, state.incarnation or "")))
    if before and after:
        yield from _of_parents(before.shards.values(), after.shards, offsets)


def _of_row(state: ShardState, offset: Incarnation | None) -> Iterator[Discrepancy]:
    """Compare a row of state with what Snowflake has committed under its incarnation.

    A checkpoint without an offset is a finding only if a drain wrote it: an import or a reset may have set
    it, with nothing loaded since.
    """
    committed = offset.position if offset else None
    if state.offset is not None and (committed is None or committed < state.offset):
        yield _about_state(
            DiscrepancyKind.OFFSET_WENT_BACK,
            state.shard_id,
            f"its offset is {_shown(committed)}, and a drain has seen it at {_shown(state.offset)}",
        )
    if state.checkpoint is None or committed is None:
        return
    if state.checkpoint > committed:
        yield _about_state(
            DiscrepancyKind.CHECKPOINT_AHEAD,
            state.shard_id,
            f"its checkpoint {_shown(state.checkpoint)} is ahead of its offset {_shown(committed)}: what is "
            "between them was never committed, or committed nothing",
        )


def _of_parents(
    rows: Iterable[ShardState],
    after: Mapping[str, ShardState],
    offsets: Mapping[tuple[str, str], Incarnation],
) -> Iterator[Discrepancy]:
    """Children that were loaded before a parent was read to its end.

    The parent's row is read after the records were counted, and ignored if it was ever reset: then it may be
    read again at any time.
    """
    loaded = {shard_id for (shard_id, _), row in offsets.items() if row.position is not None}
    for child in rows:
        for parent in (after[name] for name in child.parents if name in after):
            loads = [incarnation for shard_id, incarnation in offsets if shard_id == parent.shard_id]
            if child.shard_id in loaded and not parent.ended and loads == [parent.incarnation]:
                yield _about_state(
                    DiscrepancyKind.CHILD_BEFORE_PARENT,
                    child.shard_id,
                    f"its records are there, and its parent {parent.shard_id} isn't read to its end",
                )


def _of_comparison(compared: StreamComparison) -> Iterator[Discrepancy]:
    if compared.missing:
        yield Discrepancy(
            kind=DiscrepancyKind.NOT_LANDED,
            shard_id=compared.shard_id,
            count=compared.missing,
            what=f"of {compared.compared:,} records that the stream still has, {_records(compared.missing)} "
            "neither in the landing table nor a dead letter",
            example=describe(next(iter(compared.missing_examples), None)),
        )
    if compared.foreign:
        yield Discrepancy(
            kind=DiscrepancyKind.NOT_IN_STREAM,
            shard_id=compared.shard_id,
            count=compared.foreign,
            what=f"{_records(compared.foreign)} there and not in the stream",
            example=describe(next(iter(compared.foreign_examples), None)),
        )


def _records(count: int) -> str:
    return f"{count:,} record is" if count == 1 else f"{count:,} records are"


def _about_state(kind: DiscrepancyKind, shard_id: str, what: str) -> Discrepancy:
    return Discrepancy(kind=kind, shard_id=shard_id, count=1, what=what)


def _shown(position: Position | None) -> str:
    if position is None:
        return "missing"
    sub = position.sub_sequence_number
    return position.sequence_number if sub is None else f"{position.sequence_number}/{sub}"


# --- limits ------------------------------------------------------------------------------------------------


def _limits(evidence: Evidence) -> Iterator[str]:
    if evidence.compared is None:
        yield (
            "Sequence numbers aren't dense: a record that was never committed, and never counted, leaves no "
            "trace. Compare with the stream to find those that it still has"
        )
    else:
        yield "What the stream no longer retains, or what hasn't been read yet, wasn't compared"
    if not evidence.compare_counts:
        yield (
            "As requested, the number of records wasn't compared with the number committed: records that "
            "were removed go unnoticed, except inside aggregates"
        )
    if any(len(shard.incarnations) > 1 for shard in evidence.shards):
        yield (
            "A row doesn't say which incarnation loaded it: a record that is present as often as "
            "incarnations may have loaded it counts as loaded again on request"
        )
    if evidence.several_documents:
        yield (
            "A record may become several rows, so its rows can't be told from duplicates; only "
            "their total is compared"
        )
    if evidence.others:
        yield (
            f"The stream is loaded by {', '.join(evidence.others)} too. Rows don't say by which application: "
            "name those that load into the same table"
        )
    absent = [name for name in evidence.audited if name not in evidence.state_before]
    if absent:
        yield f"There is no state of {', '.join(absent)} in DynamoDB to compare offsets with"
