"""Bad days of the local Snowpipe Streaming: what it does on request to the calls and channels of a test."""

from __future__ import annotations

import json
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.services import LocalServices


class StreamingFault:
    """One fault that is in force. A context manager that ends it; see :class:`NastyStreaming`."""

    def __init__(self, server: NastyStreaming, id_: int) -> None:
        self._server = server
        self._id = id_
        self._hits = 0

    @property
    def hits(self) -> int:
        """How many calls it was done to."""
        self._hits = self._shown().get("hits", self._hits)
        return self._hits

    @property
    def under_way(self) -> int:
        """How many calls are late, and have yet to arrive."""
        return int(self._shown().get("under_way", 0))

    def remove(self) -> None:
        """End it. What it did stays known."""
        _ = self.hits
        self._server.call("DELETE", f"/faults/{self._id}")

    def _shown(self) -> dict[str, Any]:
        return next((each for each in self._server.call("GET", "/faults") if each["id"] == self._id), {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class NastyStreaming:
    """Asks the local Snowpipe Streaming for bad days of one table. Each fault is a context manager::

        nasty = NastyStreaming(services, table)
        with nasty.lose_answer("POST .*/rows", times=1) as fault:
            channel.append(...)
        assert fault.hits == 1

    A call is chosen by a regular expression, searched in ``METHOD /path``, if it is about the table's pipe.
    All faults take ``times`` (at most so many calls), ``skip`` (leave so many alone first), ``probability``
    and ``seed``.

    :param services: whose Snowpipe Streaming
    :param table: ``DB.SCHEMA.TABLE``, plain names
    :param others: names of tables beside it, whose calls meet the faults too
    """

    def __init__(self, services: LocalServices, table: str, *others: str) -> None:
        self._url = f"http://{services.snowflake_host}:{services.snowflake_port}/streaming"
        database, schema, name = table.split(".")
        self._pipe = [database, schema, f"{name}-STREAMING"]
        self._pipes = "|".join(f"{each}-STREAMING" for each in (name, *others))

    def answer_error(
        self,
        call: str,
        *,
        status: int,
        code: str = "INTERNAL_ERROR",
        headers: dict[str, str] | None = None,
        **limits: Any,
    ) -> StreamingFault:
        """Answer an error, and do nothing."""
        return self._add("error", call, limits, status=status, code=code, headers=headers)

    def cut(self, call: str, **limits: Any) -> StreamingFault:
        """Cut the connection, and do nothing."""
        return self._add("cut", call, limits)

    def lose_answer(self, call: str, **limits: Any) -> StreamingFault:
        """Do what is asked, and cut the connection."""
        return self._add("lose_answer", call, limits)

    def repeat(self, call: str, **limits: Any) -> StreamingFault:
        """Do what is asked twice; the answer is the first's."""
        return self._add("repeat", call, limits)

    def arrive_late(self, call: str, *, seconds: float, **limits: Any) -> StreamingFault:
        """Cut the connection, and do what is asked so much later, when others may have come before."""
        return self._add("late", call, limits, seconds=seconds)

    def fence(self, call: str = "POST .*/(rows|filebuffer)", **limits: Any) -> StreamingFault:
        """Let somebody else open the channel right before a call about it."""
        return self._add("fence", call, limits)

    def commit_late(
        self, call: str = "POST .*/(rows|filebuffer)", *, seconds: float, **limits: Any
    ) -> StreamingFault:
        """Commit rows so long after they are accepted."""
        return self._add("delay", call, limits, seconds=seconds)

    def forget(self, channel: str) -> None:
        """Let a channel have rested for 30 days."""
        self._do("forget", channel=[*self._pipe, channel])

    @contextmanager
    def hold(self, channel: str) -> Iterator[None]:
        """Accept rows of a channel, and commit none."""
        self._do("hold", channel=[*self._pipe, channel])
        yield
        self._do("release", channel=[*self._pipe, channel])

    @contextmanager
    def revoke(self, role: str) -> Iterator[None]:
        """Take a role's privileges on all pipes."""
        self._do("revoke", role=role)
        yield
        self._do("grant", role=role)

    @contextmanager
    def clock(self, seconds: float, *, user: str) -> Iterator[None]:
        """Let the service's clock be ahead of a user's."""
        self._do("clock", user=user, seconds=seconds)
        yield
        self._do("clock", user=user, seconds=0)

    @contextmanager
    def most_channels(self, channels: int) -> Iterator[None]:
        """Let the pipe have so many channels, and no more."""
        self._do("most", pipe=self._pipe, channels=channels)
        yield
        self._do("most", pipe=self._pipe, channels=2_000)

    @contextmanager
    def hexadecimal(self) -> Iterator[None]:
        """Let the pipe take bytes as hexadecimal digits, and not as base64."""
        self._do("hexadecimal", pipe=self._pipe, on=True)
        yield
        self._do("hexadecimal", pipe=self._pipe, on=False)

    def channels(self) -> list[str]:
        """Names of the channels that the table has."""
        return sorted(name for *pipe, name in self.call("GET", "/channels") if pipe == self._pipe)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the control of faults."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def _do(self, what: str, **about: object) -> None:
        self.call("POST", f"/{what}", about)

    def _add(self, do: str, call: str, limits: dict[str, Any], **options: object) -> StreamingFault:
        method, _, path = call.partition(" ")
        database, schema, _ = self._pipe
        pattern = f"^{method} .*/databases/{database}/schemas/{schema}/pipes/({self._pipes})(?=[:/]){path}"
        answer = self.call("POST", "/faults", {"do": do, "call": pattern, "options": options, **limits})
        return StreamingFault(self, answer["id"])
