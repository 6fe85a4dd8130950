"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST]``. Without a port it takes a free one, and says which.

fakesnow answers a conflict of two transactions with HTTP 500, which clients repeat for minutes, and keeps
the transactions of clients that died for ever. Here a conflict is error 000625, as Snowflake has it for a
lock that can't be waited for, and a transaction that is idle while it holds locks that somebody waits for is
ended: by Snowflake after five minutes, here after five seconds.

Besides, a field that a Parquet file lacks is NULL, and NUMBER(38, 0) takes 38 digits.
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import duckdb
import fakesnow.copy_into
import fakesnow.server
import fakesnow.transforms
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.transforms.stage import internal_dir, parts_from_var
from snowflake.connector.errors import ProgrammingError
from sqlglot import Expr, exp

if TYPE_CHECKING:
    from fakesnow.conn import FakeSnowflakeConnection

IDLE_SECONDS = 5.0

LOCKING = ("UPDATE", "DELETE", "MERGE")

execute = FakeSnowflakeCursor.execute
inserts_of = fakesnow.copy_into._inserts
integer_precision = fakesnow.transforms.integer_precision
locked_at: WeakKeyDictionary[FakeSnowflakeConnection, float] = WeakKeyDictionary()


def execute_or_report_conflict(
    cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any
) -> FakeSnowflakeCursor:
    """Execute a statement; a conflict ends idle transactions of others and is reported as a lock error."""
    connection = cursor._conn
    locked_at.pop(connection, None)
    if command.startswith("REMOVE "):
        return remove_folder(cursor, command)
    try:
        return execute(cursor, command, *args, **kwargs)
    except duckdb.TransactionException as error:
        end_idle_transactions()
        message = f"the statement waits for a lock that another transaction holds: {error}"
        raise ProgrammingError(message, errno=625, sqlstate="57014") from error
    finally:
        if command.lstrip().upper().startswith(LOCKING):
            locked_at[connection] = time.monotonic()


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


def end_idle_transactions() -> None:
    """Roll back what sessions left open that took locks and have sent no statement for a while."""
    for connection, at in list(locked_at.items()):
        if time.monotonic() - at > IDLE_SECONDS:
            try:
                connection.rollback()
            except duckdb.TransactionException:
                continue  # it had none open


def main(port: str = "0", host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM."""
    FakeSnowflakeCursor.execute = execute_or_report_conflict
    fakesnow.copy_into._inserts = inserts_without_missing_fields
    fakesnow.transforms.integer_precision = wide_integers
    config = uvicorn.Config(fakesnow.server.app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
