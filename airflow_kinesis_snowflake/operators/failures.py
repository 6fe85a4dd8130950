"""How the package's errors are reported to Airflow."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError, TerminalError
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.xcoms import FAILURE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)


@contextmanager
def labelled_failure(context: Any, name: str) -> Iterator[None]:
    """Show in the label of a mapped task that it failed, and with which error.

    :param context: of the task; Airflow renders ``map_index_template`` from it again at the end
    :param name: what the template calls the text
    """
    try:
        yield
    except BaseException as error:
        context[name] = f"failed: {type(error).__name__}"
        raise


@contextmanager
def no_retry_of_terminal_errors() -> Iterator[None]:
    """Fail the task at once on an error that a retry can't fix.

    What to do is logged on a separate line, because Airflow shows the message of an exception in one long
    line beneath many frames. The origin of the error is logged at level DEBUG: the message gives its cause.

    :raises AirflowFailException: in place of a :class:`TerminalError`, naming its class
    """
    try:
        yield
    except KinesisSnowflakeError as error:
        log.error("%s", error)
        log.debug("Raised by:", exc_info=error)
        if not isinstance(error, TerminalError):
            raise error from None
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None


@contextmanager
def reason_kept(context: Any, *, of_streams: Mapping[str, BaseException] | None = None) -> Iterator[None]:
    """Store the reason of a failure as XCom ``failure``, where the monitoring page and alerts find it.

    For errors that aren't this package's, only the class is stored: their messages may quote anything.

    :param context: of the task that may fail
    :param of_streams: the streams that have failed so far, with their errors, for a task that has several
    """
    try:
        yield
    except Exception as error:
        kept: dict[str, Any] = {"reason": reason_of(error)}
        if of_streams is not None:
            kept["streams"] = {stream: reason_of(each) for stream, each in of_streams.items()}
        leave(context, FAILURE, kept)
        raise


def leave(context: Any, key: str, value: Any) -> None:
    """Store an XCom while the task fails; failing to do so doesn't hide the original error."""
    try:
        context["ti"].xcom_push(key, value)
    except Exception as unheard:
        log.warning("The XCom %s of this failure can't be stored: %s", key, type(unheard).__name__)


def reason_of(error: BaseException) -> str:
    """Why a task failed, in one line that begins with the class of the error."""
    if isinstance(error, AirflowFailException):
        return str(error)
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, KinesisSnowflakeError) else name
