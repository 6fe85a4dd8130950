"""The leases one worker holds, kept alive while it works."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import TransientError
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.drain.settings import Worker
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook, ShardState
    from airflow_kinesis_snowflake.stream.positions import Position, StartAt

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
RENEW_SECONDS = 10.0
RETRY_SECONDS = 1.0


class Leases:
    """Takes, renews, uses and releases the leases of one worker on one stream.

    A lease lasts 30 s and is renewed every 10 s, by a thread of its own, as the Openflow connector does it.
    Whether a lease is still held is judged by the monotonic clock from the moment *before* the last
    successful write, so this worker believes in a lease for no longer than others respect it.

    :param store: the application's checkpoint store
    :param stream_name: the stream whose shards are leased
    :param worker: who leases
    """

    def __init__(self, store: CheckpointStoreHook, stream_name: str, worker: Worker) -> None:
        self._store = store
        self._stream = stream_name
        self._worker = worker
        self._valid_until: dict[str, float] = {}
        self._lost: set[str] = set()
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="lease-renewal", daemon=True)

    def join(self) -> None:
        """Tell the other workers that this one is alive, and begin to renew."""
        self._store.heartbeat(self._stream, self._worker.id, now=now_millis())
        self._thread.start()

    def retire(self) -> None:
        """Renew and take no more leases; those held can still be released."""
        self._leaving.set()

    def leave(self) -> None:
        """Remove this worker's heartbeat; leases still held expire by themselves."""
        self.retire()
        if self._thread.ident is not None:
            self._store.leave(self._stream, self._worker.id)

    def take(
        self, shard: ShardState, *, incarnation: str, start_at: StartAt | None = None
    ) -> ShardState | None:
        """Take the lease of a shard that is free, expired, or held by an earlier start of this task.

        :param shard: the row as last read
        :param incarnation: given to the row if it has none
        :param start_at: the same
        :return: the row after the write, or ``None`` when another worker holds the lease, or this one retires
        """
        if self._leaving.is_set():
            return None
        began = time.monotonic()
        now = now_millis()
        taken = self._store.take_lease(
            self._stream,
            shard,
            owner=self._worker.id,
            expiry=now + int(LEASE_SECONDS * 1000),
            now=now,
            incarnation=incarnation,
            start_at=start_at,
            predecessor=self._worker.succeeds(shard.lease_owner),
        )
        if taken is not None:
            self._extend(shard.shard_id, began)
        return taken

    def holds(self, shard_id: str) -> bool:
        """Whether this worker certainly still holds the lease."""
        with self._lock:
            return time.monotonic() < self._valid_until.get(shard_id, 0.0)

    @property
    def held(self) -> frozenset[str]:
        """Shards whose lease was taken and not released, and of which :meth:`drop_lost` didn't tell a loss.

        A shard that was lost can be taken again only once its loss was told, so that nothing of its former
        reading is left.
        """
        with self._lock:
            return frozenset(self._valid_until) | self._lost

    def drop_lost(self) -> frozenset[str]:
        """Shards whose lease was lost since the last call; they are no longer held."""
        with self._lock:
            now = time.monotonic()
            expired = {shard for shard, until in self._valid_until.items() if until <= now}
            for shard in expired:
                del self._valid_until[shard]
            lost, self._lost = self._lost | expired, set()
        return frozenset(lost)

    def save(
        self, shard_id: str, checkpoint: Position | None, *, ended: bool, millis_behind: int | None
    ) -> bool:
        """Write a checkpoint whose records are committed; extends the lease.

        :return: ``False`` when the lease is lost; the row is left as it is
        """
        began = time.monotonic()
        now = now_millis()
        saved = self._store.save_checkpoint(
            self._stream,
            shard_id,
            owner=self._worker.id,
            checkpoint=checkpoint,
            ended=ended,
            expiry=now + int(LEASE_SECONDS * 1000),
            now=now,
            millis_behind=millis_behind,
        )
        self._settle(shard_id, began, held=saved)
        return saved

    def release(self, shard_id: str, **facts: Any) -> bool:
        """Give the lease back, with the last facts about the shard, in one write.

        :param facts: as :meth:`CheckpointStoreHook.release_lease` takes them
        :return: ``False`` when the lease was lost before
        """
        with self._lock:
            self._valid_until.pop(shard_id, None)
        return self._store.release_lease(
            self._stream, shard_id, owner=self._worker.id, now=now_millis(), **facts
        )

    def _keep_alive(self) -> None:
        wait = RENEW_SECONDS
        while not self._leaving.wait(wait):
            try:
                self._store.heartbeat(self._stream, self._worker.id, now=now_millis())
                for shard_id in sorted(self.held):
                    self._renew(shard_id)
                wait = RENEW_SECONDS
            except TransientError as error:
                log.warning("Leases of stream %s not renewed, trying again: %s", self._stream, error)
                wait = RETRY_SECONDS

    def _renew(self, shard_id: str) -> None:
        began = time.monotonic()
        now = now_millis()
        renewed = self._store.renew_lease(
            self._stream,
            shard_id,
            owner=self._worker.id,
            expiry=now + int(LEASE_SECONDS * 1000),
            now=now,
        )
        self._settle(shard_id, began, held=renewed)

    def _settle(self, shard_id: str, began: float, *, held: bool) -> None:
        with self._lock:
            if shard_id not in self._valid_until:
                return
            if held:
                self._valid_until[shard_id] = began + LEASE_SECONDS
            else:
                del self._valid_until[shard_id]
                self._lost.add(shard_id)

    def _extend(self, shard_id: str, began: float) -> None:
        with self._lock:
            self._valid_until[shard_id] = began + LEASE_SECONDS
