"""The coordinator's commands. All but the last four are calls, whose end is an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from airflow_kinesis_snowflake.engine.assignment import Candidate
    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.fetching import Call
    from airflow_kinesis_snowflake.engine.ports import Cursor
    from airflow_kinesis_snowflake.engine.reader import PageRequest
    from airflow_kinesis_snowflake.stream.positions import Position


@dataclass(frozen=True)
class LastFacts:
    """What is known about a shard when its lease is released.

    :param ended: it was read to its end, and all of it is committed
    :param unsettled: the sink may have committed more than its row shows
    :param millis_behind: lag at the last page
    :param caught_up_at: everything that arrived up to this moment (ms) is committed
    """

    ended: bool
    unsettled: bool
    millis_behind: int | None
    caught_up_at: int | None


@dataclass(frozen=True)
class Open:
    """Check the stream, make sure that there is state, and announce this worker to the others."""


@dataclass(frozen=True)
class Look:
    """Take the leases of all shards that this worker should read now.

    :param relist: list the shards in Kinesis again
    :param leave_alone: shards not to take
    """

    relist: bool
    leave_alone: Set[str]


@dataclass(frozen=True)
class Settle:
    """Ask the sink how far shards are committed whose last owner didn't release them."""

    takeovers: Sequence[Candidate]


@dataclass(frozen=True)
class Fetch:
    """Read a page and encode it."""

    call: Call
    request: PageRequest


@dataclass(frozen=True)
class Load:
    """Commit a batch, and save its checkpoints."""

    batch: Batch


@dataclass(frozen=True)
class Save:
    """Save what another worker has committed of shards as checkpoints."""

    positions: Mapping[str, Position]


@dataclass(frozen=True)
class Release:
    """Release leases."""

    shards: Mapping[str, LastFacts]


@dataclass(frozen=True)
class Leave:
    """Release all leases, including those of shards that weren't started, and remove the heartbeat."""

    shards: Mapping[str, LastFacts]


@dataclass(frozen=True)
class Note:
    """Record how far a shard is with the next renewal of its lease."""

    shard_id: str
    millis_behind: int
    caught_up_at: int


@dataclass(frozen=True)
class Resize:
    """Set the number of threads for fetches."""

    fetchers: int


@dataclass(frozen=True)
class Close:
    """Close a cursor that isn't needed any more."""

    cursor: Cursor


@dataclass(frozen=True)
class Cancel:
    """Cancel the load under way, without waiting."""


Command = Open | Look | Settle | Fetch | Load | Save | Release | Leave | Note | Resize | Close | Cancel
