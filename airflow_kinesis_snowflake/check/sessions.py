"""Snowflake sessions for checks: those of a drain, with some more ways to observe them."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from snowflake.connector import errors
from snowflake.connector.constants import QueryStatus

from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.sinks.snowflake.errors import translate
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_DOING = "check"
_LOOKS_SECONDS = 0.1
# A statement that isn't blocked ends long before that, unless it waits for a warehouse.
_SHOWS_AFTER_SECONDS = 10.0
_PATIENCE_SECONDS = 120.0


class Wait(NamedTuple):
    """Whether a statement waits for another transaction.

    :param waits: it hasn't ended
    :param blocked: Snowflake reports it as ``BLOCKED``
    """

    waits: bool
    blocked: bool


class CheckSession(SnowflakeSession):
    """A drain's session that can also run any statement, and run one without waiting for it to end."""

    def rows(self, statement: Statement | str) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        return self._rows(_statement(statement), doing=_DOING)

    def value(self, statement: Statement | str) -> Any:
        """Run a statement and return the first value of its first row."""
        return self.rows(statement)[0][0]

    def changed(self, statement: Statement | str) -> int:
        """Run a statement and return how many rows it changed, according to Snowflake."""
        with self._cursor(_statement(statement), doing=_DOING, target="") as cursor:
            return int(cursor.rowcount or 0)

    def begin(self) -> str:
        """Begin a transaction and return its id."""
        self.rows("BEGIN")
        return self._current_transaction()

    def commit(self) -> None:
        """Commit."""
        self.rows("COMMIT")

    def roll_back(self) -> None:
        """Roll back."""
        self.rows("ROLLBACK")

    # --- without waiting ---

    def start(self, statement: Statement | str) -> str:
        """Send a statement and return its query id, without waiting for it to end."""
        statement = _statement(statement)
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute_async(statement.sql, statement.params or None)
            return str(cursor.sfqid)

    def wait_of(self, query: str) -> Wait:
        """Watch a statement until Snowflake reports that it waits, or it ends, or 10 seconds have passed."""
        until = time.monotonic() + _SHOWS_AFTER_SECONDS
        for status in self._statuses(query):
            if status is QueryStatus.BLOCKED:
                return Wait(waits=True, blocked=True)
            if not self._connection.is_still_running(status):
                return Wait(waits=False, blocked=False)
            if time.monotonic() > until:
                return Wait(waits=True, blocked=False)
        raise AssertionError("unreachable")

    def finish(self, query: str) -> None:
        """Wait for a statement to end.

        :raises ServiceUnavailableError: it hasn't ended after two minutes
        """
        until = time.monotonic() + _PATIENCE_SECONDS
        for status in self._statuses(query):
            if not self._connection.is_still_running(status):
                break
            if time.monotonic() > until:
                raise ServiceUnavailableError(f"Try again: query {query} hasn't ended after two minutes")
        with self._translated():
            self._connection.get_query_status_throw_if_error(query)

    def _statuses(self, query: str) -> Iterator[QueryStatus]:
        while True:
            with self._translated():
                yield self._connection.get_query_status(query)
            time.sleep(_LOOKS_SECONDS)

    @property
    def can_run_twice(self) -> bool:
        """Whether the connector lets the caller choose a request id; version 5 doesn't."""
        return hasattr(self._connection, "cmd_query")

    def run_twice(self, sql: str) -> None:
        """Send a statement twice under one request id, as the connector does when an answer was lost."""
        request = uuid.uuid4()
        with self._translated():
            for sequence in (1, 2):
                self._connection.cmd_query(sql, sequence, request)

    def _translated(self) -> AbstractContextManager[None]:
        return _Translated()


class _Translated:
    """Raise the connector's errors as those of this package."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, errors.Error):
            raise translate(error, doing=_DOING, target="") from error


class SnowflakeCheckHook(SnowflakeLoadHook):
    """Opens sessions for checks through an Airflow connection of type ``snowflake``."""

    def open_check_session(self) -> CheckSession:
        """Log in as a drain does.

        :raises InvalidSettingError: the Airflow connection doesn't exist, or isn't complete
        :raises AccessDeniedError: Snowflake refuses the login
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        session = CheckSession(partial(self._connect, autocommit=False))
        session.opt_out_of_error_logging()
        return session


def _statement(given: Statement | str) -> Statement:
    return Statement(given) if isinstance(given, str) else given
