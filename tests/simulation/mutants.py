"""The package without one of its safeguards. Histories must tell each of these from the package itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine import intake, reader
from airflow_kinesis_snowflake.engine.coordinator import Coordinator
from airflow_kinesis_snowflake.engine.fetching import Fetching
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.engine.reader import ShardReader
from airflow_kinesis_snowflake.engine.status import Status
from airflow_kinesis_snowflake.exceptions import FencedError, TransactionEndedError, TransientError
from airflow_kinesis_snowflake.hooks import checkpoint
from airflow_kinesis_snowflake.sinks.snowflake import copy, statements, streaming
from airflow_kinesis_snowflake.sinks.snowflake.copy import CopySink
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink
from airflow_kinesis_snowflake.sources import fan_out
from airflow_kinesis_snowflake.sources.fan_out import FanOutCursor
from airflow_kinesis_snowflake.sources.polling import PollingCursor
from airflow_kinesis_snowflake.stream.positions import Position
from tests.simulation.channels import SimulatedChannel, State

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Mutant = Callable[[pytest.MonkeyPatch], None]


def _change_sql(patch: pytest.MonkeyPatch, name: str, change: Callable[[str], str], *, drop: int = 0) -> None:
    """Let statements of one kind have another text, and some parameters less at their end."""
    make = getattr(statements, name)

    def changed(*args: Any, **kwargs: Any) -> statements.Statement:
        statement = make(*args, **kwargs)
        sql = change(statement.sql)
        assert sql != statement.sql, "there is nothing left to change"
        return statements.Statement(sql, statement.params[: len(statement.params) - drop])

    patch.setattr(statements, name, changed)


# --- the transaction ---------------------------------------------------------------------------------------


def guard(patch: pytest.MonkeyPatch) -> None:
    """Offsets move outside of their transaction too."""
    _change_sql(patch, "move_offsets", lambda sql: sql.replace(" AND CURRENT_TRANSACTION() = %s", ""), drop=1)


def compare_and_set(patch: pytest.MonkeyPatch) -> None:
    """Offsets move from wherever they stand."""
    _change_sql(
        patch, "move_offsets", lambda sql: re.sub(r" AND TO_BINARY.*?(?= AND CURRENT_TRANSACTION)", "", sql)
    )


def lock(patch: pytest.MonkeyPatch) -> None:
    """Offsets aren't locked before they are compared."""
    patch.setattr(SnowflakeSession, "lock_offsets", lambda *_, **__: None)


def every_shard_moved(patch: pytest.MonkeyPatch) -> None:
    """A batch counts as committed when the offset of one of its shards has moved."""

    def some(batch: Any, offsets: Any) -> bool:
        return any(
            (offset := offsets.found.get(span.key)) is not None
            and (offset.batch_id, offset.position) == (batch.id, span.reached)
            for span in batch.spans.values()
        )

    patch.setattr(copy, "carry", some)


def moved_at_all(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the offsets have moved before the COMMIT."""
    real = CopySink._move_offsets

    def move(sink: CopySink, *args: Any, **kwargs: Any) -> None:
        try:
            real(sink, *args, **kwargs)
        except (FencedError, TransactionEndedError):
            return

    patch.setattr(CopySink, "_move_offsets", move)


def look_after_commit(patch: pytest.MonkeyPatch) -> None:
    """The answer to a COMMIT is believed."""
    real = CopySink._commit

    def commit(sink: CopySink, batch: Any) -> Any:
        try:
            return real(sink, batch)
        except TransactionEndedError as error:
            if "before its COMMIT arrived; nothing" in str(error):
                return copy.committed(batch)
            raise

    patch.setattr(CopySink, "_commit", commit)


def who_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """A batch is loaded although its shard's offset is past its beginning."""
    patch.setattr(copy, "ahead_of", lambda *_: {})


def doubt_about_commits(patch: pytest.MonkeyPatch) -> None:
    """A batch whose COMMIT had no answer is loaded once more without a look."""
    real = CopySink._outcome_by

    def outcome(sink: CopySink, offsets: Any, batch: Any) -> Any:
        found = real(sink, offsets, batch)
        return None if found is not None and found.committed else found

    patch.setattr(CopySink, "_outcome_by", outcome)
    patch.setattr(copy, "ahead_of", lambda *_: {})


def session_ends_with_its_transaction(patch: pytest.MonkeyPatch) -> None:
    """After a ROLLBACK the same session goes on."""
    patch.setattr(SnowflakeSession, "close", lambda _: None)
    patch.setattr(CopySink, "disconnect", lambda _: None)


def autocommit_off(patch: pytest.MonkeyPatch) -> None:
    """What runs outside of a transaction commits."""
    from tests.simulation.snowflake import SimulatedSnowflake

    real = SimulatedSnowflake._connect
    patch.setattr(
        SimulatedSnowflake,
        "_connect",
        lambda hook, *, autocommit, tries: real(hook, autocommit=True, tries=tries),
    )


def new_session_after_a_repetition(patch: pytest.MonkeyPatch) -> None:
    """A session in which a request was sent again goes on."""
    patch.setattr(SnowflakeSession, "fit", property(lambda session: not session.closed))


def folder_of_each_attempt(patch: pytest.MonkeyPatch) -> None:
    """All attempts of a batch use one folder, and COPY loads what is in it again."""
    _change_sql(patch, "_copy", lambda sql: f"{sql} FORCE = TRUE")
    patch.setattr(CopySink, "_folder", lambda _, batch, *__: f"simulated/{batch.id}")


def copy_loads_a_file_once(patch: pytest.MonkeyPatch) -> None:
    """COPY loads what it has loaded before."""
    _change_sql(patch, "_copy", lambda sql: f"{sql} FORCE = TRUE")


# --- channels ----------------------------------------------------------------------------------------------


def token_at_opening(patch: pytest.MonkeyPatch) -> None:
    """Rows are sent whatever the token of their channel says."""
    patch.setattr(StreamingSink, "_outcome_by", lambda *_: None)


def committed_token(patch: pytest.MonkeyPatch) -> None:
    """An append that returned counts as committed."""
    patch.setattr(SimulatedChannel, "wait", lambda _, token, **__: State(token))


def channel_opened_again(patch: pytest.MonkeyPatch) -> None:
    """A channel that another has had since goes on as it was opened before."""
    patch.setattr(streaming, "behind", lambda *_: False)


def dead_letters_before_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows are streamed before the dead letters of their batch, whose token speaks for both."""
    letters, append = StreamingSink._commit_letters, StreamingSink._append

    def rows_first(sink: StreamingSink, table: Any, batch: Any, parts: Any) -> None:
        append(sink, table, batch, parts)
        if table == sink._target.table:
            letters(sink, batch, streaming.rows_of(batch))

    patch.setattr(StreamingSink, "_commit_letters", lambda *_: None)
    patch.setattr(StreamingSink, "_append", rows_first)


def dead_letters_that_are_there(patch: pytest.MonkeyPatch) -> None:
    """Dead letters are streamed again that a batch had committed before it was lost."""
    patch.setattr(streaming, "letters_after", lambda _, letters: letters)


# --- checkpoints and leases --------------------------------------------------------------------------------


def checkpoint_after_commit(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints are written before the batch is committed."""
    real = Loader._load

    def load(loader: Loader, batch: Any, *, began: float) -> Any:
        loader._checkpoint(batch, {})
        return real(loader, batch, began=began)

    patch.setattr(Loader, "_load", load)


def checkpoint_of_a_committed_batch(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints are written whatever became of the batch."""
    real = Loader._load

    def load(loader: Loader, batch: Any, *, began: float) -> Any:
        try:
            return real(loader, batch, began=began)
        except TransientError:
            loader._checkpoint(batch, {})
            raise

    patch.setattr(Loader, "_load", load)


def owner_writes_only(patch: pytest.MonkeyPatch) -> None:
    """Whoever had a lease writes checkpoints and releases it."""
    patch.setattr(checkpoint, "_AS_OWNER", "(attribute_exists(shardId) OR leaseOwner = :owner)")


# --- reading -----------------------------------------------------------------------------------------------


def parents_first(patch: pytest.MonkeyPatch) -> None:
    """Children are read while their parents are."""
    patch.setattr(intake, "readable", lambda listed, _: frozenset(shard.shard_id for shard in listed))


def ended_when_committed(patch: pytest.MonkeyPatch) -> None:
    """A shard counts as ended when it is read to its end, committed or not."""
    patch.setattr(Coordinator, "_settled", lambda *_: True)


def pages_of_before_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """A page that was asked for before a rewind is taken for the next one."""
    real = Fetching.ended

    def ended(fetching: Fetching, call: Any, *, now: float) -> bool:
        real(fetching, call, now=now)
        return call.reader.status is Status.READING

    patch.setattr(Fetching, "ended", ended)


def read_again_after_a_loss(patch: pytest.MonkeyPatch) -> None:
    """What was read of a batch that isn't committed isn't read again."""
    patch.setattr(ShardReader, "rewind", lambda *_: None)


def records_after_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """An iterator begins with the record of the checkpoint."""
    real = PollingCursor.__init__

    def begin(cursor: PollingCursor, *args: Any, with_start: bool) -> None:
        real(cursor, *args, with_start=True)

    patch.setattr(PollingCursor, "__init__", begin)
    patch.setattr(reader, "unread", lambda records, _: records)


def repeated_events_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """What a subscription brings again is taken for new."""
    patch.setattr(fan_out, "is_after", lambda *_: True)


def a_subscription_goes_on_behind_what_it_brought(patch: pytest.MonkeyPatch) -> None:
    """A subscription begins behind the event after which the last one broke off."""
    real = FanOutCursor.admit

    def admit(cursor: FanOutCursor, size: int) -> bool:
        admitted = real(cursor, size)
        shard = cursor._source._kinesis._stream.shards[cursor.shard_id]  # type: ignore[attr-defined]
        if shard.records:
            cursor.start, cursor.with_start = Position(shard.records[-1].sequence_number), False
        return admitted

    patch.setattr(FanOutCursor, "admit", admit)


MUTANTS: tuple[Mutant, ...] = (
    guard,
    compare_and_set,
    lock,
    every_shard_moved,
    moved_at_all,
    look_after_commit,
    who_is_ahead,
    doubt_about_commits,
    session_ends_with_its_transaction,
    autocommit_off,
    new_session_after_a_repetition,
    folder_of_each_attempt,
    copy_loads_a_file_once,
    token_at_opening,
    committed_token,
    channel_opened_again,
    dead_letters_before_rows,
    dead_letters_that_are_there,
    checkpoint_after_commit,
    checkpoint_of_a_committed_batch,
    owner_writes_only,
    parents_first,
    ended_when_committed,
    pages_of_before_are_dropped,
    read_again_after_a_loss,
    records_after_the_checkpoint,
    repeated_events_are_dropped,
    a_subscription_goes_on_behind_what_it_brought,
)
