"""Sessions that the drains of one task use in turn."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.sinks.snowflake.factories import OpenSession
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession


class SessionPool:
    """Lends sessions; logs in only when none is free. Safe to call from several threads.

    :param open_session: logs in
    """

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._lock = Lock()
        self._free: list[SnowflakeSession] = []
        self._closed = False

    def open_session(self) -> SnowflakeSession:
        """A session for exclusive use, until :meth:`SnowflakeSession.done` gives it back."""
        with self._lock:
            if self._free:
                return self._free.pop()
        session = self._open_session()
        session.lend(self._take_back)
        return session

    def close(self) -> None:
        """End the free sessions now, and the others as soon as they are free."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for session in free:
            session.close()

    def _take_back(self, session: SnowflakeSession) -> None:
        with self._lock:
            kept = session.fit and not self._closed
            if kept:
                self._free.append(session)
        if not kept:
            session.close()
