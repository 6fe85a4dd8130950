"""What Snowflake says is committed: the rows of the offsets table, and the tokens of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.maintenance.reset.changes import has_copied
from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
from airflow_kinesis_snowflake.maintenance.reset.method import refuse
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.positions import Position


def read_offsets(
    request: ResetRequest, inspection: Inspection, snowflake: SnowflakeState | None, *, needed: bool
) -> tuple[tuple[CommittedOffset, ...] | None, list[str]]:
    """What the offsets table has of the application on the stream, and notes.

    :param needed: the reset can't do without it
    :return: None: it wasn't asked, or can't be seen
    :raises MaintenanceRefusedError: it is needed, and isn't there or doesn't hold what it must
    """
    if snowflake is None:
        if needed:
            refuse(request, ["give the landing table, which the offsets table is beside"])
        return None, []
    copied = any(COPY in shard.sinks and shard.offset for shard in inspection.shards)
    if not _may_have_copied(inspection):
        # A drain may copy before the plan is carried out, so the table doesn't count as unseen.
        return (), []
    table = snowflake.target.offsets
    try:
        rows = snowflake.session.list_offsets(table, application=request.application)
    except SnowflakeObjectNotFoundError:
        what = (
            f"correct the landing table, or grant SELECT, INSERT and UPDATE: {table} doesn't exist, or the "
            "role of the connection can't see it"
        )
        if copied or (needed and not _has_streamed(inspection, snowflake)):
            refuse(request, [what])
        return None, [
            f"{_sentence(what)} Incarnations aren't closed, so a worker that should be dead may still commit."
        ]
    of_stream = [row for row in rows if row.stream == request.stream]
    odd = [f"{row.odd!r:.80} as the position of {row.shard_id}" for row in of_stream if row.odd is not None]
    if odd and needed:
        refuse(
            request, [f"correct {table}, or rewind the shard: it holds {', '.join(odd)}, which no load wrote"]
        )
    offsets = tuple(
        CommittedOffset(row.shard_id, row.incarnation, row.position, closed=row.closed, updated=row.updated)
        for row in of_stream
        if row.odd is None
    )
    if of_stream or not copied:
        return offsets, []
    missing = f"{table} has no offsets of it on stream {request.stream}, although drains have loaded records"
    if needed:
        refuse(request, [f"correct the landing table, or rewind the shards: {missing}"])
    return offsets, [f"Check that the landing table is the right one: {missing}."]


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}."


def _may_have_copied(inspection: Inspection) -> bool:
    """Whether there may be offsets; asking for them takes a warehouse, where their table is there."""
    rows = [shard for shard in inspection.shards if shard.row]
    return not rows or any(
        not shard.incarnation or COPY in shard.sinks or shard.offset is not None for shard in rows
    )


def _has_streamed(inspection: Inspection, snowflake: SnowflakeState) -> bool:
    streamed = any(STREAMING in shard.sinks for shard in inspection.shards)
    return streamed or bool(snowflake.channels.list(snowflake.target.table))


def read_channels(
    request: ResetRequest, inspection: Inspection, snowflake: SnowflakeState | None, *, needed: bool
) -> tuple[list[CommittedOffset], list[str]]:
    """What the channels of the application's shards have, and notes.

    :param needed: the reset can't do without it; then channels are looked for that no row names
    :raises MaintenanceRefusedError: it is needed, and a token is one that no drain wrote
    :raises InvalidSettingError: there are channels, and what it takes to ask for them is missing
    """
    named = [
        OffsetKey(shard.shard_id, shard.incarnation)
        for shard in inspection.shards
        if shard.incarnation and STREAMING in shard.sinks
    ]
    if snowflake is None or not (named or needed):
        return [], []
    try:
        if named:
            snowflake.channels.try_login()
    except SnowflakeObjectNotFoundError as error:
        return [], [f"{error}. Channels aren't taken, so a worker that should be dead may still stream."]
    found = snowflake.channels.read(
        application=request.application, stream=request.stream, keys=named, listed=needed
    )
    odd = [f"{each.odd!r:.80} as the token of {each.shard_id}" for each in found if each.odd is not None]
    if odd and needed:
        refuse(request, [f"rewind the shard: channels have {', '.join(odd)}, which no drain wrote"])
    return [
        CommittedOffset(
            each.shard_id, each.incarnation, each.position, updated=each.created / 1000, sink=STREAMING
        )
        for each in found
        if each.odd is None
    ], []


def positions_under(
    rows: Collection[ShardState], request: ResetRequest, snowflake: SnowflakeState, *, unseen: bool
) -> list[tuple[str, Position]]:
    """How far Snowflake has loaded shards under the incarnations of rows, by each sink that has.

    :param unseen: the offsets table can't be seen
    """
    copied = set() if unseen else {OffsetKey.of(row) for row in rows if has_copied(row)}
    streamed = [OffsetKey.of(row) for row in rows if STREAMING in row.sinks]
    found: list[tuple[str, Position | None]] = []
    if copied:
        offsets = snowflake.session.list_offsets(snowflake.target.offsets, application=request.application)
        found += [
            (row.shard_id, row.position)
            for row in offsets
            if row.stream == request.stream and OffsetKey(row.shard_id, row.incarnation) in copied
        ]
    if streamed:
        channels = snowflake.channels.read(
            application=request.application, stream=request.stream, keys=streamed, listed=False
        )
        found += [(channel.shard_id, channel.position) for channel in channels]
    return [(shard_id, position) for shard_id, position in found if position is not None]
