"""What Airflow's log says of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.exceptions import AccessDeniedError, ThrottledError
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.failures import (
    labelled_failure,
    no_retry_of_terminal_errors,
    reason_kept,
)

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError

WHAT_TO_DO = "Allow kinesis:GetRecords in the policies of the role that runs the task."


@pytest.mark.parametrize(
    ("error", "raised"),
    [(AccessDeniedError(WHAT_TO_DO), AirflowFailException), (ThrottledError(WHAT_TO_DO), ThrottledError)],
)
def test_what_to_do_is_an_error_line_of_its_own(
    error: KinesisSnowflakeError, raised: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(raised, match=WHAT_TO_DO) as told, no_retry_of_terminal_errors():
        raise error

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", WHAT_TO_DO)]
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


def test_a_mapped_task_that_failed_says_so_in_its_label() -> None:
    context: dict[str, str] = {}
    with pytest.raises(ThrottledError), labelled_failure(context, "drained"):
        raise ThrottledError(WHAT_TO_DO)
    assert context == {"drained": "failed: ThrottledError"}


class Task:
    """A task instance that takes XComs, or doesn't."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.left: dict[str, object] = {}
        self.deaf = deaf

    def xcom_push(self, key: str, value: object) -> None:
        if self.deaf:
            raise RuntimeError("no API server")
        self.left[key] = value


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AccessDeniedError(WHAT_TO_DO), f"AccessDeniedError: {WHAT_TO_DO}"),
        (ThrottledError(WHAT_TO_DO), f"ThrottledError: {WHAT_TO_DO}"),
        (KeyError("a payload"), "KeyError"),
    ],
)
def test_the_reason_of_a_failure_is_kept_without_what_others_may_quote(error: Exception, reason: str) -> None:
    ti = Task()
    with (
        pytest.raises(Exception, match=r".") as raised,
        reason_kept({"ti": ti}),
        no_retry_of_terminal_errors(),
    ):
        raise error
    assert ti.left == {"failure": {"reason": reason}}
    assert isinstance(raised.value, (AirflowFailException, type(error)))


def test_a_reason_that_nobody_takes_doesnt_hide_the_error() -> None:
    with pytest.raises(ThrottledError), reason_kept({"ti": Task(deaf=True)}):
        raise ThrottledError(WHAT_TO_DO)


def test_what_went_well_has_no_reason() -> None:
    ti = Task()
    with reason_kept({"ti": ti}):
        pass
    assert ti.left == {}
