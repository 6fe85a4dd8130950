"""Finds the bad records of a batch in which Snowflake refuses values, and makes them dead letters.

Parts of the landing file are loaded and rolled back until the rows that are refused on their own are found.
Nothing is committed meanwhile. Then the batch is loaded like any other, in one transaction with its offsets,
without the bad records but with their dead letters.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from airflow_kinesis_snowflake.exceptions import (
    DataLossError,
    ThrottledError,
    TooManyDeadLettersError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.sinks.snowflake.bisection import find_refused
from airflow_kinesis_snowflake.sinks.snowflake.statements import stage_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.engine.batch import Batch
    from airflow_kinesis_snowflake.engine.ports import SinkContext
    from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles, Coordinates
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.sinks.snowflake.statements import CopyMapping
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
    from airflow_kinesis_snowflake.stream.records import Record

log = logging.getLogger(__name__)
T = TypeVar("T")

# Unless the user sets a limit: more refused rows than this mean that it isn't the rows that are wrong.
MAX_REFUSED = 100
THROTTLED_TRIES = 60


class RowIsolation:
    """Finds the records of a batch that Snowflake refuses.

    :param context: of the drain
    :param target: where the batch should land
    """

    def __init__(self, context: SinkContext, *, target: LandingTarget) -> None:
        self._context = context
        self._target = target

    def isolate(
        self,
        batch: Batch,
        refusal: ValueRefusedError,
        *,
        session: SnowflakeSession,
        mapping: CopyMapping,
        before: int,
    ) -> None:
        """Turn the refused records of a batch into dead letters.

        The user sets how many there may be. The default is 100: more than that suggest that the table is
        wrong, not the records.

        :param refusal: of the whole batch; raised again if its rows are accepted one by one
        :param before: dead letters of earlier batches
        :raises TooManyDeadLettersError: there are more; nothing of the batch is committed
        :raises DataLossError: a bad record aged out of the stream
        """
        log.warning("%s. Searching batch %s for the records that are refused", refusal, batch.id)
        allowed = self._context.max_dead_letters.allowed(batch.records, before=before)
        most = MAX_REFUSED if allowed is None else allowed - batch.refused
        folder = stage_folder(
            self._context.application_name,
            self._context.stream_name,
            batch.id,
            f"{batch.attempts}-parts",
        )
        refused = find_refused(
            files_of(batch).rows,
            partial(
                refusal_of,
                files_of(batch),
                session=session,
                target=self._target,
                mapping=mapping,
                folder=folder,
            ),
            most=most,
        )
        if refused is None:
            raise self._too_many(batch, most)
        if not refused:
            raise refusal
        rows = files_of(batch).same_record(refused)
        records = self._records(rows)
        letters = {
            key: DeadLetter(records[key], next(refused[row] for row in numbers if row in refused))
            for key, numbers in rows.items()
        }
        files_of(batch).exclude([row for numbers in rows.values() for row in numbers], _by_shard(letters))
        for key, letter in letters.items():
            batch.note_put_aside(key[0], letter, rows=len(rows[key]))
        log.warning("%d records of batch %s are refused; they become dead letters", len(letters), batch.id)

    def _too_many(self, batch: Batch, most: int) -> TooManyDeadLettersError:
        return TooManyDeadLettersError(
            f"Compare the columns of {self._target.table} with the records: one may be NOT NULL, too short "
            "or of another type. If the records are wrong, set max_dead_letters to how many of them may "
            f"become dead letters; it is {self._context.max_dead_letters} now. Snowflake refuses values in "
            f"more than {max(0, most)} of the {batch.rows.rows} rows of batch {batch.id} of stream "
            f"{self._context.stream_name}; nothing of the batch is committed"
        )

    def _records(self, keys: Iterable[Coordinates]) -> dict[Coordinates, Record]:
        """The records at these coordinates, with their payloads as they came."""
        read: dict[tuple[str, str], Sequence[Record]] = {}
        records = {}
        for shard_id, sequence_number, sub in keys:
            place = shard_id, sequence_number
            if place not in read:
                read[place] = self._patiently(partial(self._context.read_again, *place))
            here = [record for record in read[place] if (record.sub_sequence_number or 0) == sub]
            if not here:
                raise DataLossError(
                    f"Run again, and the drain says what is gone: Snowflake refuses record {sequence_number} "
                    f"of shard {shard_id} of stream {self._context.stream_name}, which aged out before it "
                    "could become a dead letter. Nothing of its batch is committed"
                )
            records[shard_id, sequence_number, sub] = here[0]
        return records

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call again while Kinesis throttles, as it may for a shard that is being read at the same time."""
        for _ in range(THROTTLED_TRIES):
            try:
                return call()
            except ThrottledError:
                if self._context.stopping.wait(self._context.writers.runtime.random.uniform(0.2, 1.0)):
                    break
        return call()


def files_of(batch: Batch) -> BatchFiles:
    """Where this sink collects a batch."""
    return cast("BatchFiles", batch.rows)


def _by_shard(letters: Mapping[Coordinates, DeadLetter]) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    for (shard_id, *_), letter in letters.items():
        found.setdefault(shard_id, []).append(letter)
    return found


def refusal_of(
    files: BatchFiles,
    begin: int,
    end: int,
    *,
    session: SnowflakeSession,
    target: LandingTarget,
    mapping: CopyMapping,
    folder: str,
) -> str | None:
    """Why Snowflake refuses the rows from ``begin`` up to ``end``, if it does; tried and rolled back."""
    # Each part has a folder of its own, because files that were refused stay on the stage.
    folder = f"{folder}/{begin}-{end}"
    with files.part(begin, end) as paths:
        for path in paths:
            session.upload(path, target=target, folder=folder)
    try:
        session.try_landing(target, mapping=mapping, folder=folder)
    except ValueRefusedError as refusal:
        return reason_of(refusal)
    return None


def reason_of(refusal: ValueRefusedError) -> str:
    """The reason of a dead letter whose record Snowflake refuses."""
    return f"refused by Snowflake: error {refusal.number:06d}"
