"""A model of Snowpipe Streaming beneath the real sink, as nasty as its documentation allows.

Opening fences; rows are committed later than they are accepted, or never; answers are lost, and requests sent
again; what the service says of a channel is up to a second old; and who was fenced isn't told by an append.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from airflow_kinesis_snowflake.exceptions import FencedError, ServiceRefusedError, ServiceUnavailableError
from tests.simulation.snowflake import loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_kinesis_snowflake.engine.runtime import Event
    from airflow_kinesis_snowflake.identifiers import TableName
    from tests.simulation.machine import Machine
    from tests.simulation.scheduler import Scheduler
    from tests.simulation.snowflake import Loaded
    from tests.simulation.weather import Weather

T = TypeVar("T")

STATUS_SECONDS = 1.0
LOOKING_SECONDS = 0.3


@dataclass(frozen=True)
class State:
    """What the service says of a channel."""

    committed: str | None
    rejected: int = 0
    rejected_through: str | None = None
    why: str | None = None


@dataclass
class ServedChannel:
    """A channel, as the service knows it.

    :param name: tells whose rows it brings
    :param owner: grows with each opening
    :param accepted: how many parts of this owner were
    :param pending: those that aren't committed
    :param broken: nothing more of this owner is committed
    :param history: tokens, each with the moment since when it holds
    """

    name: str
    owner: int = 0
    accepted: int = 0
    pending: list[tuple[list[Loaded], str]] = field(default_factory=list)
    broken: bool = False
    history: list[tuple[float, str | None]] = field(default_factory=lambda: [(0.0, None)])

    @property
    def token(self) -> str | None:
        """That of the last committed rows."""
        return self.history[-1][1]


class StreamingServer:
    """All channels.

    :param land: takes committed rows, in order
    """

    def __init__(self, scheduler: Scheduler, weather: Weather, land: Callable[[list[Loaded]], None]) -> None:
        self.scheduler = scheduler
        self.weather = weather
        self._land = land
        self.channels: dict[tuple[str, str], ServedChannel] = {}

    def names(self, table: str) -> list[str]:
        """The channels into a table."""
        return [name for of_table, name in self.channels if of_table == table]

    def open(self, table: str, name: str) -> tuple[ServedChannel, int, str | None]:
        """Fence the former owner, whose rows are committed first, or some of them."""
        channel = self.channels.setdefault((table, name), ServedChannel(name))
        if not channel.broken:
            for _ in range(self.weather.random.randint(0, len(channel.pending))):
                self._commit_next(channel)
        channel.owner += 1
        channel.accepted, channel.pending, channel.broken = 0, [], False
        return channel, channel.owner, channel.token

    def accept(self, channel: ServedChannel, owner: int, number: int, rows: list[Loaded], token: str) -> bool:
        """Take a part of rows, unless it was taken before; whether its sender still owns the channel."""
        if channel.owner != owner:
            return False
        if number == channel.accepted:
            channel.accepted += 1
            channel.pending.append((rows, token))
            channel.broken |= self.weather.strikes("ended")
            seconds = self.weather.random.uniform(1, 40) if self.weather.strikes("slow") else 0.1
            self.scheduler.spawn(lambda: self._commit(channel, owner), after=seconds)
        return True

    def status(self, channel: ServedChannel) -> str | None:
        """A token that is or was right within the last second."""
        at = self.scheduler.now - self.weather.random.uniform(0, STATUS_SECONDS)
        return next((token for since, token in reversed(channel.history) if since <= at), None)

    def _commit(self, channel: ServedChannel, owner: int) -> None:
        if channel.owner == owner and channel.pending and not channel.broken:
            self._commit_next(channel)

    def _commit_next(self, channel: ServedChannel) -> None:
        rows, token = channel.pending.pop(0)
        application, _, _, incarnation = channel.name.split(":")
        self._land([row.under(application, incarnation) for row in rows])
        channel.history.append((self.scheduler.now, token))


class SimulatedChannel:
    """A channel that was opened by a worker.

    :param let_go: is called when it is closed
    """

    def __init__(
        self,
        server: StreamingServer,
        machine: Machine,
        channel: ServedChannel,
        owner: int,
        token: str | None,
        *,
        let_go: Callable[[], None],
    ) -> None:
        self._server, self._machine, self._channel, self._owner = server, machine, channel, owner
        self._let_go = let_go
        self._unsent: list[tuple[list[Loaded], str]] = []
        self._sent = 0
        self._sending = self._fenced = False
        self.opened = State(token)

    def append(self, rows: Sequence[bytes], start_token: str, end_token: str) -> None:
        """Keep rows, whoever owns the channel."""
        self._unsent.append(([loaded(json.loads(row)) for row in rows], end_token))

    def flush(self) -> None:
        """Send them, on a thread of the SDK."""
        if not self._sending:
            self._sending = True
            self._machine.scheduler.spawn(self._send, owner=self._machine)

    def wait(self, token: str, *, timeout: float, stopping: Event) -> State | None:
        """Return when the service says that rows through a token are committed, whoever sent them."""
        until = self._machine.monotonic() + timeout
        while True:
            said = self._call(lambda: self._server.status(self._channel))
            if said is not None and said >= token:
                return State(said)
            if self._fenced:
                raise FencedError("another has opened the channel; simulated")
            if self._machine.monotonic() >= until or stopping.wait(LOOKING_SECONDS):
                return None

    def close(self) -> None:
        """Let go of it; it stays open for who opened it last."""
        self._let_go()

    def _send(self) -> None:
        weather = self._server.weather
        while self._unsent and not self._fenced:
            rows, token = self._unsent[0]
            arrived = False
            while not arrived:
                # A request whose answer is lost is sent again, with the same number.
                weather.take_nap(self._machine)
                lost = weather.strikes("lost")
                if not lost or weather.random.random() < 0.5:
                    owned = self._call(partial(self._accept, rows, token))
                    self._fenced = not owned
                arrived = not lost
            self._unsent.pop(0)
            self._sent += 1
        self._sending = False

    def _accept(self, rows: list[Loaded], token: str) -> bool:
        return self._server.accept(self._channel, self._owner, self._sent, rows, token)

    def _call(self, effect: Callable[[], T]) -> T:
        return self._server.weather.call(self._machine, effect)


class SimulatedChannels:
    """Logs in to stream into one table."""

    hexadecimal = False

    def __init__(self, server: StreamingServer, machine: Machine, table: TableName) -> None:
        self._server, self._machine, self._table = server, machine, table.sql
        self._open: set[str] = set()

    def open(self, name: str) -> SimulatedChannel:
        """Open a channel that this client hasn't open; its answer may be lost."""
        if name in self._open:
            raise ServiceRefusedError("the channel has already been opened on the client; simulated")
        weather = self._server.weather
        lost = weather.strikes("lost")
        if lost and weather.random.random() < 0.5:
            weather.call(self._machine, lambda: None)
            raise ServiceUnavailableError("the channel isn't opened; simulated")
        opened = weather.call(self._machine, lambda: self._server.open(self._table, name))
        if lost:
            raise ServiceUnavailableError("nobody knows whether the channel is opened; simulated")
        weather.take_nap(self._machine)
        self._open.add(name)
        return SimulatedChannel(self._server, self._machine, *opened, let_go=lambda: self._open.discard(name))

    def states(self, names: Sequence[str]) -> dict[str, State]:
        """What the service says of channels, for those that are there."""
        channels = self._server.channels

        def look() -> dict[str, State]:
            found = {name: channels[self._table, name] for name in names if (self._table, name) in channels}
            return {name: State(self._server.status(channel)) for name, channel in found.items()}

        return self._server.weather.call(self._machine, look)

    def close(self) -> None:
        """What was sent may be committed yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
