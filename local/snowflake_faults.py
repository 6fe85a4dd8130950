"""What a bad day may bring to sessions with Snowflake, on request of a test.

``POST /faults`` with a JSON object adds a fault and answers its ``id``; ``GET /faults`` tells what became of
all, ``DELETE /faults/ID`` or ``DELETE /faults`` removes, ``POST /faults/ID/deliver`` runs the statements that
a fault ``late`` keeps. The client of the tests is ``tests/faults/snowflake.py``; it says what each means.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import fakesnow.server
from snowflake_sessions import Connection, execute, kind_of
from sqlglot import exp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fakesnow.cursor import FakeSnowflakeCursor
    from snowflake_sessions import Session, _Statement

# In this order they are done to one statement.
KINDS = (
    "end_session",
    "end_transaction",
    "error",
    "late",
    "purge",
    "stale",
    "race",
    "blind",
    "error_logging",
    "twice",
    "lose_answer",
)
_MOST_CHARACTERS = 200


@dataclass
class Event:
    """One statement that a fault was done to."""

    session: int | None
    statement: str
    outcome: str = ""


@dataclass
class Fault:
    """One fault and the statements it is done to.

    :ivar session: by the names in :func:`about`, regular expressions
    :ivar options: what else the kind of fault needs
    """

    id: int
    do: str
    statement: str = ""
    session: dict[str, str] = field(default_factory=dict)
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.do not in KINDS:
            raise ValueError(f"no such fault: {self.do!r}; there are {', '.join(KINDS)}")
        self._chance = random.Random(self.seed)
        self._statement = re.compile(self.statement, re.IGNORECASE | re.DOTALL)
        self._session = {name: re.compile(pattern, re.I) for name, pattern in self.session.items()}
        self.snapshots: list[Connection] = []
        self.opened = 0
        self._fresh: set[int] = set()

    def takes(self, known: Mapping[str, str], statement: str, session: Session | None) -> bool:
        """Whether to do it to a statement; counts the statement."""
        if self.do == "stale" and not self._reads_the_past(statement, session):
            return False
        if self.times is not None and len(self.events) >= self.times:
            return False
        if not self._statement.search(statement):
            return False
        if not all(pattern.search(known.get(name, "")) for name, pattern in self._session.items()):
            return False
        if self._chance.random() >= self.probability:
            return False
        if self.skip:
            self.skip -= 1
            return False
        return True

    def _reads_the_past(self, statement: str, session: Session | None) -> bool:
        """Whether a session was there when the fault was added, and has done nothing that ends it."""
        if session is None or session.number > self.opened or session.number in self._fresh:
            return False
        kind = kind_of(statement)
        if kind in {"BEGIN", "INSERT", "UPDATE", "DELETE", "MERGE", "COPY"}:
            self._fresh.add(session.number)
        return kind == "SELECT"

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "do": self.do, "events": [asdict(event) for event in self.events]}


@dataclass
class Late:
    """A statement that has not arrived yet.

    :ivar after: it arrives behind so many statements that match :attr:`pattern`; never by itself without
    :ivar anybody: statements of any session count, else those of its own
    """

    event: Event
    session: Session
    scope: Any
    body: bytes
    after: int | None
    pattern: re.Pattern[str]
    anybody: bool

    def counts(self, session: Session, statement: str) -> bool:
        """Count a statement that was run; return whether this one arrives now."""
        if self.after is None or not (self.anybody or session is self.session):
            return False
        if self.pattern.search(statement):
            self.after -= 1
        return self.after <= 0


class Faults:
    """All faults that are to be done, and statements that are under way."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self.late: dict[int, list[Late]] = {}

    def add(self, asked: Mapping[str, Any], *, opened: int) -> Fault:
        fault = Fault(id=next(self._ids), **asked)
        fault.opened = opened
        if fault.do in {"stale", "race"}:
            count = 1 if fault.do == "stale" else fault.times or 2
            fault.snapshots = [snapshot(fault.options["tables"]) for _ in range(count)]
        self._faults[fault.id] = fault
        return fault

    def get(self, id_: int) -> Fault | None:
        return self._faults.get(id_)

    def remove(self, id_: int | None = None) -> None:
        for each in list(self._faults) if id_ is None else [id_]:
            fault = self._faults.pop(each, None)
            self.late.pop(each, None)
            for connection in fault.snapshots if fault else []:
                connection.own.close()

    def shown(self) -> list[dict[str, Any]]:
        return [fault.shown() for fault in self._faults.values()]

    def taking(self, known: Mapping[str, str], statement: str, session: Session | None) -> dict[str, Fault]:
        """The faults to do to a statement, by kind, and note it as an event of each."""
        taken: dict[str, Fault] = {}
        for fault in list(self._faults.values()):
            if fault.do not in taken and fault.takes(known, statement, session):
                number = session.number if session else None
                fault.events.append(Event(number, statement[:_MOST_CHARACTERS]))
                taken[fault.do] = fault
        return taken

    def keep(self, fault: Fault, session: Session, scope: Any, body: bytes) -> None:
        """Keep a statement that is to arrive late."""
        options = fault.options
        fault.events[-1].outcome = "under way"
        self.late.setdefault(fault.id, []).append(
            Late(
                event=fault.events[-1],
                session=session,
                scope=scope,
                body=body,
                after=options.get("after"),
                pattern=re.compile(options.get("after_statement", ""), re.IGNORECASE | re.DOTALL),
                anybody=bool(options.get("anybody")),
            )
        )

    def due(self, session: Session, statement: str) -> list[Late]:
        """The statements that arrive behind one that was run."""
        arrived = []
        for waiting in self.late.values():
            for late in [late for late in waiting if late.counts(session, statement)]:
                waiting.remove(late)
                arrived.append(late)
        return arrived


def about(login: Mapping[str, Any], parameters: Mapping[str, Any], database: str | None) -> dict[str, str]:
    """What faults may ask of a session."""
    return {
        "user": str(login.get("LOGIN_NAME", "")),
        "account": str(login.get("ACCOUNT_NAME", "")),
        "application": str(login.get("CLIENT_ENVIRONMENT", {}).get("APPLICATION", "")),
        "query_tag": str(parameters.get("QUERY_TAG", "")),
        "database": database or "",
    }


def snapshot(tables: list[str]) -> Connection:
    """A connection to DuckDB that sees tables as they are now."""
    connection = fakesnow.server.shared_fs.duck_conn.cursor()
    connection.begin()
    for table in tables:
        # DuckDB takes its snapshot of a database at the first statement about it.
        connection.execute(f"SELECT COUNT(*) FROM {table}").fetchall()
    own = Connection(connection)
    own.writes = []
    return own


def run_on(
    connection: Connection, cursor: FakeSnowflakeCursor, statement: _Statement, *, commit: bool
) -> FakeSnowflakeCursor:
    """Run a statement on a snapshot."""
    session = statement.session
    own = cursor._duck_conn
    connection.session = session
    stages = session.connection.table_stages
    session.connection._duck_conn = stages._duck_conn = cursor._duck_conn = connection
    try:
        if session.connection.database and session.connection.schema:
            connection.own.execute(
                f"SET schema = '{session.connection.database}.{session.connection.schema}'"
            )
        result = statement.as_it_is()
        described = type(cursor)._describe_last_sql(cursor)
        cursor._describe_last_sql = lambda: described
        if commit:
            connection.own.commit()
    finally:
        session.connection._duck_conn = stages._duck_conn = cursor._duck_conn = own
    return result


def look_now(statement: _Statement) -> Any:
    """Evaluate an UPDATE or DELETE now; return what writes that later, whatever the table holds then."""
    expression = statement.parsed()
    if not isinstance(expression, exp.Update | exp.Delete):
        return None
    target = expression.this
    name = target.alias_or_name
    own = f'"{name}"' if target.this.args.get("quoted") and not target.alias else name
    changes = expression.expressions if isinstance(expression, exp.Update) else []
    select = exp.select(f"{own}.rowid", *[change.expression.copy() for change in changes]).from_(
        target.copy()
    )
    source = expression.args.get("from_") or expression.args.get("using")
    if isinstance(source, exp.From):
        select = select.join(source.this.copy(), join_type="cross")
    if condition := expression.args.get("where"):
        select = select.where(condition.this.copy())
    columns = [change.this.name for change in changes]
    quoted = [bool(change.this.this.args.get("quoted")) for change in changes]
    names = [name if is_quoted else name.upper() for name, is_quoted in zip(columns, quoted, strict=True)]
    duck = statement.session.duck
    table = ".".join(f'"{part}"' for part in statement.target() or ())
    cursor = statement.session.connection.cursor()
    execute(cursor, select.sql(dialect="snowflake"))
    found = [tuple(row.values()) for row in cursor._arrow_table.to_pylist()]

    def write(later: _Statement) -> FakeSnowflakeCursor:
        for rowid, *values in found:
            if names:
                settings = ", ".join(f'"{name}" = ?' for name in names)
                duck.execute(f"UPDATE {table} SET {settings} WHERE rowid = ?", [*values, rowid])
            else:
                duck.execute(f"DELETE FROM {table} WHERE rowid = ?", [rowid])
        word = "updated" if names else "deleted"
        return execute(later.cursor, f'SELECT {len(found)} AS "number of rows {word}"')

    return write
