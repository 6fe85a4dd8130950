"""Keeping workers away from shards while their rows are changed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.assignment import MAX_LEASE_MILLIS
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

log = logging.getLogger(__name__)

# How long maintenance that died holds shards up.
HOLD_MILLIS = 60_000
# Workers take a longer lease for that of a wrong clock.
LAST_STEP_MILLIS = MAX_LEASE_MILLIS
RENEW_SECONDS = 10.0
RENEWERS = 16

Key = tuple[str, str]


@contextmanager
def holding(
    store: CheckpointStoreHook,
    keys: Iterable[Key],
    *,
    owner: str,
    clock: Callable[[], int],
    force: bool,
) -> Iterator[Holds]:
    """Lease shards, all or none of them, renew the leases while the block runs, and release them at its end.

    :param keys: stream and shard id of rows that are there
    :param owner: the same for each try of one piece of work, so that a later try may go on where one died
    :param clock: gives milliseconds since the epoch
    :param force: take leases away from live workers
    :raises MaintenanceRefusedError: a worker is reading one of them, and nothing was changed; or, at the end,
        a worker has taken one of them away
    """
    holds = Holds(store, owner=owner, clock=clock)
    try:
        for key in sorted(keys):
            holds.take(key, force=force)
        yield holds
    except BaseException:
        holds.release()
        raise
    holds.release()
    holds.check()


class Holds:
    """Leases that are renewed by a thread until they are released.

    :param owner: whose leases they are
    :param clock: gives milliseconds since the epoch
    :param runtime: where the thread runs
    """

    def __init__(
        self,
        store: CheckpointStoreHook,
        *,
        owner: str,
        clock: Callable[[], int],
        runtime: Runtime = MACHINE,
    ) -> None:
        self._runtime = runtime
        self._store = store
        self.owner = owner
        self._clock = clock
        self._held: list[Key] = []
        self._lost: dict[Key, str] = {}
        self._failure: Exception | None = None
        self._renewing = False
        self._done = runtime.event()
        self._ended = runtime.event()

    def take(self, key: Key, *, force: bool) -> None:
        """Lease a shard that has a row.

        :raises MaintenanceRefusedError: a worker is reading it
        """
        stream, shard_id = key
        now = self._clock()
        if not self._store.hold(
            stream, shard_id, owner=self.owner, expiry=now + HOLD_MILLIS, now=now, force=force
        ):
            raise MaintenanceRefusedError(
                f"Stop the drains of application {self._store.application_name} and run this again, or use "
                "force, which may load twice what the worker commits in the meantime: a worker is reading "
                f"shard {shard_id} of stream {stream}, or maintenance that died left it leased to "
                f"{self._store.lease_owner(*key)}. Nothing was changed."
            )
        self._keep_up(key)

    def make(self, key: Key, write: Callable[[int, int], bool]) -> bool:
        """Create the row of a shard, leased from its first moment on, so that no worker reads it yet.

        :param write: creates it, given the time and the expiry of the lease; returns whether there was none
        :return: what ``write`` returned
        """
        now = self._clock()
        made = write(now, now + HOLD_MILLIS)
        if made:
            self._keep_up(key)
        return made

    def _keep_up(self, key: Key) -> None:
        self._held.append(key)
        if not self._renewing:
            self._renewing = True
            self._runtime.start(self._keep, name="hold-renewal")

    def prolong(self) -> None:
        """Renew all leases once more, for 10 minutes, before a last step that can't depend on them.

        Otherwise a worker whose clock is ahead could take a shard while this process sleeps before that step.

        :raises MaintenanceRefusedError: a worker has taken a shard already
        :raises KinesisSnowflakeError: the leases couldn't be renewed
        """
        self._stop()
        self.check()
        now = self._clock()
        for key in self._held:
            until = now + LAST_STEP_MILLIS
            if not self._store.renew_lease(*key, owner=self.owner, expiry=until, now=now):
                # Perhaps given back since; then the next worker may take it.
                self._lost[key] = self._store.lease_owner(*key) or "A worker"
        self.check()

    def release(self) -> None:
        """Stop renewing, and give back what is held; :meth:`check` says what was lost."""
        self._stop()
        if not self._held or not self._store.describe_table().exists:
            # There is nothing that could be lost.
            self._failure = None
            return
        for key in self._held:
            if not self._store.release_lease(*key, owner=self.owner, now=self._clock()):
                self._note_loss(key)

    def _stop(self) -> None:
        self._done.set()
        if self._renewing:
            self._ended.wait()

    def check(self) -> None:
        """Raise an error if the shards weren't held all the time.

        :raises MaintenanceRefusedError: another worker has taken one
        :raises KinesisSnowflakeError: the leases couldn't be renewed
        """
        if self._failure is not None:
            raise self._failure
        for (stream, shard_id), owner in self._lost.items():
            raise MaintenanceRefusedError(
                f"Stop the drains of application {self._store.application_name} and run this again; it goes "
                f"on from what is done. {owner} took shard {shard_id} of stream {stream} while its row was "
                "being changed."
            )

    def _keep(self) -> None:
        try:
            with DaemonThreads(RENEWERS, name="hold-renewal", runtime=self._runtime) as threads:
                while not self._done.wait(RENEW_SECONDS):
                    threads.map(self._renew, list(self._held))
        except Exception as error:
            # Raised by the thread that does the work.
            self._failure = error
        finally:
            self._ended.set()

    def _renew(self, key: Key) -> None:
        now = self._clock()
        try:
            if not self._store.renew_lease(*key, owner=self.owner, expiry=now + HOLD_MILLIS, now=now):
                self._note_loss(key)
        except TransientError as error:
            log.warning(
                "The hold of shard %s of stream %s couldn't be renewed yet: %s", key[1], key[0], error
            )

    def _note_loss(self, key: Key) -> None:
        """A row that is gone, or free, wasn't taken by anybody: maintenance removes rows itself."""
        owner = self._store.lease_owner(*key)
        if owner not in {None, self.owner}:
            self._lost[key] = str(owner)
