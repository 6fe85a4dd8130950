"""Keeping workers away from shards while their rows are changed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

# Longer than maintenance takes, so that it needn't renew; one that died holds shards up for no longer.
HOLD_MILLIS = 300_000


@contextmanager
def holding(
    store: CheckpointStoreHook,
    keys: Iterable[tuple[str, str]],
    *,
    owner: str,
    clock: Callable[[], int],
    force: bool,
) -> Iterator[None]:
    """Lease shards, all or none, and release them at the end.

    :param keys: stream and shard id of rows that are there
    :param owner: the same for each try of one piece of work, which so may go on where it died
    :param clock: gives milliseconds since the epoch
    :param force: take leases away from live workers
    :raises MaintenanceRefusedError: a worker is reading one of them
    """
    held: list[tuple[str, str]] = []
    try:
        for stream, shard_id in sorted(keys):
            now = clock()
            if not store.hold(stream, shard_id, owner=owner, expiry=now + HOLD_MILLIS, now=now, force=force):
                raise MaintenanceRefusedError(
                    f"A worker is reading shard {shard_id} of stream {stream}; nothing was changed. Stop the "
                    f"drains of application {store.application_name} and run this again, or use force, which "
                    "may load twice what that worker commits meanwhile."
                )
            held.append((stream, shard_id))
        yield
    finally:
        if held and store.describe_table().exists:
            for stream, shard_id in held:
                store.release_lease(stream, shard_id, owner=owner, now=clock())
