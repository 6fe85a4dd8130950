"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST]``. Without a port it takes a free one, and says which.

fakesnow leaves transactions to DuckDB, which isolates them otherwise than Snowflake, and keeps those of
clients that died for ever: ``snowflake_transactions`` has them as Snowflake has. It never sees a session end,
because clients end only what has a master token: here logins get one. COPY is refused for tables with
ERROR_LOGGING, unless the session has opted out. Files are purged when the transaction ends, whichever way.

Besides, a field that a Parquet file lacks is NULL, and NUMBER(38, 0) takes 38 digits.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import fakesnow.copy_into
import fakesnow.server
import fakesnow.transforms
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.transforms.stage import internal_dir, parts_from_var
from snowflake.connector.errors import ProgrammingError
from snowflake_transactions import close, done, execute, run, session_of
from sqlglot import Expr, exp
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import request_response

if TYPE_CHECKING:
    from starlette.requests import Request

inserts_of = fakesnow.copy_into._inserts
integer_precision = fakesnow.transforms.integer_precision
login_request, end_session = fakesnow.server.login_request, fakesnow.server.session

_LOCATION = re.compile(r"""'(@(?:"[\w$]+"\.){2}"[\w$]+"/[\w./=-]*)'""")
_PARAMETER = re.compile(r"ALTER\s+SESSION\s+SET\s+(\w+)\s*=\s*'?(\w*)", re.IGNORECASE)
_ERROR_LOGGING = re.compile(r"\s*\bERROR_LOGGING\s*=\s*TRUE", re.IGNORECASE)
_TABLE = re.compile(r"(?:TABLE(?:\s+IF\s+NOT\s+EXISTS)?|COPY\s+INTO)\s+(\S+)", re.IGNORECASE)
tables_with_error_logging: set[str] = set()
purging = threading.local()


class Purge:
    """Stands for the module ``os`` where COPY removes the files that it has loaded."""

    @staticmethod
    def remove(path: str) -> None:
        """Remove a file when the transaction ends."""
        purging.session.on_end.append(lambda: Path(path).unlink(missing_ok=True))


def execute_statement(
    cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any
) -> FakeSnowflakeCursor:
    """Execute a statement, as Snowflake would."""
    session = purging.session = session_of(cursor._conn)
    # sqlglot has no location in quotes.
    command = _LOCATION.sub(r"\1", command)
    if command.startswith("REMOVE "):
        return remove_folder(cursor, command)
    if parameter := _PARAMETER.match(command):
        session.parameters[parameter.group(1).upper()] = parameter.group(2).upper()
        session.autocommit = session.parameters.get("AUTOCOMMIT", str(session.autocommit).upper()) == "TRUE"
        return done(cursor)
    if _ERROR_LOGGING.search(command) and (table := _TABLE.search(command)):
        tables_with_error_logging.add(table.group(1))
        command = _ERROR_LOGGING.sub("", command)
    if command.startswith("COPY ") and session.parameters.get("OPT_OUT_ERROR_LOGGING") != "TRUE":
        refuse_error_logging(command)
    return run(cursor, command, *args, **kwargs)


def refuse_error_logging(command: str) -> None:
    """Refuse COPY into a table with ERROR_LOGGING."""
    table = _TABLE.search(command)
    if table and table.group(1) in tables_with_error_logging:
        raise ProgrammingError("COPY isn't supported on tables with ERROR_LOGGING", errno=2, sqlstate="0A000")


async def login_with_master_token(request: Request) -> JSONResponse:
    """Log in; the answer has what a client needs to end its session."""
    answer = json.loads(bytes((await login_request(request)).body))
    answer["data"] |= {
        "masterToken": f"master of {answer['data']['token']}",
        "validityInSeconds": 3600,
        "masterValidityInSeconds": 14400,
        "sessionId": 1,
    }
    return JSONResponse(answer)


async def end_session_and_transaction(request: Request) -> JSONResponse:
    """Answer a heartbeat, or end the session with what it has open."""
    connection = fakesnow.server.sessions.get(fakesnow.server.to_token(request))
    answer = await end_session(request)
    if connection is not None and request.query_params.get("delete"):
        await run_in_threadpool(close, connection)
    return answer


def inserts_without_missing_fields(expr: Any, params: Any, urls: list[str], *args: Any) -> list[Any]:
    """The INSERT of each file of a COPY, with NULL for the fields that a Parquet file lacks."""
    inserts = [insert.copy() for insert in inserts_of(expr, params, urls, *args)]
    if isinstance(params.file_format, fakesnow.copy_into.ReadParquet) and isinstance(
        expr.args["files"][0], exp.Subquery
    ):
        for insert, url in zip(inserts, urls, strict=True):
            # Other threads may be busy with the connection that the module duckdb itself stands for.
            with duckdb.connect() as own:
                fields = {name.lower() for name in fakesnow.copy_into._get_parquet_column_names(url, own)}

            def present(node: Expr, fields: set[str] = fields) -> Expr:
                lacking = isinstance(node, exp.Identifier) and node.this.lower() not in fields
                return exp.Null() if lacking else node

            select = insert.expression
            select.set("expressions", [item.transform(present) for item in select.expressions])
    return inserts


def wide_integers(expression: Expr) -> Expr:
    """Leave NUMBER(38, 0) as wide as it is; all other integers are of 64 bits, as in fakesnow."""
    if (
        isinstance(expression, exp.DataType)
        and expression.this == exp.DataType.Type.DECIMAL
        and expression.expressions
    ):
        return expression
    return integer_precision(expression)


def remove_folder(cursor: FakeSnowflakeCursor, command: str) -> FakeSnowflakeCursor:
    """Remove a folder of a stage that is named in full: ``REMOVE @"D"."S"."STAGE"/folder/``."""
    stage, _, folder = command.removeprefix("REMOVE ").strip("'").removeprefix("@").partition("/")
    name = ".".join(parts_from_var(stage, current_database=None, current_schema=None))
    shutil.rmtree(internal_dir(name, folder), ignore_errors=True)
    return execute(cursor, "SELECT 'removed' AS result")


def main(port: str = "0", host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM."""
    FakeSnowflakeCursor.execute = execute_statement
    fakesnow.copy_into.os = Purge
    for route in fakesnow.server.app.routes:
        if route.path == "/session/v1/login-request":
            route.app = request_response(login_with_master_token)
        if route.path == "/session":
            route.app = request_response(end_session_and_transaction)
    fakesnow.copy_into._inserts = inserts_without_missing_fields
    fakesnow.transforms.integer_precision = wide_integers
    config = uvicorn.Config(fakesnow.server.app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
