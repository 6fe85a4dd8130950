"""What Airflow's log says of an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.exceptions import AccessDeniedError, ThrottledError
from airflow_kinesis_snowflake.operators.failures import (
    AirflowFailException,
    labelled_failure,
    no_retry_of_terminal_errors,
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
