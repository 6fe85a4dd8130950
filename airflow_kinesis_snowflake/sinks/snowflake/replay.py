"""Replays dead letters into the landing table.

What makes it exactly once: one transaction loads the rows of some dead letters, loads what still fails as new
dead letters, and deletes the old ones. Before the DELETE it locks the offsets of the stream, as a load does
(see ``copy.py``), and reads which of the dead letters are still there; unless each of them is, exactly once,
somebody else has replayed or deleted some, and everything is rolled back. The DELETE does nothing outside
that transaction. After COMMIT, the dead letters are looked up once more. If the process dies, or the answer
to COMMIT is lost, another replay finds those that are still there.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    FencedError,
    TooManyDeadLettersError,
    TransactionEndedError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.decoding import ROOM_BYTES
from airflow_kinesis_snowflake.formats.envelope import NO_ROWS, EncodedRecords
from airflow_kinesis_snowflake.sinks.snowflake.copy import copy_files, prepare_table
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles, work_folder
from airflow_kinesis_snowflake.sinks.snowflake.isolation import MAX_REFUSED, reason_of
from airflow_kinesis_snowflake.sinks.snowflake.statements import LOCK, stage_folder
from airflow_kinesis_snowflake.stream.aggregation import MAX_EXPANSION_BYTES, deaggregate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter, StoredLetter
    from airflow_kinesis_snowflake.sinks.snowflake.factories import Landing, OpenSession
    from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
    from airflow_kinesis_snowflake.stream.records import Record

log = logging.getLogger(__name__)

MAX_CONFLICTS = 5


@dataclass(frozen=True)
class ReplayResult:
    """What a replay did.

    :param dead_letters: how many were selected
    :param landed: those whose records are now in the landing table; if Snowflake ends a transaction of one of
        several replays at once, two of them may count the same dead letter
    :param failed: those that are still dead letters, with the reason of this attempt
    :param rows: rows added to the landing table
    """

    dead_letters: int = 0
    landed: int = 0
    failed: int = 0
    rows: int = 0

    def __add__(self, other: ReplayResult) -> ReplayResult:
        return ReplayResult(
            self.dead_letters + other.dead_letters,
            self.landed + other.landed,
            self.failed + other.failed,
            self.rows + other.rows,
        )


def replay(
    chosen: LetterFilter,
    *,
    landing: Landing,
    open_session: OpenSession,
) -> ReplayResult:
    """Replay the selected dead letters that exist now, each once, in the order of their shards.

    :param landing: the landing table of the dead letters, and how records become its rows
    :param open_session: logs in
    :raises FencedError: others keep replaying or deleting the same dead letters
    :raises TooManyDeadLettersError: Snowflake refuses the values of too many; those it accepted have landed,
        the others are still dead letters
    :raises TransientError: run it again; what has landed is no longer a dead letter
    """
    with work_folder() as folder:
        work = _Replay(landing, open_session, folder)
        try:
            return work.run(chosen)
        finally:
            work.close()


class _Replay:
    """One replay, over one session after another: a transaction that doesn't commit ends its session."""

    def __init__(self, landing: Landing, open_session: OpenSession, folder: Path) -> None:
        self._open_session = open_session
        self._target = landing.target
        self._mapping = landing.mapping(lambda: self._open().landing_columns(self._target))
        self._encoder = landing.encoder(self._mapping, room=MAX_EXPANSION_BYTES)
        self._folder = folder
        self._refused = 0
        self._session: SnowflakeSession | None = None

    def run(self, chosen: LetterFilter) -> ReplayResult:
        now = self._prepare(chosen)
        chosen = replace(chosen, until=min(now, chosen.until or now))
        done = ReplayResult()
        conflicts = 0
        while letters := self._open().read_dead_letters(self._target, chosen):
            try:
                done += self._replay(chosen, letters)
            except (FencedError, TransactionEndedError) as error:
                conflicts += 1
                if conflicts > MAX_CONFLICTS:
                    raise
                log.warning("%s", error)
            log.info("%d dead letters: %d landed, %d failed", done.dead_letters, done.landed, done.failed)
        return done

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _open(self) -> SnowflakeSession:
        if self._session is None or not self._session.fit:
            self.close()
            self._session = self._open_session()
        return self._session

    def _prepare(self, chosen: LetterFilter) -> datetime:
        """Create what is missing.

        :return: the time by Snowflake's clock; dead letters written from now on are later
        """
        session, lock = self._open(), OffsetKey(*LOCK)
        names = {"application": chosen.application, "stream": chosen.stream}
        session.ensure_objects(self._target, mapping=self._mapping)
        if not session.read_offsets(self._target, **names, keys=[lock]).found:
            session.ensure_offsets(self._target, **names, keys=[lock])
        return session.name_dead_letters(self._target)

    def _replay(self, chosen: LetterFilter, letters: Sequence[StoredLetter]) -> ReplayResult:
        """Replay some dead letters; if Snowflake refuses a value, replay each half separately."""
        encoded = self._encode_some(letters, chosen.stream)
        letters = letters[: len(encoded)]
        try:
            return self._commit(chosen, letters, encoded)
        except ValueRefusedError as refusal:
            if len(letters) == 1:
                self._count_refused(chosen)
                dead = still_dead(letters[0].record, reason_of(refusal))
                return self._commit(chosen, letters, [dead])
        middle = len(letters) // 2
        halves = (letters[:middle], letters[middle:])
        return sum((self._replay(chosen, half) for half in halves), ReplayResult())

    def _count_refused(self, chosen: LetterFilter) -> None:
        self._refused += 1
        if self._refused > MAX_REFUSED:
            raise TooManyDeadLettersError(
                f"Compare the columns of {self._target.table} with the records, or choose other ones: "
                f"Snowflake refuses more than {MAX_REFUSED} dead letters of stream {chosen.stream}"
            )

    def _encode_some(self, letters: Sequence[StoredLetter], stream_name: str) -> list[EncodedRecords]:
        """The rows of the first letters, as many as fit; the others are read again."""
        encoded: list[EncodedRecords] = []
        room = ROOM_BYTES
        for letter in letters:
            encoded.append(self._encode(letter, stream_name))
            room -= encoded[-1].rows.nbytes
            if room <= 0:
                break
        return encoded

    def _encode(self, letter: StoredLetter, stream_name: str) -> EncodedRecords:
        """The rows of a dead letter, all of them or none."""
        users, damaged, _ = deaggregate([letter.record]) if letter.whole else ([letter.record], (), 1)
        if damaged:
            return still_dead(letter.record, damaged[0].reason)
        encoded: EncodedRecords = self._encoder.encode(
            users, stream_name=stream_name, shard_id=letter.shard_id
        )
        if encoded.dead_letters:
            first = encoded.dead_letters[0]
            return still_dead(letter.record, first.reason, first.column)
        if encoded.left:
            return still_dead(letter.record, f"its user records hold more than {MAX_EXPANSION_BYTES:,} bytes")
        return encoded

    def _commit(
        self, chosen: LetterFilter, letters: Sequence[StoredLetter], encoded: Sequence[EncodedRecords]
    ) -> ReplayResult:
        """One transaction."""
        session, target = self._open(), self._target
        stage = stage_folder(chosen.application, chosen.stream, f"replay-{uuid.uuid4().hex[:12]}")
        with BatchFiles(self._folder, application=chosen.application, stream_name=chosen.stream) as files:
            for letter, rows in zip(letters, encoded, strict=True):
                files.append(rows, shard_id=letter.shard_id)
            copy = prepare_table(session, files, target=target, mapping=self._mapping)
            for file in files.close():
                session.upload(file, target=target, folder=stage)
            with session.transaction() as transaction:
                copy_files(session, files, target=target, mapping=copy, folder=stage)
                session.lock_offsets(target, application=chosen.application, stream=chosen.stream)
                self._delete(session, chosen, letters, transaction=transaction)
            # A COMMIT without a transaction is ignored, and nothing says so.
            self._require_deleted(session, chosen, letters)
            return ReplayResult(
                len(letters), len(letters) - files.dead_letters, files.dead_letters, files.rows
            )

    def _delete(
        self,
        session: SnowflakeSession,
        chosen: LetterFilter,
        letters: Sequence[StoredLetter],
        *,
        transaction: str,
    ) -> None:
        there = session.list_dead_letters(self._target, chosen, letters)
        if sorted(there) != sorted(letter.id for letter in letters):
            raise FencedError(
                "Choose dead letters again: somebody else replayed or deleted some meanwhile, of "
                f"{len(letters)} of stream {chosen.stream} {len(set(there))} are there, each once. The "
                "transaction was rolled back"
            )
        deleted = session.delete_dead_letters(self._target, chosen, letters, transaction=transaction)
        if deleted != len(letters):
            raise TransactionEndedError(
                f"Try again: Snowflake had ended the transaction that replays {len(letters)} dead letters of "
                f"stream {chosen.stream} before they were deleted; nothing of it is in {self._target.table}"
            )

    def _require_deleted(
        self, session: SnowflakeSession, chosen: LetterFilter, letters: Sequence[StoredLetter]
    ) -> None:
        if left := session.list_dead_letters(self._target, chosen, letters):
            raise TransactionEndedError(
                f"Try again: Snowflake had ended the transaction that replays {len(letters)} dead letters of "
                f"stream {chosen.stream}; {len(left)} of them are still there, and nothing of it is in "
                f"{self._target.table}"
            )


def still_dead(record: Record, reason: str, column: str | None = None) -> EncodedRecords:
    """The dead letter of a record that doesn't land."""
    return EncodedRecords(NO_ROWS, (DeadLetter(record, reason, column),), len(record.data))
