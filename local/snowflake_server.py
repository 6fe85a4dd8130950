"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST]``. Without a port it takes a free one, and says which.

What it does otherwise than fakesnow: sessions, transactions and locks (``snowflake_sessions.py``), COPY and
PUT (``snowflake_loading.py``), and, on request, what a bad day may bring (``snowflake_faults.py``). Besides,
logout ends a session, a session can be renewed, and NUMBER(38, 0) takes 38 digits.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import fakesnow.server
import fakesnow.transforms
import snowflake_loading
import snowflake_sessions
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from sqlglot import Expr, exp
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

# Statements that wait for a lock each keep a thread.
THREADS = 500
SESSION_GONE = ("390111", "Session no longer exists. New login required to access the service.")

parse_one = fakesnow.server.parse_one
integer_precision = fakesnow.transforms.integer_precision
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
    return exp.Command(this=command) if snowflake_sessions.is_special(command) else parse_one(command)


def refused(code: str, message: str) -> JSONResponse:
    """What Snowflake answers when it refuses."""
    return JSONResponse(
        {"data": {"errorCode": code, "sqlState": "08001"}, "code": code, "message": message, "success": False}
    )


async def log_in(request: Request) -> Response:
    """Open a session."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    answer = await fakesnow.server.login_request(request)
    body = json.loads(answer.body)
    token = body["data"]["token"]
    login = (await decoded(request))["data"]
    session = snowflake_sessions.Session(fakesnow.server.sessions[token], login)
    sessions[token] = session
    body["data"] |= {
        "masterToken": secrets.token_urlsafe(32),
        "validityInSeconds": 3600,
        "masterValidityInSeconds": 14_400,
        "sessionId": session.number,
    }
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
        await end(token)
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
    """Run a statement."""
    if fakesnow.server.to_token(request) not in sessions:
        return refused(*SESSION_GONE)
    return await fakesnow.server.query_request(request)


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
]


def install() -> None:
    """Put these in fakesnow's place."""
    FakeSnowflakeCursor.execute = snowflake_sessions.run
    fakesnow.server.parse_one = parsed
    fakesnow.transforms.integer_precision = wide_integers
    snowflake_loading.install()


def main(port: str = "0", host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM."""
    install()
    app = Starlette(routes=[*OWN_ROUTES, *fakesnow.server.routes])
    config = uvicorn.Config(app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
