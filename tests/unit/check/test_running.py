"""No check stops another, whatever it does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.check.bench import CheckSettings
from airflow_kinesis_snowflake.check.checks import Check, CheckVerdict, Needs, failed, held, not_shown
from airflow_kinesis_snowflake.check.running import choose, run_checks
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StreamNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.check.bench import Bench
    from airflow_kinesis_snowflake.check.checks import Observation

STREAM = CheckSettings(stream="clicks")


def check(name: str, run: Callable[[Bench], Observation], *, promises: tuple[int, ...] = (1,)) -> Check:
    return Check(name=name, tries="It", promises=promises, advice="Do.", needs=Needs.STREAM, run=run)


def raising(error: Exception) -> Callable[[Bench], Observation]:
    def run(_: Bench) -> Observation:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "verdict", "status"),
    [
        (ServiceUnavailableError("out"), CheckVerdict.BROKEN, 3),
        (AccessDeniedError("no"), CheckVerdict.BROKEN, 3),
        (StreamNotFoundError("none"), CheckVerdict.BROKEN, 3),
        (KeyError("bug"), CheckVerdict.BROKEN, 3),
        (ServiceRefusedError("no such function"), CheckVerdict.FAILED, 1),
    ],
)
def test_what_a_check_raises_is_its_result_and_the_next_is_tried(
    error: Exception, verdict: CheckVerdict, status: int
) -> None:
    report = run_checks(
        STREAM, checks=[check("one", raising(error)), check("two", lambda _: held("it is so"))]
    )
    assert [result.verdict for result in report.results] == [verdict, CheckVerdict.HELD]
    assert type(error).__name__ in report.results[0].text
    assert report.status == status


def test_what_an_unexpected_error_says_is_not_shown_but_where_it_came_from(
    caplog: pytest.LogCaptureFixture,
) -> None:
    [result] = run_checks(STREAM, checks=[check("one", raising(ValueError("hunter2")))]).results
    assert "hunter2" not in result.text + caplog.text
    assert "ValueError in test_running.py, line" in result.text


def test_a_failure_on_which_no_promise_stands_is_noted() -> None:
    report = run_checks(STREAM, checks=[check("one", lambda _: failed("not so"), promises=())])
    assert (report.results[0].verdict, report.status) == (CheckVerdict.NOTED, 0)


def test_a_failure_counts_more_than_an_outage() -> None:
    broken = check("one", raising(ServiceUnavailableError("out")))
    assert run_checks(STREAM, checks=[broken, check("two", lambda _: failed("not so"))]).status == 1


def test_what_is_not_shown_is_no_failure() -> None:
    assert run_checks(STREAM, checks=[check("one", lambda _: not_shown("not here"))]).status == 0


def test_checks_of_what_is_not_named_and_slow_ones_are_skipped_and_say_why() -> None:
    def slow(name: str, needs: Needs) -> Check:
        run = raising(AssertionError("it was tried"))
        return Check(name=name, tries="It", promises=(), advice="Do.", needs=needs, run=run, slow=True)

    report = run_checks(STREAM, checks=[slow("one", Needs.TABLE), slow("two", Needs.STREAM)])
    assert [result.verdict for result in report.results] == [CheckVerdict.SKIPPED] * 2
    assert "landing table" in report.results[0].text
    assert "--slow" in report.results[1].text


def test_a_stop_skips_what_is_left() -> None:
    stopping = threading.Event()

    def stop(_: Bench) -> Observation:
        stopping.set()
        return held("it is so")

    never = check("two", raising(AssertionError("it was tried")))
    report = run_checks(STREAM, checks=[check("one", stop), never], stopping=stopping)
    assert [result.verdict for result in report.results] == [CheckVerdict.HELD, CheckVerdict.SKIPPED]


def test_a_check_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="Name some of one"):
        choose([check("one", lambda _: held(""))], CheckSettings(stream="clicks", only=("two",)))


@pytest.mark.parametrize(
    ("written", "stored"), [("analytics", "ANALYTICS"), ('"Analytics"', "Analytics"), (None, None)]
)
def test_a_database_is_written_as_in_sql(written: str | None, stored: str | None) -> None:
    assert CheckSettings(database=written).scratch_database == stored


def test_what_is_no_database_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="Write the name of the database as in SQL: 'a b'"):
        choose([], CheckSettings(database="a b"))


def test_nothing_to_check_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="a stream"):
        choose([], CheckSettings())
