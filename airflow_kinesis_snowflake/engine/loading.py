"""Loads one batch through a sink, then writes its checkpoints.

A sink commits a batch as a whole, or reports why it can't. Only after the commit are checkpoints written,
each while the lease is still ours. If the process dies in between, the next owner of the lease asks the sink.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.ports import COMMITTED
from airflow_kinesis_snowflake.exceptions import (
    LeaseLostError,
    TableChangedError,
    TooManyDeadLettersError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch, Span
    from airflow_kinesis_snowflake.engine.leases import Leases
    from airflow_kinesis_snowflake.engine.offsets import OffsetKey, Offsets
    from airflow_kinesis_snowflake.engine.ports import Sink
    from airflow_kinesis_snowflake.engine.retries import Retries
    from airflow_kinesis_snowflake.engine.settings import DrainSettings
    from airflow_kinesis_snowflake.engine.threads import DaemonThreads
    from airflow_kinesis_snowflake.exceptions import CorruptStateError
    from airflow_kinesis_snowflake.stream.positions import Position

log = logging.getLogger(__name__)

CHANGES_IN_A_ROW = 5


@dataclass(frozen=True)
class LoadResult:
    """How the load of one batch ended.

    :param batch: the batch; its rows are gone
    :param committed: its records are in Snowflake
    :param lost: shards whose lease was lost; their checkpoints are no longer ours to write
    :param ahead: when fenced, shards whose offsets had moved on, with their present offsets
    :param refused: shards that can't be loaded until somebody corrects their offsets, and why
    :param offsets: the new offsets of shards in the sink, for those that moved
    :param rejected: rows sent with it that Snowflake rejected
    :param seconds: time from the first try to the last checkpoint
    """

    batch: Batch
    committed: bool
    lost: frozenset[str] = frozenset()
    ahead: Mapping[str, Position] = field(default_factory=dict)
    refused: Mapping[str, CorruptStateError] = field(default_factory=dict)
    offsets: Mapping[str, Position] = field(default_factory=dict)
    rejected: int = 0
    seconds: float = 0.0


class Loader:
    """Loads batches one after another; :meth:`offsets` and :meth:`cancel` may be called meanwhile.

    :param sink: where they go
    :param leases: written after a commit
    :param settings: names of stream and application, and how many dead letters are too many
    :param writers: threads for checkpoint writes; their runtime has the clock
    :param retries: tries again after transient faults
    """

    def __init__(
        self,
        sink: Sink,
        *,
        leases: Leases,
        settings: DrainSettings,
        writers: DaemonThreads,
        retries: Retries,
    ) -> None:
        self._runtime = writers.runtime
        self._sink = sink
        self._leases = leases
        self._settings = settings
        self._writers = writers
        self._retries = retries
        self._refused = 0
        self._table_changes = 0

    @property
    def in_doubt(self) -> frozenset[str]:
        """Shards that may be committed further than their rows show."""
        return self._sink.in_doubt

    def prepare(self) -> None:
        """Connect, and create or check what the sink needs; other workers may be doing the same.

        :raises AccessDeniedError: login or privileges are missing
        :raises SnowflakeObjectNotFoundError: database or schema don't exist
        :raises TransientError: the last of five tries failed
        """
        self._retries.call(
            self._sink.prepare, doing="preparing the tables", after_failure=self._sink.disconnect
        )

    @property
    def sink(self) -> str:
        """The name of the sink."""
        return self._sink.name

    @property
    def memory_millis(self) -> int | None:
        """How long the sink remembers what was committed of an idle shard; ``None``: forever."""
        return self._sink.memory_millis

    def offsets(self, keys: Sequence[OffsetKey]) -> Offsets:
        """The offsets, according to the sink, of shards that their last owner didn't release.

        Shards that were never started are left out.
        """
        return self._retries.call(lambda: self._sink.offsets(keys), doing="reading offsets")

    def load(self, batch: Batch) -> LoadResult:
        """Load a batch and write its checkpoints.

        :raises TransientError: the batch couldn't be loaded within the number of tries; as far as is known,
            nothing of it is committed
        :raises TerminalError: Snowflake refuses the batch; nothing of it is committed
        """
        return self._load(batch, began=self._runtime.monotonic())

    def _load(self, batch: Batch, *, began: float) -> LoadResult:
        try:
            outcome = COMMITTED
            if batch.records:
                self._check_limit(batch)
                outcome = self._retries.call(
                    lambda: self._sink.commit(batch, refused_before=self._refused),
                    doing=f"loading batch {batch.id}",
                    after_failure=self._sink.disconnect,
                )
        except TableChangedError as error:
            self._table_changes += 1
            if self._table_changes > CHANGES_IN_A_ROW:
                raise
            log.warning("%s; its records are read again", error)
            return LoadResult(batch, committed=False, seconds=self._runtime.monotonic() - began)
        except LeaseLostError:
            lost = frozenset(shard for shard in batch.spans if not self._leases.holds(shard))
            return LoadResult(batch, committed=False, lost=lost, seconds=self._runtime.monotonic() - began)
        finally:
            batch.discard()
        if not outcome.committed:
            return LoadResult(
                batch,
                committed=False,
                ahead=outcome.ahead,
                refused=outcome.refused,
                seconds=self._runtime.monotonic() - began,
            )
        self._table_changes = 0
        self._refused += batch.refused
        lost = self._checkpoint(batch, outcome.offsets)
        return LoadResult(
            batch,
            committed=True,
            lost=lost,
            offsets=outcome.offsets,
            rejected=outcome.rejected,
            seconds=self._runtime.monotonic() - began,
        )

    def _check_limit(self, batch: Batch) -> None:
        limit = self._settings.max_dead_letters
        allowed = limit.allowed(batch.records, before=self._refused)
        if allowed is not None and batch.refused > allowed:
            raise TooManyDeadLettersError(
                f"Correct the settings, or accept more than max_dead_letters={limit}, and run again: "
                f"{batch.refused} of {batch.records} records in batch {batch.id} of stream "
                f"{self._settings.stream_name} can't be loaded, after {self._refused} in earlier batches. "
                f"Nothing of the batch is committed. The first: {'; '.join(batch.examples)}"
            )

    def _checkpoint(self, batch: Batch, offsets: Mapping[str, Position]) -> frozenset[str]:
        def save(span: Span) -> bool:
            return self._leases.save(
                span.shard_id,
                span.reached,
                millis_behind=span.millis_behind,
                offset=offsets.get(span.shard_id),
                committed_now=self.memory_millis is not None and span.shard_id in offsets,
            )

        spans = list(batch.spans.values())
        saved = self._writers.map(save, spans)
        if batch.records:
            self._sink.settled(batch)
        return frozenset(span.shard_id for span, ours in zip(spans, saved, strict=True) if not ours)

    def cancel(self) -> None:
        """Cancel the commit under way, from another thread."""
        self._sink.cancel()

    def close(self) -> None:
        """Finish with the sink."""
        self._sink.close()
