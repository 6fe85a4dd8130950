"""Sessions, transactions and locks as Snowflake has them, over fakesnow and DuckDB.

DuckDB gives a transaction one snapshot and fails it when another was faster. Snowflake gives each statement a
snapshot of its own, and lets UPDATE, DELETE and MERGE wait for the table. So a transaction remembers what it
wrote; where it must see what others have committed meanwhile, or where DuckDB fails it, DuckDB's transaction
is rolled back, another is begun, and the writes are done again in that one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import duckdb
import fakesnow.transforms.stage as stages
import pyarrow
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.dialect import parse_one
from snowflake.connector.errors import ProgrammingError
from snowflake_columns import NAMES as COLUMN_FACTS
from snowflake_columns import columns_of
from sqlglot import exp
from sqlglot.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fakesnow.conn import FakeSnowflakeConnection

# Snowflake's are 5 minutes, 12 hours and 20.
IDLE_SECONDS = 5.0
LOCK_TIMEOUT = 43_200
MOST_WAITERS = 20
TRIES = 5

LOCKING = frozenset({"UPDATE", "DELETE", "MERGE"})
DML = LOCKING | {"INSERT", "COPY"}
DDL = frozenset({"CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "GRANT", "REVOKE", "UNDROP"})
WORDS = {"DESC": "DESCRIBE", "START": "BEGIN", "LS": "LIST", "RM": "REMOVE", "WITH": "SELECT"}
PARAMETERS = frozenset(
    {
        "ABORT_DETACHED_QUERY",
        "AUTOCOMMIT",
        "CLIENT_SESSION_KEEP_ALIVE",
        "DATE_INPUT_FORMAT",
        "ERROR_ON_NONDETERMINISTIC_MERGE",
        "ERROR_ON_NONDETERMINISTIC_UPDATE",
        "LOCK_TIMEOUT",
        "OPT_OUT_ERROR_LOGGING",
        "QUERY_TAG",
        "QUOTED_IDENTIFIERS_IGNORE_CASE",
        "READ_CONSISTENCY_MODE",
        "STATEMENT_TIMEOUT_IN_SECONDS",
        "TIMESTAMP_INPUT_FORMAT",
        "TIME_INPUT_FORMAT",
        "TIMEZONE",
        "TRANSACTION_ABORT_ON_ERROR",
        "TRANSACTION_DEFAULT_ISOLATION_LEVEL",
    }
)

_SETTING = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.|'')*'|[^\s,;]+)")
_ESCAPED = re.compile(r"\\(.)|''", re.DOTALL)
_CURRENT_TRANSACTION = re.compile(r"\bCURRENT_TRANSACTION\s*\(\s*\)", re.IGNORECASE)
_DESCRIBE_TRANSACTION = re.compile(r"DESC(?:RIBE)?\s+TRANSACTION\s+'?(\d+)'?", re.IGNORECASE)
_ABORT_TRANSACTION = re.compile(r"SYSTEM\$ABORT_TRANSACTION\s*\(\s*'?(\d+)'?\s*\)", re.IGNORECASE)
_REMOVE = re.compile(r"\s*(?:REMOVE|RM)\s+(?P<quote>'?)@(?P<location>.+?)(?P=quote)\s*;?\s*", re.I | re.S)
_LIST = re.compile(r"\s*(?:LIST|LS)\s+(?P<quote>'?)@(?P<location>.+?)(?P=quote)\s*;?\s*", re.I | re.S)
_ERROR_LOGGING = re.compile(r"\bERROR_LOGGING\s*=\s*(TRUE|FALSE)", re.IGNORECASE)
_PRIMARY_KEY = re.compile(r",\s*PRIMARY\s+KEY\s*\([^)]*\)", re.IGNORECASE)
_DROP_DATABASE = re.compile(r"\s*DROP\s+DATABASE\s+(\w+)\s*;?\s*", re.IGNORECASE)
_READS = ("SELECT", "DESCRIBE", "SHOW", "WITH", "FROM", "SET", "PRAGMA")
_OF_TEMPORARY_TABLES = re.compile(
    r"\s*(INSERT INTO _fs_global\.|DELETE FROM \S+\._fs_load_history)", re.IGNORECASE
)
_SHOW_CHANNELS = re.compile(r"\s*SHOW\s+CHANNELS\s+IN\s+TABLE\s+(?P<table>.+?)\s*;?\s*", re.I | re.S)
_SHOW_COLUMNS = re.compile(r"\s*SHOW\s+COLUMNS\s+IN\s+TABLE\s+(?P<table>.+?)\s*;?\s*", re.I | re.S)
_LEADING = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(\w+)", re.DOTALL)

Table = tuple[str, str, str]
# Creation time, name and token of the channels into a table; the server sets it.
list_channels: Callable[[Table], list[tuple[Any, ...]]] = lambda table: []  # noqa: E731

execute = FakeSnowflakeCursor.execute
describe = FakeSnowflakeCursor._describe_last_sql
# Whoever takes a statement apart without changing it needn't parse it again.
parsed = functools.lru_cache(maxsize=1_000)(parse_one)


class Connection:
    """A connection to DuckDB that remembers the writes of the open transaction.

    :ivar described: the columns of the last result, as DuckDB's DESCRIBE would tell them
    """

    def __init__(self, own: duckdb.DuckDBPyConnection) -> None:
        self.own = own
        self.writes: list[tuple[str, Any]] | None = None
        self.described: list[tuple[Any, ...]] | None = None
        self.session: Session

    def execute(self, sql: str, params: Any = None) -> Self:
        return self._run(self.own.execute, sql, params)

    def executemany(self, sql: str, params: Any = None) -> Self:
        for each in params:
            self._run(self.own.execute, sql, each)
        return self

    def _run(self, run: Callable[..., object], sql: str, params: Any) -> Self:
        if self.writes is not None and _OF_TEMPORARY_TABLES.match(sql):
            # fakesnow keeps notes on the temporary table of a MERGE in another database.
            return self
        kept = list(params) if isinstance(params, (list, tuple)) else dict(params) if params else params
        run(sql, params)
        if self.writes is not None and not sql.lstrip("( \n\t").upper().startswith(_READS):
            self.writes.append((sql, kept))
        return self

    def to_arrow_table(self) -> pyarrow.Table:
        self.described = [
            (name, str(kind), "YES", None, None, None) for name, kind, *_ in self.own.description or []
        ]
        return self.own.to_arrow_table()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


@dataclass(eq=False)
class Transaction:
    """An open transaction.

    :ivar id: what CURRENT_TRANSACTION() answers
    :ivar visible: whether it answers that; the transaction around one statement of autocommit isn't shown
    :ivar snapshot: number of the last commit that it surely sees
    :ivar purged: files that COPY has put away, with their first places
    """

    session: Session
    id: str
    visible: bool
    snapshot: int
    written: set[Table] = field(default_factory=set)
    purged: list[tuple[str, str]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)


class Locks:
    """Who holds which table, what was committed when, and how each transaction ended."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.commits = 0
        self.committed: dict[Table, int] = {}
        self.holders: dict[Table, Transaction] = {}
        self.waits: dict[Transaction, Table] = {}
        self.open: dict[str, Transaction] = {}
        self.ended: dict[str, str] = {}
        self._ids = itertools.count(time.time_ns() // 1_000)

    def new_id(self) -> str:
        return str(next(self._ids))

    def acquire(self, transaction: Transaction, table: Table, timeout: float) -> bool:
        """Lock a table until the transaction ends; return whether it had to wait.

        :raises ProgrammingError: 625 after LOCK_TIMEOUT or behind too many others; 615 in a deadlock
        """
        until = time.monotonic() + timeout
        with self.changed:
            if self.holders.get(table) in (None, transaction):
                self.holders[table] = transaction
                return False
            if sum(waited == table for waited in self.waits.values()) >= MOST_WAITERS:
                raise locked(table, "too many others wait for it")
            self.waits[transaction] = table
            try:
                while self.holders.get(table) not in (None, transaction):
                    self._refuse_deadlock(transaction, table)
                    holder = self.holders[table]
                    if time.monotonic() >= until:
                        raise locked(table, f"transaction {holder.id} holds it; LOCK_TIMEOUT has passed")
                    self.changed.wait(0.05)
                    if self.holders.get(table) is holder:
                        self._end_if_idle(holder)
                self.holders[table] = transaction
            finally:
                del self.waits[transaction]
            return True

    def _refuse_deadlock(self, transaction: Transaction, table: Table) -> None:
        behind: Table | None = table
        while behind is not None and (holder := self.holders.get(behind)) is not None:
            if holder is transaction:
                raise ProgrammingError("deadlock: transaction was aborted", errno=615, sqlstate="57014")
            behind = self.waits.get(holder)

    def _end_if_idle(self, holder: Transaction) -> None:
        session = holder.session
        if time.monotonic() - session.last_statement <= IDLE_SECONDS:
            return
        # Whoever holds a session may be about to commit, which takes this lock.
        self.changed.release()
        try:
            if session.mutex.acquire(blocking=False):
                try:
                    if session.transaction is holder:
                        session.roll_back()
                finally:
                    session.mutex.release()
        finally:
            self.changed.acquire()

    def release(self, transaction: Transaction, state: str) -> None:
        with self.changed:
            if state == "committed":
                self.note(transaction.written)
            self.open.pop(transaction.id, None)
            self.ended[transaction.id] = state
            for table in [table for table, holder in self.holders.items() if holder is transaction]:
                del self.holders[table]
            self.changed.notify_all()

    def note(self, tables: Iterable[Table]) -> None:
        """Count a commit to these tables."""
        with self.changed:
            self.commits += 1
            self.committed.update(dict.fromkeys(tables, self.commits))

    def behind(self, transaction: Transaction, tables: Iterable[Table]) -> bool:
        """Whether others may have committed to these tables what the transaction doesn't see."""
        with self.changed:
            return any(self.committed.get(table, 0) > transaction.snapshot for table in tables)


LOCKS = Locks()
error_logging: set[Table] = set()


def locked(table: Table, why: str) -> ProgrammingError:
    message = f"the statement waits for a lock on {'.'.join(table)}: {why}"
    return ProgrammingError(message, errno=625, sqlstate="57014")


class Session:
    """What a login began.

    :ivar mutex: held while a statement runs
    :ivar purge: when COPY ... PURGE removes files: ``statement``, at once, whatever becomes of the
        transaction; or ``commit``
    """

    purge = "statement"
    _numbers = itertools.count(1)

    def __init__(self, connection: FakeSnowflakeConnection, login: Mapping[str, Any]) -> None:
        self.number = next(self._numbers)
        self.login = dict(login)
        self.parameters = {name.upper(): value for name, value in login.get("SESSION_PARAMETERS", {}).items()}
        self.mutex = threading.RLock()
        self.transaction: Transaction | None = None
        self.last_statement = time.monotonic()
        self.closed = False
        self.databases: set[str] = set()
        self.connection = connection
        self.duck = Connection(connection._duck_conn)
        self.duck.session = self
        connection._duck_conn = self.duck
        connection.table_stages._duck_conn = self.duck
        connection._autocommit = True
        connection.session = self
        self.refuses_error_logging = False
        self.instead: Callable[[_Statement], FakeSnowflakeCursor] | None = None
        self.before_waiting: Callable[[_Statement], Any] | None = None

    @property
    def autocommit(self) -> bool:
        return is_true(self.parameters.get("AUTOCOMMIT", True))

    def begin(self, *, visible: bool) -> Transaction:
        transaction = Transaction(self, LOCKS.new_id(), visible, LOCKS.commits)
        self.duck.own.begin()
        self.duck.writes = []
        LOCKS.open[transaction.id] = transaction
        self.transaction = transaction
        return transaction

    def commit(self) -> None:
        transaction = self.transaction
        if transaction is None:
            return
        for tries_left in reversed(range(TRIES)):
            try:
                self.duck.own.commit()
                break
            except duckdb.TransactionException as error:
                if not tries_left:
                    self.roll_back()
                    raise locked(("", "", ""), str(error)) from error
                self.refresh()
        self._end(transaction, "committed")

    def roll_back(self) -> None:
        transaction = self.transaction
        if transaction is None:
            return
        with contextlib.suppress(duckdb.Error):
            self.duck.own.rollback()
        self._end(transaction, "rolled back")

    def _end(self, transaction: Transaction, state: str) -> None:
        self.transaction = None
        self.duck.writes = None
        for put_away, _ in transaction.purged:
            Path(put_away).unlink(missing_ok=True)
        if state == "committed":
            for path in transaction.pending:
                Path(path).unlink(missing_ok=True)
        LOCKS.release(transaction, state)

    def refresh(self) -> None:
        """Let the open transaction see all that is committed: do its writes again in a new one of DuckDB.

        :raises ProgrammingError: 615 if that can't be; the transaction is rolled back then
        """
        transaction = self.transaction
        assert transaction is not None
        with contextlib.suppress(duckdb.Error):
            self.duck.own.rollback()
        transaction.snapshot = LOCKS.commits
        self.duck.own.begin()
        moved = {first: put_away for put_away, first in transaction.purged}
        try:
            for sql, params in self.duck.writes or []:
                self.duck.own.execute(elsewhere(sql, moved), params)
        except duckdb.Error as error:
            self.roll_back()
            message = f"transaction {transaction.id} was aborted: {error}"
            raise ProgrammingError(message, errno=615, sqlstate="57014") from error

    def close(self) -> None:
        """Roll back, and take no more statements."""
        with self.mutex:
            self.closed = True
            self.roll_back()
            self.duck.own.close()

    def put_away(self, path: str) -> None:
        """Remove a file that COPY has loaded."""
        transaction = self.transaction
        assert transaction is not None
        if self.purge == "commit":
            transaction.pending.append(path)
            return
        # Kept out of sight as long as the COPY may have to be done again.
        folder = Path(stages.LOCAL_BUCKET_PATH).with_name(f"{Path(stages.LOCAL_BUCKET_PATH).name}_purged")
        folder.mkdir(exist_ok=True)
        place = str(folder / uuid.uuid4().hex)
        os.replace(path, place)
        transaction.purged.append((place, path))


def elsewhere(sql: str, moved: Mapping[str, str]) -> str:
    """A statement that reads files from the places they were moved to."""
    if moved:
        for first, place in moved.items():
            sql = sql.replace(exp.Literal.string(first).sql(dialect="duckdb"), f"'{place}'")
            escaped = exp.Literal.string(stages.glob_escape(first)).sql(dialect="duckdb")
            sql = sql.replace(escaped, f"'{place}'")
    return sql


def is_true(value: object) -> bool:
    return str(value).strip("'").upper() in {"TRUE", "1", "ON", "YES"}


def kind_of(command: str) -> str:
    """The first word of a statement, in upper case."""
    match = _LEADING.match(command)
    word = match[1].upper() if match else ""
    return WORDS.get(word, word)


def is_special(command: str) -> bool:
    """Whether fakesnow needn't understand the statement."""
    kind = kind_of(command)
    return (
        kind in {"REMOVE", "LIST"}
        or (kind == "DESCRIBE" and _DESCRIBE_TRANSACTION.match(command.strip()) is not None)
        or (kind == "DROP" and _DROP_DATABASE.fullmatch(command) is not None)
    )


def run(cursor: FakeSnowflakeCursor, command: str, *args: Any, **kwargs: Any) -> FakeSnowflakeCursor:
    """Execute a statement as Snowflake would, in place of fakesnow's own method."""
    session: Session | None = getattr(cursor._conn, "session", None)
    if session is None:
        return execute(cursor, command, *args, **kwargs)
    with session.mutex:
        session.last_statement = time.monotonic()
        session.duck.described = None
        try:
            result = _Statement(session, cursor, command, args, kwargs).run()
            result.described = session.duck.described
            return result
        finally:
            session.last_statement = time.monotonic()


def described(cursor: FakeSnowflakeCursor) -> list[tuple[Any, ...]]:
    """The columns of a result, in place of fakesnow's own method, which plans the statement once more."""
    return getattr(cursor, "described", None) or describe(cursor)  # type: ignore[no-any-return]


class _Statement:
    def __init__(
        self,
        session: Session,
        cursor: FakeSnowflakeCursor,
        command: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.session = session
        self.cursor = cursor
        self._command = command
        self._args = args
        self._kwargs = kwargs
        self._kind = kind_of(command)

    def run(self) -> FakeSnowflakeCursor:
        if self.session.closed:
            raise ProgrammingError("Session no longer exists.", errno=390111, sqlstate="08001")
        if self.session.instead:
            return self.session.instead(self)
        if self._kind in DML:
            return self._run_dml()
        special = getattr(self, f"_run_{self._kind.lower()}", None)
        if special is not None:
            return special()  # type: ignore[no-any-return]
        if self._kind in DDL:
            return self._run_ddl()
        return self._run_plain()

    def _say(
        self, text: str = "Statement executed successfully.", name: str = "status"
    ) -> FakeSnowflakeCursor:
        return self._rows([(text,)], (name,))

    def _plain(self, command: str) -> FakeSnowflakeCursor:
        if self._kind in {"PUT", "LIST", "REMOVE"}:
            # A dollar in the path of a file begins no variable.
            self.cursor._inline_variables = lambda sql: sql
        return execute(self.cursor, command, *self._args, **self._kwargs)

    def as_it_is(self) -> FakeSnowflakeCursor:
        """Run it without a transaction or a lock."""
        return self._plain(self._text())

    def parsed(self) -> exp.Expr:
        return parse_one(self._text())

    def target(self) -> Table | None:
        """The table that it changes."""
        return self._tables()[0]

    # --- transactions ---

    def _run_begin(self) -> FakeSnowflakeCursor:
        if self.session.transaction is None:
            self.session.begin(visible=True)
        return self._say()

    def _run_commit(self) -> FakeSnowflakeCursor:
        self.session.commit()
        return self._say()

    def _run_rollback(self) -> FakeSnowflakeCursor:
        self.session.roll_back()
        return self._say()

    def _run_describe(self) -> FakeSnowflakeCursor:
        match = _DESCRIBE_TRANSACTION.match(self._command.strip())
        if match is None:
            return self._run_plain()
        state = "running" if match[1] in LOCKS.open else LOCKS.ended.get(match[1])
        if state is None:
            raise ProgrammingError(f"Transaction {match[1]} does not exist.", errno=2003, sqlstate="02000")
        return execute(
            self.cursor,
            f"""SELECT {match[1]} AS "id", 'TEST' AS "user", {self.session.number} AS "session",
            '' AS "name", CURRENT_TIMESTAMP AS "started_on", '{state}' AS "state",
            CURRENT_TIMESTAMP AS "ended_on" """,
        )

    def _abort(self, id_: str) -> FakeSnowflakeCursor:
        transaction = LOCKS.open.get(id_)
        if transaction is None:
            raise ProgrammingError(f"Transaction {id_} is not running.", errno=3012, sqlstate="22023")
        with transaction.session.mutex:
            if transaction.session.transaction is transaction:
                transaction.session.roll_back()
        return self._say("Aborted transaction.", "SYSTEM$ABORT_TRANSACTION")

    # --- statements ---

    def _run_dml(self) -> FakeSnowflakeCursor:
        session = self.session
        own = session.transaction is None
        transaction = session.transaction or session.begin(visible=not session.autocommit)
        try:
            result = self._write(transaction)
        except BaseException:
            if own and session.autocommit:
                session.roll_back()
            raise
        if own and session.autocommit:
            session.commit()
        return result

    def _write(self, transaction: Transaction) -> FakeSnowflakeCursor:
        session = self.session
        target, tables = self._tables()
        seen = None
        if self._kind in LOCKING and target:
            if session.before_waiting and LOCKS.holders.get(target) not in (None, transaction):
                seen = session.before_waiting(self)
            timeout = float(session.parameters.get("LOCK_TIMEOUT", LOCK_TIMEOUT))
            LOCKS.acquire(transaction, target, timeout)
        if LOCKS.behind(transaction, tables):
            session.refresh()
        result = self._in_transaction(seen)
        if target:
            transaction.written.add(target)
        return result

    def _in_transaction(self, seen: Any = None) -> FakeSnowflakeCursor:
        """Run the statement in the open transaction. If it fails, all that it did is undone."""
        session = self.session
        transaction = session.transaction
        assert transaction is not None
        assert session.duck.writes is not None
        written, purged = len(session.duck.writes), len(transaction.purged)
        for tries_left in reversed(range(TRIES)):
            try:
                return seen(self) if seen else self._plain(self._text())
            except BaseException as error:
                del session.duck.writes[written:]
                for place, first in transaction.purged[purged:]:
                    os.replace(place, first)
                del transaction.purged[purged:]
                session.refresh()
                if not isinstance(error, duckdb.TransactionException):
                    raise
                if not tries_left:
                    raise locked(("", "", ""), str(error)) from error
                time.sleep(0.02)
        raise AssertionError("unreachable")

    def _run_select(self) -> FakeSnowflakeCursor:
        if match := _ABORT_TRANSACTION.search(self._command):
            return self._abort(match[1])
        session = self.session
        if session.transaction is None:
            return self._plain(self._text())
        _, tables = self._tables()
        if LOCKS.behind(session.transaction, tables):
            session.refresh()
        return self._in_transaction()

    def _run_call(self) -> FakeSnowflakeCursor:
        if match := _ABORT_TRANSACTION.search(self._command):
            return self._abort(match[1])
        return self._run_plain()

    def _run_plain(self) -> FakeSnowflakeCursor:
        if self.session.transaction is None:
            return self._plain(self._command)
        return self._in_transaction()

    def _run_show(self) -> FakeSnowflakeCursor:
        if match := _SHOW_CHANNELS.fullmatch(self._command):
            return self._show_channels(match["table"])
        if match := _SHOW_COLUMNS.fullmatch(self._command):
            (table,) = self._tables(f"SELECT 1 FROM {match['table']}")[1]
            return self._rows(list(columns_of(table, self.session.duck.own)), COLUMN_FACTS)
        return self._run_plain()

    def _show_channels(self, name: str) -> FakeSnowflakeCursor:
        query = f"SELECT 1 FROM {name} LIMIT 0"
        self._plain(query)
        (table,) = self._tables(query)[1]
        rows = [(*row[:2], *table, row[2]) for row in list_channels(table)]
        names = ("created_on", "name", "database_name", "schema_name", "table_name", "offset_token")
        return self._rows(rows, names)

    def _run_drop(self) -> FakeSnowflakeCursor:
        match = _DROP_DATABASE.fullmatch(self._command)
        if match is None:
            return self._run_ddl()
        # By a connection of its own: none can drop its current database. fakesnow knows no way at all, and
        # whatever looks into the catalogue is slower for each database that stays.
        self.session.duck.own.cursor().execute(f"DETACH {match[1]}")
        return self._say(f"{match[1]} successfully dropped.")

    def _run_ddl(self) -> FakeSnowflakeCursor:
        self.session.commit()
        command = _ERROR_LOGGING.sub("", self._command)
        if self._kind == "CREATE":
            # Snowflake doesn't enforce keys.
            command = _PRIMARY_KEY.sub("", command)
        target, _ = self._tables(command)
        for tries_left in reversed(range(TRIES)):
            try:
                result = self._plain(command)
                break
            except duckdb.TransactionException as error:
                if not tries_left:
                    raise locked(target or ("", "", ""), str(error)) from error
                time.sleep(0.02)
        if target:
            if self._kind == "CREATE" and (match := _ERROR_LOGGING.search(self._command)):
                (error_logging.add if is_true(match[1]) else error_logging.discard)(target)
            LOCKS.note([target])
        return result

    def _run_alter(self) -> FakeSnowflakeCursor:
        words = self._command.split(None, 3)
        if len(words) < 4 or words[1].upper() != "SESSION":
            return self._run_ddl()
        session = self.session
        if words[2].upper() == "UNSET":
            for name in re.findall(r"\w+", words[3].upper()):
                session.parameters.pop(name, None)
            return self._say()
        settings = {name.upper(): value for name, value in _SETTING.findall(words[3])}
        for name in settings:
            if name not in PARAMETERS:
                message = f"invalid parameter '{name}'"
                raise ProgrammingError(f"SQL compilation error:\n{message}", errno=1008, sqlstate="22023")
        was = session.autocommit
        for name, value in settings.items():
            session.parameters[name] = unquoted(value)
        if session.autocommit and not was:
            session.commit()
        return self._say()

    # --- stages ---

    def _location(self, pattern: re.Pattern[str]) -> tuple[str, str, str]:
        """The stage's name, its place on disk, and the path in it."""
        match = pattern.fullmatch(self._command)
        if match is None:
            raise ProgrammingError("syntax error in the stage reference", errno=1003, sqlstate="42000")
        location = unquoted(f"'{match['location']}'") if match["quote"] else match["location"]
        stage, path = split_location(location)
        connection = self.session.connection
        name = ".".join(stages.parts_from_var(stage, connection.database, connection.schema))
        return name, stages.internal_dir(name), path

    def _files(self, pattern: re.Pattern[str]) -> tuple[str, list[Path]]:
        name, root, path = self._location(pattern)
        found = sorted(each for each in Path(root).rglob("*") if each.is_file())
        return name, [each for each in found if str(each.relative_to(root)).startswith(path)]

    def _run_remove(self) -> FakeSnowflakeCursor:
        name, files = self._files(_REMOVE)
        self._require_stage(name)
        for file in files:
            file.unlink(missing_ok=True)
        rows = [(stages.internal_file_name(str(file)), "removed") for file in files]
        return self._rows(rows, ("name", "result"))

    def _run_list(self) -> FakeSnowflakeCursor:
        name, files = self._files(_LIST)
        self._require_stage(name)
        rows = []
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                about = file.stat()
                modified = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(about.st_mtime))
                rows.append((stages.internal_file_name(str(file)), about.st_size, "0" * 32, modified))
        return self._rows(rows, ("name", "size", "md5", "last_modified"))

    def _require_stage(self, name: str) -> None:
        connection = self.session.connection
        database, schema, stage = name.split(".")
        if stages.is_table_stage(stage):
            return
        sql = stages.stage_lookup_sql(database, schema, stage, connection.table_stages)
        if self.session.duck.own.execute(sql).fetchone() is None:
            raise stages.not_found_error(name)

    def _rows(self, rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> FakeSnowflakeCursor:
        """Answer rows of text, and of numbers named ``size``, that DuckDB needn't select."""
        kinds = ["BIGINT" if name == "size" else "VARCHAR" for name in names]
        types = [pyarrow.int64() if kind == "BIGINT" else pyarrow.string() for kind in kinds]
        values = zip(*rows, strict=True) if rows else [()] * len(names)
        arrays = [pyarrow.array(column, type) for column, type in zip(values, types, strict=True)]
        cursor = self.cursor
        cursor._arrow_table = pyarrow.Table.from_arrays(arrays, list(names))
        cursor._arrow_table_fetch_index = None
        cursor._rowcount = len(rows)
        cursor._sfqid = str(uuid.uuid4())
        cursor._last_sql = cursor._last_params = None
        cursor._last_transformed = exp.Select()
        described = zip(names, kinds, strict=True)
        self.session.duck.described = [(name, kind, "YES", None, None, None) for name, kind in described]
        return cursor

    # --- text ---

    def _text(self) -> str:
        transaction = self.session.transaction
        shown = f"'{transaction.id}'" if transaction and transaction.visible else "CAST(NULL AS VARCHAR)"
        return _CURRENT_TRANSACTION.sub(shown, self._command)

    def _tables(self, command: str | None = None) -> tuple[Table | None, set[Table]]:
        """The table that a statement changes, and all that it reads or changes."""
        try:
            expression = parsed(command or self._command)
        except (ParseError, ProgrammingError):
            return None, set()
        connection = self.session.connection
        found = [
            self._named(table, connection)
            for table in expression.find_all(exp.Table)
            if isinstance(table.this, exp.Identifier)
        ]
        first = expression.this if isinstance(expression, exp.Expr) else None
        target = first if isinstance(first, exp.Table) else first.find(exp.Table) if first else None
        named = target is not None and isinstance(target.this, exp.Identifier)
        return (self._named(target, connection) if named else None), set(found)

    @staticmethod
    def _named(table: exp.Table, connection: FakeSnowflakeConnection) -> Table:
        parts = []
        for part, current in (("catalog", connection.database), ("db", connection.schema), ("this", "")):
            identifier = table.args.get(part)
            if identifier is None:
                parts.append(current or "")
            else:
                quoted = identifier.args.get("quoted")
                parts.append(identifier.name if quoted else identifier.name.upper())
        return parts[0], parts[1], parts[2]


def split_location(location: str) -> tuple[str, str]:
    """The name of a stage and the path in it; quoted names may have slashes."""
    match = re.match(r'((?:"(?:[^"]|"")*"|[^"/])+)/?(.*)', location, re.DOTALL)
    assert match is not None
    return match[1], match[2]


def unquoted(value: str) -> str:
    if not value.startswith("'"):
        return value
    return _ESCAPED.sub(lambda match: match[1] or "'", value[1:-1])
