"""Transactions of the local Snowflake, as Snowflake has them and DuckDB hasn't.

* A statement sees what was committed before it began (READ COMMITTED). A transaction of DuckDB sees what was
  committed before *it* began, so it is begun again, and what it has done so far done again, when somebody
  else has committed meanwhile.
* UPDATE, DELETE and MERGE lock their table until the transaction ends, and others wait for it. A transaction
  that holds a lock and has been idle for a while is ended without a word to its session: by Snowflake after
  five minutes, here after five seconds.
* With AUTOCOMMIT off, a statement that changes rows begins a transaction if there is none. Only a MERGE is
  committed at once, because fakesnow has none inside a transaction.
* DDL commits the open transaction. COMMIT and ROLLBACK without a transaction, and BEGIN inside one, do
  nothing.
* A session that ends, ends its transaction; a statement of it that is still waiting then does nothing.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import duckdb
from fakesnow.cursor import FakeSnowflakeCursor
from snowflake.connector.errors import ProgrammingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakesnow.conn import FakeSnowflakeConnection

IDLE_SECONDS = 5.0
LOCK_TIMEOUT_SECONDS = 60.0

LOCKING = ("UPDATE", "DELETE", "MERGE")
CHANGING = (*LOCKING, "INSERT", "COPY")
DDL = ("CREATE", "ALTER", "DROP")
_NAME = r'(?:"(?:[^"]|"")*"|[\w$]+)'
_LOCKED = re.compile(rf"\s*(?:UPDATE|DELETE\s+FROM|MERGE\s+INTO)\s+({_NAME}(?:\.{_NAME})*)", re.IGNORECASE)

execute = FakeSnowflakeCursor.execute
_state = threading.Condition()
_sessions: WeakKeyDictionary[FakeSnowflakeConnection, Session] = WeakKeyDictionary()
_holders: dict[str, Session] = {}
_commits = 0
_transactions = 0


@dataclass(eq=False)
class Session:
    """What one session has open.

    :param transaction: id of the open transaction
    :param done: what it has changed so far, to be done again
    :param seen: number of commits that its DuckDB transaction sees
    :param on_end: called when a transaction ends, whichever way
    """

    connection: FakeSnowflakeConnection
    autocommit: bool
    parameters: dict[str, str] = field(default_factory=dict)
    transaction: str | None = None
    done: list[Callable[[], object]] = field(default_factory=list)
    seen: int = 0
    closed: bool = False
    active_at: float = 0.0
    on_end: list[Callable[[], object]] = field(default_factory=list)
    running: threading.RLock = field(default_factory=threading.RLock)

    def begin(self) -> None:
        """Begin a transaction unless one is open."""
        global _transactions  # noqa: PLW0603
        if self.transaction is None:
            with _state:
                _transactions += 1
                self.transaction = str(1_760_000_000_000_000_000 + _transactions)
                self.seen = _commits
            self.connection._duck_conn.begin()

    def end(self, *, commit: bool) -> None:
        """Commit or roll back what is open."""
        global _commits  # noqa: PLW0603
        if self.transaction is None:
            return
        self.transaction = None
        self.done.clear()
        try:
            with _state:
                try:
                    if commit:
                        self.connection._duck_conn.commit()
                        _commits += 1
                    else:
                        self.connection._duck_conn.rollback()
                finally:
                    for table in [table for table, holder in _holders.items() if holder is self]:
                        del _holders[table]
                    _state.notify_all()
        finally:
            while self.on_end:
                self.on_end.pop()()

    def look_again(self) -> None:
        """Let the open transaction see what others have committed since it began."""
        with _state:
            now = _commits
        if self.seen != now:
            self.connection._duck_conn.rollback()
            self.connection._duck_conn.begin()
            self.seen = now
            for statement in self.done:
                statement()

    def lock(self, table: str) -> None:
        """Wait until nobody else holds the lock of a table, and hold it."""
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        with _state:
            while (holder := _holders.get(table)) not in {None, self}:
                if not end_if_idle(holder):
                    _state.wait(0.1)
                if time.monotonic() > deadline:
                    raise conflict("another transaction holds it")
            _holders[table] = self
        if self.closed:
            raise conflict("the session has ended")


def session_of(connection: FakeSnowflakeConnection) -> Session:
    """The session of a connection. fakesnow's own notion of AUTOCOMMIT is switched off."""
    with _state:
        if connection not in _sessions:
            _sessions[connection] = Session(connection, autocommit=bool(connection._autocommit))
            connection._autocommit = True
        return _sessions[connection]


def end_if_idle(session: Session) -> bool:
    """Roll back what a session left open that has sent no statement for a while."""
    idle = time.monotonic() - session.active_at > IDLE_SECONDS
    if not idle or not session.running.acquire(blocking=False):
        return False
    try:
        session.end(commit=False)
    finally:
        session.running.release()
    return True


def close(connection: FakeSnowflakeConnection) -> None:
    """End a session, and what it has open as soon as no statement of it is running."""
    session = session_of(connection)
    session.closed = True
    if session.running.acquire(blocking=False):
        try:
            session.end(commit=False)
        finally:
            session.running.release()


def run(cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any) -> FakeSnowflakeCursor:
    """Execute a statement in its session, as Snowflake would."""
    session = session_of(cursor._conn)
    with session.running:
        session.active_at = time.monotonic()
        try:
            return _run(session, cursor, command, *args, **kwargs)
        except duckdb.TransactionException as error:
            raise conflict(str(error)) from error
        finally:
            session.active_at = time.monotonic()
            if session.closed:
                session.end(commit=False)


def _run(
    session: Session, cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any
) -> FakeSnowflakeCursor:
    word = command.split(maxsplit=1)[0].upper()
    if word in {"BEGIN", "START"}:
        session.begin()
        return done(cursor)
    if word in {"COMMIT", "ROLLBACK"}:
        session.end(commit=word == "COMMIT")
        return done(cursor)
    transaction = "NULL" if session.transaction is None else f"'{session.transaction}'"
    command = command.replace("CURRENT_TRANSACTION()", transaction)
    if word in DDL:
        session.end(commit=True)
        return execute(cursor, command, *args, **kwargs)
    if word in CHANGING:
        return _change(session, word, lambda: execute(cursor, command, *args, **kwargs), command)
    if session.transaction is not None:
        session.look_again()
    return execute(cursor, command, *args, **kwargs)


def _change(
    session: Session, word: str, statement: Callable[[], FakeSnowflakeCursor], command: str
) -> FakeSnowflakeCursor:
    on_its_own = session.transaction is None and (session.autocommit or word == "MERGE")
    if on_its_own and word == "MERGE":
        return _merge(session, statement, command)
    session.begin()
    try:
        if locked := _LOCKED.match(command):
            session.lock(locked.group(1))
        session.look_again()
        result = statement()
        session.done.append(statement)
    except BaseException:
        if on_its_own:
            session.end(commit=False)
        elif not _usable(session):
            # DuckDB aborts a transaction with the first error in it, Snowflake takes only the statement back.
            session.seen = -1
            session.look_again()
        raise
    if on_its_own:
        session.end(commit=True)
    return result


def _merge(
    session: Session, statement: Callable[[], FakeSnowflakeCursor], command: str
) -> FakeSnowflakeCursor:
    global _commits  # noqa: PLW0603
    locked = _LOCKED.match(command)
    assert locked is not None
    session.lock(locked.group(1))
    try:
        result = statement()
    finally:
        with _state:
            _commits += 1
            _holders.pop(locked.group(1), None)
            _state.notify_all()
    return result


def _usable(session: Session) -> bool:
    try:
        session.connection._duck_conn.execute("SELECT 1")
    except duckdb.Error:
        return False
    return True


def done(cursor: FakeSnowflakeCursor) -> FakeSnowflakeCursor:
    """The answer to a statement without rows."""
    return execute(cursor, "SELECT 'Statement executed successfully.' AS status")


def conflict(why: str) -> ProgrammingError:
    """As Snowflake has it for a lock that can't be waited for."""
    return ProgrammingError(
        f"the statement waits for a lock that another transaction holds: {why}", errno=625, sqlstate="57014"
    )
