"""What the engine may expect of every sink: of those for Snowflake, on local services, and of the fake."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pytest

from airflow_kinesis_snowflake.engine import retries
from airflow_kinesis_snowflake.engine.batch import Batch, Span
from airflow_kinesis_snowflake.engine.dead_letter_limit import ANY_NUMBER
from airflow_kinesis_snowflake.engine.offsets import OffsetKey
from airflow_kinesis_snowflake.engine.ports import SinkContext
from airflow_kinesis_snowflake.engine.retries import Retries
from airflow_kinesis_snowflake.engine.runtime import MACHINE
from airflow_kinesis_snowflake.engine.threads import DaemonThreads
from airflow_kinesis_snowflake.exceptions import (
    KinesisSnowflakeError,
    LeaseLostError,
    OffsetWentBackError,
    ServiceUnavailableError,
    TransientError,
)
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake import channels
from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Landing, Streaming
from airflow_kinesis_snowflake.stream.positions import Position
from airflow_kinesis_snowflake.stream.records import Record
from airflow_kinesis_snowflake.testing.sink import FakeLanding
from tests.faults.snowflake import NastySnowflake
from tests.faults.streaming import NastyStreaming
from tests.helpers import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from snowflake.connector import SnowflakeConnection

    from airflow_kinesis_snowflake.engine.ports import Outcome, Sink, SinkSettings
    from local.services import LocalServices
    from tests.faults.snowflake import SnowflakeFault
    from tests.faults.streaming import StreamingFault

STREAM, ONE, OTHER, INCARNATION = "stream", "shardId-000000000000", "shardId-000000000001", "first"


class Place(Protocol):
    """A landing table, and the way into it."""

    @property
    def settings(self) -> SinkSettings:
        """Opens sinks."""

    @property
    def landed(self) -> list[int]:
        """The numbers that landed, sorted."""

    @property
    def letters(self) -> list[str]:
        """The payloads of dead letters, sorted."""

    def lose_answer(self) -> AbstractContextManager[object]:
        """Let one commit be done, and nobody get to know it."""

    def fail(self) -> AbstractContextManager[object]:
        """Let one commit fail, before anything of it is done, in such a way that another may succeed."""


@dataclass
class InMemory:
    settings: FakeLanding = field(default_factory=FakeLanding)

    @property
    def landed(self) -> list[int]:
        return sorted(json.loads(row["RECORD_CONTENT"])["n"] for row in self.settings.rows)

    @property
    def letters(self) -> list[str]:
        return sorted(letter.record.data.decode() for letter in self.settings.dead_letters)

    def lose_answer(self) -> AbstractContextManager[object]:
        self.settings.lose_answers()
        return nullcontext()

    def fail(self) -> AbstractContextManager[object]:
        self.settings.fail(ServiceUnavailableError("once"))
        return nullcontext()


@dataclass
class OnSnowflake:
    """A table of the local Snowflake."""

    settings: SinkSettings
    table: TableName
    services: LocalServices
    connection: SnowflakeConnection

    @property
    def landed(self) -> list[int]:
        return sorted(
            int(number) for (number,) in self._query(f'"RECORD_CONTENT":n::NUMBER FROM {self.table.sql}')
        )

    @property
    def letters(self) -> list[str]:
        return sorted(
            text for (text,) in self._query(f'"PAYLOAD" FROM {self.table.beside("KINESIS_DEAD_LETTERS").sql}')
        )

    def lose_answer(self) -> AbstractContextManager[object]:
        if self.settings.name == "copy":
            return struck(self._sessions.lose_answer("^COMMIT", times=1, for_good=True))
        return struck(self._channels.lose_answer("POST .*/rows", times=1))

    def fail(self) -> AbstractContextManager[object]:
        if self.settings.name == "copy":
            return struck(self._sessions.end_transaction(before="^UPDATE", times=1))
        return struck(self._channels.answer_error("PUT .*/channels/.*", status=500))

    def refuse_rows(self) -> AbstractContextManager[object]:
        """Let no rows be streamed into the landing table."""
        return struck(
            self._channels.answer_error(
                "POST .*/rows", status=400, code="ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"
            )
        )

    @property
    def _sessions(self) -> NastySnowflake:
        return NastySnowflake(self.services, session={"database": self.table.database})

    @property
    def _channels(self) -> NastyStreaming:
        return NastyStreaming(self.services, f"{self.table.database}.{self.table.schema}.{self.table.name}")

    def _query(self, sql: str) -> list[tuple[str]]:
        with self.connection.cursor() as cursor:
            return fetch(cursor, f"SELECT {sql}")


@contextmanager
def struck(fault: SnowflakeFault | StreamingFault) -> Iterator[None]:
    """Let a fault be in force, and see that something met it."""
    with fault:
        yield
    assert fault.hits


@pytest.fixture
def in_memory() -> InMemory:
    return InMemory()


@pytest.fixture
def by_copy(services: LocalServices, table: str, snowflake_connection: SnowflakeConnection) -> OnSnowflake:
    name = TableName.parse(table)
    hook = SnowflakeLoadHook(database=name.database)
    return OnSnowflake(Copy(Landing(table=name), hook.open_session), name, services, snowflake_connection)


@pytest.fixture
def by_streaming(
    services: LocalServices, table: str, snowflake_connection: SnowflakeConnection
) -> OnSnowflake:
    name = TableName.parse(table)
    hook = SnowflakeLoadHook(database=name.database)
    settings = Streaming(Landing(table=name), hook.open_session, hook.open_channels)
    return OnSnowflake(settings, name, services, snowflake_connection)


@pytest.fixture(params=["in_memory", "by_copy", "by_streaming"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "MAX_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(channels, "_TRYING_SECONDS", 1)


@dataclass
class Claims:
    """Leases of a drain, until they are lost.

    :param lost_unawares: those that the drain believes in because its clock stood still
    """

    lost: set[str] = field(default_factory=set)
    lost_unawares: set[str] = field(default_factory=set)
    meanwhile: Callable[[], object] = lambda: None

    def holds(self, shard_id: str) -> bool:
        self.meanwhile()
        return shard_id not in self.lost

    def confirm(self, shard_id: str) -> bool:
        self.meanwhile()
        return shard_id not in self.lost | self.lost_unawares


class Worker:
    """One drain's sink, and batches for it."""

    def __init__(self, place: Place, folder: Path, *, application: str) -> None:
        self.claims = Claims()
        self._folder = folder
        self._threads = DaemonThreads(2, name="contract")
        self.retries = Retries(MACHINE, MACHINE.event())
        self.sink: Sink = place.settings.open(
            SinkContext(
                stream_name=STREAM,
                application_name=application,
                claims=self.claims,
                read_again=lambda *_: (),
                max_dead_letters=ANY_NUMBER,
                writers=self._threads,
                retries=self.retries,
                stopping=MACHINE.event(),
            )
        )

    def batch(
        self, numbers: range, *, shard: str = ONE, offset: int | None = None, bad: range = range(0)
    ) -> Batch:
        """A batch of records that hold their numbers; those before it are committed.

        :param offset: number of a record through which a drain is known to have committed
        :param bad: numbers of records that can't land
        """
        batch = Batch(self.sink.begin, self._folder, limits=self.sink.limits)
        self.add(batch, numbers, shard=shard, offset=offset, bad=bad)
        return batch

    def add(
        self,
        batch: Batch,
        numbers: range,
        *,
        shard: str,
        offset: int | None = None,
        bad: range = range(0),
    ) -> None:
        """Add records of another shard."""
        records = [
            Record(
                sequence_number=position(number).sequence_number,
                approximate_arrival=1_790_000_000.0,
                data=b"no json" if number in bad else b'{"n": %d}' % number,
                partition_key="key",
            )
            for number in numbers
        ]
        batch.rows.append(
            self.sink.encoder.encode(records, stream_name=STREAM, shard_id=shard), shard_id=shard
        )
        batch.spans[shard] = Span(
            shard,
            INCARNATION,
            began=position(numbers.start - 1) if numbers.start else None,
            reached=position(numbers.stop - 1),
            offset=None if offset is None else position(offset),
            records=len(numbers),
        )

    def commit(self, batch: Batch) -> Outcome:
        """Commit as a drain does: once more after a fault that another try may mend."""
        return self.retries.call(
            lambda: self.sink.commit(batch, refused_before=0),
            doing="loading",
            after_failure=self.sink.disconnect,
        )

    def offsets(self, *shards: str) -> Mapping[str, Position | None]:
        """What the sink says of shards."""
        offsets = self.sink.offsets([OffsetKey(shard, INCARNATION) for shard in shards])
        assert not offsets.refused
        return {key.shard_id: offset.position for key, offset in offsets.found.items()}

    def close(self) -> None:
        self.sink.close()
        self._threads.close()


def position(number: int) -> Position:
    return Position(str(10**20 + number))


class Team:
    """Workers of one application."""

    def __init__(self, place: Place, folder: Path, application: str) -> None:
        self._place, self._folder, self._application = place, folder, application
        self.workers: list[Worker] = []

    def worker(self) -> Worker:
        """Another worker."""
        self.workers.append(Worker(self._place, self._folder, application=self._application))
        return self.workers[-1]


@pytest.fixture
def team(place: Place, tmp_path: Path, application_name: str) -> Iterator[Team]:
    team = Team(place, tmp_path, application_name)
    yield team
    for worker in team.workers:
        worker.close()


@pytest.fixture
def worker(team: Team) -> Worker:
    return team.worker()


def test_what_is_committed_lands_and_the_offsets_say_so(worker: Worker, place: Place, team: Team) -> None:
    batch = worker.batch(range(3))
    worker.add(batch, range(3, 5), shard=OTHER)
    outcome = worker.commit(batch)

    assert (outcome.committed, outcome.rejected) == (True, 0)
    assert place.landed == [0, 1, 2, 3, 4]
    assert team.worker().offsets(ONE, OTHER) == {ONE: position(2), OTHER: position(4)}


def test_one_batch_follows_the_other(worker: Worker, place: Place) -> None:
    for start in range(0, 9, 3):
        assert worker.commit(
            worker.batch(range(start, start + 3), offset=start - 1 if start else None)
        ).committed
    assert place.landed == list(range(9))


def test_shards_that_were_never_begun_have_no_offsets(worker: Worker) -> None:
    worker.sink.prepare()
    assert worker.offsets(ONE) == {}


def test_a_batch_whose_answer_is_lost_lands_once(worker: Worker, place: Place) -> None:
    with place.lose_answer():
        assert worker.commit(worker.batch(range(3), bad=range(1))).committed
    assert (place.landed, place.letters) == ([1, 2], ["no json"])


def test_a_batch_that_is_committed_again_lands_once(worker: Worker, place: Place) -> None:
    batch = worker.batch(range(3), bad=range(1))
    assert worker.commit(batch).committed
    worker.sink.close()

    assert worker.commit(batch).committed
    assert (place.landed, place.letters) == ([1, 2], ["no json"])


def test_nothing_lands_of_a_batch_that_fails_and_the_next_try_lands_all(worker: Worker, place: Place) -> None:
    worker.sink.prepare()
    batch = worker.batch(range(3))
    with place.fail(), pytest.raises(TransientError):
        worker.sink.commit(batch, refused_before=0)
    assert place.landed == []
    worker.sink.close()

    assert worker.commit(batch).committed
    assert place.landed == [0, 1, 2]


def test_who_comes_second_is_told_who_was_first_and_lands_nothing(team: Team, place: Place) -> None:
    first, second = team.worker(), team.worker()
    late = second.batch(range(3))
    second.sink.prepare()
    assert first.commit(first.batch(range(2))).committed

    outcome = second.commit(late)

    assert (outcome.committed, outcome.ahead) == (False, {ONE: position(1)})
    assert second.commit(second.batch(range(2, 4))).committed
    assert place.landed == [0, 1, 2, 3]


def test_who_was_first_is_overtaken_in_turn(team: Team, place: Place) -> None:
    first, second = team.worker(), team.worker()
    assert first.commit(first.batch(range(2))).committed
    second.offsets(ONE)
    assert second.commit(second.batch(range(2, 4))).committed

    outcome = first.commit(first.batch(range(2, 6)))

    assert (outcome.committed, outcome.ahead) == (False, {ONE: position(3)})
    assert place.landed == [0, 1, 2, 3]


def test_who_gets_a_shard_back_knows_what_was_committed_meanwhile(team: Team, place: Place) -> None:
    first, second = team.worker(), team.worker()
    assert first.commit(first.batch(range(2))).committed
    second.offsets(ONE)
    assert second.commit(second.batch(range(2, 4))).committed

    assert first.commit(first.batch(range(4, 6), offset=3)).committed
    assert place.landed == [0, 1, 2, 3, 4, 5]


def test_who_takes_a_shard_over_again_asks_again(team: Team) -> None:
    first, second = team.worker(), team.worker()
    assert first.offsets(ONE) == {}
    assert first.commit(first.batch(range(2))).committed
    assert second.offsets(ONE) == {ONE: position(1)}
    assert second.commit(second.batch(range(2, 4))).committed

    assert first.offsets(ONE) == {ONE: position(3)}


def test_a_batch_is_refused_where_one_of_its_shards_is_ahead(team: Team, place: Place) -> None:
    first, second = team.worker(), team.worker()
    assert first.commit(first.batch(range(2))).committed
    batch = second.batch(range(2))
    second.add(batch, range(2, 4), shard=OTHER)

    outcome = second.commit(batch)

    assert (outcome.committed, outcome.ahead) == (False, {ONE: position(1)})
    assert place.landed == [0, 1]


def test_nothing_lands_without_the_lease(worker: Worker, place: Place) -> None:
    assert worker.commit(worker.batch(range(2))).committed
    worker.claims.lost.add(ONE)
    with pytest.raises(LeaseLostError):
        worker.commit(worker.batch(range(2, 4)))
    assert place.landed == [0, 1]


@pytest.mark.parametrize("committed", [0, 2])
def test_who_believes_in_a_lease_that_others_have_had_since_lands_nothing(
    team: Team, place: Place, committed: int
) -> None:
    """Whoever had it read nothing, so no offset has moved."""
    first, second = team.worker(), team.worker()
    if committed:
        assert first.commit(first.batch(range(committed))).committed
    second.offsets(ONE)
    first.claims.lost_unawares = {ONE}

    with pytest.raises(LeaseLostError):
        first.commit(first.batch(range(committed, 4)))

    assert place.landed == list(range(committed))


def test_offsets_of_other_shards_are_told_while_a_batch_is_being_committed(
    worker: Worker, team: Team
) -> None:
    former = team.worker()
    former.commit(former.batch(range(2), shard=OTHER))
    told: list[Mapping[str, Position | None]] = []
    worker.claims.meanwhile = lambda: told.append(worker.offsets(OTHER))
    assert worker.commit(worker.batch(range(3))).committed
    worker.claims.meanwhile = lambda: None

    assert told
    assert all(each == {OTHER: position(1)} for each in told)
    assert worker.commit(worker.batch(range(2, 4), shard=OTHER, offset=1)).committed


def test_an_offset_that_went_back_is_refused(worker: Worker, place: Place) -> None:
    assert worker.commit(worker.batch(range(2))).committed
    outcome = worker.commit(worker.batch(range(5, 7), offset=4))
    assert isinstance(outcome.refused[ONE], OffsetWentBackError)
    assert place.landed == [0, 1]


def test_dead_letters_land_once_with_the_rows_beside_them(worker: Worker, place: Place) -> None:
    batch = worker.batch(range(6), bad=range(2, 4))
    assert (batch.rows.rows, batch.rows.dead_letters, batch.records) == (4, 2, 6)
    assert worker.commit(batch).committed
    assert worker.commit(worker.batch(range(6, 8), bad=range(6, 8))).committed

    assert place.landed == [0, 1, 4, 5]
    assert place.letters == ["no json"] * 4


def test_who_has_nothing_to_do_opens_nothing(worker: Worker) -> None:
    with worker.sink.workspace() as folder:
        batch = Batch(worker.sink.begin, folder, limits=worker.sink.limits)
        batch.discard()
    worker.sink.close()
    assert worker.sink.connections == 0


def test_what_is_opened_is_counted(worker: Worker) -> None:
    worker.commit(worker.batch(range(1)))
    assert worker.sink.connections > 0


def test_a_batch_is_in_doubt_until_it_is_settled(worker: Worker, place: Place) -> None:
    of_one = worker.batch(range(1))
    of_other = worker.batch(range(1), shard=OTHER)
    worker.commit(of_one)
    assert worker.sink.in_doubt == {ONE}
    worker.sink.settled(of_other)
    assert worker.sink.in_doubt == {ONE}
    worker.sink.settled(of_one)
    assert worker.sink.in_doubt == frozenset()


def test_a_batch_that_is_found_committed_stays_in_doubt(worker: Worker) -> None:
    batch = worker.batch(range(1))
    worker.commit(batch)
    assert worker.commit(batch).committed
    assert worker.sink.in_doubt == {ONE}


@pytest.mark.parametrize("place", ["by_streaming"], indirect=True)
def test_dead_letters_keep_their_shard_in_doubt_until_their_rows_are_committed(
    worker: Worker, place: OnSnowflake
) -> None:
    """They are committed before the rows; no other sink would know of them."""
    with place.refuse_rows(), pytest.raises(TransientError):
        worker.commit(worker.batch(range(3), bad=range(1, 2)))
    for numbers, in_doubt in ((range(1), {ONE}), (range(1, 3), set())):
        batch = worker.batch(numbers, bad=range(1, 2))
        assert worker.commit(batch).committed
        worker.sink.settled(batch)
        assert worker.sink.in_doubt == in_doubt

    assert (place.landed, place.letters) == ([0, 2], ["no json"])


@pytest.mark.parametrize("place", ["by_streaming"], indirect=True)
def test_dead_letters_of_a_batch_that_another_shard_rolls_back_stay_in_doubt(
    worker: Worker, place: OnSnowflake, team: Team
) -> None:
    def of_both() -> Batch:
        batch = worker.batch(range(2), bad=range(1, 2))
        worker.add(batch, range(2), shard=OTHER)
        return batch

    with place.refuse_rows(), pytest.raises(TransientError):
        worker.commit(of_both())
    other = team.worker()
    assert other.commit(other.batch(range(1), shard=OTHER)).committed

    assert worker.commit(of_both()).ahead == {OTHER: position(0)}
    assert worker.sink.in_doubt == {ONE}


def test_who_was_told_who_is_ahead_has_no_doubt(team: Team) -> None:
    first, second = team.worker(), team.worker()
    first.commit(first.batch(range(2)))
    second.commit(second.batch(range(3)))
    assert second.sink.in_doubt == frozenset()


def test_a_sink_that_is_cancelled_gives_up_or_has_committed(worker: Worker, place: Place) -> None:
    """A cancel may come too late; whatever the commit says then holds."""
    worker.commit(worker.batch(range(2)))
    worker.sink.cancel()
    try:
        committed = worker.sink.commit(worker.batch(range(2, 4)), refused_before=0).committed
    except KinesisSnowflakeError:
        committed = False
    assert place.landed[:2] == [0, 1]
    assert not committed or place.landed == [0, 1, 2, 3]


@pytest.mark.parametrize("end", ["close", "disconnect"])
def test_a_sink_ends_any_number_of_times_and_opens_again(worker: Worker, place: Place, end: str) -> None:
    getattr(worker.sink, end)()
    worker.commit(worker.batch(range(2)))
    getattr(worker.sink, end)()
    getattr(worker.sink, end)()
    worker.commit(worker.batch(range(2, 4), offset=1))
    assert place.landed == [0, 1, 2, 3]


def test_a_sink_says_what_it_is_called_and_how_long_it_remembers(worker: Worker, place: Place) -> None:
    assert worker.sink.name == place.settings.name
    assert worker.sink.table
    assert worker.sink.memory_millis is None or worker.sink.memory_millis > 24 * 3_600_000
    assert worker.sink.limits.max_batch_bytes > 0
