"""What a drain reports while it runs: a line in the log, and the same as data."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine.report import SHARDS_IN_LINE, megabytes, short
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.stream.times import millis, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future

    from airflow_kinesis_snowflake.engine.reader import ShardReader
    from airflow_kinesis_snowflake.engine.runtime import Runtime
    from airflow_kinesis_snowflake.engine.settings import DrainSettings

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
SAMPLES = 7
# A push takes some 20 ms. One that takes longer than this is abandoned, because a stop must be quick.
LAST_PUSH_SECONDS = 0.4


@dataclass(frozen=True)
class ProgressSample:
    """The progress of a drain at one moment.

    :param at: on the monotonic clock
    :param left: seconds of the stream between what was read and where the drain ends, for the shard with the
        most; ``None`` while a shard hasn't answered
    """

    at: float
    records: int
    bytes: int
    left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a drain is; ``records`` and ``bytes`` count what was read, some of which isn't loaded yet.

    :param records_per_second: over the last half minute
    :param millis_behind_latest: of the shard furthest behind; ``None`` while none has answered
    :param shards: how many this worker is reading
    :param seconds_to_catch_up: at the rate of the last half minute; ``None`` when it isn't catching up
    :param at: ISO-8601, in UTC
    :param following_until: the same, for a drain that follows until then; ``None``: it ends once it has
        caught up
    """

    application_name: str
    stream_name: str
    records: int
    bytes: int
    records_per_second: float
    millis_behind_latest: int | None
    shards: int
    seconds_to_catch_up: float | None
    at: str
    following_until: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The progress as JSON-compatible data."""
        return asdict(self)


class ProgressLine:
    """Reports the progress of a drain every five seconds.

    Pushing is done by a separate thread, so that it can't slow the drain; while a push is under way, no other
    starts. The first failure is logged, later ones aren't.

    :param settings: of the drain
    :param began: start of the drain on the monotonic clock
    :param push: receives a :meth:`Progress.as_dict`; ``None``: only log
    :param runtime: its clocks, and where it pushes
    """

    def __init__(
        self,
        settings: DrainSettings,
        *,
        began: float,
        push: Callable[[dict[str, Any]], None] | None = None,
        runtime: Runtime = MACHINE,
    ) -> None:
        self._runtime = runtime
        self._settings = settings
        self._following_until = (
            None
            if settings.follow_seconds is None
            else moment(millis(settings.stop_at)).isoformat(timespec="seconds")
        )
        self._samples: deque[ProgressSample] = deque([ProgressSample(began, 0, 0)], maxlen=SAMPLES)
        self._push = push
        self._threads = DaemonThreads(1, name="progress", runtime=runtime) if push else None
        self._pushing: Future[None] | None = None
        self._failed = False

    def tell(self, readers: Collection[ShardReader], *, records: int, total_bytes: int, now: float) -> None:
        """Log the line and push the progress if it is time.

        :param records: read so far in this drain
        :param total_bytes: their payload bytes
        :param now: on the monotonic clock
        """
        last = self._samples[-1]
        if now - last.at < SECONDS_BETWEEN_LINES:
            return
        wall = self._runtime.wall()
        left = seconds_left(readers, beyond_stop=(wall - millis(self._settings.stop_at)) / 1000)
        sample = ProgressSample(now, records, total_bytes, left)
        self._samples.append(sample)
        progress = Progress(
            application_name=self._settings.application_name,
            stream_name=self._settings.stream_name,
            records=records,
            bytes=total_bytes,
            records_per_second=round((records - self._samples[0].records) / (now - self._samples[0].at), 1),
            millis_behind_latest=max(known_lags(readers), default=None),
            shards=len(readers),
            seconds_to_catch_up=seconds_to_catch_up(self._samples),
            at=moment(wall).isoformat(timespec="milliseconds"),
            following_until=self._following_until,
        )
        log.info(
            "Stream %s: %s records, %s read (%s/s); %d shards, lag %s; %s",
            progress.stream_name,
            f"{records:,}",
            megabytes(total_bytes),
            megabytes((total_bytes - last.bytes) / (now - last.at)),
            progress.shards,
            lags(readers),
            catching_up(progress.seconds_to_catch_up)
            if self._following_until is None
            else f"following until {self._following_until}",
        )
        self._send(progress)

    def close(self) -> None:
        """Stop pushing. A push under way gets 0.4 s to end, then it is abandoned."""
        if self._threads is None:
            return
        if self._pushing is not None:
            self._runtime.wait([self._pushing], timeout=LAST_PUSH_SECONDS)
        self._push = None
        self._threads.close()

    def _send(self, progress: Progress) -> None:
        if self._threads is None or (self._pushing is not None and not self._pushing.done()):
            return
        self._pushing = self._threads.submit(self._push_safely, progress)

    def _push_safely(self, progress: Progress) -> None:
        push = self._push
        if push is None:
            return
        try:
            push(progress.as_dict())
        except Exception as error:
            # Whatever is wrong with the listener, records are moved all the same.
            if not self._failed:
                log.warning("The progress of this drain can't be shown: %s: %s", type(error).__name__, error)
            self._failed = True


def known_lags(readers: Collection[ShardReader]) -> list[int]:
    """The lag of each shard that has answered, in milliseconds."""
    return [reader.millis_behind for reader in readers if reader.millis_behind is not None]


def seconds_left(readers: Collection[ShardReader], *, beyond_stop: float) -> float | None:
    """Seconds of the stream between what was read and where the drain ends, for the shard with the most.

    :param beyond_stop: seconds since the moment up to which the drain reads; records that arrived later count
        towards the lag, but are left for the next drain. Negative: it is in the future
    """
    behind = known_lags(readers)
    if len(behind) < len(readers):
        return None
    return max(0.0, max(behind, default=0) / 1000 - max(0.0, beyond_stop))


def seconds_to_catch_up(samples: Sequence[ProgressSample]) -> float | None:
    """The time left at this rate; ``None`` if that is unknown, or the backlog grows.

    :param samples: oldest first, the last one from now
    """
    now = samples[-1]
    if now.left is None:
        return None
    if now.left <= 0:
        return 0.0
    began = next(sample for sample in samples if sample.left is not None)
    if began.left is None or began.left <= now.left:
        return None
    return round(now.left * (now.at - began.at) / (began.left - now.left), 1)


def catching_up(seconds: float | None) -> str:
    """When the end of the drain is reached, in words."""
    if seconds is None:
        return "not catching up yet"
    return "caught up" if seconds == 0 else f"catches up in {seconds:,.0f} s"


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
