"""The line that tells an operator what a drain is doing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.drain.report import megabytes

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_kinesis_snowflake.drain.reader import ShardReader

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
SHARDS_IN_LINE = 8


class ProgressLine:
    """Logs one line every five seconds: records, rate and lag per shard.

    :param stream_name: named in the line
    :param began: start of the drain on the monotonic clock
    """

    def __init__(self, stream_name: str, *, began: float) -> None:
        self._stream = stream_name
        self._told_at = began
        self._told_bytes = 0

    def tell(self, readers: Collection[ShardReader], *, records: int, total_bytes: int, now: float) -> None:
        """Log the line if it is time.

        :param records: read so far in this drain
        :param total_bytes: their payload bytes
        :param now: on the monotonic clock
        """
        seconds = now - self._told_at
        if seconds < SECONDS_BETWEEN_LINES:
            return
        rate = (total_bytes - self._told_bytes) / seconds
        log.info(
            "Stream %s: %d records, %s read (%s/s); %d shards, lag %s",
            self._stream,
            records,
            megabytes(total_bytes),
            megabytes(rate),
            len(readers),
            lags(readers),
        )
        self._told_at, self._told_bytes = now, total_bytes


def lags(readers: Collection[ShardReader]) -> str:
    """The lag of each shard in seconds, the furthest behind first; short ids, and as many as fit a line."""
    known = sorted(
        ((reader.millis_behind, reader.shard_id) for reader in readers if reader.millis_behind is not None),
        reverse=True,
    )
    if not known:
        return "not known yet"
    shown = ", ".join(f"{short(shard_id)}: {lag / 1000:.1f} s" for lag, shard_id in known[:SHARDS_IN_LINE])
    rest = len(known) - SHARDS_IN_LINE
    return f"{shown} and {rest} more" if rest > 0 else shown


def short(shard_id: str) -> str:
    """A shard id without what all of them begin with."""
    return shard_id.removeprefix("shardId-").lstrip("0") or "0"
