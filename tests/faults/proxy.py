"""An HTTP proxy that does to requests what networks and services do on bad days."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import random
import re
import threading
from collections import Counter, OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp import web

from tests.faults.iterators import Iterators

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    Headers = Mapping[str, str]
    Forward = Callable[["Request"], Awaitable["Answer"]]
    Action = Callable[["Request", Forward], Awaitable["Answer"]]

# Of one connection, not of the request or the answer; lengths are counted anew.
_OF_THE_CONNECTION = {"connection", "content-length", "keep-alive", "transfer-encoding"}
# Node.js closes connections that were idle for five seconds.
_KEEPALIVE_SECONDS = 2
_REMEMBERED_ANSWERS = 100


@dataclass(frozen=True)
class Request:
    """A request on its way to the service.

    :param path: with the query
    :param shard_id: the shard it is about, where that can be known; a GetRecords request is about the shard
        its iterator was handed out for
    :param iterator_age: of a GetRecords request, how many GetRecords requests came since its iterator was
        handed out, itself included
    """

    method: str
    path: str
    headers: Headers
    body: bytes
    shard_id: str | None = None
    iterator_age: int | None = None

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body, if it is a JSON object, else nothing."""
        body = gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body
        try:
            decoded = json.loads(body)
        except ValueError:
            return {}
        return decoded if isinstance(decoded, dict) else {}

    @property
    def sql(self) -> str:
        """The statement, if this is a request to Snowflake with one, else nothing."""
        return str(self.json.get("sqlText", "")) if self.path.startswith("/queries/v1/query-request") else ""

    @property
    def statement_id(self) -> str | None:
        """What Snowflake's connector calls the statement, the same each time it sends it."""
        return parse_qs(urlsplit(self.path).query).get("requestId", [None])[0] if self.sql else None

    @cached_property
    def operation(self) -> str:
        """What the request asks for.

        ``GetRecords``, ``UpdateItem`` and so on of AWS; the first word of a statement in upper case;
        ``UPLOAD`` of a file to a stage; else the last part of the path, such as ``login-request``.
        """
        target = self.headers.get("X-Amz-Target", "")
        if target:
            return target.rpartition(".")[2]
        if self.sql:
            return self.sql.split(maxsplit=1)[0].upper()
        return "UPLOAD" if self.method == "PUT" else urlsplit(self.path).path.rpartition("/")[2]

    def with_json(self, body: Mapping[str, Any]) -> Request:
        """The same request with another body."""
        headers = {name: value for name, value in self.headers.items() if name.lower() != "content-encoding"}
        return replace(self, body=json.dumps(body).encode(), headers=headers)


@dataclass(frozen=True)
class Answer:
    """What the service, or a rule in its place, answers."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, which is a JSON object."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    def with_json(self, body: Mapping[str, Any]) -> Answer:
        """The same answer with another body; DynamoDB's checksum of the old one goes."""
        headers = {name: value for name, value in self.headers.items() if name.lower() != "x-amz-crc32"}
        return replace(self, body=json.dumps(body).encode(), headers=headers)


class ConnectionCut(Exception):  # noqa: N818 -- what an action does to a connection; nobody failed
    """Raised by an action to close the connection.

    :param answer: sent up to its middle before that; None: nothing of an answer is sent
    """

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__()
        self.answer = answer


class Rule:
    """What happens to which requests, made by :meth:`FaultProxy.add`. A context manager that removes it.

    :ivar hits: so many requests it was applied to
    """

    def __init__(
        self, action: Action, applies: Callable[[Request], bool], *, skip: int, times: int | None
    ) -> None:
        self.action = action
        self._applies = applies
        self._skip = skip
        self._times = times
        self._removed = False
        self.hits = 0

    def takes(self, request: Request) -> bool:
        """Return whether to apply it, and count the request."""
        if self._removed or self.hits == self._times or not self._applies(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self.hits += 1
        return True

    def remove(self) -> None:
        """Apply it to no more requests. Those under way aren't changed."""
        self._removed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class FaultProxy:
    """Stands before one service, forwards requests, and applies rules to them.

    A context manager: listens on a free port of 127.0.0.1, in a thread of its own, while the block runs. Any
    number of processes may use :attr:`url`; the process that owns the proxy gives the rules, at any moment. A
    request goes through all rules that take it, those added last first; each may change it, answer it, or
    close the connection. Where no rule says otherwise, answers come as from the service. A client that goes
    away takes nothing back: what it asked for still reaches the service.

    As Snowflake does, and fakesnow doesn't, a proxy answers a statement that is sent again under the same id
    (because the connector lost the answer) with the answer of the first time, and runs it once.

    :param upstream_url: the service
    :ivar url: stands in for the service's
    :ivar calls: how many requests came in, by :attr:`Request.operation`
    """

    url: str

    def __init__(self, upstream_url: str) -> None:
        self._upstream_url = upstream_url
        self._rules: tuple[Rule, ...] = ()
        self._iterators = Iterators()
        self._statements: OrderedDict[str, asyncio.Task[Answer]] = OrderedDict()
        self._failure: Exception | None = None
        self.calls: Counter[str] = Counter()

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="fault-proxy")
        self._thread.start()
        started.result()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Stop. Requests under way are cut.

        :raises Exception: what an action of a rule raised by mistake, unless the block failed anyway
        """
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure and kind is None:
            raise self._failure

    def add(
        self,
        action: Action,
        *,
        operation: str | None = None,
        shard_id: str | None = None,
        sql: str | None = None,
        path: str | None = None,
        when: Callable[[Request], bool] | None = None,
        skip: int = 0,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
    ) -> Rule:
        """Apply an action to the requests that meet all conditions, in front of the other rules.

        :param action: one of :mod:`tests.faults.actions`, or another coroutine function that takes the
            request and what forwards it, and returns an answer or raises :class:`ConnectionCut`
        :param operation: is :attr:`Request.operation`
        :param shard_id: is :attr:`Request.shard_id`
        :param sql: a regular expression found in the statement, whatever the case
        :param path: a regular expression found in the path and query
        :param when: a condition of your own
        :param skip: leave this many of the requests alone first
        :param times: apply it to at most so many requests
        :param probability: of applying it to a request that meets the conditions, 0 to 1
        :param seed: of the chance
        """
        chance = random.Random(seed)

        def applies(request: Request) -> bool:
            return (
                operation in {None, request.operation}
                and shard_id in {None, request.shard_id}
                and (sql is None or re.search(sql, request.sql, re.IGNORECASE) is not None)
                and (path is None or re.search(path, request.path) is not None)
                and (when is None or when(request))
                and (probability == 1.0 or chance.random() < probability)
            )

        rule = Rule(action, applies, skip=skip, times=times)
        self._rules = (rule, *self._rules)
        return rule

    # --- what runs in the thread ---------------------------------------------------------------------------

    def _run(self, started: Future[None]) -> None:
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)

    async def _serve(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with contextlib.AsyncExitStack() as running:
            self._upstream = await running.enter_async_context(
                aiohttp.ClientSession(
                    auto_decompress=False,
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
                    skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                    timeout=aiohttp.ClientTimeout(),
                )
            )
            server = web.Server(self._handle, access_log=None, auto_decompress=False)
            # Zero would mean for ever.
            runner = web.ServerRunner(server, shutdown_timeout=0.01)
            await runner.setup()
            running.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set_result(None)
            await self._stop.wait()

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        request = self._request(incoming, await incoming.content.read())
        self.calls[request.operation] += 1
        try:
            answer = await self._apply(self._rules, request)
        except (ConnectionCut, aiohttp.ClientError) as cut:
            return await _cut(incoming, cut.answer if isinstance(cut, ConnectionCut) else None)
        except Exception as error:
            self._failure = error
            raise
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    def _request(self, incoming: web.BaseRequest, body: bytes) -> Request:
        request = Request(incoming.method, incoming.path_qs, incoming.headers.copy(), body)
        iterator = request.json.get("ShardIterator")
        if request.operation != "GetRecords" or iterator is None:
            return replace(request, shard_id=_shard_named_in(request.json))
        self._iterators.tick()
        return replace(
            request, shard_id=self._iterators.shard(iterator), iterator_age=self._iterators.age(iterator)
        )

    async def _apply(self, rules: Sequence[Rule], request: Request) -> Answer:
        if not rules:
            return await self._forward(request)
        first, *others = rules
        onwards = partial(self._apply, others)
        return await (first.action(request, onwards) if first.takes(request) else onwards(request))

    async def _forward(self, request: Request) -> Answer:
        if request.statement_id is None:
            return await self._send(request)
        statement = self._statements.get(request.statement_id)
        if statement is None:
            statement = asyncio.create_task(self._send(request))
            self._statements[request.statement_id] = statement
            if len(self._statements) > _REMEMBERED_ANSWERS:
                self._statements.popitem(last=False)
        return await asyncio.shield(statement)

    async def _send(self, request: Request) -> Answer:
        # The service must answer in clear text, for the rules, and under the proxy's address, for uploads.
        headers = {**_without_connection(request.headers), "Accept-Encoding": "identity"}
        async with self._upstream.request(
            request.method, self._upstream_url + request.path, headers=headers, data=io.BytesIO(request.body)
        ) as response:
            answer = Answer(response.status, _without_connection(response.headers), await response.read())
        if request.shard_id and answer.status == 200:
            self._iterators.note(request.shard_id, answer.json)
        return answer


def _shard_named_in(body: Mapping[str, Any]) -> str | None:
    """The shard that a request to Kinesis, or one about a row of the checkpoint table, names."""
    key = body.get("Key")
    named = key.get("shardId", {}).get("S") if isinstance(key, dict) else body.get("ShardId")
    return named if isinstance(named, str) else None


def _without_connection(headers: Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION}


async def _cut(incoming: web.BaseRequest, partial: Answer | None) -> web.StreamResponse:
    response = web.StreamResponse()
    if partial is not None:
        response = web.StreamResponse(status=partial.status, headers=partial.headers)
        response.content_length = len(partial.body)
        await response.prepare(incoming)
        await response.write(partial.body[: len(partial.body) // 2])
    if incoming.transport is not None:
        incoming.transport.close()
    return response
