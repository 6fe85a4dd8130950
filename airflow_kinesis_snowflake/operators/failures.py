"""How the package's errors reach Airflow."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import TerminalError

try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:  # Airflow 3.1
    from airflow.exceptions import AirflowFailException  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_retry_of_terminal_errors() -> Iterator[None]:
    """Fail the task at once on an error that another try can't mend.

    :raises AirflowFailException: in place of a :class:`TerminalError`, naming its class
    """
    try:
        yield
    except TerminalError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
