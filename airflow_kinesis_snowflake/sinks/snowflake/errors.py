"""What errors of the Snowflake connector mean, and how long it retries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from snowflake.connector import errors

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    ValueRefusedError,
)

WAITS = (1, 2, 4)
# Snowflake's error numbers; the table in translate() says what they mean.
_NOT_FOUND = frozenset({2003, 2043})
_DENIED = frozenset({3001, 290403, 540001})
_LOGIN_REFUSED = (range(390100, 390400), range(394300, 394400))
_LOGIN_FAILED = 250001
_TRY_AGAIN = frozenset({2002, 603, 604, 615, 625, 630, 390111, 390112, 390113, 390114, 390115, 390318})
_DATA = range(100000, 101000)
_HTTP_REFUSED = frozenset({290400, 290404, 290405})
# A login that reached nobody, or whose answer was cut off, as connectors from version 5 on word it.
_NOT_REACHED = ("HTTP request failed", "Failed to communicate", "Invalid Snowflake response")
# The classes of errors with which Snowflake answers a statement; all others are about reaching it.
_ANSWERS = (errors.ProgrammingError, errors.IntegrityError, errors.DataError, errors.NotSupportedError)


def broken_off(error: OSError, *, doing: str, target: str) -> ServiceUnavailableError:
    """The error for an answer that was cut off."""
    # The connector passes on the error of its bundled copy of requests when an answer is cut off.
    return ServiceUnavailableError(
        f"Snowflake can't {doing} {target}: the answer was cut off ({type(error).__name__}); try again"
    )


class Tries:
    """How long the connector waits between tries of an HTTP request, before it gives up.

    A ``backoff_policy`` for the connector, which has one limit for broken connections and for statements; one
    long enough for statements would be far too long for connections. Remembers whether any request was tried
    more than once; connectors from version 5 on don't tell, as they don't ask for wait times.

    :param waits: seconds between one try and the next
    """

    def __init__(self, waits: Sequence[float] = WAITS) -> None:
        self.waits = tuple(waits)
        self.told = False
        self.repeated = False

    def __call__(self) -> Iterator[float]:
        """Seconds to wait after each try; the first is requested before the first try.

        :raises OperationalError: all tries failed; raised again when asked again, as login by key pair does
        """
        self.told = True
        return _Waits(self)


class _Waits(Iterator[float]):
    """The waits of one request. Not a generator: one that has raised would end silently at the next call."""

    def __init__(self, tries: Tries) -> None:
        self._tries = tries
        self._waits = [*tries.waits, 0]

    def __next__(self) -> float:
        most = len(self._tries.waits) + 1
        self._tries.repeated |= len(self._waits) < most
        if not self._waits:
            raise errors.OperationalError(msg=f"Snowflake couldn't be reached in {most} tries", errno=250003)
        return self._waits.pop(0)


def translate(error: errors.Error, *, doing: str, target: str) -> KinesisSnowflakeError:
    """Translate an error of the connector into one of this package.

    ============================================================ ===================================
    Error                                                        Becomes
    ============================================================ ===================================
    2003, 2043 (object doesn't exist or isn't visible)           :class:`SnowflakeObjectNotFoundError`
    3001 (privileges), HTTP 403, login refused: 3901.. to 3903.., :class:`AccessDeniedError`
    3943.., 250001 as a plain ``DatabaseError``
    603 (internal error), 604 (cancelled), 615 (transaction      :class:`ServiceUnavailableError`
    aborted), 625 (lock), 630 (statement timeout), 2002 (another worker has just made the
    object), 390111 to 390115 (session or token gone), 390318
    (OAuth token expired)
    connection, timeout, HTTP 5xx and the like                   :class:`ServiceUnavailableError`
    1000.. (a value is refused)                                  :class:`ValueRefusedError`
    any other answer                                             :class:`ServiceRefusedError`
    ============================================================ ===================================

    A message about a refused value may quote it, so it is omitted.

    :param doing: a verb: what was tried
    :param target: to what
    """
    what = f"Snowflake can't {doing} {target}".rstrip()
    if quotes_data(error):
        return ValueRefusedError(
            f"{what}: error {error.errno:06d}, a value was refused; find query {error.sfqid} in "
            "QUERY_HISTORY, its message may quote the value",
            number=int(error.errno or 0),
        )
    kind, advice = _meaning(error)
    return kind(f"{advice[0].upper()}{advice[1:]}: {what}: {' '.join(str(error.msg).split())}")


def _meaning(error: errors.Error) -> tuple[type[KinesisSnowflakeError], str]:
    if error.errno in _NOT_FOUND:
        return SnowflakeObjectNotFoundError, "create it, or grant the role of the connection access to it"
    if error.errno in _TRY_AGAIN:
        return ServiceUnavailableError, "try again"
    if _is_denied(error):
        return AccessDeniedError, "check the login, role and grants of the Airflow connection"
    if isinstance(error, _ANSWERS) or error.errno in _HTTP_REFUSED:
        return ServiceRefusedError, f"query {error.sfqid} in QUERY_HISTORY has the details"
    return ServiceUnavailableError, "try again"


def _is_denied(error: errors.Error) -> bool:
    # The connector reports a login that the server refuses as a plain DatabaseError, and one that doesn't
    # reach the server as an OperationalError with the same number; from version 5 on, only the words differ.
    refused_login = (
        type(error) is errors.DatabaseError
        and error.errno == _LOGIN_FAILED
        and not any(words in str(error.msg) for words in _NOT_REACHED)
    )
    return refused_login or error.errno in _DENIED or any(error.errno in codes for codes in _LOGIN_REFUSED)


def quotes_data(error: errors.Error) -> bool:
    """Whether an error's message may quote a value."""
    return error.errno in _DATA
