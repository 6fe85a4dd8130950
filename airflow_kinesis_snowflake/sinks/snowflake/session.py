"""One connection to Snowflake, and every call of a load, a replay and a reset."""

from __future__ import annotations

import json
import logging
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Self

from snowflake.connector import SnowflakeConnection, errors

from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey, OffsetMove, Offsets
from airflow_kinesis_snowflake.exceptions import (
    CorruptStateError,
    IncarnationClosedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    TerminalError,
    TransactionEndedError,
    UnknownOutcomeError,
)
from airflow_kinesis_snowflake.formats.column_types import Column, ColumnType
from airflow_kinesis_snowflake.formats.dead_letters import StoredLetter, payload_of
from airflow_kinesis_snowflake.formats.schema import AddColumn, Change, DropNotNull, WidenColumn
from airflow_kinesis_snowflake.identifiers import TableName, quote
from airflow_kinesis_snowflake.sinks.snowflake import statements
from airflow_kinesis_snowflake.sinks.snowflake.errors import Tries, broken_off, quotes_data, translate
from airflow_kinesis_snowflake.sinks.snowflake.statements import (
    CLOSED,
    CopyMapping,
    Statement,
    TableMapping,
)
from airflow_kinesis_snowflake.stream.positions import decode_position, encode_position
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

log = logging.getLogger(__name__)

_ROLLBACK_TIMEOUT = 30
_LETTERS_AT_ONCE = 5_000
_LETTER_BYTES_AT_ONCE = 64 * 2**20
_ACCEPTED_TYPES = {"VARIANT": frozenset({"VARIANT"}), "OBJECT": frozenset({"OBJECT", "VARIANT"})}


class SnowflakeSession:
    """One connection, used by one thread at a time; only :meth:`cancel` may come from another.

    Every method raises, besides what it names: :class:`AccessDeniedError`,
    :class:`SnowflakeObjectNotFoundError`, :class:`ServiceUnavailableError` and :class:`ServiceRefusedError`,
    as :func:`translate` distinguishes them.

    :param open_connection: opens a connection; called again only to cancel a statement of the first
    :param tries: of the HTTP requests of these connections
    :param name: of the Airflow connection, for messages
    :ivar fresh: it hasn't been used before, up to :meth:`done`
    """

    def __init__(
        self,
        open_connection: Callable[[], SnowflakeConnection],
        *,
        tries: Tries | None = None,
        name: str | None = None,
    ) -> None:
        self._open_connection = open_connection
        self._where = "" if name is None else f" (connection {name!r})"
        self._tries = tries or Tries()
        self._connection = open_connection()
        self._take_back: Callable[[SnowflakeSession], None] | None = None
        self._closed = False
        self._used = False
        self.fresh = True

    def version(self) -> str:
        """Version of the Snowflake service."""
        return str(self._rows(Statement("SELECT CURRENT_VERSION()"), doing="ask for the version")[0][0])

    def opt_out_of_error_logging(self) -> None:
        """Let COPY load into tables with ERROR_LOGGING, if Snowflake knows the parameter for it.

        Openflow's setup creates such tables. Rows that would be logged there become dead letters here.
        """
        try:
            self._rows(Statement("ALTER SESSION SET OPT_OUT_ERROR_LOGGING = TRUE"), doing="set a parameter")
        except ServiceRefusedError:
            log.debug("This Snowflake doesn't know OPT_OUT_ERROR_LOGGING")

    # --- objects ---

    def ensure_objects(
        self, target: LandingTarget, *, mapping: TableMapping, companions: bool = True
    ) -> None:
        """Create missing tables and the stage, and check the landing table.

        What exists is left alone and needs no CREATE privilege, except for columns that a dead-letter table
        of an earlier version lacks.

        :param companions: also the offsets table and the stage, which COPY needs
        :raises InvalidSettingError: an existing landing table lacks a column of the mapping, or has it with
            another type; or the mapping doesn't know enough to create a missing table
        :raises SnowflakeObjectNotFoundError: something is missing and must not be created
        """
        missing = self._missing_objects(target, mapping, companions=companions)
        if missing and not target.options.create:
            names = ", ".join(dict.fromkeys(str(name) for _, name in missing))
            ddl = "; ".join(statement.sql for statement, _ in missing)
            raise SnowflakeObjectNotFoundError(
                "Run the DDL at the end, or leave out create_table='never', which keeps drains from creating "
                f"or changing {names}: {ddl}"
            )
        for statement, name in missing:
            self._create(statement, name)

    def _missing_objects(
        self, target: LandingTarget, mapping: TableMapping, *, companions: bool
    ) -> list[tuple[Statement, TableName]]:
        """The DDL that completes a target."""
        missing = []
        found = self._columns(target.table)
        if found is not None:
            _check_columns(target.table, mapping.required, found)
        elif mapping.can_create:
            landing = statements.create_landing_table(target.table, mapping.columns, target.options)
            missing.append((landing, target.table))
        else:
            raise InvalidSettingError(
                "Create the landing table, set columns, or set schema_evolution=True: "
                f"{target.table} doesn't exist, and its columns aren't known"
            )
        if companions:
            missing += self._missing_companions(target)
        letters = self._columns(target.dead_letters)
        if letters is None:
            missing.append((statements.create_dead_letter_table(target.dead_letters), target.dead_letters))
        else:
            missing += [
                (statements.add_dead_letter_column(target.dead_letters, column), target.dead_letters)
                for column in ("ID", "KIND")
                if column not in letters
            ]
        return missing

    def _missing_companions(self, target: LandingTarget) -> list[tuple[Statement, TableName]]:
        missing = []
        if self._columns(target.offsets) is None:
            missing.append((statements.create_offsets_table(target.offsets), target.offsets))
        stages = self._rows(statements.list_stages(target.stage), doing="list stages", target=target.stage)
        if target.stage.name not in {row[1] for row in stages}:
            missing.append((statements.create_stage(target.stage), target.stage))
        return missing

    def landing_columns(self, target: LandingTarget) -> dict[str, Column]:
        """The columns of the landing table as they are now, by name."""
        rows = self._rows(
            statements.list_columns(target.table), doing="list the columns of", target=target.table
        )
        return {
            row[2]: Column(
                ColumnType.shown(row[3]),
                nullable=_nullable(row[3], row[4]),
                default=_fills_itself(row),
                computed=_is_computed(row),
            )
            for row in rows
        }

    def alter_landing_table(self, target: LandingTarget, change: Change) -> None:
        """Make one change to the landing table; repeating it has no effect. Outside transactions.

        :raises AccessDeniedError: the role doesn't own the table
        """
        options = target.options
        match change:
            case AddColumn(column, added):
                statement = statements.add_column(target.table, column, added.sql, options=options)
            case WidenColumn(column, wider):
                statement = statements.widen_column(target.table, column, wider.sql, options=options)
            case DropNotNull(column):
                statement = statements.drop_not_null(target.table, column, options=options)
        self._rows(statement, doing=f"alter column {quote(change.column)} of", target=target.table)

    def _columns(self, table: TableName) -> dict[str, str] | None:
        """Names and types of a table's columns; ``None`` if there is no such table."""
        try:
            rows = self._rows(statements.list_columns(table), doing="list the columns of", target=table)
        except SnowflakeObjectNotFoundError:
            return None
        return {row[2]: json.loads(row[3])["type"] for row in rows} or None

    def _create(self, statement: Statement, name: TableName) -> None:
        try:
            self._rows(statement, doing="create", target=name)
        except SnowflakeObjectNotFoundError as error:
            database, schema = quote(name.database), name.schema_sql
            raise SnowflakeObjectNotFoundError(
                f"Run CREATE DATABASE {database} and CREATE SCHEMA {schema}, or "
                f"GRANT USAGE ON DATABASE {database} TO ROLE ... and "
                f"GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA {schema} TO ROLE ...: {name} can't be "
                "created, because its database or schema doesn't exist or the role can't see it"
            ) from error

    # --- loading ---

    def upload(self, file: Path, *, target: LandingTarget, folder: str) -> None:
        """Upload a file to a folder of the stage, replacing one of the same name.

        :param folder: as :func:`~airflow_kinesis_snowflake.sinks.snowflake.statements.stage_folder` makes it
        """
        self._rows(
            statements.put(file, stage=target.stage, folder=folder), doing="upload to", target=target.stage
        )

    @contextmanager
    def transaction(self) -> Iterator[str]:
        """Run a block between BEGIN and COMMIT; the block receives the id of the transaction.

        An exception inside rolls back, ends the session, and propagates: statements already sent may still
        arrive, and must not meet a later transaction of the same session.

        :raises TransactionEndedError: BEGIN left no transaction open
        :raises UnknownOutcomeError: COMMIT was sent, but no answer came; the session is closed then, so that
            a transaction that is still open ends
        """
        try:
            self._used = True
            self._rows(Statement("BEGIN"), doing="begin a transaction")
            yield self._current_transaction()
            self._require_open("commit")
        except BaseException:
            self._abandon()
            raise
        self._commit()

    def _current_transaction(self) -> str:
        ((transaction,),) = self._rows(
            Statement("SELECT CURRENT_TRANSACTION()"), doing="ask for the transaction"
        )
        if transaction is None:
            raise TransactionEndedError("Try again: Snowflake ended a transaction before its first statement")
        return str(transaction)

    def _commit(self) -> None:
        try:
            self._rows(Statement("COMMIT"), doing="commit")
        except TerminalError:
            self._abandon()
            raise
        except Exception as error:
            self.close()
            raise UnknownOutcomeError(
                "Read the offsets table to learn whether the batch is loaded: the connection to Snowflake "
                "broke while COMMIT was under way"
            ) from error

    def _abandon(self) -> None:
        """Roll back and end the session; tried even after :meth:`cancel` has closed it.

        Ending the session rolls back too. The ROLLBACK is needed because a session that can't be ended for
        lack of a connection would hold its locks for minutes.
        """
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("ROLLBACK", timeout=_ROLLBACK_TIMEOUT)
        except (errors.Error, OSError) as error:
            log.info("ROLLBACK failed (%s); the session is ended instead", type(error).__name__)
        self.close()

    def copy_landing(self, target: LandingTarget, *, mapping: CopyMapping, folder: str) -> int:
        """Load the landing files of a folder and remove them from the stage.

        :return: the number of loaded rows, 0 if there is no file
        """
        statement = statements.copy_landing(
            target.table, mapping=mapping, stage=target.stage, folder=folder, options=target.options
        )
        return self._copy(statement, target.table)

    def try_landing(self, target: LandingTarget, *, mapping: CopyMapping, folder: str) -> None:
        """Load the landing file of a folder and roll back, to learn whether it could be loaded.

        Nothing may be committed in this session afterwards.

        :raises ValueRefusedError: it couldn't, because of a value in it
        """
        self._rows(Statement("BEGIN"), doing="begin a transaction")
        try:
            self.copy_landing(target, mapping=mapping, folder=folder)
        finally:
            self._rows(Statement("ROLLBACK"), doing="roll back")

    def list_folder(self, stage: TableName, *, folder: str) -> list[str]:
        """Paths of the files in a folder and its subfolders, relative to that folder."""
        rows = self._rows(
            statements.list_files(stage, folder=folder), doing="list the files of", target=stage
        )
        # Snowflake prefixes them with the name of the stage, in lower case.
        return [str(row[0]).partition(f"/{folder}/")[2] for row in rows]

    def remove_folder(self, stage: TableName, *, folder: str) -> None:
        """Remove the files of a folder and its subfolders from the stage."""
        self._rows(statements.remove_files(stage, folder=folder), doing="remove files from", target=stage)

    def copy_dead_letters(self, target: LandingTarget, *, folder: str) -> int:
        """Load the dead-letter file of a folder and remove it from the stage.

        :return: the number of loaded rows, 0 if there is no file
        """
        statement = statements.copy_dead_letters(target.dead_letters, stage=target.stage, folder=folder)
        return self._copy(statement, target.dead_letters)

    def _copy(self, statement: Statement, table: TableName) -> int:
        with self._cursor(statement, doing="load into", target=str(table)) as cursor:
            names = [column[0].lower() for column in cursor.description]
            if "rows_loaded" not in names:
                return 0
            loaded = names.index("rows_loaded")
            return sum(int(row[loaded]) for row in cursor.fetchall())

    # --- dead letters ---

    def name_dead_letters(self, target: LandingTarget) -> datetime:
        """Give ids to dead letters without one, if there are any.

        :return: the time by Snowflake's clock: dead letters that are written from now on are later
        """
        table = target.dead_letters
        ((unnamed,),) = self._rows(
            statements.unnamed_dead_letters(table), doing="count rows of", target=table
        )
        if unnamed:
            self._modify(statements.name_dead_letters(table), doing="give ids to rows of", target=table)
        now: datetime = self._rows(Statement("SELECT CURRENT_TIMESTAMP"), doing="ask for the time")[0][0]
        return now

    def read_dead_letters(self, target: LandingTarget, chosen: LetterFilter) -> list[StoredLetter]:
        """The selected dead letters, in the order of their shards: at most 5,000 and about 64 MiB."""
        letters: list[StoredLetter] = []
        size = 0
        statement = statements.read_dead_letters(target.dead_letters, chosen, most=_LETTERS_AT_ONCE)
        with self._cursor(statement, doing="read", target=str(target.dead_letters)) as cursor:
            for row in cursor:
                letters.append(_letter(row))
                size += len(letters[-1].record.data)
                if size >= _LETTER_BYTES_AT_ONCE:
                    break
        return letters

    def list_dead_letters(
        self, target: LandingTarget, chosen: LetterFilter, letters: Sequence[StoredLetter]
    ) -> list[str]:
        """Ids of the dead letters that still exist, each as often as it occurs."""
        statement = statements.list_dead_letters(
            target.dead_letters,
            application=chosen.application,
            stream=chosen.stream,
            ids=[letter.id for letter in letters],
        )
        rows = self._rows(statement, doing="look for rows of", target=target.dead_letters)
        return [str(row[0]) for row in rows]

    def delete_dead_letters(
        self,
        target: LandingTarget,
        chosen: LetterFilter,
        letters: Sequence[StoredLetter],
        *,
        transaction: str,
    ) -> int:
        """Delete dead letters, if the given transaction is still the current one.

        :return: how many were deleted
        """
        statement = statements.delete_dead_letters(
            target.dead_letters,
            application=chosen.application,
            stream=chosen.stream,
            transaction=transaction,
            ids=[letter.id for letter in letters],
        )
        with self._cursor(statement, doing="delete from", target=str(target.dead_letters)) as cursor:
            return int(cursor.rowcount or 0)

    # --- offsets ---

    def ensure_offsets(
        self, target: LandingTarget, *, application: str, stream: str, keys: Sequence[OffsetKey]
    ) -> None:
        """Add the rows that are missing, at the position before the first record; outside transactions."""
        if keys:
            statement = statements.ensure_offsets(
                target.offsets, application=application, stream=stream, keys=_pairs(keys)
            )
            self._modify(statement, doing="add offsets to", target=target.offsets)

    def read_offsets(
        self, target: LandingTarget, *, application: str, stream: str, keys: Sequence[OffsetKey]
    ) -> Offsets:
        """The rows with these keys; keys without a row are left out."""
        if not keys:
            return Offsets({}, {})
        statement = statements.read_offsets(
            target.offsets, application=application, stream=stream, keys=_pairs(keys)
        )
        rows = self._rows(statement, doing="read offsets from", target=target.offsets)
        return judge_offsets(rows, table=target.offsets)

    def lock_offsets(self, target: LandingTarget, *, application: str, stream: str) -> None:
        """Wait for other transactions on the same offsets, and keep others out until this one ends.

        :raises ServiceUnavailableError: there is no row to lock; :meth:`ensure_offsets` adds it
        """
        statement = statements.lock_offsets(target.offsets, application=application, stream=stream)
        with self._cursor(statement, doing="lock", target=str(target.offsets)) as cursor:
            locked = int(cursor.rowcount or 0)
        if not locked:
            raise ServiceUnavailableError(
                f"Try again: the row of {target.offsets} that loads of stream {stream} and application "
                f"{application} lock was deleted meanwhile"
            )

    def move_offsets(
        self,
        target: LandingTarget,
        *,
        application: str,
        stream: str,
        batch_id: str,
        transaction: str,
        moves: Sequence[OffsetMove],
    ) -> None:
        """Move the offset of each shard whose offset is as expected, if the given transaction is the current
        one.

        The last statement of the transaction that writes. The caller then reads the offsets, and rolls back
        unless each has moved.

        :param batch_id: written next to each position
        :param transaction: as :meth:`transaction` gave it
        :param moves: not empty
        """
        statement = statements.move_offsets(
            target.offsets,
            application=application,
            stream=stream,
            batch_id=batch_id,
            transaction=transaction,
            moves=[
                (
                    move.shard_id,
                    move.incarnation,
                    encode_position(move.expected),
                    encode_position(move.through),
                    move.records,
                )
                for move in moves
            ],
        )
        self._rows(statement, doing="move offsets in", target=target.offsets)

    # --- the end ---

    def cancel(self) -> None:
        """Cancel the running statement, from another thread; the thread that waits for it gets an error.

        Asks Snowflake through a second connection to cancel whatever the session runs (the query id of a
        running statement isn't known until it returns). If that fails, closes the connection.
        """
        statement = Statement("SELECT SYSTEM$CANCEL_ALL_QUERIES(%s)", (self._connection.session_id,))
        try:
            with closing(self._open_connection()) as other, other.cursor() as cursor:
                cursor.execute(statement.sql, statement.params)
        except (errors.Error, OSError, KinesisSnowflakeError):
            self.close()

    def close(self) -> None:
        """End the session for good; Snowflake rolls back what it left open. Repeating it has no effect."""
        # The connector swallows a failure to log out, after which the connection could still be used.
        self._closed = True
        self._connection.close(retry=False)

    def lend(self, take_back: Callable[[SnowflakeSession], None]) -> None:
        """Have the next user of the session give it back when done, instead of ending it.

        :param take_back: called by :meth:`done`
        """
        self._take_back = take_back

    def done(self) -> None:
        """Note that nothing is under way in the session: it ends, or returns to its pool if it was lent."""
        self.fresh = False
        if self._take_back is None:
            self.close()
        else:
            self._take_back(self)

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed

    @property
    def fit(self) -> bool:
        """Whether another transaction may begin in this session.

        Not after a request was resent: a COMMIT whose first copy arrives late would end that transaction
        halfway. Snowflake doesn't promise to recognize it by its request id. With a connector that doesn't
        report resent requests, not after any COMMIT.
        """
        in_doubt = self._tries.repeated if self._tries.told else self._used
        return not self._closed and not in_doubt

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.done()
        else:
            self.close()

    def _require_open(self, doing: str) -> None:
        if self._closed:
            raise ServiceUnavailableError(
                f"Try again: the Snowflake session that should {doing.rstrip()} is closed"
            )

    def _modify(self, statement: Statement, *, doing: str, target: TableName) -> None:
        """Run a statement that changes rows, and commit it."""
        self._used = True
        self._rows(statement, doing=doing, target=target)
        self._rows(Statement("COMMIT"), doing="commit")

    def _rows(
        self, statement: Statement, *, doing: str, target: TableName | None = None
    ) -> list[tuple[Any, ...]]:
        with self._cursor(statement, doing=doing, target=str(target or "")) as cursor:
            return list(cursor.fetchall())

    @contextmanager
    def _cursor(self, statement: Statement, *, doing: str, target: str) -> Iterator[Any]:
        target += self._where
        self._require_open(f"{doing} {target}")
        try:
            with self._connection.cursor() as cursor:
                yield cursor.execute(statement.sql, statement.params or None)
        except errors.Error as error:
            cause = None if quotes_data(error) else error
            raise translate(error, doing=doing, target=target) from cause
        except OSError as error:
            raise broken_off(error, doing=doing, target=target) from error


def _check_columns(table: TableName, needed: Sequence[tuple[str, str]], found: Mapping[str, str]) -> None:
    for name, sql_type in needed:
        if name not in found:
            raise InvalidSettingError(
                f"Run {statements.add_column(table, name, sql_type).sql}, or use another table: the landing "
                f"table {table} has no column {name}"
            )
        accepted = _ACCEPTED_TYPES.get(sql_type)
        if accepted is not None and found[name] not in accepted:
            raise InvalidSettingError(
                f"Use another table, or drop the column {name} and add it again as {sql_type}: in the "
                f"landing table {table} it is {found[name]}"
            )


def _nullable(shown: str, null: object) -> bool:
    # Snowflake reports it in both columns, the local stand-in only in the second.
    return bool(json.loads(shown).get("nullable", True)) and str(null).lower() not in {"false", "not_null"}


def _fills_itself(row: tuple[Any, ...]) -> bool:
    # Columns of SHOW COLUMNS: the sixth is the default, the eleventh the sequence of an identity column.
    return bool(row[5]) or bool(row[10:11] and row[10]) or _is_computed(row)


def _is_computed(row: tuple[Any, ...]) -> bool:
    # The seventh is the kind, the eighth the expression of a virtual column.
    return row[6:7] == ("VIRTUAL_COLUMN",) or bool(row[7:8] and row[7])


def _letter(row: tuple[Any, ...]) -> StoredLetter:
    letter_id, shard_id, sequence_number, sub_sequence_number, partition_key, millis, payload, encoding = row
    record = Record(
        sequence_number=sequence_number,
        approximate_arrival=millis / 1000,
        data=payload_of(payload, encoding),
        partition_key=partition_key,
        sub_sequence_number=sub_sequence_number,
    )
    return StoredLetter(letter_id, shard_id, record)


def judge_offsets(rows: Iterable[Sequence[Any]], *, table: TableName) -> Offsets:
    """Separate the reliable rows of the offsets table from the unreliable ones.

    :param rows: shard id, incarnation, position and batch id
    :param table: the table they are in, for messages
    """
    found: dict[OffsetKey, Offset] = {}
    refused: dict[OffsetKey, CorruptStateError] = {}
    for shard_id, incarnation, position, batch_id in rows:
        key = OffsetKey(shard_id, incarnation)
        if key in found:
            refused[key] = CorruptStateError(
                f"Delete all but the row with the smallest POSITION: {table} has more than one row for "
                f"shard {shard_id} (incarnation {incarnation}). Nothing of the shard was loaded"
            )
        elif position.startswith(CLOSED):
            refused[key] = IncarnationClosedError(
                f"Clear the failed task of the DAG kinesis_state_reset, or run it with the method recover to "
                f"go on where shard {shard_id} stands: a reset closed its incarnation {incarnation} in "
                f"{table} and was not finished. Nothing of the shard was loaded"
            )
        else:
            try:
                found[key] = Offset(shard_id, incarnation, decode_position(position), batch_id)
            except ValueError:
                refused[key] = CorruptStateError(
                    f"Correct the row, or reset the application: {table} holds {position!r:.80} as the "
                    f"position of shard {shard_id} (incarnation {incarnation}), which no load wrote"
                )
    return Offsets({key: offset for key, offset in found.items() if key not in refused}, refused)


def _pairs(keys: Iterable[OffsetKey]) -> list[tuple[str, str]]:
    return [(key.shard_id, key.incarnation) for key in keys]
