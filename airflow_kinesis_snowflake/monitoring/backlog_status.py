"""Checks the stream for what has arrived since the last drain, at most once a minute."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.inspection import inspect_state
from airflow_kinesis_snowflake.monitoring.state_reader import UNREADABLE, hooks_of
from airflow_kinesis_snowflake.sources.backlog import SHARDS_PER_LOOK, BacklogWatch
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.monitoring.drains import Application
    from airflow_kinesis_snowflake.monitoring.state_reader import Access
    from airflow_kinesis_snowflake.sources.backlog import Backlog

SECONDS_BETWEEN_LOOKS = 60.0
_MAX_WATCHED = 128


@dataclass(frozen=True)
class BacklogStatus:
    """What has arrived since the last drain.

    :param at: when it was checked, in milliseconds since the epoch
    :param came: ``yes``, ``no``, ``drained`` (a drain is under way), or ``unknown``
    :param text: the same in a sentence
    :param inspection: the state compared with Kinesis; None: not known
    """

    at: int
    came: str
    text: str
    inspection: Inspection | None = None


@dataclass
class _Watched:
    """One application that somebody is watching."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    watch: BacklogWatch | None = None
    looked: float = 0.0
    last: BacklogStatus | None = None


class Watches:
    """Checks, shared by everyone who has the page open.

    :param clock: monotonic, in seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: dict[tuple[Application, Access], _Watched] = {}

    def look(self, application: Application, access: Access) -> BacklogStatus:
        """What has arrived since the last drain, at most a minute old.

        While one request checks, others get the previous result, so that a slow Kinesis delays only one.
        """
        with self._lock:
            while len(self._watched) >= _MAX_WATCHED and (application, access) not in self._watched:
                del self._watched[next(iter(self._watched))]
            watched = self._watched.setdefault((application, access), _Watched())
        due = watched.last is None or self._clock() - watched.looked >= SECONDS_BETWEEN_LOOKS
        if due and watched.lock.acquire(blocking=False):
            try:
                watched.last = _look(watched, application, access)
                watched.looked = self._clock()
            finally:
                watched.lock.release()
        return watched.last or BacklogStatus(now_millis(), "unknown", "Checking Kinesis for new records.")


def _look(watched: _Watched, application: Application, access: Access) -> BacklogStatus:
    now = now_millis()
    try:
        store, kinesis = hooks_of(application, access, now=now)
        if watched.watch is None:
            watched.watch = BacklogWatch(kinesis=kinesis, store=store)
        came, text = _told(watched.watch.look(now=now))
        return BacklogStatus(now, came, text, inspect_state(store, kinesis, now=now))
    except UNREADABLE as error:
        watched.watch = None
        return BacklogStatus(now, "unknown", f"It isn't known whether new records have arrived: {error}")


def _told(backlog: Backlog) -> tuple[str, str]:
    if backlog.reason is not None:
        return "yes", f"There is something to drain: {backlog.reason}."
    if backlog.leased:
        return "drained", "A worker is reading the stream now."
    if backlog.unclear:
        return "unknown", "Kinesis hasn't answered yet whether new records have arrived."
    if backlog.partial:
        return "no", f"No new records in the {SHARDS_PER_LOOK} shards that were checked now."
    return "no", "No new records."
