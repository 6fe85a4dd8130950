"""A model of Snowflake beneath the real sessions and statements, as nasty as its documentation allows.

It understands the statements of loads, replays and resets and no others, and looks into their text: a
compare-and-set or a guard that isn't there doesn't hold.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pyarrow.parquet as pq
from snowflake.connector import errors

from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.sinks.snowflake.errors import Tries
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.state import SnowflakeStateSession
from airflow_kinesis_snowflake.sinks.snowflake.statements import CLOSED, LOCK
from airflow_kinesis_snowflake.stream.positions import decode_position
from airflow_kinesis_snowflake.stream.times import moment
from tests.simulation.kinesis import Stream
from tests.simulation.ledger import Place
from tests.simulation.losses import span_of
from tests.simulation.machine import EPOCH
from tests.simulation.scheduler import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow_kinesis_snowflake.sinks.snowflake.statements import TableMapping
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from tests.simulation.ledger import Ledger
    from tests.simulation.losses import Span
    from tests.simulation.machine import Machine
    from tests.simulation.scheduler import Scheduler
    from tests.simulation.weather import Weather

    Answer = list[tuple[Any, ...]] | int
    """Rows, or how many rows a statement has changed."""

# Snowflake ends a transaction that is idle while it blocks another; after 5 minutes, but minutes in which
# nothing happens prove nothing.
IDLE_SECONDS = 90.0
LATEST_SECONDS = 60.0
ROW_COLUMNS = ["shardId", "sequenceNumber", "subSequenceNumber"]
LETTER_COLUMNS = [
    "ID",
    "SHARD_ID",
    "SEQUENCE_NUMBER",
    "SUB_SEQUENCE_NUMBER",
    "PARTITION_KEY",
    "APPROXIMATE_ARRIVAL",
    "PAYLOAD",
    "PAYLOAD_ENCODING",
    "REASON",
]
_LOCATION = re.compile(r"'@([^']*)'")
_FILE = re.compile(r"PUT 'file://([^']*)'")


class Key(NamedTuple):
    """Of a row of the offsets table."""

    application: str
    shard_id: str
    incarnation: str


class Row(NamedTuple):
    """Of the offsets table.

    :param updated: seconds of the simulation
    """

    position: str
    batch_id: str | None
    updated: float


class Letter(NamedTuple):
    """What only a dead letter has.

    :param sub: its sub-sequence number; ``None``: it isn't of an aggregate
    :param failed: when it became one, as Snowflake has it: seconds of the simulation
    :param gap: it stands for records that aged out
    """

    id: str
    sub: int | None
    partition_key: str
    arrival: int
    payload: str
    encoding: str
    failed: float
    gap: Span | None


class Loaded(NamedTuple):
    """A row of the landing table, or a dead letter.

    :param letter: ``None``: it landed
    :param application: whose load it was, which a landed row of Snowflake doesn't tell
    :param incarnation: under which it was loaded
    """

    shard_id: str
    place: Place
    letter: Letter | None = None
    application: str = ""
    incarnation: str = ""

    @property
    def dead(self) -> bool:
        """Whether it is a dead letter."""
        return self.letter is not None

    def failing(self, now: float) -> Loaded:
        """The row, with the moment when a dead letter is loaded."""
        return self if self.letter is None else self._replace(letter=self.letter._replace(failed=now))

    def under(self, application: str, incarnation: str) -> Loaded:
        """The row, of an incarnation."""
        return self._replace(application=application, incarnation=incarnation)


class Version(NamedTuple):
    """What is committed at a moment.

    :param letters: by id
    """

    offsets: Mapping[Key, Row]
    letters: Mapping[str, Loaded]


@dataclass(eq=False)
class Transaction:
    """What a session has done and not committed.

    :param deleted: dead letters, by id
    :param application: whose offsets it moves
    :param explicit: a BEGIN began it, so that no other statement ends it
    """

    id: int
    rows: list[Loaded] = field(default_factory=list)
    offsets: dict[Key, Row] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    deleted: dict[str, Loaded] = field(default_factory=dict)
    application: str = ""
    explicit: bool = False


@dataclass(eq=False)
class Session:
    """A session, as the server knows it.

    :param floor: the version that it sees at least
    """

    id: int
    autocommit: bool
    floor: int
    transaction: Transaction | None = None
    alive: bool = True
    cancelled: bool = False
    idle_since: float = 0.0


class Server:
    """Tables, stage, locks and sessions.

    :param scheduler: its time
    :param weather: what goes wrong
    :param ledger: is told what lands
    :ivar list_channels: gives the channels into a table
    """

    _made = datetime.fromtimestamp(EPOCH, UTC)

    def __init__(self, scheduler: Scheduler, weather: Weather, ledger: Ledger) -> None:
        self._scheduler = scheduler
        self._weather = weather
        self._ledger = ledger
        self.versions: list[Version] = [Version({}, {})]
        self.list_channels: Callable[[str], list[str]] = lambda _: []
        self._sessions: list[Session] = []
        self._stage: dict[str, list[Loaded]] = {}
        self._loaded_files: set[str] = set()
        self._holder: tuple[Transaction, Session] | None = None
        self._lock_free = Signal()
        self._transactions = 0

    @property
    def logins(self) -> int:
        """How many sessions there were."""
        return len(self._sessions)

    @property
    def now(self) -> Version:
        """What is committed."""
        return self.versions[-1]

    def open(self, *, autocommit: bool) -> Session:
        """Log in."""
        session = Session(
            len(self._sessions), autocommit, floor=len(self.versions) - 1, idle_since=self._scheduler.now
        )
        self._sessions.append(session)
        return session

    def close(self, session: Session) -> None:
        """End a session; what it left open is rolled back."""
        session.alive = False
        self._end(session)

    def run(self, session: Session, sql: str, params: Sequence[Any]) -> Answer:
        """Run a statement."""
        session.idle_since = float("inf")
        session.cancelled = False
        try:
            answer = self._run(session, sql, params)
            if session.autocommit and session.transaction and not session.transaction.explicit:
                self._commit(session)
        finally:
            session.idle_since = self._scheduler.now
        return answer

    def end_transaction(self, session: Session) -> None:
        """End a transaction, and tell nobody."""
        self._end(session)

    def _run(self, session: Session, sql: str, params: Sequence[Any]) -> Answer:
        word = sql.split(" ", 1)[0]
        if word == "BEGIN":
            self._transaction(session).explicit = True
            return []
        run: Mapping[str, Callable[[], Answer]] = {
            "COMMIT": lambda: self._commit(session),
            "ROLLBACK": lambda: self._end(session),
            "PUT": lambda: self._put(sql),
            "COPY": lambda: self._copy(session, sql),
            "LIST": lambda: [(path,) for path in self._stage if path.startswith(_place(sql))],
            "REMOVE": lambda: self._remove(sql),
            "DELETE": lambda: self._delete(session, sql, params),
            "MERGE": lambda: self._merge(session, params),
            "UPDATE": lambda: self._update(session, sql, params),
            "SELECT": lambda: self._select(session, sql, params),
            "SHOW": lambda: [(name, self._made) for name in self.list_channels(sql.partition("TABLE ")[2])],
        }
        return run[word]()

    # --- transactions --------------------------------------------------------------------------------------

    def _transaction(self, session: Session) -> Transaction:
        if session.transaction is None:
            self._transactions += 1
            session.transaction = Transaction(self._transactions)
        return session.transaction

    def _commit(self, session: Session) -> Answer:
        transaction = session.transaction
        if transaction is None:
            return []
        self._loaded_files |= transaction.files
        if transaction.deleted:
            self._replay(transaction)
        self._land(self._owned(transaction), transaction.offsets)
        session.floor = len(self.versions) - 1
        return self._end(session)

    def _replay(self, transaction: Transaction) -> None:
        """Take away dead letters, and put what came of them in their place."""
        deleted, again = [], []
        for letter_id, letter in transaction.deleted.items():
            deleted.append((letter, letter_id in self.now.letters))
            at = next((at for at, row in enumerate(transaction.rows) if row.place == letter.place), None)
            if at is not None:
                again.append(transaction.rows.pop(at).under(letter.application, letter.incarnation))
        before = self.now
        letters = {id_: row for id_, row in before.letters.items() if id_ not in transaction.deleted}
        letters |= {row.letter.id: row for row in again if row.letter is not None}
        self.versions.append(Version(before.offsets, letters))
        self._ledger.replay(deleted, again)

    def _owned(self, transaction: Transaction) -> list[Loaded]:
        """The rows of a transaction, each with the incarnation whose offset it has moved.

        Where none has moved, the row that DynamoDB has now is to blame.
        """
        moved = {key.shard_id: key for key in transaction.offsets}
        owned = []
        for row in transaction.rows:
            application = transaction.application
            key = moved.get(row.shard_id)
            named = key.incarnation if key is not None else self._ledger.named(application, row.shard_id)
            owned.append(row.under(application, named))
        return owned

    def land(self, rows: Sequence[Loaded]) -> None:
        """Commit rows that were streamed."""
        self._land(rows, {})

    def _land(self, rows: Sequence[Loaded], offsets: Mapping[Key, Row]) -> None:
        letters = {row.letter.id: row for row in rows if row.letter is not None}
        if letters or offsets:
            before = self.now
            self.versions.append(Version({**before.offsets, **offsets}, {**before.letters, **letters}))
        self._ledger.land(rows)

    def _end(self, session: Session) -> Answer:
        if self._holder is not None and self._holder[0] is session.transaction:
            self._holder = None
            self._scheduler.give(self._lock_free)
        session.transaction = None
        return []

    def _lock(self, session: Session) -> None:
        """Wait for the lock that UPDATE and MERGE take on the offsets table."""
        transaction = self._transaction(session)
        while self._holder is not None and self._holder[0] is not transaction:
            holder = self._holder[1]
            idle_for = self._scheduler.now - holder.idle_since
            if idle_for >= IDLE_SECONDS:
                self._end(holder)
                continue
            self._scheduler.wait(self._lock_free, IDLE_SECONDS - max(0.0, idle_for) + 0.001)
            if session.cancelled:
                raise errors.ProgrammingError(msg="the statement was cancelled", errno=604)
            if session.transaction is not transaction:
                raise errors.ProgrammingError(msg="the transaction was aborted", errno=615)
        self._holder = (transaction, session)

    # --- files ---------------------------------------------------------------------------------------------

    def _put(self, sql: str) -> Answer:
        file = _FILE.match(sql)
        assert file
        path = file[1]
        names = LETTER_COLUMNS if "dead_letters" in path else ROW_COLUMNS
        rows = pq.ParquetFile(path).read(columns=names, use_threads=False).to_pylist()
        self._stage[_place(sql) + path.rsplit("/", 1)[1]] = [loaded(row) for row in rows]
        return []

    def _remove(self, sql: str) -> Answer:
        place = _place(sql)
        self._stage = {path: rows for path, rows in self._stage.items() if not path.startswith(place)}
        return []

    def _copy(self, session: Session, sql: str) -> Answer:
        transaction = self._transaction(session)
        again = "FORCE = TRUE" in sql
        answer = []
        for path, rows in self._stage.items():
            known = path in self._loaded_files or path in transaction.files
            if path.startswith(_place(sql)) and (again or not known):
                transaction.rows += [row.failing(self._scheduler.now) for row in rows]
                transaction.files.add(path)
                answer.append((path, len(rows)))
        return answer

    # --- offsets -------------------------------------------------------------------------------------------

    # Whether a statement that waited for a lock looks at its rows again is documented nowhere. Here an UPDATE
    # doesn't: it goes by what was committed before it began.

    def _merge(self, session: Session, params: Sequence[Any]) -> int:
        self._lock(session)
        transaction = self._transaction(session)
        keys = [Key(application, shard, named) for application, _, shard, named in batched(params[:-1], 4)]
        new = [key for key in keys if key not in self.now.offsets and key not in transaction.offsets]
        transaction.offsets |= {key: Row(params[-1], None, self._scheduler.now) for key in new}
        return len(new)

    def _update(self, session: Session, sql: str, params: Sequence[Any]) -> int:
        before = self.now.offsets
        self._lock(session)
        transaction = self._transaction(session)
        visible = {**before, **transaction.offsets}
        if 'SET "UPDATED_AT"' in sql:
            application, _, shard_id, incarnation = params
            return int(Key(application, shard_id, incarnation) in visible)
        if "BATCH_ID" not in sql:
            return self._close_offsets(transaction, visible, params)
        guarded, compared = "CURRENT_TRANSACTION() = %s" in sql, 'TO_BINARY("POSITION"' in sql
        batch_id, *moves = params[: -3 if guarded else -2]
        if guarded and params[-1] != str(transaction.id):
            return 0
        transaction.application = params[-3 if guarded else -2]
        moved = 0
        for shard_id, incarnation, expected, through, _ in batched(moves, 5):
            key = Key(transaction.application, shard_id, incarnation)
            if key in visible and (not compared or visible[key].position == expected):
                transaction.offsets[key] = Row(through, batch_id, self._scheduler.now)
                moved += 1
        return moved

    def _close_offsets(
        self, transaction: Transaction, visible: Mapping[Key, Row], params: Sequence[Any]
    ) -> int:
        application, _, *pairs = params
        closed = 0
        for shard_id, incarnation in batched(pairs, 2):
            row = visible.get(key := Key(application, shard_id, incarnation))
            if row is not None and not row.position.startswith(CLOSED):
                transaction.offsets[key] = row._replace(
                    position=CLOSED + row.position, updated=self._scheduler.now
                )
                closed += 1
        return closed

    def _select(self, session: Session, sql: str, params: Sequence[Any]) -> Answer:
        known: Mapping[str, Callable[[], Answer]] = {
            "SELECT CURRENT_TRANSACTION()": lambda: [
                (str(session.transaction.id) if session.transaction else None,)
            ],
            "SELECT CURRENT_TIMESTAMP": lambda: [(moment(self._millis),)],
            "SELECT SYSTEM$CANCEL_ALL_QUERIES": lambda: self._cancel(params[0]),
            "SELECT OF_SHARD, COUNT(*)": lambda: self._count(params),
            # All dead letters have ids.
            "SELECT COUNT(*)": lambda: [(0,)],
            'SELECT "STREAM"': lambda: self._list_offsets(session, params[0]),
            'SELECT "SHARD_ID"': lambda: self._read_offsets(session, params),
            'SELECT "ID", "SHARD_ID"': lambda: self._read_letters(session, params),
            'SELECT "ID" FROM': lambda: self._list_letters(session, params[2:]),
        }
        return next(answer() for begin, answer in known.items() if sql.startswith(begin))

    def _cancel(self, session_id: int) -> Answer:
        self._sessions[session_id].cancelled = True
        self._scheduler.give(self._lock_free)
        return []

    def _list_letters(self, session: Session, ids: Sequence[str]) -> Answer:
        letters = self._visible(session).letters
        return [(letter_id,) for letter_id in ids if letter_id in letters]

    @property
    def _millis(self) -> int:
        return int((EPOCH + self._scheduler.now) * 1000)

    def _read_letters(self, session: Session, params: Sequence[Any]) -> Answer:
        """Dead letters of an application that failed until a moment, in the order of their shards."""
        application, _, _, until, most = params
        last = datetime.fromisoformat(until).timestamp() - EPOCH
        rows = [
            row
            for row in self._visible(session).letters.values()
            if row.letter is not None and row.application == application and row.letter.failed <= last
        ]
        rows.sort(key=lambda row: (row.shard_id, row.place))
        return [
            (letter.id, row.shard_id, str(row.place.number), *letter[1:6])
            for row in rows[:most]
            if (letter := row.letter) is not None
        ]

    def _delete(self, session: Session, sql: str, params: Sequence[Any]) -> int:
        """Delete dead letters, by what was committed before."""
        transaction = self._transaction(session)
        guarded = "CURRENT_TRANSACTION() = %s" in sql
        if guarded and params[-1] != str(transaction.id):
            return 0
        ids = params[2:-1] if guarded else params[2:]
        there = {letter_id: self.now.letters[letter_id] for letter_id in ids if letter_id in self.now.letters}
        transaction.deleted |= there
        return len(there)

    def _visible(self, session: Session) -> Version:
        """What a statement of a session sees: what was committed, perhaps some time ago, and its own."""
        latest = len(self.versions) - 1
        version = latest
        if self._weather.strikes("stale"):
            version = self._weather.random.randint(session.floor, latest)
        session.floor = version
        seen = self.versions[version]
        if session.transaction is None:
            return seen
        return seen._replace(offsets={**seen.offsets, **session.transaction.offsets})

    def _read_offsets(self, session: Session, params: Sequence[Any]) -> Answer:
        visible, application = self._visible(session).offsets, params[-2]
        keys = [Key(application, *pair) for pair in batched(params[:-2], 2)]
        return [
            (key.shard_id, key.incarnation, visible[key].position, visible[key].batch_id)
            for key in keys
            if key in visible
        ]

    def _list_offsets(self, session: Session, application: str) -> Answer:
        return [
            (Stream.name, key.shard_id, key.incarnation, row.position, row.updated)
            for key, row in self._visible(session).offsets.items()
            if key.application == application and key.shard_id != LOCK[0]
        ]

    def _count(self, params: Sequence[Any]) -> Answer:
        """How many records are there from some places on, by shard."""
        behind_landed = 1 + (len(params) - 4) // 2
        application = params[behind_landed + 1]
        places = {
            shard_id: Place(int(number), sub)
            for shard_id, _, _, _, number, sub in batched(params[1:behind_landed], 6)
        }
        return [
            (shard_id, self._ledger.count_after(application, shard_id, place))
            for shard_id, place in places.items()
        ]


class Connection:
    """What the hook calls of a connection of the Snowflake connector."""

    def __init__(
        self, server: Server, session: Session, machine: Machine, weather: Weather, *, tries: Tries
    ) -> None:
        self._tries = tries
        # A connector that asks how long to wait, as those before version 5 do.
        tries.told = True
        self.session_id = session.id
        self._server = server
        self._session = session
        self._machine = machine
        self._weather = weather
        self._closed = False

    def cursor(self) -> Cursor:
        """A cursor."""
        return Cursor(self)

    def close(self, *, retry: bool = True) -> None:
        """Log out; the server may not get to know it."""
        if self._closed:
            return
        self._closed = True
        if not self._weather.strikes("lost"):
            self._weather.call(self._machine, partial(self._server.close, self._session))

    def execute(self, sql: str, params: Sequence[Any]) -> Answer:
        """Send a statement, and wait for its answer."""
        if self._closed:
            raise errors.DatabaseError(msg="the connection is closed", errno=250002)
        answer = self._weather.call(self._machine, partial(self._deliver, sql, params))
        self._weather.take_nap(self._machine)
        return answer

    def _deliver(self, sql: str, params: Sequence[Any]) -> Answer:
        weather, server, session = self._weather, self._server, self._session
        if weather.strikes("gone"):
            server.close(session)
        if not session.alive:
            raise errors.ProgrammingError(msg="the session is gone", errno=390111)
        if weather.strikes("ended"):
            server.end_transaction(session)
        if weather.strikes("lost"):
            if weather.random.random() < 0.5:
                self._deliver_late(sql, params)
            elif weather.random.random() < 0.5:
                server.run(session, sql, params)
            raise errors.OperationalError(msg="no answer", errno=250003)
        answer = server.run(session, sql, params)
        if weather.strikes("twice"):
            self._tries.repeated = True
            if weather.random.random() < 0.5:
                self._deliver_late(sql, params)
            else:
                answer = server.run(session, sql, params)
        return answer

    def _deliver_late(self, sql: str, params: Sequence[Any]) -> None:
        def run() -> None:
            if self._session.alive and not sql.startswith("PUT"):
                with suppress(errors.Error):
                    self._server.run(self._session, sql, params)

        seconds = self._weather.random.uniform(0, LATEST_SECONDS) ** self._weather.random.random()
        self._machine.scheduler.spawn(run, after=seconds)


class Cursor:
    """What the hook calls of a cursor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[Any, ...]] = []
        self.rowcount = 0
        self.description = (("file",), ("rows_loaded",))

    def execute(self, sql: str, params: Sequence[Any] | None = None, **_: Any) -> Self:
        if sql.startswith("SHOW"):
            self.description = (("name",), ("created_on",))
        answer = self._connection.execute(sql, params or ())
        if isinstance(answer, int):
            self.rowcount = answer
        else:
            self._rows = answer
        return self

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SimulatedSession(SnowflakeSession):
    """A session as it is, over tables that are there."""

    def ensure_objects(
        self, target: LandingTarget, *, mapping: TableMapping, companions: bool = True
    ) -> None:
        """Tables and stage are there."""


class SimulatedSnowflake(SnowflakeLoadHook):
    """The hook as it is, with another connection."""

    def __init__(self, server: Server, machine: Machine, weather: Weather) -> None:
        self._server = server
        self._machine = machine
        self._weather = weather

    def open_session(self) -> SnowflakeSession:
        """Log in."""
        tries = Tries()
        return SimulatedSession(partial(self._connect, autocommit=False, tries=tries), tries=tries)

    def open_state_session(self) -> SnowflakeStateSession:
        """Log in for maintenance."""
        return SnowflakeStateSession(partial(self._connect, autocommit=True))

    def _connect(self, *, autocommit: bool, tries: Tries | None = None) -> Any:
        if self._weather.strikes("lost"):
            self._weather.call(self._machine, lambda: None)
            raise ServiceUnavailableError("Snowflake can't be reached; simulated")
        session = self._weather.call(self._machine, partial(self._server.open, autocommit=autocommit))
        return Connection(self._server, session, self._machine, self._weather, tries=tries or Tries())


def loaded(row: Mapping[str, Any]) -> Loaded:
    """What a row of a landing file or of a dead-letter file is, or a line of JSON of the same."""
    if "SHARD_ID" not in row:
        row = row.get("KINESISMETADATA", row)
        return Loaded(row["shardId"], Place(int(row["sequenceNumber"]), row["subSequenceNumber"]))
    sub = row["SUB_SEQUENCE_NUMBER"]
    failed = datetime.fromisoformat(row["FAILED_AT"]).timestamp() - EPOCH if "FAILED_AT" in row else 0.0
    letter = Letter(
        id=row["ID"],
        sub=sub,
        partition_key=row["PARTITION_KEY"],
        arrival=row["APPROXIMATE_ARRIVAL"],
        payload=row["PAYLOAD"],
        encoding=row["PAYLOAD_ENCODING"],
        failed=failed,
        gap=span_of(row["REASON"]),
    )
    return Loaded(row["SHARD_ID"], Place(int(row["SEQUENCE_NUMBER"]), sub or 0), letter)


def place_of(position: str) -> Place | None:
    """Where an offset stands; ``None``: before the first record."""
    decoded = decode_position(position.removeprefix(CLOSED))
    if decoded is None:
        return None
    sub = decoded.sub_sequence_number
    return Place(int(decoded.sequence_number), inf if sub is None else sub)


def batched(values: Sequence[Any], size: int) -> list[tuple[Any, ...]]:
    """Values in groups of a size."""
    return [tuple(values[at : at + size]) for at in range(0, len(values), size)]


def _place(sql: str) -> str:
    location = _LOCATION.search(sql)
    assert location
    return location[1]
