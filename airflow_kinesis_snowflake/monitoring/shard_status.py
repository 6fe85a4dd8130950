"""What each shard is doing, and which shards are stuck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT
from airflow_kinesis_snowflake.monitoring.owners import Holder, holder_of
from airflow_kinesis_snowflake.words import ago, counted, duration, named

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.alerts.thresholds import Thresholds
    from airflow_kinesis_snowflake.maintenance.inspection import ShardView
    from airflow_kinesis_snowflake.monitoring.drains import Run


@dataclass(frozen=True, kw_only=True)
class ShardLine:
    """One shard as the page shows it. Ages and lags are milliseconds.

    :param status: ``stuck``, ``damaged``, ``abandoned`` (its lease expired), ``reading``, ``behind``,
        ``waiting`` (for its parents), ``idle`` or ``ended``
    :param why: the status in a sentence
    :param children: those that have a row
    :param open: it isn't known to be closed
    :param owner: the holder or last holder of its lease, as in DynamoDB
    :param holder: the same, if it is a worker of this package
    :param lease_left: until its lease expires, negative after that
    :param lag: its lag when it was last read
    :param age: since the record of its checkpoint was written
    :param touched: since its row was last written
    :param records: committed in the drains known to the page
    """

    shard_id: str
    status: str
    why: str
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    open: bool = True
    owner: str | None = None
    holder: Holder | None = None
    lease_left: int | None = None
    checkpoint: str | None = None
    start_at: str | None = None
    lag: int | None = None
    age: int | None = None
    touched: int | None = None
    records: int = 0
    dead_letters: int = 0


def shard_lines(
    shards: Iterable[ShardView],
    runs: Sequence[Run],
    *,
    now: int,
    drained: bool = False,
    thresholds: Thresholds = DEFAULT,
) -> tuple[ShardLine, ...]:
    """All shards that have a row, in the order given.

    :param runs: newest first
    :param now: milliseconds since the epoch
    :param drained: a drain of this Airflow is under way: an expired lease may be about to be renewed
    :param thresholds: the lag beyond which a shard is behind, and when it is stuck
    """
    rows = {shard.shard_id: shard for shard in shards if shard.row}
    children = _children(rows)
    finished = [run for run in runs if run.over]
    scene = _Scene(finished, now, drained, thresholds)
    return tuple(
        _line(
            shard,
            children=children.get(shard.shard_id, ()),
            waits=tuple(p for p in shard.parents if p in rows and not rows[p].ended),
            scene=scene,
        )
        for shard in rows.values()
    )


@dataclass(frozen=True)
class _Scene:
    """What is the same for all shards."""

    finished: Sequence[Run]
    now: int
    drained: bool
    thresholds: Thresholds

    def late(self, lag: int | None) -> bool:
        return lag is not None and lag > self.thresholds.caught_up_seconds * 1000


def of_status(lines: Iterable[ShardLine], *statuses: str) -> tuple[ShardLine, ...]:
    """The lines that have one of these statuses."""
    return tuple(line for line in lines if line.status in statuses)


def _line(
    shard: ShardView,
    *,
    children: tuple[str, ...],
    waits: tuple[str, ...],
    scene: _Scene,
) -> ShardLine:
    status, why = _status(shard, waits, scene)
    now, finished = scene.now, scene.finished
    done = [run.shards[shard.shard_id] for run in finished if shard.shard_id in run.shards]
    held = shard.lease_owner is not None and shard.lease_expiry is not None
    return ShardLine(
        shard_id=shard.shard_id,
        status=status,
        why=why,
        parents=shard.parents,
        children=children,
        open=not (shard.ended or shard.closed or children),
        owner=shard.lease_owner,
        holder=holder_of(shard.lease_owner),
        lease_left=shard.lease_expiry - now if held and shard.lease_expiry is not None else None,
        checkpoint=None if shard.checkpoint is None else shard.checkpoint.sequence_number,
        start_at=shard.start_at,
        lag=None if shard.ended else _lag(shard, finished),
        age=None if shard.written is None else max(0, now - shard.written),
        touched=None if shard.last_update is None else max(0, now - shard.last_update),
        records=sum(each.records for each in done),
        dead_letters=sum(each.dead_letters for each in done),
    )


def _status(shard: ShardView, waits: Collection[str], scene: _Scene) -> tuple[str, str]:
    now = scene.now
    if not shard.readable:
        return "damaged", "Its row holds values that no drain writes"
    if shard.ended:
        return "ended", "Read to its end"
    if waits:
        return "waiting", f"Waits until {named(tuple(waits))} {'is' if len(waits) == 1 else 'are'} finished"
    lag = _lag(shard, scene.finished)
    if shard.leased(now):
        return "reading", f"Being read{_behind(lag)}"
    if (stuck := _why_stuck(shard, scene)) is not None:
        return "stuck", stuck
    if shard.lease_owner is not None and not scene.drained:
        return "abandoned", f"Its worker's lease expired {ago(shard.lease_expiry or now, now)}"
    if scene.late(lag):
        return "behind", f"Not being read now{_behind(lag)}"
    return "idle", "Not being read now; it was caught up"


def _behind(lag: int | None) -> str:
    return f"; {duration(lag)} behind when last checked" if lag is not None and lag >= 1000 else ""


def _why_stuck(shard: ShardView, scene: _Scene) -> str | None:
    """Why a readable shard makes no progress; None if nothing suggests that."""
    drains = scene.thresholds.idle_drains
    last = scene.finished[:drains]
    if len(last) < drains:
        return None
    done = [run.shards.get(shard.shard_id) for run in last]
    seen = [each for each in done if each is not None]
    if len(seen) == len(last) and all(
        each.records == 0 and scene.late(each.millis_behind_latest) for each in seen
    ):
        return f"{len(last)} drains in a row loaded nothing from it{_behind(seen[0].millis_behind_latest)}"
    began = last[-1].started
    if not seen and began is not None and shard.last_update is not None and shard.last_update < began:
        return f"The last {len(last)} drains didn't read it; last read {ago(shard.last_update, scene.now)}"
    return None


def _lag(shard: ShardView, finished: Sequence[Run]) -> int | None:
    if shard.millis_behind is not None:
        return shard.millis_behind
    reports = (run.shards[shard.shard_id] for run in finished if shard.shard_id in run.shards)
    return next(
        (each.millis_behind_latest for each in reports if each.millis_behind_latest is not None), None
    )


def _children(rows: Mapping[str, ShardView]) -> dict[str, tuple[str, ...]]:
    children: dict[str, tuple[str, ...]] = {}
    for shard in rows.values():
        for parent in shard.parents:
            children[parent] = (*children.get(parent, ()), shard.shard_id)
    return children


def summary(lines: Sequence[ShardLine]) -> str:
    """How many shards there are, by status, such as ``6 shards: 2 open, 4 ended``."""
    opened = sum(line.open for line in lines)
    ended = len(of_status(lines, "ended"))
    closed = len(lines) - opened - ended
    kinds = ((opened, "open"), (closed, "closed, being finished"), (ended, "read to the end"))
    parts = [f"{number:,} {what}" for number, what in kinds if number]
    return f"{counted(len(lines), 'shard')}{': ' if parts else ''}{', '.join(parts)}"
