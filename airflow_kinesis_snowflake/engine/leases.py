"""The leases of one worker, kept alive while it works."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.rows import caught_up_by
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from airflow_kinesis_snowflake.engine.ports import StateStore
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.engine.settings import Worker
    from airflow_kinesis_snowflake.state.shards import ShardState
    from airflow_kinesis_snowflake.stream.positions import Position, StartAt

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 1.0
# As many as the hook keeps connections.
RENEWERS = 16


@dataclass
class _Lease:
    """A lease that is held; moments on the monotonic clock.

    :param facts: to be recorded with the next renewal
    """

    valid_until: float
    renew_at: float
    renewing: bool = False
    facts: Mapping[str, int] = field(default_factory=dict)


class Leases:
    """Takes, renews, uses and releases the leases of one worker on one stream.

    A lease lasts 30 s and is renewed every 10 s, as the Openflow connector does, on separate threads: many
    leases at a time, those that expire first before the others, so that a hanging call costs no other lease.
    Whether a lease is still held is judged by the monotonic clock from the moment *before* the last
    successful write, so this worker never believes in a lease for longer than others respect it.

    Transient errors are logged and retried every second. Any other error of a renewal ends the drain:
    :meth:`drop_lost` raises it.

    :param store: the application's checkpoint store
    :param stream_name: the stream whose shards are leased
    :param worker: the lease owner
    :param sink: how it commits
    :param runtime: its clocks, and where it renews
    """

    def __init__(
        self,
        store: StateStore,
        stream_name: str,
        worker: Worker,
        *,
        sink: str,
        runtime: Runtime = MACHINE,
    ) -> None:
        self._runtime = runtime
        self._sink = sink
        self._store = store
        self._stream = stream_name
        self._worker = worker
        self._leases: dict[str, _Lease] = {}
        self._lost: set[str] = set()
        self._loading: Set[str] = frozenset()
        self._failure: Exception | None = None
        self._trouble: TransientError | None = None
        self._beat_at, self._beating = 0.0, False
        self._lock = runtime.lock()
        self._presence = runtime.lock()
        self._leaving = runtime.event()
        self._joined = False

    def join(self) -> None:
        """Announce this worker to the others, and start renewing."""
        self._store.heartbeat(self._stream, self._worker.id, now=self._runtime.wall())
        self._beat_at = self._runtime.monotonic() + RENEW_SECONDS
        self._joined = True
        self._runtime.start(self._keep_alive, name="lease-renewal")

    def retire(self) -> None:
        """Stop renewing and taking leases; those held can still be released."""
        self._leaving.set()

    def leave(self) -> None:
        """Remove this worker's heartbeat; leases still held expire by themselves."""
        self.retire()
        if self._joined:
            with self._presence:
                self._store.leave(self._stream, self._worker.id)

    def take(
        self,
        shard: ShardState,
        *,
        incarnation: str,
        start_at: StartAt | None = None,
        stream_arn: str | None = None,
    ) -> ShardState | None:
        """Take the lease of a shard that is free, or that no live worker holds any more.

        :param shard: the row as last read; a lease in it is over, or of an earlier start of this task
        :param incarnation: given to the row if it has none
        :param start_at: the same
        :param stream_arn: the same
        :return: the row after the write; ``None`` if another worker holds the lease, records of the shard are
            still being loaded, or this one is retiring
        """
        if self._leaving.is_set() or shard.shard_id in self._loading:
            return None
        began = self._runtime.monotonic()
        now = self._runtime.wall()
        taken = self._store.take_lease(
            self._stream,
            shard,
            owner=self._worker.id,
            expiry=now + int(LEASE_SECONDS * 1000),
            now=now,
            incarnation=incarnation,
            start_at=start_at,
            sink=self._sink,
            stream_arn=stream_arn,
            predecessor=self._worker.succeeds(shard.lease_owner),
        )
        if taken is None:
            return None
        with self._lock:
            self._leases[shard.shard_id] = _Lease(began + LEASE_SECONDS, began + RENEW_SECONDS)
        if self._leaving.is_set():
            # Whoever releases what is held may not have seen it. Nothing of it was read.
            self.release(shard.shard_id, unsettled=shard.lease_owner is not None or taken.unsettled)
            return None
        return replace(taken, caught_up_at=caught_up_by(taken, now=now))

    def begin_load(self, shards: Set[str]) -> None:
        """Take none of these shards again before :meth:`end_load`.

        A lease that is lost and taken again may be that of another incarnation, because the shard was reset
        in between. What was read under the former one must not be taken for read under this one.
        """
        self._loading = shards

    def end_load(self) -> None:
        """Nothing is loaded any more."""
        self._loading = frozenset()

    def holds(self, shard_id: str) -> bool:
        """Whether this worker certainly still holds the lease."""
        with self._lock:
            lease = self._leases.get(shard_id)
            return lease is not None and self._runtime.monotonic() < lease.valid_until

    def confirm(self, shard_id: str) -> bool:
        """Whether this worker holds the lease according to the table; asking renews it."""
        self._renew(shard_id)
        return self.holds(shard_id)

    def note(self, shard_id: str, *, millis_behind: int, caught_up_at: int) -> None:
        """Record with the next renewal how far a shard is; everything read of it must be committed.

        :param caught_up_at: the moment up to which it is drained (ms)
        """
        with self._lock:
            if lease := self._leases.get(shard_id):
                lease.facts = {"millis_behind": millis_behind, "caught_up_at": caught_up_at}

    @property
    def held(self) -> frozenset[str]:
        """Shards whose lease was taken and not released, and whose loss :meth:`drop_lost` hasn't reported.

        A lost shard can be taken again only once its loss was reported, so that nothing of the former reading
        is left.
        """
        with self._lock:
            return frozenset(self._leases) | self._lost

    def drop_lost(self) -> frozenset[str]:
        """Shards whose lease was lost since the last call; they are no longer held.

        :raises KinesisSnowflakeError: leases can't be renewed, and retrying wouldn't help
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            now = self._runtime.monotonic()
            expired = {shard_id for shard_id, lease in self._leases.items() if lease.valid_until <= now}
            for shard_id in expired:
                del self._leases[shard_id]
            lost, self._lost = self._lost | expired, set()
        return frozenset(lost)

    def save(
        self,
        shard_id: str,
        checkpoint: Position | None,
        *,
        millis_behind: int | None,
        offset: Position | None = None,
        committed_now: bool = False,
    ) -> bool:
        """Write a checkpoint whose records are committed; extends the lease, unless it was given up.

        :param offset: as known by Snowflake; ``None``: not asked
        :param committed_now: the sink has just committed it, and may forget that one day
        :return: ``False`` when the lease is lost; the row is left as it is
        """
        began = self._runtime.monotonic()
        now = self._runtime.wall()
        with self._lock:
            seconds = LEASE_SECONDS if shard_id in self._leases else 0.0
        saved = self._store.save_checkpoint(
            self._stream,
            shard_id,
            owner=self._worker.id,
            checkpoint=checkpoint,
            expiry=now + int(seconds * 1000),
            now=now,
            millis_behind=millis_behind,
            offset=offset,
            committed_at=now if committed_now else None,
            sink=self._sink,
        )
        self._settle(shard_id, began, held=saved)
        return saved

    def release(self, shard_id: str, **facts: Any) -> bool:
        """Release the lease, with the last facts about the shard, in one write.

        :param facts: as :meth:`~airflow_kinesis_snowflake.engine.ports.StateStore.release_lease` takes them
        :return: ``False`` when the lease was lost before
        """
        with self._lock:
            self._leases.pop(shard_id, None)
        return self._store.release_lease(
            self._stream, shard_id, owner=self._worker.id, now=self._runtime.wall(), **facts
        )

    # --- renewing ------------------------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        try:
            with DaemonThreads(RENEWERS, name="lease-renewal", runtime=self._runtime) as threads:
                log_at = 0.0
                while not self._leaving.wait(RETRY_SECONDS):
                    now = self._runtime.monotonic()
                    if self._is_beat_due(now):
                        threads.submit(self._beat_once)
                    for shard_id in self._due(now):
                        threads.submit(self._renew_once, shard_id)
                    if now >= log_at and self._log_trouble(now):
                        log_at = now + RENEW_SECONDS
        except Exception as error:
            self._fail(error)

    def _is_beat_due(self, now: float) -> bool:
        with self._lock:
            due = now >= self._beat_at and not self._beating
            self._beating |= due
        return due

    def _due(self, now: float) -> list[str]:
        """Shards to renew now, those whose leases expire first before the others; they count as started."""
        with self._lock:
            due = [each for each in self._leases.items() if now >= each[1].renew_at and not each[1].renewing]
            for _, lease in due:
                lease.renewing = True
        return [shard_id for shard_id, _ in sorted(due, key=lambda each: each[1].valid_until)]

    def _beat_once(self) -> None:
        began = self._runtime.monotonic()
        wait = self._attempt(self._beat)
        with self._lock:
            self._beat_at, self._beating = began + wait, False

    def _renew_once(self, shard_id: str) -> None:
        began = self._runtime.monotonic()
        wait = self._attempt(lambda: self._renew(shard_id))
        with self._lock:
            lease = self._leases.get(shard_id)
            if lease is not None:
                lease.renew_at, lease.renewing = began + wait, False

    def _attempt(self, call: Callable[[], None]) -> float:
        """Make a call; return the seconds until the next one, counted from the start of this one."""
        try:
            call()
        except TransientError as error:
            self._trouble = error
            return RETRY_SECONDS
        except Exception as error:
            self._fail(error)
        return RENEW_SECONDS

    def _fail(self, error: Exception) -> None:
        """Pass an error that retrying can't fix to the thread that uses the leases."""
        with self._lock:
            self._failure = self._failure or error

    def _beat(self) -> None:
        if self._store.heartbeat(self._stream, self._worker.id, now=self._runtime.wall(), again=True):
            return
        # Others removed the row, because this worker was silent for too long.
        with self._presence:
            if not self._leaving.is_set():
                self._store.heartbeat(self._stream, self._worker.id, now=self._runtime.wall())

    def _renew(self, shard_id: str) -> None:
        """Renew a lease that this worker holds; one that it has given up would be released by nobody."""
        began = self._runtime.monotonic()
        now = self._runtime.wall()
        with self._lock:
            lease = self._leases.get(shard_id)
            if lease is None or began >= lease.valid_until:
                return
            facts = lease.facts
        renewed = self._store.renew_lease(
            self._stream,
            shard_id,
            owner=self._worker.id,
            expiry=now + int(LEASE_SECONDS * 1000),
            now=now,
            **facts,
        )
        self._settle(shard_id, began, held=renewed)

    def _log_trouble(self, now: float) -> bool:
        """Log why leases aren't renewed; return whether there was anything to log."""
        error, self._trouble = self._trouble, None
        if error is None:
            return False
        with self._lock:
            ends = min((lease.valid_until for lease in self._leases.values()), default=None)
        log.warning(
            "Renewing the leases of stream %s is retried every second; the next one expires in %.0f s: %s",
            self._stream,
            LEASE_SECONDS if ends is None else ends - now,
            error,
        )
        return True

    def _settle(self, shard_id: str, began: float, *, held: bool) -> None:
        with self._lock:
            lease = self._leases.get(shard_id)
            if lease is None:
                return
            if held:
                lease.valid_until, lease.renew_at = began + LEASE_SECONDS, began + RENEW_SECONDS
            else:
                del self._leases[shard_id]
                self._lost.add(shard_id)
