"""What time it is by somebody else's clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.stream.clock import ServiceClock

DATE = 1_700_000_000
durations = st.integers(0, 100_000).map(lambda millis: millis / 1000)


@given(there=st.integers(0, 999), request=durations, answer=durations, since=durations)
def test_the_service_clock_is_between_its_bounds(
    there: int, request: float, answer: float, since: float
) -> None:
    """Its date leaves out the milliseconds, and nobody knows how long the answer was under way."""
    clock = ServiceClock(
        datetime.fromtimestamp(DATE, UTC), asked_at=50.0, answered_at=50.0 + request + answer
    )
    now = 50.0 + request + answer + since
    truth = DATE * 1000 + there + (answer + since) * 1000
    assert clock.earliest(now) <= truth <= clock.latest(now)


@pytest.mark.parametrize(
    ("own", "likely"), [(-1, 0), (0, 0), (700, 700), (1250, 1250), (1251, 0), (240_000, 0)]
)
def test_a_wall_clock_is_believed_where_it_can_be_right(own: int, likely: int) -> None:
    clock = ServiceClock(datetime.fromtimestamp(DATE, UTC), asked_at=50.0, answered_at=50.25)
    assert clock.likely(50.25, own=DATE * 1000 + own) == DATE * 1000 + likely


def test_the_bounds_are_as_far_apart_as_the_answer_took_and_the_second_of_its_date() -> None:
    clock = ServiceClock(datetime.fromtimestamp(DATE, UTC), asked_at=50.0, answered_at=50.25)
    assert (clock.earliest(60.25), clock.latest(60.25)) == (DATE * 1000 + 10_000, DATE * 1000 + 11_250)
