"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST] [AUTHORITY]``. Without a port it takes a free one, and says
which. With the path of a file, it serves Snowpipe Streaming too, over TLS on a free port, and writes the
certificate there that clients are to trust (``streaming_server.py``).

What it does otherwise than fakesnow: sessions, transactions and locks (``snowflake_sessions.py``), COPY and
PUT (``snowflake_loading.py``), and, on request, what a bad day may bring (``snowflake_faults.py``). Besides,
logout ends a session, a session can be renewed, and NUMBER(38, 0) takes 38 digits.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import sys
import uuid
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import duckdb
import fakesnow.server
import fakesnow.transforms
import snowflake_faults
import snowflake_loading
import snowflake_sessions
import streaming_server
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from sqlglot import Expr, exp
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# Statements that wait for a lock each keep a thread.
THREADS = 500
REMEMBERED_ANSWERS = 500
DATABASES = re.compile(r'"?(\w+)"?\."?\w+"?\."?\w+"?')
IN_PROGRESS = "333334"
SESSION_GONE = ("390111", "Session no longer exists. New login required to access the service.")

integer_precision = fakesnow.transforms.integer_precision
FAULTS = snowflake_faults.Faults()
statements: OrderedDict[str, asyncio.Task[tuple[Response, str | None]]] = OrderedDict()
cut_off: set[str] = set()
detached: dict[str, tuple[asyncio.Task[tuple[Response, str | None]], snowflake_sessions.Session]] = {}
sessions: dict[str, snowflake_sessions.Session] = {}


def wide_integers(expression: Expr) -> Expr:
    """Leave NUMBER(38, 0) as wide as it is; all other integers are of 64 bits, as in fakesnow."""
    if (
        isinstance(expression, exp.DataType)
        and expression.this == exp.DataType.Type.DECIMAL
        and expression.expressions
    ):
        return expression
    return integer_precision(expression)


def parsed(command: str) -> Expr:
    """What fakesnow's server looks at; some of what is done here is no SQL to it."""
    if snowflake_sessions.is_special(command):
        return exp.Command(this=command)
    return snowflake_sessions.parsed(command)


def refused(code: str, message: str, sqlstate: str = "08001") -> JSONResponse:
    """What Snowflake answers when it refuses."""
    data = {"errorCode": code, "sqlState": sqlstate}
    return JSONResponse({"data": data, "code": code, "message": message, "success": False})


async def log_in(request: Request) -> Response:
    """Open a session."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    login = (await decoded(request))["data"]
    asked = snowflake_faults.about(login, login.get("SESSION_PARAMETERS", {}), None)
    taken = FAULTS.taking(asked, "LOGIN", None)
    if "error" in taken:
        return in_place(taken["error"])
    answer = await fakesnow.server.login_request(request)
    body = json.loads(answer.body)
    token = body["data"]["token"]
    session = snowflake_sessions.Session(fakesnow.server.sessions[token], login)
    sessions[token] = session
    body["data"] |= {
        "masterToken": secrets.token_urlsafe(32),
        "validityInSeconds": 3600,
        "masterValidityInSeconds": 14_400,
        "sessionId": session.number,
    }
    if "lose_answer" in taken:
        return await cut(request)
    return JSONResponse(body)


async def renew(request: Request) -> Response:
    """Give a session a new token."""
    old = (await decoded(request)).get("oldSessionToken", "")
    session = sessions.get(old)
    if session is None:
        return refused(*SESSION_GONE)
    token = secrets.token_urlsafe(32)
    sessions[token] = sessions.pop(old)
    fakesnow.server.sessions[token] = fakesnow.server.sessions.pop(old)
    return JSONResponse(
        {
            "data": {
                "sessionToken": token,
                "validityInSecondsST": 3600,
                "masterToken": secrets.token_urlsafe(32),
                "masterValidityInSeconds": 14_400,
                "validityInSecondsMT": 14_400,
                "sessionId": session.number,
            },
            "success": True,
        }
    )


async def end_or_keep(request: Request) -> Response:
    """Log out, or keep a session alive."""
    token = fakesnow.server.to_token(request)
    if request.query_params.get("delete"):
        session = sessions.get(token)
        taken = FAULTS.taking(known(session), "LOGOUT", session) if session else {}
        if "late" not in taken:
            await end(token)
        if taken:
            return await cut(request)
    elif token not in sessions:
        return refused(*SESSION_GONE)
    return JSONResponse({"data": None, "code": None, "message": None, "success": True})


async def end(token: str) -> None:
    """End a session and its transaction."""
    session = sessions.pop(token, None)
    fakesnow.server.sessions.pop(token, None)
    if session is not None:
        await run_in_threadpool(session.close)


async def query(request: Request) -> Response:
    """Run a statement once, however often it is sent under one id."""
    token = fakesnow.server.to_token(request)
    session = sessions.get(token)
    if session is None:
        return refused(*SESSION_GONE)
    id_ = request.query_params.get("requestId", "")
    if id_ in cut_off:
        return await cut(request)
    running = statements.get(id_)
    if running is None:
        body = await decoded(request)
        running = asyncio.create_task(run_statement(request, session, token))
        statements[id_] = running
        if body.get("asyncExec"):
            return under_way(running, session)
        if len(statements) > REMEMBERED_ANSWERS:
            statements.popitem(last=False)
    answer, lost = await asyncio.shield(running)
    if lost is not None:
        statements[id_] = asyncio.create_task(answered(answer))
        if lost == "for good":
            cut_off.add(id_)
        return await cut(request)
    return answer


def under_way(
    running: asyncio.Task[tuple[Response, str | None]], session: snowflake_sessions.Session
) -> Response:
    """Answer a statement that the client doesn't wait for."""
    query_id = str(uuid.uuid4())
    detached[query_id] = (running, session)
    data = {"queryId": query_id, "getResultUrl": f"/queries/{query_id}/result"}
    return JSONResponse({"data": data, "code": IN_PROGRESS, "message": "in progress", "success": True})


async def monitor(request: Request) -> Response:
    """Tell how a statement stands that the client doesn't wait for."""
    known = detached.get(request.path_params["sfqid"])
    if known is None:
        return fakesnow.server.monitoring_query(request)
    running, session = known
    about: dict[str, Any] = {"status": "RUNNING"}
    if running.done():
        body = json.loads(running.result()[0].body)
        about = {"status": "SUCCESS"}
        if not body["success"]:
            code = body["code"]
            about = {"status": "FAILED_WITH_ERROR", "errorCode": code, "errorMessage": body["message"]}
    elif session.transaction in snowflake_sessions.LOCKS.waits:
        about = {"status": "BLOCKED"}
    return JSONResponse({"data": {"queries": [about]}, "success": True})


async def answered(answer: Response) -> tuple[Response, None]:
    """What a statement that is sent again is answered."""
    return answer, None


async def run_statement(
    request: Request, session: snowflake_sessions.Session, token: str
) -> tuple[Response, str | None]:
    """Run a statement, with the faults that it meets.

    Return the answer, and how it is lost, if it is: ``once`` or ``for good``.
    """
    sql = (await decoded(request))["sqlText"]
    session.databases.update(DATABASES.findall(sql))
    taken = FAULTS.taking(known(session), sql, session)
    if "end_session" in taken:
        await end(token)
        return refused(*SESSION_GONE), None
    if "end_transaction" in taken:
        had = session.transaction is not None
        taken["end_transaction"].events[-1].outcome = "rolled back" if had else "had no transaction"
        await run_in_threadpool(end_transaction, session)
    if "error" in taken:
        # Sent again, perhaps in a renewed session, it is another try.
        statements.pop(request.query_params.get("requestId", ""), None)
        return in_place(taken["error"]), None
    if "late" in taken:
        FAULTS.keep(taken["late"], session, request.scope, await request.body())
        code = taken["late"].options.get("code")
        return refused(code, "injected") if code else refused(*SESSION_GONE), None if code else "for good"
    answer = await run_with(request, session, taken)
    for late in FAULTS.due(session, sql):
        await arrive(late)
    lost = taken["lose_answer"].options.get("lost", "once") if "lose_answer" in taken else None
    return answer, lost


async def run_with(
    request: Request, session: snowflake_sessions.Session, taken: dict[str, snowflake_faults.Fault]
) -> Response:
    """Run a statement with those faults that change how it runs."""
    for kind in ("stale", "race"):
        if kind in taken and taken[kind].snapshots:
            past = taken[kind].snapshots[0] if kind == "stale" else taken[kind].snapshots.pop(0)
            session.instead = partial(on_snapshot, past, kind == "race")
    session.refuses_error_logging = "error_logging" in taken
    if "purge" in taken:
        session.purge = taken["purge"].options["when"]
    session.before_waiting = partial(look_now, taken["blind"]) if "blind" in taken else None
    try:
        answer = await fakesnow.server.query_request(request)
    finally:
        session.instead = None
    if "twice" in taken:
        again = await fakesnow.server.query_request(resent(request.scope, await request.body()))
        taken["twice"].events[-1].outcome = outcome(again)
        answer = again if taken["twice"].options.get("answer") == "second" else answer
    return answer


def on_snapshot(past: Any, commit: bool, statement: Any) -> FakeSnowflakeCursor:
    return snowflake_faults.run_on(past, statement.cursor, statement, commit=commit)


def look_now(fault: snowflake_faults.Fault, statement: Any) -> Any:
    write = snowflake_faults.look_now(statement)
    fault.events[-1].outcome = "waits"
    return write


def end_transaction(session: snowflake_sessions.Session) -> None:
    with session.mutex:
        session.roll_back()


async def arrive(late: snowflake_faults.Late) -> None:
    """Run a statement that was kept, if its session is still there."""
    if late.session.closed:
        late.event.outcome = "refused"
        return
    token = next(token for token, session in sessions.items() if session is late.session)
    headers = [
        (name, f'Snowflake Token="{token}"'.encode() if name == b"authorization" else value)
        for name, value in late.scope["headers"]
    ]
    answer = await fakesnow.server.query_request(resent({**late.scope, "headers": headers}, late.body))
    late.event.outcome = outcome(answer)


def resent(scope: Any, body: bytes) -> Request:
    """A request once more."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(scope, receive)


def outcome(answer: Response) -> str:
    """How a statement ended: ``done``, or the message of the error."""
    body = json.loads(answer.body)
    return "done" if body["success"] else body["message"]


async def cut(request: Request) -> Response:
    """Close the connection."""
    transport = request.receive.__self__.transport  # type: ignore[attr-defined]
    transport.abort()
    while not request.receive.__self__.disconnected:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    return Response()


def in_place(fault: snowflake_faults.Fault) -> JSONResponse:
    """The error that a fault answers in place of Snowflake."""
    return refused(
        fault.options["code"],
        fault.options.get("message", "injected"),
        fault.options.get("sqlstate", "08001"),
    )


def known(session: snowflake_sessions.Session) -> dict[str, str]:
    databases = " ".join(filter(None, [session.connection.database, *sorted(session.databases)]))
    return snowflake_faults.about(session.login, session.parameters, databases)


async def upload(request: Request) -> Response:
    """Store a file; a fault knows it as ``UPLOAD``, with its path."""
    taken = FAULTS.taking({}, f"UPLOAD {request.path_params['path']}", None)
    if "error" in taken:
        return Response(status_code=503)
    answer = await fakesnow.server.bucket_upload(request)
    return await cut(request) if "lose_answer" in taken else answer


# --- the control of faults ---


async def add_fault(request: Request) -> Response:
    try:
        newest = max((session.number for session in sessions.values()), default=0)
        fault = FAULTS.add(await request.json(), opened=newest)
    except (KeyError, TypeError, ValueError, duckdb.Error) as error:
        return JSONResponse({"error": repr(error)}, status_code=400)
    return JSONResponse(fault.shown())


async def show_faults(request: Request) -> Response:
    return JSONResponse(FAULTS.shown())


async def remove_faults(request: Request) -> Response:
    FAULTS.remove(request.path_params.get("id"))
    return JSONResponse({})


async def deliver(request: Request) -> Response:
    """Let the statements arrive that a fault keeps."""
    id_ = request.path_params["id"]
    for late in FAULTS.late.pop(id_, []):
        await arrive(late)
    fault = FAULTS.get(id_)
    return JSONResponse(fault.shown() if fault else {})


async def decoded(request: Request) -> dict[str, Any]:
    """The JSON of a request."""
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = fakesnow.server.gzip.decompress(body)
    return json.loads(body)  # type: ignore[no-any-return]


OWN_ROUTES = [
    Route("/session/v1/login-request", log_in, methods=["POST"]),
    Route("/session/token-request", renew, methods=["POST"]),
    Route("/session", end_or_keep, methods=["POST"]),
    Route("/session/heartbeat", end_or_keep, methods=["POST"]),
    Route("/queries/v1/query-request", query, methods=["POST"]),
    Route("/monitoring/queries/{sfqid}", monitor, methods=["GET"]),
    Route("/monitoring/queries//{sfqid}", monitor, methods=["GET"]),  # connectors from version 5 on
    Route("/fs_bucket/{path:path}", upload, methods=["PUT"]),
    Route("/faults", add_fault, methods=["POST"]),
    Route("/faults", show_faults, methods=["GET"]),
    Route("/faults", remove_faults, methods=["DELETE"]),
    Route("/faults/{id:int}", remove_faults, methods=["DELETE"]),
    Route("/faults/{id:int}/deliver", deliver, methods=["POST"]),
]


def install() -> None:
    """Put these in fakesnow's place."""
    # Statements are small: threads of DuckDB's own would do little but wait for one another.
    fakesnow.server.shared_fs.duck_conn.execute("SET threads = 1")
    FakeSnowflakeCursor.execute = snowflake_sessions.run
    FakeSnowflakeCursor._describe_last_sql = snowflake_sessions.described
    fakesnow.server.parse_one = parsed
    fakesnow.transforms.integer_precision = wide_integers
    snowflake_loading.install()
    snowflake_sessions.list_channels = streaming_server.channels_into


def main(
    port: str = "0",
    host: str = "127.0.0.1",
    authority: str = "",
    streaming_port: str = "0",
    name: str = "localhost",
) -> None:
    """Serve until SIGTERM.

    :param authority: file for the certificate of the authority that clients of Snowpipe Streaming are to
        trust; without it, that isn't served
    :param name: what these clients call this machine
    """
    install()
    app = Starlette(routes=[*OWN_ROUTES, *streaming_server.CONTROL_ROUTES, *fakesnow.server.routes])
    if authority:
        listening = streaming_server.serve(Path(authority), host, port=int(streaming_port), name=name)
        print(f"streaming on {host}:{listening}", flush=True)
    config = uvicorn.Config(app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        # Without it, a client waits 40 ms for the second packet of each answer.
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
