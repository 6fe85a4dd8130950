"""How the package's errors reach Airflow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_kinesis_snowflake.exceptions import TerminalError


@contextmanager
def no_retry_of_terminal_errors() -> Iterator[None]:
    """Fail the task at once on an error that another try can't mend.

    :raises AirflowFailException: in place of a :class:`TerminalError`, naming its class
    """
    try:
        yield
    except TerminalError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
