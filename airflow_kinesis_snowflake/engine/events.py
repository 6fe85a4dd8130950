"""What the coordinator is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from airflow_kinesis_snowflake.engine.commands import Command
    from airflow_kinesis_snowflake.engine.fetching import Call
    from airflow_kinesis_snowflake.engine.intake import Acquisition, Settlement
    from airflow_kinesis_snowflake.engine.loading import LoadResult
    from airflow_kinesis_snowflake.engine.reader import EncodedPage
    from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
    from airflow_kinesis_snowflake.stream.positions import Position


@dataclass(frozen=True)
class Begun:
    """The drain begins."""


@dataclass(frozen=True)
class Opened:
    """The stream and the state are there.

    :param arn: of the stream
    :param is_new: this drain has made the table of the application
    """

    arn: str
    is_new: bool


@dataclass(frozen=True)
class Looked:
    """A look at the state ended.

    :param held: shards whose leases this worker holds at this moment, or has lost without being told yet
    """

    intaken: Acquisition
    held: Set[str]


@dataclass(frozen=True)
class TakenOver:
    """The sink said how far shards are committed.

    :param held: as of :class:`Looked`
    """

    settled: Settlement
    held: Set[str]


@dataclass(frozen=True)
class PageArrived:
    """A fetch ended well.

    :param time: when the lag was what the page says, by the clock of Kinesis (ms)
    """

    call: Call
    page: EncodedPage
    time: int


@dataclass(frozen=True)
class PageFailed:
    """A fetch failed.

    :param chance: where in the allowed range the wait for the next try is, 0 to 1
    """

    call: Call
    error: KinesisSnowflakeError
    chance: float


@dataclass(frozen=True)
class LoadEnded:
    """A load ended: it is committed, or it is known not to be."""

    loaded: LoadResult


@dataclass(frozen=True)
class Saved:
    """Checkpoints of what others have committed are saved.

    :param positions: what was to be saved, of shards whose leases this worker still holds
    """

    positions: Mapping[str, Position]


@dataclass(frozen=True)
class Released:
    """Leases are given back."""


@dataclass(frozen=True)
class Left:
    """All leases are given back, and the heartbeat is gone."""


@dataclass(frozen=True)
class Failed:
    """A call raised an error that no shard can go on after.

    :param command: what was to be done; ``None``: it wasn't a call
    """

    error: BaseException
    command: Command | None = None


@dataclass(frozen=True)
class LeasesLost:
    """Leases were lost; their shards may be somebody else's."""

    shards: Set[str]


@dataclass(frozen=True)
class StopAsked:
    """The drain must stop."""


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = (
    Begun
    | Opened
    | Looked
    | TakenOver
    | PageArrived
    | PageFailed
    | LoadEnded
    | Saved
    | Released
    | Left
    | Failed
    | LeasesLost
    | StopAsked
    | Tick
)
