"""Reading one shard: what a page brings, where it stops, and when the next one is asked for."""

from __future__ import annotations

import itertools
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import TYPE_CHECKING, Any

import pytest
from aiokpl.aggregation import UserRecord, encode_aggregated
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from airflow_kinesis_snowflake.engine.reader import (
    FAILURES_BEFORE_GIVING_UP,
    FRUITLESS_LOOKS,
    MAX_BACKOFF_SECONDS,
    MIN_BACKOFF_SECONDS,
    EncodedPage,
    PageRequest,
    PageSource,
    ShardReader,
    before,
    finish_of,
    unread,
)
from airflow_kinesis_snowflake.engine.runtime import Machine
from airflow_kinesis_snowflake.engine.status import Status
from airflow_kinesis_snowflake.exceptions import ThrottledError, UnreadablePageError
from airflow_kinesis_snowflake.formats.basic import binary
from airflow_kinesis_snowflake.formats.decoding import DecodingEncoder
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.sources.polling import PollingSource
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream import aggregation
from airflow_kinesis_snowflake.stream.lineage import Shard
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, Position, StartAt
from airflow_kinesis_snowflake.stream.records import Page, Record
from airflow_kinesis_snowflake.stream.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords

SHARD = "shardId-000000000000"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def records(*arrivals: float, first: int = 10) -> tuple[Record, ...]:
    """Records with these arrivals, in seconds, and sequence numbers from ``first`` on."""
    return tuple(
        Record(sequence_number=str(first + number), approximate_arrival=arrival, data=b"{}")
        for number, arrival in enumerate(arrivals)
    )


def page(*given_records: Record, next_iterator: str | None = "next", millis_behind: int = 0) -> Page:
    return Page(tuple(given_records), next_iterator, millis_behind)


def request(start: Position | StartAt = TRIM_HORIZON, **changes: Any) -> PageRequest:
    return PageRequest(
        **{"shard_id": SHARD, "start": start, "cursor": None, "shard": Shard(SHARD), **changes}
    )


def fetched(**changes: Any) -> EncodedPage:
    facts = {"encoded": None, "reached": None, "cursor": None, "millis_behind": 0, "finish": None}
    return EncodedPage(**{**facts, "asked_at": 0.0, "pause_seconds": 0.2, **changes})


class StubCursor:
    """Is opened and closed."""

    closed = False

    def read(self, *, limit: int) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


def a_reader(committed: Position | None = None, **changes: Any) -> ShardReader:
    return ShardReader(ShardState(SHARD, incarnation="i", **changes), committed=committed, shard=Shard(SHARD))


@dataclass
class StubKinesis:
    """Answers with pages in order, and remembers which iterators were asked for."""

    pages: list[Page]
    stream_name: str = "orders"
    asked: list[tuple[str, object]] = field(default_factory=list)

    def get_iterator(self, shard_id: str, start: Position | StartAt) -> str:
        self.asked.append(("start", start))
        return "iterator"

    def get_iterator_at(self, shard_id: str, sequence_number: str) -> str:
        self.asked.append(("at", sequence_number))
        return "iterator"

    def get_page(self, iterator: str, *, limit: int) -> Page:
        self.asked.append(("page", iterator))
        return self.pages.pop(0)


def fetch(asked: PageRequest, *pages: Page, stop_at: datetime = NOW) -> EncodedPage:
    kinesis: Any = StubKinesis(list(pages))
    return PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(stop_at)).fetch(asked)


def millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def landed(page: EncodedPage) -> list[str]:
    if page.encoded is None:
        return []
    return [str(number) for number in page.encoded.rows.column("sequenceNumber").to_pylist()]


# --- stop_at -----------------------------------------------------------------------------------------------


def test_records_from_the_stop_on_stay_in_the_stream() -> None:
    given_records = records(1.0, 1.999, 2.0, 3.0)
    assert before(given_records, 2_000) == (given_records[:2], True)


def test_a_record_behind_one_that_stays_stays_too_though_it_arrived_earlier() -> None:
    given_records = records(1.0, 2.0, 1.5)
    assert before(given_records, 2_000) == (given_records[:1], True)


@pytest.mark.parametrize("given_records", [(), records(1.0, 1.999)])
def test_a_page_before_the_stop_is_taken_whole(given_records: Sequence[Record]) -> None:
    assert before(given_records, 2_000) == (given_records, False)


arrivals = st.lists(st.integers(0, 50).map(lambda millis: 1_700_000_000 + millis / 1000), max_size=20)
stops = st.integers(1_700_000_000_000, 1_700_000_000_050)


@given(arrivals, stops)
def test_what_is_taken_and_what_stays_are_the_page(arrived: list[float], stop: int) -> None:
    given_records = records(*arrived)
    taken, stopped = before(given_records, stop)
    rest = given_records[len(taken) :]
    assert tuple(taken) + rest == given_records
    assert all(record.arrival_millis < stop for record in taken)
    assert bool(rest) == stopped
    assert not rest or rest[0].arrival_millis >= stop


@given(arrivals, st.lists(stops, max_size=4).map(sorted))
def test_consecutive_intervals_partition_a_shard(arrived: list[float], boundaries: list[int]) -> None:
    left: Sequence[Record] = records(*arrived)
    taken: list[Record] = []
    for stop in [*boundaries, 1_700_000_001_000]:
        part, _ = before(left, stop)
        taken += part
        left = left[len(part) :]
    assert tuple(taken) == records(*arrived)


# --- where a page begins -----------------------------------------------------------------------------------


def test_records_of_the_second_before_a_starting_moment_are_left_out() -> None:
    """An iterator at a moment begins at the whole second."""
    given_records = records(1.0, 1.499, 1.5, 1.2)
    assert unread(given_records, StartAt(datetime.fromtimestamp(1.5, UTC))) == list(given_records[2:])


def test_the_record_of_the_checkpoint_itself_is_left_out() -> None:
    given_records = records(1.0, 2.0)
    assert unread(given_records, Position("10")) == given_records[1:]
    assert unread(given_records, Position("9")) == given_records


def test_the_record_of_a_checkpoint_inside_an_aggregate_is_kept() -> None:
    given_records = records(1.0, 2.0)
    assert unread(given_records, Position("10", 0)) == given_records


@given(arrivals, st.integers(0, 50))
def test_a_starting_moment_leaves_out_nothing_that_arrived_at_or_after_it(
    arrived: list[float], offset: int
) -> None:
    start = datetime.fromtimestamp(1_700_000_000, UTC) + timedelta(milliseconds=offset)
    given_records = records(*sorted(arrived))
    wanted = [record for record in given_records if record.arrival_millis >= millis(start)]
    assert list(unread(given_records, StartAt(start))) == wanted


# --- where a shard ends ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "closed", "finish"),
    [
        pytest.param(page(next_iterator=None), True, Status.ENDED, id="no iterator to go on with"),
        pytest.param(page(next_iterator=None), False, Status.ENDED, id="closed after it was listed"),
        pytest.param(page(), False, Status.CAUGHT_UP, id="nothing there, and nothing behind"),
        pytest.param(page(millis_behind=1), False, None, id="nothing there, but something behind"),
        pytest.param(page(), True, None, id="a closed shard has an end to be reached"),
    ],
)
def test_a_shard_is_done_with_at_its_tip_or_its_end(answer: Page, closed: bool, finish: Status) -> None:
    assert finish_of(answer.delivery, closed=closed) == finish


def test_a_page_with_records_is_never_the_tip_whatever_its_lag() -> None:
    assert fetch(request(), page(*records(1.0))).finish is None


def test_the_last_page_of_a_closed_shard_ends_it() -> None:
    result = fetch(request(), page(*records(1.0), next_iterator=None))
    assert result.finish is Status.ENDED
    assert landed(result) == ["10"]


def test_a_closed_shard_isnt_ended_while_records_of_it_stay_for_a_later_drain() -> None:
    result = fetch(request(), page(*records(1.0, NOW.timestamp()), next_iterator=None))
    assert result.finish is Status.CAUGHT_UP
    assert landed(result) == ["10"]


def test_a_page_of_which_nothing_is_taken_moves_nothing() -> None:
    result = fetch(request(), page(*records(NOW.timestamp())))
    assert (result.finish, result.reached, result.encoded) == (Status.CAUGHT_UP, None, None)


# --- aggregates --------------------------------------------------------------------------------------------


def aggregate(*payloads: bytes) -> Record:
    data = encode_aggregated([UserRecord("key", payload) for payload in payloads])
    return Record(sequence_number="10", approximate_arrival=1.0, data=data)


def test_a_checkpoint_inside_an_aggregate_goes_on_behind_that_user_record() -> None:
    result = fetch(request(Position("10", 1)), page(aggregate(b"0", b"1", b"2"), *records(1.0, first=11)))
    assert result.encoded is not None
    assert result.encoded.rows.column("subSequenceNumber").to_pylist() == [2, 0]
    assert result.reached == Position("11")


def broken_aggregate(number: str) -> Record:
    """An aggregate whose user record names a key that it doesn't hold."""
    message = bytes([0x1A, 4, 0x08, 5, 0x1A, 0])
    data = b"\xf3\x89\x9a\xc2" + message + md5(message, usedforsecurity=False).digest()
    return Record(sequence_number=number, approximate_arrival=1.0, data=data)


class Shelf:
    """A shard of one page, read from any position on."""

    stream_name = "orders"

    def __init__(self, whole: Page) -> None:
        self._whole = whole

    def get_iterator(self, _: str, start: Position | StartAt) -> Position | StartAt:
        return start

    def get_page(self, start: Position | StartAt, *, limit: int) -> Page:
        left = [
            record
            for record in self._whole.records
            if not isinstance(start, Position) or Position(record.sequence_number) > start
        ]
        return page(*left[:limit])


@pytest.mark.parametrize("room", [1, 501, 1001, 1501, 10**6])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_page_that_decodes_to_too_much_is_read_in_parts_and_nothing_twice(room: int, damaged: bool) -> None:
    whole = page(
        aggregate(b"0", b"1", b"2"),
        *([broken_aggregate("11")] if damaged else []),
        *records(1.0, 2.0, first=12),
    )
    kinesis: Any = Shelf(whole)
    source = PageSource(
        PollingSource(kinesis), DecodingEncoder(binary, EnvelopeMapping(), room=room), stop_at=millis(NOW)
    )
    start: Position | StartAt = TRIM_HORIZON
    landed: list[tuple[str, int]] = []
    letters: list[str] = []
    while start != Position("13"):
        part = source.fetch(request(start))
        assert part.encoded is not None
        assert part.reached is not None
        start = part.reached
        rows = part.encoded.rows
        landed += zip(
            rows.column("sequenceNumber").to_pylist(),
            rows.column("subSequenceNumber").to_pylist(),
            strict=True,
        )
        letters += [letter.record.sequence_number for letter in part.encoded.dead_letters]
        assert (part.cursor is None) == (start != Position("13"))
    assert landed == [("10", 0), ("10", 1), ("10", 2), ("12", 0), ("13", 0)]
    assert letters == ["11"] * damaged


def test_the_rest_of_an_aggregate_of_which_all_was_read_moves_on_behind_it() -> None:
    result = fetch(request(Position("10", 2)), page(aggregate(b"0", b"1", b"2")))
    assert landed(result) == []
    assert result.reached == Position("10")


def test_records_of_a_page_that_expand_beyond_their_room_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aggregation, "ROOM_BYTES", 2_000)
    first, second = aggregate(b"0", b"1"), replace(aggregate(b"2", b"3"), sequence_number="11")
    reader = a_reader()
    answer = page(first, second, *records(NOW.timestamp(), first=12), next_iterator=None)

    result = fetch(reader.request(), answer)
    reader.accept(result, caught_up_at=0)

    assert landed(result) == ["10", "10"]
    assert (result.finish, result.taken) == (None, 1)
    assert (reader.request().start, reader.request().cursor) == (Position("10"), None)


# --- pages that can't be encoded ---------------------------------------------------------------------------


class Broken(EnvelopeMapping):
    """A mapping with a fault in it."""

    def encode(self, records: Sequence[Record], **_: object) -> EncodedRecords:
        raise TypeError(f"can't add {records[0].data!r}")


def test_a_fault_says_which_records_it_fails_on_and_where_and_nothing_of_their_content() -> None:
    secret = replace(records(1.0)[0], data=b"secret")
    kinesis: Any = StubKinesis([page(secret, *records(1.0, first=11))])
    source = PageSource(PollingSource(kinesis), Broken(), stop_at=millis(NOW))

    with pytest.raises(UnreadablePageError) as caught:
        source.fetch(request())

    told = str(caught.value)
    for part in ("stream orders", SHARD, "from 10 through 11", "TypeError", "test_reader.py"):
        assert part in told
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_fault_before_there_is_a_page_says_where_the_shard_stands() -> None:
    kinesis: Any = StubKinesis([])
    with pytest.raises(UnreadablePageError, match=r"IndexError.*after 10"):
        PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(NOW)).fetch(
            request(Position("10"))
        )


def test_errors_that_say_what_they_mean_pass() -> None:
    kinesis: Any = StubKinesis([])
    kinesis.get_page = lambda *_, **__: (_ for _ in ()).throw(ThrottledError("slower"))
    with pytest.raises(ThrottledError):
        PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(NOW)).fetch(request())


# --- records that aged out ---------------------------------------------------------------------------------


def test_the_record_of_the_checkpoint_is_looked_for_and_not_loaded_again() -> None:
    kinesis: Any = StubKinesis([page(*records(1.0, 2.0))])
    result = PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(NOW)).fetch(
        request(Position("10"), checking=True)
    )
    assert kinesis.asked == [("at", "10"), ("page", "iterator")]
    assert (landed(result), result.gap, result.checking) == (["11"], None, False)


def test_without_a_reason_to_look_reading_goes_on_behind_the_checkpoint() -> None:
    kinesis: Any = StubKinesis([page()])
    PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(NOW)).fetch(request(Position("10")))
    assert kinesis.asked == [("start", Position("10")), ("page", "iterator")]


def test_a_checkpoint_whose_record_is_gone_is_a_gap_up_to_the_oldest_record() -> None:
    read_until = datetime.fromtimestamp(100, UTC)
    result = fetch(
        request(Position("10"), checking=True, read_until=read_until), page(*records(500.0, first=15))
    )
    assert result.gap is not None
    assert result.gap.as_dict() == {
        "shard_id": SHARD,
        "loaded_until": "1970-01-01T00:01:40+00:00",
        "oldest_available": "1970-01-01T00:08:20+00:00",
    }
    assert landed(result) == ["15"]
    assert result.encoded is not None
    (letter,) = result.encoded.dead_letters
    assert letter.reason.startswith("data loss: records of shardId-000000000000 that arrived between 1970")
    assert letter.record.sequence_number == "10"


def test_a_shard_of_which_nothing_is_left_is_a_gap_up_to_now_and_the_checkpoint_stays() -> None:
    result = fetch(request(Position("10"), checking=True), page())
    assert result.gap is not None
    assert result.gap.oldest_available is None
    assert result.reached == Position("10")
    assert result.finish is Status.CAUGHT_UP


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        pytest.param(page(), False, id="nothing came since"),
        pytest.param(page(*records(50_000.0, first=15)), False, id="what is left came since"),
        pytest.param(page(*records(49_900.0, first=15)), False, id="it came just before"),
        pytest.param(page(*records(10_000.0, first=15)), True, id="it left records unread, so it was late"),
    ],
)
def test_a_shard_that_another_consumer_attended_to_lost_nothing_while_it_was_idle(
    answer: Page, lost: bool
) -> None:
    asked = request(Position("10"), checking=True, others_until=datetime.fromtimestamp(50_000, UTC))
    assert (fetch(asked, answer).gap is not None) is lost


def test_an_empty_page_before_the_tip_settles_nothing() -> None:
    result = fetch(request(Position("10"), checking=True), page(millis_behind=60_000))
    assert (result.gap, result.checking, result.finish) == (None, True, None)


def test_a_gap_in_front_of_records_that_stay_is_told_all_the_same() -> None:
    result = fetch(request(Position("10"), checking=True), page(*records(NOW.timestamp(), first=15)))
    assert result.gap is not None
    assert (landed(result), result.reached) == ([], Position("10"))


def test_a_shard_of_which_nothing_was_ever_read_proves_nothing_by_what_is_left() -> None:
    result = fetch(request(TRIM_HORIZON, checking=True), page(*records(500.0, first=15)))
    assert result.gap is not None
    assert result.encoded is not None
    assert [letter.record.sequence_number for letter in result.encoded.dead_letters] == ["15"]
    assert landed(result) == ["15"]


def test_a_gap_in_a_shard_without_any_record_is_told_but_has_no_place_for_a_dead_letter() -> None:
    result = fetch(request(TRIM_HORIZON, checking=True), page())
    assert result.gap is not None
    assert (result.encoded, result.reached) == (None, None)


@pytest.mark.parametrize(("start", "letters"), [(Position("10"), ["10"]), (TRIM_HORIZON, None)])
def test_a_shard_that_left_the_list_is_a_gap_and_ends(
    start: Position | StartAt, letters: list[str] | None
) -> None:
    result = fetch(request(start, shard=None))
    assert result.gap is not None
    assert result.finish is Status.ENDED
    told = result.encoded and [letter.record.sequence_number for letter in result.encoded.dead_letters]
    assert told == letters


OLD = datetime.fromtimestamp(1000, UTC)


def ageing(*pages: Page) -> tuple[PageSource, PollingSource, list[tuple[str, object]]]:
    """A stream of which records up to a moment may have aged out, and what is asked of Kinesis."""
    kinesis: Any = StubKinesis(list(pages))
    source = PollingSource(kinesis)
    fetching = PageSource(
        source,
        EnvelopeMapping(),
        stop_at=millis(NOW),
        may_have_aged_out=lambda until: until is None or until <= OLD,
    )
    return fetching, source, kinesis.asked


def test_a_cursor_among_records_that_age_out_gives_way_to_a_look_at_the_last_one_read() -> None:
    source, _, asked = ageing(page(*records(1000.0, 2000.0)))
    cursor = StubCursor()
    result = source.fetch(request(Position("10"), cursor=cursor, read_until=OLD))
    assert cursor.closed
    assert asked == [("at", "10"), ("page", "iterator")]
    assert (landed(result), result.gap, result.again) == (["11"], None, False)
    assert result.read_until == datetime.fromtimestamp(2000, UTC)


def test_what_ages_out_between_two_pages_is_a_gap() -> None:
    source, _, _ = ageing(page(*records(1500.0, first=15)))
    result = source.fetch(request(Position("10"), cursor=StubCursor(), read_until=OLD))
    assert result.gap is not None
    assert (result.gap.loaded_until, result.gap.oldest_available) == (OLD, datetime.fromtimestamp(1500, UTC))
    assert result.encoded is not None
    assert [letter.record.sequence_number for letter in result.encoded.dead_letters] == ["10"]


def test_what_ages_out_while_a_page_is_under_way_is_a_gap() -> None:
    left = page(*records(1500.0, first=15))
    kinesis: Any = StubKinesis([left, left])
    at_last = iter([False])
    source = PageSource(
        PollingSource(kinesis),
        EnvelopeMapping(),
        stop_at=millis(NOW),
        may_have_aged_out=lambda _: next(at_last, True),
    )
    result = source.fetch(request(Position("10"), read_until=OLD))
    assert kinesis.asked == [
        ("start", Position("10")),
        ("page", "iterator"),
        ("at", "10"),
        ("page", "iterator"),
    ]
    assert result.gap is not None
    assert landed(result) == ["15"]


def test_pages_that_bring_only_the_last_record_again_dont_keep_a_shard_where_it_is() -> None:
    again = page(*records(1000.0), millis_behind=1)
    looks = [page(millis_behind=1), again] * FRUITLESS_LOOKS
    source, _, asked = ageing(*looks, page(millis_behind=1), page(*records(1001.0, first=11)))
    reader = a_reader(Position("10"), caught_up_at=millis(OLD))
    for _ in range(len(looks) + 2):
        reader.accept(source.fetch(reader.request()), caught_up_at=0)
    assert reader.read == Position("11")
    assert asked.count(("at", "10")) == FRUITLESS_LOOKS
    assert asked[-2:] == [("page", "next")] * 2


def test_a_shard_whose_last_record_is_there_and_nothing_else_is_at_its_tip() -> None:
    source, _, _ = ageing(page(*records(1000.0)))
    result = source.fetch(request(Position("10"), cursor=StubCursor(), read_until=OLD))
    assert (result.finish, result.at_tip, result.gap) == (Status.CAUGHT_UP, True, None)


def test_a_closed_shard_whose_last_record_is_there_and_nothing_else_has_no_tip() -> None:
    source, _, _ = ageing(page(*records(1000.0)), page(*records(1000.0), next_iterator=None))
    closed = Shard(SHARD, closed=True)
    result = source.fetch(request(Position("10"), shard=closed, read_until=OLD))
    assert (result.finish, result.again) == (None, True)
    assert source.fetch(request(Position("10"), shard=closed, read_until=OLD)).finish is Status.ENDED


@pytest.mark.parametrize(
    ("start", "read_until"),
    [
        pytest.param(Position("10"), OLD + timedelta(seconds=1), id="nothing can have aged out"),
        pytest.param(TRIM_HORIZON, None, id="nothing was ever read"),
    ],
)
def test_where_nothing_can_be_missed_a_cursor_goes_on(
    start: Position | StartAt, read_until: datetime | None
) -> None:
    source, polling, asked = ageing(page(*records(3000.0, first=11)))
    cursor = polling.open(SHARD, start)
    source.fetch(request(start, cursor=cursor, read_until=read_until))
    assert asked == [("start", start), ("page", "iterator")]


def test_a_shard_is_read_until_its_last_record_or_until_its_tip() -> None:
    reader = a_reader(Position("10"), caught_up_at=1_000)
    assert reader.request().read_until == moment(1_000)
    reader.accept(fetched(reached=Position("11"), read_until=moment(500)), caught_up_at=0)
    assert reader.request().read_until == moment(1_000)
    reader.accept(fetched(reached=Position("12"), read_until=moment(2_000)), caught_up_at=0)
    assert reader.request().read_until == moment(2_000)
    reader.accept(fetched(at_tip=True), caught_up_at=3_000)
    assert reader.request().read_until == moment(3_000)


def test_a_shard_whose_batch_was_given_up_is_read_until_where_it_began() -> None:
    reader = a_reader(Position("10"), caught_up_at=1_000)
    reader.accept(fetched(reached=Position("15"), read_until=moment(2_000)), caught_up_at=0)
    reader.rewind(Position("10"))
    assert reader.request().read_until == moment(1_000)


def test_of_what_was_committed_meanwhile_its_number_tells_how_far_a_shard_was_read() -> None:
    reader = a_reader(Position("10"), caught_up_at=1_000)
    reader.accept(fetched(reached=Position("15"), read_until=moment(2_000)), caught_up_at=0)
    reader.rewind(Position("12"))
    assert reader.request().read_until is None  # No number of Kinesis, so it tells nothing.


def test_what_others_read_says_nothing_of_records_behind_those_that_were_read() -> None:
    reader = ShardReader(
        ShardState(SHARD), committed=Position("10"), shard=Shard(SHARD), others_until=moment(5_000)
    )
    assert reader.request().others_until == moment(5_000)
    reader.accept(fetched(reached=Position("15")), caught_up_at=0)
    assert reader.request().others_until is None
    reader.rewind(Position("10"))
    assert reader.request().others_until == moment(5_000)


# --- the reader --------------------------------------------------------------------------------------------


def test_a_shard_without_a_checkpoint_starts_where_its_row_says() -> None:
    start = StartAt(NOW)
    assert a_reader(start_at=start).request().start == start
    assert a_reader().request().start == TRIM_HORIZON


def test_a_reader_goes_on_with_the_cursor_of_the_page_before() -> None:
    reader, cursor = a_reader(Position("10")), StubCursor()
    reader.accept(fetched(reached=Position("12"), cursor=cursor), caught_up_at=0)
    assert reader.accept(fetched(reached=Position("13"), cursor=cursor), caught_up_at=0) is None
    assert (reader.request().start, reader.request().cursor) == (Position("13"), cursor)


@pytest.mark.parametrize("how", ["left off", "rewound", "replaced"])
def test_a_cursor_that_is_not_needed_any_more_is_to_be_closed(how: str) -> None:
    reader, cursor = a_reader(), StubCursor()
    reader.accept(fetched(reached=Position("12"), cursor=cursor), caught_up_at=0)
    match how:
        case "left off":
            closed = reader.leave_off(Status.FAILED)
        case "rewound":
            closed = reader.rewind(None)
        case _:
            closed = reader.accept(fetched(cursor=StubCursor()), caught_up_at=0)
    assert closed is cursor


def test_a_page_without_records_leaves_the_position_where_it_was() -> None:
    reader = a_reader(Position("10"))
    reader.accept(fetched(reached=None), caught_up_at=0)
    assert reader.request().start == Position("10")


def test_a_rewound_reader_begins_again_without_a_cursor() -> None:
    reader = a_reader()
    reader.accept(fetched(reached=Position("12"), finish=Status.CAUGHT_UP), caught_up_at=5)
    reader.rewind(Position("11"))
    assert reader.wants_page
    assert (reader.request().start, reader.request().cursor) == (Position("11"), None)
    assert reader.caught_up_at is None


def test_a_cursor_survives_a_throttled_call() -> None:
    reader, cursor = a_reader(), StubCursor()
    reader.accept(fetched(cursor=cursor), caught_up_at=0)
    reader.back_off(ThrottledError("slower"), now=0.0, chance=1.0)
    assert reader.request().cursor is cursor


@given(st.integers(1, FAILURES_BEFORE_GIVING_UP - 1), st.floats(0, 1e6), st.floats(0, 1))
def test_the_wait_after_failures_is_bounded_on_both_sides(failures: int, now: float, chance: float) -> None:
    reader = a_reader()
    for _ in range(failures):
        assert reader.back_off(ThrottledError("slower"), now=now, chance=chance)
    rounding = 1e-9 * (1 + now)
    assert MIN_BACKOFF_SECONDS - rounding <= reader.due - now <= MAX_BACKOFF_SECONDS + rounding


def test_the_wait_after_failures_is_drawn_from_all_that_is_allowed_then() -> None:
    """Full jitter: workers that were throttled together don't come back together."""

    def waits(chance: float) -> list[float]:
        reader, drawn = a_reader(), []
        for _ in range(7):
            reader.back_off(ThrottledError("slower"), now=0.0, chance=chance)
            drawn.append(reader.due)
        return drawn

    assert waits(0.0) == [0.2] * 7
    assert waits(1.0) == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


def test_a_shard_that_wont_be_read_for_ten_seconds_is_reported_once() -> None:
    reader = a_reader()
    reported = []
    for now in (0.0, 1.0, 3.0, 7.0, 15.0):
        reader.back_off(ThrottledError("slower"), now=now, chance=1.0)
        reported.append(reader.begins_to_stall())
    assert reported == [False, False, False, True, False]
    assert reader.stalled_for(20.0) == 20.0

    reader.accept(fetched(), caught_up_at=0)

    assert reader.stalled_for(21.0) is None
    reader.back_off(ThrottledError("slower"), now=22.0, chance=1.0)
    assert not reader.begins_to_stall()


def test_a_shard_is_given_up_after_many_failures_in_a_row() -> None:
    reader = a_reader()
    outcomes = [
        reader.back_off(ThrottledError("slower"), now=0.0, chance=1.0)
        for _ in range(FAILURES_BEFORE_GIVING_UP)
    ]
    assert outcomes == [True] * (FAILURES_BEFORE_GIVING_UP - 1) + [False]


def test_a_page_renews_the_budget_of_failures() -> None:
    reader = a_reader()
    for _ in range(2):
        for _ in range(FAILURES_BEFORE_GIVING_UP - 1):
            assert reader.back_off(ThrottledError("slower"), now=0.0, chance=1.0)
        reader.accept(fetched(), caught_up_at=0)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3)), min_size=6, max_size=30))
def test_a_shard_is_never_asked_more_than_five_times_a_second(delays: list[tuple[float, float]]) -> None:
    """However long requests wait for a thread or for an iterator, and however long their answers take."""
    reader = a_reader()
    calls: list[float] = []
    now = 0.0
    for queued, latency in delays:
        asked_at = max(now, reader.due) + queued
        calls.append(asked_at)
        now = asked_at + latency
        reader.accept(fetched(asked_at=asked_at), caught_up_at=0)
    assert all(later - earlier > 0.999 for earlier, later in zip(calls, calls[5:], strict=False))


def test_a_page_says_when_it_was_asked_for() -> None:
    """That is after its iterator was given, which may take a while."""
    clock = itertools.count(100)

    class Counting(Machine):
        def monotonic(self) -> float:
            return float(next(clock))

    kinesis: Any = StubKinesis([page()])
    kinesis.get_iterator = lambda *_: f"iterator of {next(clock)}"
    source = PageSource(PollingSource(kinesis), EnvelopeMapping(), stop_at=millis(NOW), runtime=Counting())
    result = source.fetch(request())
    assert result.asked_at == 101.0


def test_what_a_page_says_of_the_tip_may_be_older_than_the_page() -> None:
    """A shard is drained up to the moment of which the source knows, not to that of the read."""
    assert fetched(asked_at=100.0).as_of == 100.0
    assert fetched(asked_at=100.0, age_seconds=4.0).as_of == 96.0


def test_a_page_of_which_nothing_is_left_to_load_sets_a_size_for_the_next() -> None:
    reader = a_reader(Position("10", 3))
    reader.accept(fetched(reached=Position("10"), taken=1), caught_up_at=0)
    assert 0 < reader.request().limit <= 10_000
