"""Sessions that go from drain to drain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from airflow_kinesis_snowflake.sinks.snowflake.errors import Tries
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.session_pool import SessionPool


class Logins:
    """Opens sessions over connections that do nothing."""

    def __init__(self) -> None:
        self.ended = 0
        self.sessions: list[SnowflakeSession] = []

    def open_session(self) -> SnowflakeSession:
        connection: Any = SimpleNamespace(close=self._end)
        session = SnowflakeSession(lambda: connection, tries=Tries())
        self.sessions.append(session)
        return session

    def _end(self, *, retry: bool) -> None:
        self.ended += 1


def test_a_session_goes_to_the_next_and_never_to_two() -> None:
    logins = Logins()
    pool = SessionPool(logins.open_session)

    first, second = pool.open_session(), pool.open_session()
    assert (first.fresh, first is second) == (True, False)
    first.done()
    assert pool.open_session() is first
    assert not first.fresh
    assert pool.open_session() not in (first, second)
    assert (len(logins.sessions), logins.ended) == (3, 0)


def test_a_block_gives_its_session_back_unless_it_fails() -> None:
    logins = Logins()
    pool = SessionPool(logins.open_session)

    with pool.open_session() as session:
        pass
    try:
        with pool.open_session() as again:
            raise LookupError
    except LookupError:
        assert again is session
    assert session.closed
    with pool.open_session() as other:
        assert other is not session


def test_a_session_that_was_closed_is_lent_to_nobody() -> None:
    pool = SessionPool(Logins().open_session)
    session = pool.open_session()
    session.close()
    session.done()
    assert pool.open_session() is not session


def test_after_the_end_no_session_stays_open() -> None:
    logins = Logins()
    pool = SessionPool(logins.open_session)
    held, free = pool.open_session(), pool.open_session()
    free.done()

    pool.close()
    assert (free.closed, held.closed) == (True, False)
    held.done()
    assert held.closed
