"""Channels of Snowpipe Streaming: the only module that uses Snowflake's SDK for it.

The SDK, from the extra ``streaming``, is imported only when the first client opens: it starts a thread, which
a forked process wouldn't have.
"""

from __future__ import annotations

import base64
import os
import re
import textwrap
import time
import uuid
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import msgspec

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    ChannelForgottenError,
    ChannelLimitError,
    FencedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    RowTooLargeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    ThrottledError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow_kinesis_snowflake.engine.runtime import Event
    from airflow_kinesis_snowflake.identifiers import TableName

MAX_ROW_BYTES = 16 * 2**20
"""What Snowpipe Streaming takes."""
PIPE_SUFFIX = "-STREAMING"

_APPLICATION = "airflow-kinesis-snowflake"
_CLOSING_SECONDS = 2
_LOOKING_SECONDS = 0.05
# The SDK's own limits are ten hours.
_TRYING_SECONDS = 60
_LOGIN_SECONDS = 10
_TIMEOUT_SECONDS = 30

_processes: set[int] = set()

# The service's names of its refusals; the table in translate() says what they mean.
_WELL = frozenset({"SUCCESS", "ACTIVE"})
_FENCED = frozenset(
    {
        "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER",
        "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER",
        "ERR_CHANNEL_MUST_BE_REOPENED",
        "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
        "STALE_CONTINUATION_TOKEN_SEQUENCER",
    }
)
_FORGOTTEN = re.compile(r"ERR_CHANNEL_(DOES_NOT_EXIST|NO_LONGER_EXISTS)")
_MISSING = re.compile(r"ERR_(PIPE|TABLE|SCHEMA|DATABASE)_DOES_NOT_EXIST")
_LIMIT = re.compile(r"CHANNEL\w*_LIMIT|TOO_MANY_CHANNELS")
_CODE = re.compile(r"error_code=(\w+)|with status: (\w+)")
_URL = re.compile(r",? ?url=\S+")
_THROTTLED = frozenset({"ReceiverSaturated", "MemoryThresholdExceeded", "MemoryThresholdExceededInContainer"})
_REFUSED = frozenset({"ConfigError", "InvalidArgument", "InvalidRequest", "NotImplemented", "SfApiUserError"})


@dataclass(frozen=True)
class StreamingLogin:
    """Who streams, and to which account.

    :param private_key: PEM, without a passphrase
    :param role: ``None``: the user's default role
    :param url: of the account, ``https://host`` or ``https://host:port``
    """

    account: str
    user: str
    private_key: str
    role: str | None
    url: str

    def __repr__(self) -> str:
        return f"StreamingLogin({self.account}, {self.user}, {self.role}, {self.url})"

    @classmethod
    def from_params(
        cls, params: Mapping[str, Any], *, connection: str, streaming_url: str | None = None
    ) -> StreamingLogin:
        """Read the connector's arguments, as the Snowflake provider derives them from an Airflow connection.

        The provider has already read the private key, given as a file or as content, with or without a
        passphrase.

        :param params: arguments of the connector
        :param connection: id of the Airflow connection, for messages
        :param streaming_url: of an endpoint other than the account's
        :raises InvalidSettingError: no account, no user, no key pair, or a URL that isn't one
        """
        for name in ("account", "user"):
            if not params.get(name):
                raise InvalidSettingError(f"Name the {name} in the Airflow connection {connection!r}")
        key = params.get("private_key")
        if not key:
            raise InvalidSettingError(
                f"Give the Airflow connection {connection!r} a key pair (private_key_file or "
                "private_key_content in its extra): the streaming sink has no other way to log in"
            )
        account = str(params["account"])
        host = params.get("host") or _host(account, params.get("region"))
        url = streaming_url or f"https://{str(host).replace('_', '-')}"
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InvalidSettingError(
                f"Correct streaming_url in the extra of the Airflow connection {connection!r}: "
                f"{url!r} isn't a URL like https://host:port"
            )
        # A locator may be followed by its region; a login names the locator alone.
        return cls(
            account=account.partition(".")[0].upper(),
            user=str(params["user"]).upper(),
            private_key=_pem(key),
            role=params.get("role") or None,
            url=url,
        )

    def properties(self) -> dict[str, str]:
        """The SDK's configuration."""
        parts = urlsplit(self.url)
        assert parts.hostname
        return {
            "account": self.account,
            "user": self.user,
            "private_key": self.private_key,
            **({"role": self.role} if self.role else {}),
            "scheme": parts.scheme,
            "host": parts.hostname,
            "port": str(parts.port or (443 if parts.scheme == "https" else 80)),
            "application": _APPLICATION,
            "enable_telemetry_reporting": "false",
            "encode_streaming_url_components": "true",
            "mgmt_http_timeout_seconds": str(_TIMEOUT_SECONDS),
            "data_http_timeout_seconds": str(_TIMEOUT_SECONDS),
            "mgmt_retry_total_backoff_seconds": str(_TRYING_SECONDS),
            "data_retry_total_backoff_seconds": str(_TRYING_SECONDS),
            "misclassified_404_retry_total_backoff_seconds": str(_LOGIN_SECONDS),
            "non_scoped_auth_failure_retry_total_backoff_seconds": str(_LOGIN_SECONDS),
        }


@dataclass(frozen=True)
class ChannelState:
    """What the service reports about a channel; at most a second old.

    :param committed: offset token of the last committed rows; ``None`` before the first
    :param inserted: rows that landed since the channel was created, whoever owned it
    :param rejected: rows that were rejected since then
    :param rejected_through: the last of these is at this offset token, or before
    :param why: what is wrong with it, in Snowflake's words, which contain no values
    """

    committed: str | None
    inserted: int
    rejected: int
    rejected_through: str | None
    why: str | None


class ChannelClient:
    """Opens the channels of one table's default pipe. A context manager that closes it.

    A process may have several clients; each logs in for itself. Each channel of a client may be used by one
    thread.

    :param login: who streams
    :param table: where rows go
    :ivar target: the table, for messages
    :raises InvalidSettingError: the extra ``streaming`` isn't installed
    :raises AccessDeniedError: Snowflake refuses the key, or the clocks differ
    :raises SnowflakeObjectNotFoundError: there is no such table, or the role has no privilege on it
    :raises ServiceUnavailableError: Snowflake can't be reached
    """

    def __init__(self, login: StreamingLogin, table: TableName) -> None:
        sdk = _sdk()
        self.target = f"{table.database}.{table.schema}.{table.name}"
        with self._translated("log in for"):
            self._client: Any = sdk.StreamingIngestClient(
                f"{_APPLICATION}-{uuid.uuid4().hex[:12]}",
                table.database,
                table.schema,
                f"{table.name}{PIPE_SUFFIX}",
                properties=login.properties(),
            )
        self._let_go = weakref.finalize(self, _close, self._client)

    @property
    def hexadecimal(self) -> bool:
        """Whether the pipe takes bytes as hexadecimal digits rather than base64.

        :raises ServiceRefusedError: it takes neither
        """
        # What the service reported at login. The SDK follows it, except for rows that are JSON already.
        told = str(self._client._binary_input_format).rpartition(".")[2]
        if told not in {"BASE64", "HEX"}:
            raise ServiceRefusedError(
                f"Change BINARY_FORMAT of the pipe to BASE64 or HEX: that of {self.target} takes bytes as "
                f"{told} only, which not all bytes are"
            )
        return told == "HEX"

    def open(self, name: str) -> Channel:
        """Open a channel, and fence whoever has it open; create it if it doesn't exist.

        A channel that this client has open must be closed first.

        Waits up to two minutes for uncommitted rows of the former owner.

        :raises ChannelLimitError: the pipe has as many channels as it can have
        :raises SnowflakeObjectNotFoundError: the table is gone, or the role no longer has the privilege
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        with self._translated(f"open channel {name} of"):
            channel, status = self._client.open_channel(name)
        # Otherwise it searches rows for bytes, to write them as the pipe takes them, which fails for JSON.
        channel._binary_input_format = type(self._client._binary_input_format).BASE64
        return Channel(channel, _state(status), name=name, client=self)

    def states(self, names: Sequence[str]) -> dict[str, ChannelState]:
        """The state of channels, without opening them; those that the service doesn't know are left out."""
        with self._translated("read the channels of"):
            found = self._client.get_channel_statuses(list(names))
        return {name: _state(status) for name, status in found.items() if status.status_code in _WELL}

    def drop(self, name: str) -> None:
        """Drop a channel with its offset token; one that doesn't exist is no error."""
        try:
            with self._translated(f"drop channel {name} of"):
                self._client.drop_channel(name)
        except ChannelForgottenError:
            return

    def close(self) -> None:
        """Release all channels. What wasn't sent is discarded; what was sent may still be committed."""
        self._let_go()

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with _translated(doing, target=self.target):
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Channel:
    """One channel, owned until somebody else opens it. Made by :meth:`ChannelClient.open`.

    :ivar name: its name
    :ivar opened: what the service reported when it was opened; continue after its token
    """

    def __init__(self, channel: Any, opened: ChannelState, *, name: str, client: ChannelClient) -> None:
        self._channel = channel
        self._let_go = weakref.finalize(self, _close, channel)
        # The SDK closes the channels of a client that is no longer referenced.
        self._client = client
        self._target = client.target
        self.name = name
        self.opened = opened

    def append(self, rows: Sequence[bytes], start_token: str, end_token: str) -> None:
        """Hand over rows to be sent in the background; their outcome isn't known before :meth:`wait`.

        :param rows: JSON objects, one per row, without line breaks; passed on unchanged
        :param start_token: offset token of the first
        :param end_token: offset token of the last; the channel's token once they are committed
        :raises RowTooLargeError: a row is larger than Snowflake takes; nothing was handed over
        :raises FencedError: the SDK already knows that somebody else has opened the channel
        :raises ThrottledError: the SDK's memory is full
        """
        largest = max(map(len, rows), default=0)
        if largest > MAX_ROW_BYTES:
            raise RowTooLargeError(
                f"Make its record a dead letter: a row for {self._target} has {largest} bytes, "
                f"and Snowpipe Streaming takes {MAX_ROW_BYTES} (channel {self.name})"
            )
        raws = [msgspec.Raw(row) for row in rows]
        with self._translated("append rows to"):
            self._channel.append_rows(raws, start_token, end_token)

    def flush(self) -> None:
        """Send what was appended now, instead of at the end of its second."""
        with self._translated("send rows to"):
            self._channel.initiate_flush()

    def state(self) -> ChannelState:
        """What the service reports about the channel, whoever owns it.

        :raises FencedError: somebody else has opened it, and has had rows of ours refused since
        :raises ChannelForgottenError: it no longer exists
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        with self._translated("look at"):
            status = self._channel.get_channel_status()
            if status.status_code not in _WELL:
                raise _meaning_of(status.status_code, f"Snowflake can't commit to {self._where}")
        return _state(status)

    def committed(self) -> str | None:
        """The offset token of the last committed rows; ``None`` before the first.

        :raises FencedError, ChannelForgottenError, ServiceUnavailableError: as :meth:`state`
        """
        return self.state().committed

    def wait(self, token: str, *, timeout: float, stopping: Event) -> ChannelState | None:
        """Return the channel's state once the rows through a token are committed.

        :param token: tokens must sort as text in the order of their rows
        :param timeout: seconds
        :param stopping: ends the wait when it is set
        :return: ``None``: not committed in time; the rows are in doubt
        :raises FencedError, ChannelForgottenError, ServiceUnavailableError: as :meth:`state`
        """
        until = time.monotonic() + timeout
        self.flush()
        while True:
            state = self.state()
            if state.committed is not None and state.committed >= token:
                return state
            if time.monotonic() >= until or stopping.wait(_LOOKING_SECONDS):
                return None

    def close(self) -> None:
        """Release the channel. What wasn't sent is discarded; what was sent may still be committed."""
        self._let_go()

    @property
    def _where(self) -> str:
        return f"channel {self.name} of {self._target}"

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        with _translated(f"{doing} channel {self.name} of", target=self._target):
            yield


def _close(it: Any) -> None:
    """Close a client or channel of the SDK.

    Otherwise, whatever is no longer referenced closes itself, and waits for its rows without a limit.
    """
    from snowflake.ingest.streaming import StreamingIngestError

    # It isn't used any more, whatever the SDK says; the fate of its rows shows in the offset token.
    with suppress(StreamingIngestError, TimeoutError):
        it.close(wait_for_flush=False, timeout_seconds=_CLOSING_SECONDS)


def _sdk() -> Any:
    # The SDK's thread doesn't exist in a process that was forked later, and a call would wait for it forever.
    if _processes and os.getpid() not in _processes:
        raise ServiceRefusedError(
            "Start a separate process for the drain: this one was forked from one that has streamed, and "
            "Snowflake's SDK can't continue in it"
        )
    _processes.add(os.getpid())
    # Otherwise it writes a line to the task's log for each step.
    os.environ.setdefault("SS_LOG_LEVEL", "error")
    try:
        from snowflake.ingest import streaming
    except ImportError as error:
        raise InvalidSettingError(
            'Install the extra "streaming" (pip install "airflow-kinesis-snowflake[streaming]"): '
            "Snowflake's SDK for Snowpipe Streaming is missing or can't be loaded on this machine"
        ) from error
    return streaming


def _host(account: str, region: str | None) -> str:
    """The address of an account; a locator may be followed by its region, and needs none in us-west-2."""
    if region and region != "us-west-2":
        account = f"{account.partition('.')[0]}.{region}"
    is_in_china = account.partition(".")[2].lower().startswith("cn-")
    return f"{account}.snowflakecomputing.{'cn' if is_in_china else 'com'}"


def _pem(key: bytes | str) -> str:
    if isinstance(key, str):
        return key
    lines = textwrap.wrap(base64.b64encode(key).decode(), 64)
    return "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])


def _state(status: Any) -> ChannelState:
    return ChannelState(
        committed=status.latest_committed_offset_token,
        inserted=status.rows_inserted_count,
        rejected=status.rows_error_count,
        rejected_through=status.last_error_offset_token_upper_bound,
        why=status.last_error_message,
    )


@contextmanager
def _translated(doing: str, *, target: str) -> Iterator[None]:
    from snowflake.ingest.streaming import StreamingIngestError

    try:
        yield
    except StreamingIngestError as error:
        raise translate(error, doing=doing, target=target) from error
    except TimeoutError as error:
        raise ServiceUnavailableError(
            f"Try again: Snowflake can't {doing} {target} in time ({type(error).__name__})"
        ) from error


def translate(error: Any, *, doing: str, target: str) -> KinesisSnowflakeError:
    """Translate an error of the SDK into one of this package.

    ======================================================= ==============================================
    Error                                                   Becomes
    ======================================================= ==============================================
    the service's STALE_CONTINUATION_TOKEN_SEQUENCER,       :class:`FencedError`
    ERR_CHANNEL_HAS_INVALID_.. and ERR_CHANNEL_MUST_BE_..
    ERR_CHANNEL_DOES_NOT_EXIST.., .._NO_LONGER_EXISTS       :class:`ChannelForgottenError`
    ERR_PIPE_DOES_NOT_EXIST.., and those of tables          :class:`SnowflakeObjectNotFoundError`
    a channel limit                                         :class:`ChannelLimitError`
    HTTP 401, 403                                           :class:`AccessDeniedError`
    HTTP 413                                                :class:`RowTooLargeError`
    HTTP 429; the SDK's memory or queue is full             :class:`ThrottledError`
    any other 4xx; what the SDK takes for a wrong setting   :class:`ServiceRefusedError`
    all else                                                :class:`ServiceUnavailableError`
    ======================================================= ==============================================

    :param error: a ``StreamingIngestError``
    :param doing: what was tried, as a verb
    :param target: the object of the verb
    """
    text = str(error.message)
    what = f"Snowflake can't {doing} {target}"
    code = next((one or two for one, two in _CODE.findall(text)), "")
    found = _meaning_of(code, what) if code else None
    if found is not None and not isinstance(found, ServiceUnavailableError):
        return found
    kind, advice = _by_kind(error.error_code.value, _status_of(text) or error.http_status_code)
    return kind(f"{advice}: {what}: {_URL.sub('', ' '.join(text.split()))}")


def _status_of(text: str) -> int | None:
    match = re.search(r"HTTP (\d{3})", text)
    return int(match[1]) if match else None


def _meaning_of(code: str, what: str) -> KinesisSnowflakeError:
    """The error that a code of the service means."""
    if code in _FENCED:
        return FencedError(
            f"Let the worker that has the lease continue: {what}: somebody else has opened it ({code})"
        )
    if _FORGOTTEN.match(code):
        return ChannelForgottenError(
            f"Try again: {what}: it no longer exists, because it was dropped or idle for 30 days ({code})"
        )
    if _MISSING.match(code):
        return SnowflakeObjectNotFoundError(
            f"Create the table, or grant the role of the connection INSERT on it and OPERATE on its pipe: "
            f"{what}: there is none that the role may use ({code})"
        )
    if _LIMIT.search(code):
        return ChannelLimitError(
            f"Drop the channels of dead applications, or load into another table: {what}: "
            f"its pipe has as many as it can have ({code})"
        )
    return ServiceUnavailableError(f"Try again: {what}: {code}")


def _by_kind(name: str, status: int) -> tuple[type[KinesisSnowflakeError], str]:
    """What the SDK's name of an error, or otherwise the HTTP status, means, and what to do."""
    if status in {401, 403} or name in {"AuthTokenError", "SfApiAuthError"}:
        return AccessDeniedError, (
            "Check this machine's clock, and the user and public key of the Airflow connection"
        )
    if status == 413:
        return RowTooLargeError, "Send less at once"
    if status == 429 or name in _THROTTLED:
        return ThrottledError, "Try again later, with less at once"
    if name in {"InvalidChannelError", "ClosedChannelError", "ClosedClientError"} and status in {409, 400}:
        return ServiceUnavailableError, "Open the channel again"
    if name in _REFUSED or 400 <= status < 500:
        return ServiceRefusedError, "Follow the service's message"
    return ServiceUnavailableError, "Try again"
