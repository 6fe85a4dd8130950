"""The events of the coordinator."""

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
    """The drain starts."""


@dataclass(frozen=True)
class Opened:
    """The stream and the state exist.

    :param arn: of the stream
    :param is_new: this drain has created the application's table
    """

    arn: str
    is_new: bool


@dataclass(frozen=True)
class Looked:
    """A look at the state ended.

    :param held: shards whose leases this worker holds now, or has lost without an event so far
    """

    acquisition: Acquisition
    held: Set[str]


@dataclass(frozen=True)
class TakenOver:
    """The sink reported how far shards are committed.

    :param held: as in :class:`Looked`
    """

    settled: Settlement
    held: Set[str]


@dataclass(frozen=True)
class PageArrived:
    """A fetch succeeded.

    :param time: when the page's lag was measured, by the clock of Kinesis (ms)
    """

    call: Call
    page: EncodedPage
    time: int


@dataclass(frozen=True)
class PageFailed:
    """A fetch failed.

    :param chance: random fraction, 0 to 1, of the range allowed for the wait until the next try
    """

    call: Call
    error: KinesisSnowflakeError
    chance: float


@dataclass(frozen=True)
class LoadEnded:
    """A load ended: it is known whether it is committed."""

    loaded: LoadResult


@dataclass(frozen=True)
class Saved:
    """Checkpoints of what others have committed are saved.

    :param positions: what was to be saved, of shards whose leases this worker still holds
    """

    positions: Mapping[str, Position]


@dataclass(frozen=True)
class Released:
    """Leases are released."""


@dataclass(frozen=True)
class Left:
    """All leases are released, and the heartbeat is gone."""


@dataclass(frozen=True)
class Failed:
    """A call raised an error that stops all shards.

    :param command: the command it carried out; ``None``: it wasn't a call
    """

    error: BaseException
    command: Command | None = None


@dataclass(frozen=True)
class LeasesLost:
    """Leases were lost; other workers may have their shards."""

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
