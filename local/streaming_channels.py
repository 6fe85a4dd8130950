"""Channels as Snowpipe Streaming has them: who owns one, what is accepted, what is committed.

Knows neither HTTP nor tables: rows go to a function that lands them. What Snowflake's documentation leaves
open is decided here as a client must fear it: what is accepted is committed later, and may never be; a former
owner's rows that aren't committed are discarded when a channel is opened again; a request that arrives twice
is accepted once.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Snowflake's limits.
MOST_CHANNELS = 2_000
MOST_BYTES = 20_000_000


class RefusedError(Exception):
    """An answer that isn't 200.

    :param code: what programs look at
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Name:
    """Full name of a channel."""

    database: str
    schema: str
    pipe: str
    channel: str = ""

    @property
    def of_pipe(self) -> Name:
        """The pipe that the channel belongs to."""
        return Name(self.database, self.schema, self.pipe)

    def __str__(self) -> str:
        return ".".join(part for part in (self.database, self.schema, self.pipe, self.channel) if part)


@dataclass(frozen=True)
class Landed:
    """What became of a batch of rows.

    :param parsed: rows that were looked at
    :param rejected: rows of these that didn't land
    :param message: what is wrong with one that was rejected
    """

    parsed: int
    rejected: int = 0
    message: str | None = None


@dataclass(frozen=True)
class Batch:
    """Rows that were accepted and aren't committed.

    :param due: moment of the monotonic clock before which they aren't committed
    """

    lines: bytes
    end: str | None
    due: float


@dataclass
class Channel:
    """One channel, its owner's sequencer, and its counts since it was made."""

    name: Name
    owner: int
    created: float
    row_sequencer: int = 0
    committed: str | None = None
    pending: deque[Batch] = field(default_factory=deque)
    held: bool = False
    code: str = "SUCCESS"
    inserted: int = 0
    parsed: int = 0
    errors: int = 0
    error_bound: str | None = None
    error_message: str | None = None
    error_at: float | None = None

    @property
    def continuation(self) -> str:
        """The token that the next request of the owner must bring."""
        return f"{self.owner}_{self.row_sequencer}"

    def status(self) -> dict[str, Any]:
        """The channel's status, as the service answers it."""
        return {
            "database_name": self.name.database,
            "schema_name": self.name.schema,
            "pipe_name": self.name.pipe,
            "channel_name": self.name.channel,
            "channel_status_code": self.code,
            "last_committed_offset_token": self.committed,
            "created_on_ms": int(self.created * 1000),
            "rows_inserted": self.inserted,
            "rows_parsed": self.parsed,
            "rows_error_count": self.errors,
            "last_error_offset_upper_bound": self.error_bound,
            "last_error_message": self.error_message,
            "last_error_timestamp_ms": self.error_at and int(self.error_at * 1000),
            "snowflake_avg_processing_latency_ms": 1,
        }

    def settle(self, batch: Batch, landed: Landed) -> None:
        """Count a batch that has landed; its token is committed with it."""
        self.parsed += landed.parsed
        self.inserted += landed.parsed - landed.rejected
        if landed.rejected:
            self.errors += landed.rejected
            self.error_bound = batch.end
            self.error_message = landed.message
            self.error_at = time.time()
        if batch.end is not None:
            self.committed = batch.end


class Channels:
    """All channels, and the thread that commits what they accepted.

    :param land: puts rows (NDJSON) into the table of a pipe
    :ivar most: channels that a pipe may have, where it isn't as many as with Snowflake
    """

    def __init__(self, land: Callable[[Name, bytes], Landed]) -> None:
        self._land = land
        self._channels: dict[Name, Channel] = {}
        self._owners = itertools.count(1)
        self._changed = threading.Condition()
        self.most: dict[Name, int] = {}
        threading.Thread(target=self._commit_what_is_due, name="commits", daemon=True).start()

    def open(self, name: Name, *, token: str | None, fail_on_uncommitted: bool) -> tuple[str, dict[str, Any]]:
        """Make the caller the owner of a channel.

        :return: continuation token, and status
        """
        with self._changed:
            channel = self._channels.get(name)
            if channel is None:
                self._refuse_too_many(name)
                channel = Channel(name, next(self._owners), time.time(), committed=token)
                self._channels[name] = channel
                return channel.continuation, channel.status()
            if channel.pending and fail_on_uncommitted:
                message = "The channel has uncommitted data"
                raise RefusedError(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA", message)
            channel.pending.clear()
            channel.held, channel.code = False, "SUCCESS"
            channel.owner, channel.row_sequencer = next(self._owners), 0
            if token is not None:
                channel.committed = token
            return channel.continuation, channel.status()

    def append(self, name: Name, continuation: str, lines: bytes, end: str | None, *, delay: float) -> str:
        """Accept rows; return the next continuation token.

        :param delay: seconds until they are committed
        """
        return self.append_all(name, continuation, [(lines, end)], delay=delay)

    def append_all(
        self, name: Name, continuation: str, batches: Sequence[tuple[bytes, str | None]], *, delay: float
    ) -> str:
        """Accept the rows of one request, which may come from several places."""
        owner, _, sequencer = continuation.partition("_")
        with self._changed:
            channel = self._get(name)
            if owner != str(channel.owner) or not sequencer.isdecimal():
                message = "Channel sequencer in the continuation token is stale. Please reopen the channel"
                raise RefusedError(400, "STALE_CONTINUATION_TOKEN_SEQUENCER", message)
            if int(sequencer) > channel.row_sequencer:
                message = "The row sequencer in the continuation token is ahead of the channel's"
                raise RefusedError(400, "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER", message)
            if int(sequencer) == channel.row_sequencer:
                due = time.monotonic() + delay
                channel.pending.extend(Batch(lines, end, due) for lines, end in batches)
                channel.row_sequencer += 1
                self._changed.notify_all()
            return f"{owner}_{int(sequencer) + 1}"

    def statuses(self, pipe: Name, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The status of each of these channels that there is."""
        with self._changed:
            found = {
                name: self._channels.get(Name(pipe.database, pipe.schema, pipe.pipe, name)) for name in names
            }
            return {name: channel.status() for name, channel in found.items() if channel}

    def drop(self, name: Name, *, fail_on_uncommitted: bool = False) -> dict[str, Any]:
        """Drop a channel with its token; rows that aren't committed are discarded."""
        with self._changed:
            channel = self._get(name)
            if channel.pending and fail_on_uncommitted:
                message = "The channel has uncommitted data"
                raise RefusedError(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA", message)
            del self._channels[name]
            return {"last_committed_offset_token": channel.committed}

    def hold(self, name: Name, held: bool) -> None:
        """Commit nothing more of a channel, or go on with what was accepted meanwhile."""
        with self._changed:
            self._get(name).held = held
            self._changed.notify_all()

    def names(self) -> list[Name]:
        """The channels that there are."""
        with self._changed:
            return list(self._channels)

    def of_pipe(self, pipe: Name) -> list[Channel]:
        """The channels of a pipe."""
        with self._changed:
            return [channel for name, channel in self._channels.items() if name.of_pipe == pipe]

    def _get(self, name: Name) -> Channel:
        channel = self._channels.get(name)
        if channel is None:
            message = "The channel does not exist or you are not authorized to use it"
            raise RefusedError(404, "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED", message)
        return channel

    def _refuse_too_many(self, name: Name) -> None:
        most = self.most.get(name.of_pipe, MOST_CHANNELS)
        if sum(each.of_pipe == name.of_pipe for each in self._channels) >= most:
            message = f"The pipe has {most} channels, which is the limit"
            raise RefusedError(400, "ERR_CHANNEL_LIMIT_EXCEEDED", message)

    # The lock is held while rows land: whoever opens the channel sees them before, or committed.
    def _commit_what_is_due(self) -> None:
        while True:
            with self._changed:
                ready = [each for each in self._channels.values() if each.pending and not each.held]
                now = time.monotonic()
                due = [channel for channel in ready if channel.pending[0].due <= now]
                for channel in due:
                    self._commit(channel)
                if not due:
                    soonest = min((channel.pending[0].due for channel in ready), default=None)
                    self._changed.wait(None if soonest is None else soonest - now)

    def _commit(self, channel: Channel) -> None:
        batch = channel.pending[0]
        try:
            landed = self._land(channel.name.of_pipe, batch.lines)
        except Exception as error:
            # Whatever it is, the channel stands still and says so.
            print(f"rows of {channel.name} can't land: {error!r}", flush=True)
            channel.held, channel.code = True, getattr(error, "code", "ERR_INTERNAL")
            return
        channel.pending.popleft()
        channel.settle(batch, landed)
