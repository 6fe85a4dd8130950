"""The plan of a reset: made from DynamoDB, Kinesis and Snowflake, without a change of any of them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.maintenance.inspection import describe_position, inspect_state
from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown
from airflow_kinesis_snowflake.maintenance.reset.changes import Action, ShardChange
from airflow_kinesis_snowflake.maintenance.reset.forecast import forecast, probed
from airflow_kinesis_snowflake.maintenance.reset.method import refuse
from airflow_kinesis_snowflake.maintenance.reset.offsets import read_channels, read_offsets
from airflow_kinesis_snowflake.maintenance.reset.positions import LATEST, parse_position
from airflow_kinesis_snowflake.maintenance.reset.registry import find_method
from airflow_kinesis_snowflake.maintenance.reset.request import (  # noqa: TC001 -- plans are read from JSON
    ResetRequest,
)
from airflow_kinesis_snowflake.maintenance.serialization import as_json, from_json
from airflow_kinesis_snowflake.stream.positions import StartAt
from airflow_kinesis_snowflake.words import ago

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.method import OpenStore
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState


@dataclass(frozen=True, kw_only=True)
class ResetPlan:
    """A reset as it will be carried out; the same as JSON and back.

    :param id: of the plan; carrying it out twice changes nothing more
    :param made_at: milliseconds since the epoch
    :param table_created: when the table it was made for was created; another table of the name is left alone
    :param stream_created: when the stream it was made for was created
    :param stream_arn: of the stream it was made for
    :param other_streams: whose state is changed too
    :param offsets_unseen: there is no offsets table, as far as the role can see, so no incarnation is closed
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


def plan_reset(
    request: ResetRequest,
    *,
    store: CheckpointStoreHook,
    kinesis: KinesisStreamHook,
    snowflake: SnowflakeState | None,
    open_store: OpenStore,
    now: int,
) -> ResetPlan:
    """Make the plan of a reset.

    :param snowflake: None: nothing is counted, and methods that need offsets are refused
    :param open_store: opens the store of another application
    :param now: milliseconds since the epoch
    :raises MaintenanceRefusedError: it can't be done; the message says why
    """
    method = find_method(request.method)
    inspection = inspect_state(store, kinesis, now=now)
    refuse(request, refusals(request, inspection))
    other_streams = method.survey(request, inspection, store=store, open_store=open_store)
    offsets, of_offsets = read_offsets(request, inspection, snowflake, needed=method.needs_offsets)
    channels, of_channels = read_channels(request, inspection, snowflake, needed=method.needs_offsets)
    known = (*(offsets or ()), *channels)
    decision = method.decide(request, inspection, offsets=known, new_incarnation=lambda: uuid.uuid4().hex)
    changes = tuple(probed(change, kinesis, inspection) for change in decision.changes)
    reviewed = method.review(request, inspection, changes, list_shards=kinesis.list_shards)
    changes, of_forecast = forecast(
        request, inspection, changes, offsets=known, kinesis=kinesis, snowflake=snowflake
    )
    return ResetPlan(
        id=uuid.uuid4().hex[:12],
        request=request,
        made_at=now,
        table_created=inspection.table_created,
        stream_created=inspection.stream_created,
        stream_arn=inspection.stream_arn,
        changes=changes,
        other_streams=other_streams,
        offsets_unseen=snowflake is not None and offsets is None,
        notes=(*of_offsets, *of_channels, *decision.notes, *reviewed, *of_forecast),
    )


# --- whether it can be planned at all ----------------------------------------------------------------------


def refusals(request: ResetRequest, inspection: Inspection) -> list[str]:
    """Why the reset can't be planned at all; nothing if it can."""
    method = find_method(request.method)
    reasons = []
    if inspection.table_created is None and method.needs_table:
        reasons.append(f"correct the application's name: there is no table {request.application}")
    if inspection.table_status in {"CREATING", "DELETING"}:
        reasons.append(
            f"wait until the table {request.application} has settled: it is {inspection.table_status} at the "
            "moment"
        )
    if inspection.stream_created is None and method.writes_rows:
        reasons.append(f"correct the stream or give its ARN: there is no {request.stream} here")
    if method.writes_rows:
        reasons += _refused_arns(inspection)
    reasons += method.refusals(request, inspection)
    unknown = set(request.shards) - {shard.shard_id for shard in inspection.shards}
    if unknown and not reasons:
        reasons.append(f"the stream {request.stream} has no shard {', '.join(sorted(unknown))}")
    return [*reasons, *_refused_times(request, inspection)]


def _refused_arns(inspection: Inspection) -> Iterable[str]:
    """Writing rows for a stream would take them away from another that may be alive."""
    others = {shard.stream_arn for shard in inspection.shards} - {None, inspection.stream_arn}
    if others and inspection.stream_arn is not None:
        yield (
            "give each of the two streams an application of its own: this one has the checkpoints of "
            f"{', '.join(sorted(map(str, others)))}, and not of {inspection.stream_arn}"
        )


def _refused_times(request: ResetRequest, inspection: Inspection) -> Iterable[str]:
    taken = {field.name for field in find_method(request.method).fields}
    texts = [request.field(name) for name in ("position", "initial_position") if name in taken]
    for text in filter(None, texts):
        _, start_at = parse_position(text)
        timestamp = None if start_at in {None, LATEST} else StartAt.parse(str(start_at)).timestamp
        if timestamp is None:
            continue
        age = inspection.at - timestamp.timestamp() * 1000
        if age < 0:
            yield f"the position {text} is in the future"
        elif inspection.stream_created is not None and age > inspection.retention_seconds * 1000:
            yield (
                f"use TRIM_HORIZON: the position {text} is older than the stream keeps records "
                f"({inspection.retention_seconds // 3600} hours)"
            )


# --- for people --------------------------------------------------------------------------------------------


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
        f"**{request.stream}**: {find_method(request.method).intention(request)}",
        Table.of(
            ("shard", "checkpoint", "updated", "lease", "becomes", "what this causes", "loaded again"),
            [_line(change, plan.made_at) for change in plan.changes],
        ),
        "How many records in Snowflake will be loaded again wasn't counted."
        if total is None
        else f"The next drain will load {total:,} records again that are in Snowflake already.",
    ]
    if plan.other_streams:
        parts.append(
            f"The same happens to the state of {', '.join(plan.other_streams)}, which is in the same table."
        )
    if request.force:
        parts.append(
            "**Forced**: leases are taken from workers that may still be reading. What such a worker commits "
            "before Snowflake refuses it is loaded twice."
        )
    return [*parts, *plan.notes]


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
