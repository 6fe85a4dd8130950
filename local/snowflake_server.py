"""Serves fakesnow, the local stand-in for Snowflake, over HTTP. Runs in fakesnow's own environment.

Usage: ``python snowflake_server.py [PORT] [HOST]``. Without a port it takes a free one, and says which.

fakesnow answers a conflict of two transactions with HTTP 500, which clients repeat for minutes, and keeps
the transactions of clients that died for ever. Here a conflict is error 000625, as Snowflake has it for a
lock that can't be waited for, and a transaction that is idle while it holds locks that somebody waits for is
ended: by Snowflake after five minutes, here after five seconds.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import duckdb
import fakesnow.server
import uvicorn
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import ProgrammingError

if TYPE_CHECKING:
    from fakesnow.conn import FakeSnowflakeConnection

IDLE_SECONDS = 5.0

LOCKING = ("UPDATE", "DELETE", "MERGE")

execute = FakeSnowflakeCursor.execute
locked_at: WeakKeyDictionary[FakeSnowflakeConnection, float] = WeakKeyDictionary()


def execute_or_report_conflict(
    cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any
) -> FakeSnowflakeCursor:
    """Execute a statement; a conflict ends idle transactions of others and is reported as a lock error."""
    connection = cursor._conn
    locked_at.pop(connection, None)
    try:
        return execute(cursor, command, *args, **kwargs)
    except duckdb.TransactionException as error:
        end_idle_transactions()
        message = f"the statement waits for a lock that another transaction holds: {error}"
        raise ProgrammingError(message, errno=625, sqlstate="57014") from error
    finally:
        if command.lstrip().upper().startswith(LOCKING):
            locked_at[connection] = time.monotonic()


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
    config = uvicorn.Config(fakesnow.server.app, timeout_graceful_shutdown=1)
    with socket.create_server((host, int(port))) as server:
        print(f"listening on {host}:{server.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run(sockets=[server])


if __name__ == "__main__":
    main(*sys.argv[1:])
