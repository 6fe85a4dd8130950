"""The package without one of its safeguards. Histories must tell each of these from the package itself."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.engine import intake, reader, rows
from airflow_kinesis_snowflake.engine.coordinator import Coordinator
from airflow_kinesis_snowflake.engine.leases import Leases
from airflow_kinesis_snowflake.engine.loading import Loader
from airflow_kinesis_snowflake.engine.reader import PageSource, ShardReader
from airflow_kinesis_snowflake.exceptions import FencedError, TransactionEndedError, TransientError
from airflow_kinesis_snowflake.formats.dead_letters import GAP
from airflow_kinesis_snowflake.hooks import checkpoint
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.sinks.snowflake import copy, statements, streaming
from airflow_kinesis_snowflake.sinks.snowflake import replay as replaying
from airflow_kinesis_snowflake.sinks.snowflake.channel_state import ShardChannels
from airflow_kinesis_snowflake.sinks.snowflake.copy import CopySink
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.state import SnowflakeStateSession
from airflow_kinesis_snowflake.sinks.snowflake.streaming import StreamingSink
from airflow_kinesis_snowflake.sources import fan_out
from airflow_kinesis_snowflake.sources.fan_out import FanOutCursor
from airflow_kinesis_snowflake.sources.polling import PollingCursor
from airflow_kinesis_snowflake.state import attributes
from airflow_kinesis_snowflake.stream.positions import Position
from tests.simulation.channels import SimulatedChannel, State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pytest

    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter

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

    real = copy.carry

    def some(batch: Any, offsets: Any, *, attempt: str | None = None) -> bool:
        each: list[Any] = [
            SimpleNamespace(id=batch.id, spans={span.shard_id: span}) for span in batch.spans.values()
        ]
        return any(real(one, offsets, attempt=attempt) for one in each)

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
        lambda hook, *, autocommit, tries=None: real(hook, autocommit=True, tries=tries),
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


def dead_letters_before_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows are streamed before the dead letters of their batch, whose token speaks for both."""
    letters, append = StreamingSink._commit_letters, StreamingSink._append

    def rows_first(sink: StreamingSink, table: Any, batch: Any, parts: Any) -> Any:
        sent = append(sink, table, batch, parts)
        if table == sink._target.table:
            letters(sink, batch, streaming.rows_of(batch))
        return sent

    patch.setattr(StreamingSink, "_commit_letters", lambda *_: None)
    patch.setattr(StreamingSink, "_append", rows_first)


def dead_letters_that_are_there(patch: pytest.MonkeyPatch) -> None:
    """Dead letters are streamed again that a batch had committed before it was lost."""
    letters_after = streaming.letters_after
    patch.setattr(streaming, "letters_after", lambda _, letters: letters_after(None, letters))


# --- records that age out ----------------------------------------------------------------------------------


def looking_back(patch: pytest.MonkeyPatch) -> None:
    """Only the first page of a shard is compared with where it begins."""
    real = PageSource._must_look_back

    def first_page_only(pages: PageSource, request: reader.PageRequest) -> bool:
        return request.cursor is None and real(pages, request)

    patch.setattr(PageSource, "_must_look_back", first_page_only)


def since_a_shard_was_made(patch: pytest.MonkeyPatch) -> None:
    """Of a shard that is found late, what is left counts as all there was."""
    patch.setattr(rows, "_nothing_before", lambda _: None)


def missed_shards_are_told_first(patch: pytest.MonkeyPatch) -> None:
    """Rows are created whether or not somebody was told of the shards that they hide."""

    def complete(taking: intake.Intake, state: Any) -> Any:
        while missing := rows.missing_rows(taking._listed, state, initial=taking._initial_position()):
            taking._create(missing)
            state = taking._read_state()
        return state

    patch.setattr(intake.Intake, "_complete", complete)


def gaps_by_their_places(patch: pytest.MonkeyPatch) -> None:
    """A gap counts as told if dead letters of records behind it are committed."""
    real = streaming.letters_after

    def after(token: str | None, letters: Sequence[DeadLetter]) -> list[tuple[str, DeadLetter]]:
        place = streaming.place_of_letter(token)
        return [
            (each, letter)
            for each, letter in real(token, letters)
            if letter.kind != GAP or place is None or Position(letter.record.sequence_number) > place
        ]

    patch.setattr(streaming, "letters_after", after)


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


def leases_confirmed_by_the_store(patch: pytest.MonkeyPatch) -> None:
    """Where the store should confirm a lease, the clock of the worker does."""
    patch.setattr(Leases, "confirm", Leases.holds)


def no_lease_again_during_a_load(patch: pytest.MonkeyPatch) -> None:
    """A shard is taken again while records are loaded that were read of it before its lease was lost."""
    patch.setattr(Leases, "begin_load", lambda *_: None)


# --- resets ------------------------------------------------------------------------------------------------


def incarnations_closed_by_resets(patch: pytest.MonkeyPatch) -> None:
    """Incarnations that a reset ends stay open in the offsets table."""
    patch.setattr(SnowflakeStateSession, "close_offsets", lambda *_, **__: None)


def channels_fenced_by_resets(patch: pytest.MonkeyPatch) -> None:
    """Channels of incarnations that a reset ends stay with who has them."""
    patch.setattr(ShardChannels, "fence", lambda *_, **__: 0)


def new_incarnation_of_a_reset(patch: pytest.MonkeyPatch) -> None:
    """A reset sets rows to another position under the same incarnation."""
    real = CheckpointStoreHook.reset_shard

    def reset(store: CheckpointStoreHook, stream: str, shard: Any, **given: Any) -> bool:
        row = store.read_state(stream).shards.get(shard.shard_id)
        kept = shard if row is None else replace(shard, incarnation=row.incarnation)
        return real(store, stream, kept, **given)

    patch.setattr(CheckpointStoreHook, "reset_shard", reset)


def resets_hold_what_they_change(patch: pytest.MonkeyPatch) -> None:
    """A reset takes leases that workers hold, and writes rows whoever has their leases by then."""
    patch.setattr(checkpoint, "_FREE", "attribute_exists(shardId)")
    patch.setattr(
        CheckpointStoreHook,
        "_write_row",
        lambda store, stream, shard_id, changes, **_: store._update(stream, shard_id, changes) is not None,
    )


# --- replays -----------------------------------------------------------------------------------------------


def replay_in_one_transaction(patch: pytest.MonkeyPatch) -> None:
    """Dead letters are deleted outside of their transaction too."""
    _change_sql(
        patch, "delete_dead_letters", lambda sql: sql.replace(" AND CURRENT_TRANSACTION() = %s", ""), drop=1
    )


def replay_of_what_is_there(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether dead letters were there to be deleted."""
    real = replaying._Replay._delete

    def delete(replay: Any, *args: Any, **kwargs: Any) -> None:
        try:
            real(replay, *args, **kwargs)
        except (FencedError, TransactionEndedError):
            return

    patch.setattr(replaying._Replay, "_delete", delete)


def replays_lock(patch: pytest.MonkeyPatch) -> None:
    """Two replays may decide by the same dead letters."""
    real = SnowflakeSession.lock_offsets

    def lock(session: SnowflakeSession, *args: Any, **kwargs: Any) -> None:
        if sys._getframe(1).f_code.co_filename != replaying.__file__:
            real(session, *args, **kwargs)

    patch.setattr(SnowflakeSession, "lock_offsets", lock)


# --- reading -----------------------------------------------------------------------------------------------


def parents_first(patch: pytest.MonkeyPatch) -> None:
    """Children are read while their parents are."""
    patch.setattr(intake, "readable", lambda listed, _: frozenset(shard.shard_id for shard in listed))


def ended_when_committed(patch: pytest.MonkeyPatch) -> None:
    """A shard counts as ended when it is read to its end, committed or not."""
    patch.setattr(Coordinator, "_settled", lambda *_: True)


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


def parts_of_a_record_that_were_read(patch: pytest.MonkeyPatch) -> None:
    """Behind a position inside an aggregate all of the aggregate is read again."""
    patch.setattr(reader, "skip_through", lambda users, _: users)


def parts_of_a_record_that_werent_read(patch: pytest.MonkeyPatch) -> None:
    """A page that ends inside an aggregate counts as read to its end."""
    patch.setattr(reader, "end_of", lambda users, *, left: Position(users[-left - 1].sequence_number))


def checkpoints_inside_a_record(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints name whole records only."""
    real = attributes.checkpoint_attributes
    patch.setattr(
        checkpoint, "checkpoint_attributes", lambda position: real(Position(position.sequence_number))
    )


def another_stream_of_the_name(patch: pytest.MonkeyPatch) -> None:
    """Checkpoints of a deleted stream are taken for those of the present one of its name."""
    patch.setattr(intake, "StreamRecreatedError", _NeverRaisedError)
    real = intake.Intake._read_state

    def read(taking: Any) -> Any:
        try:
            return real(taking)
        except _NeverRaisedError:
            return taking._store.read_state(taking._settings.stream_name)

    patch.setattr(intake.Intake, "_read_state", read)


class _NeverRaisedError(Exception):
    """What a drain without a safeguard raises in its stead, and forgets."""


def before_a_start_inside_a_record(patch: pytest.MonkeyPatch) -> None:
    """A subscription that begins inside an aggregate brings again what came before it."""
    patch.setattr(fan_out, "place_before", lambda *_, **__: None)


# Each falls within as many histories. Beside it: the first that it fell in when this was written, which is
# tried before the others.
SEEDS = 10_000
MUTANTS: Mapping[str, tuple[Mutant, int]] = {
    take_away.__name__: (take_away, seed)
    for take_away, seed in (
        (guard, 191),
        (compare_and_set, 55),
        (lock, 246),
        (every_shard_moved, 2921),
        (moved_at_all, 55),
        (look_after_commit, 125),
        (who_is_ahead, 55),
        (doubt_about_commits, 55),
        (session_ends_with_its_transaction, 226),
        (autocommit_off, 79),
        (new_session_after_a_repetition, 497),
        (folder_of_each_attempt, 54),
        (copy_loads_a_file_once, 54),
        (token_at_opening, 327),
        (committed_token, 4),
        (dead_letters_before_rows, 29),
        (dead_letters_that_are_there, 43),
        (looking_back, 4603),
        (since_a_shard_was_made, 252),
        (missed_shards_are_told_first, 2455),
        (gaps_by_their_places, 346),
        (checkpoint_after_commit, 2),
        (checkpoint_of_a_committed_batch, 43),
        (owner_writes_only, 9),
        (leases_confirmed_by_the_store, 13),
        (no_lease_again_during_a_load, 1456),
        (incarnations_closed_by_resets, 5),
        (channels_fenced_by_resets, 64),
        (new_incarnation_of_a_reset, 3),
        (resets_hold_what_they_change, 1288),
        (replay_in_one_transaction, 399),
        (replay_of_what_is_there, 3),
        (replays_lock, 407),
        (parents_first, 7),
        (ended_when_committed, 2),
        (read_again_after_a_loss, 91),
        (records_after_the_checkpoint, 2),
        (repeated_events_are_dropped, 66),
        (a_subscription_goes_on_behind_what_it_brought, 9),
        (before_a_start_inside_a_record, 66),
        (parts_of_a_record_that_were_read, 18),
        (parts_of_a_record_that_werent_read, 18),
        (checkpoints_inside_a_record, 21),
        (another_stream_of_the_name, 28),
    )
}
