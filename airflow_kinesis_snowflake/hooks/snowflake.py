"""Snowflake connections, from Airflow connections."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowException, AirflowNotFoundException  # type: ignore[attr-defined]
from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
from snowflake.connector import SnowflakeConnection, connect, errors

from airflow_kinesis_snowflake.exceptions import (
    InvalidSettingError,
    KinesisSnowflakeError,
)
from airflow_kinesis_snowflake.hooks.connections import find_connection
from airflow_kinesis_snowflake.sinks.snowflake.errors import WAITS, Tries, broken_off, translate
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient, StreamingLogin


log = logging.getLogger(__name__)

_PACKAGE = "airflow-kinesis-snowflake"
_LOGIN_TIMEOUT = 60
# Snowflake ends a transaction that is idle and blocks others after 5 minutes, counted from when it begins to
# block, and looks now and then. So a wait of 15 minutes outlives a worker that died before its COMMIT. A
# statement may take longer than the wait for its lock.
_LOCK_TIMEOUT = 900
_STATEMENT_TIMEOUT = 2400
_SOCKET_TIMEOUT = 60
# Of the authenticators, those that log a user in with a password or a private key.
_BY_USER = frozenset({"snowflake", "snowflake_jwt", "username_password_mfa"})
_KEYS = ("private_key_file", "private_key_content", "token")
_FIELDS = ("account", *_KEYS)
_HOST = ".snowflakecomputing."
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SESSION_PARAMETERS: Mapping[str, str | int | bool] = {
    "TIMEZONE": "UTC",
    "LOCK_TIMEOUT": _LOCK_TIMEOUT,
    # Otherwise a statement whose client died would keep running and hold its locks.
    "ABORT_DETACHED_QUERY": True,
    # What an account or user may have set otherwise, and what would change the meaning of statements.
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "DATE_INPUT_FORMAT": "AUTO",
    "TIME_INPUT_FORMAT": "AUTO",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
    "ERROR_ON_NONDETERMINISTIC_UPDATE": True,
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
}


class SnowflakeLoadHook(SnowflakeHook):
    """Opens sessions that load micro-batches, through an Airflow connection of type ``snowflake``.

    All that :class:`~airflow.providers.snowflake.hooks.snowflake.SnowflakeHook` reads from the connection
    holds here too. Besides, ``protocol`` in the extra (``http``) reaches a local service.

    :param snowflake_conn_id: Airflow connection
    :param query_tag: ``QUERY_TAG`` of the sessions, at most 2,000 characters; by default JSON that names this
        package
    :param waits: seconds between one try and the next of an HTTP request that gets no answer
    """

    def __init__(
        self,
        *,
        snowflake_conn_id: str = "snowflake_default",
        query_tag: str | None = None,
        waits: Sequence[float] = WAITS,
        **kwargs: Any,
    ) -> None:
        super().__init__(snowflake_conn_id=snowflake_conn_id, **kwargs)
        self._waits = waits
        self._query_tag = query_tag or json.dumps({"package": _PACKAGE})

    def account_name(self) -> str | None:
        """The account as the connection names it, with its region if that is given; opens no session.

        ``None``: there is no such connection, or it names no account.
        """
        try:
            extra = self.get_connection(self.get_conn_id()).extra_dejson
        except AirflowNotFoundException:
            # Whether the connection is there matters to those who load. This is for showing.
            return None
        account, region = (
            extra.get(name) or extra.get(f"extra__snowflake__{name}") for name in ("account", "region")
        )
        return f"{account}.{region}" if account and region else account or None

    def check_connection(self) -> None:
        """Check that the Airflow connection has what a login needs; Snowflake isn't called.

        :raises InvalidSettingError: it doesn't exist, is malformed, or has no account, user or key
        """
        connection = self._find_connection()
        extra = connection.extra_dejson
        fields = {name: extra.get(name) or extra.get(f"extra__snowflake__{name}") for name in _FIELDS}
        authenticator = str(self.authenticator or extra.get("authenticator") or "snowflake").lower()
        has_key = connection.password or any(fields[name] for name in _KEYS)
        missing = {
            "account in the extra": not (self.account or fields["account"]),
            "login (the name of the user)": authenticator in _BY_USER and not connection.login,
            "private_key_content in the extra, or the password,": authenticator in _BY_USER and not has_key,
        }
        for what, is_missing in missing.items():
            if is_missing:
                raise InvalidSettingError(
                    f"Set the {what} of the Airflow connection {self.get_conn_id()!r}: it is empty"
                )
        if _HOST in str(fields["account"]):
            raise InvalidSettingError(
                f"Shorten the account in the extra of the Airflow connection {self.get_conn_id()!r} to what "
                f"is before {_HOST} in Snowflake's address, without https://"
            )
        if authenticator != "oauth":  # for which a token would be fetched
            self._checked_params()

    def get_conn(self) -> SnowflakeConnection:
        """A new connection: autocommit, UTC, waiting at most 15 minutes for a lock and 40 for a statement.

        :raises InvalidSettingError: the Airflow connection doesn't exist, or isn't complete
        :raises AccessDeniedError: Snowflake refuses the login
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        return self._connect(autocommit=True)

    def open_session(self) -> SnowflakeSession:
        """Log in for loading. The session is a context manager that closes itself.

        The session has AUTOCOMMIT off: a statement that Snowflake runs outside of the transaction that it was
        meant for, because it was late or the transaction had ended, begins one that nobody commits.

        :raises InvalidSettingError: the Airflow connection doesn't exist, or isn't complete
        :raises AccessDeniedError: Snowflake refuses the login
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        tries = Tries(self._waits)
        session = SnowflakeSession(
            partial(self._connect, autocommit=False, tries=tries), tries=tries, name=self.get_conn_id()
        )
        session.opt_out_of_error_logging()
        return session

    def streaming_login(self) -> StreamingLogin:
        """Who streams, and to which account, without connecting.

        The connection needs a key pair; ``streaming_url`` in its extra reaches another endpoint than the
        account's.

        :raises InvalidSettingError: the Airflow connection doesn't exist, or isn't complete
        """
        from airflow_kinesis_snowflake.sinks.snowflake.channels import StreamingLogin

        extra = self._find_connection().extra_dejson
        return StreamingLogin.from_params(
            self._checked_params(),
            connection=self.get_conn_id(),
            streaming_url=extra.get("streaming_url"),
        )

    def open_channels(self, table: TableName) -> ChannelClient:
        """Log in to stream into a table.

        :raises InvalidSettingError: the Airflow connection isn't complete, or the extra ``streaming`` isn't
            installed
        :raises AccessDeniedError: Snowflake refuses the key
        :raises SnowflakeObjectNotFoundError: there is no such table, or the role has no privilege on it
        :raises ServiceUnavailableError: Snowflake can't be reached
        """
        from airflow_kinesis_snowflake.sinks.snowflake.channels import ChannelClient

        return ChannelClient(self.streaming_login(), table)

    def _connect(self, *, autocommit: bool, tries: Tries | None = None) -> SnowflakeConnection:
        backoff_policy = tries or Tries(self._waits)
        params = {**self._checked_params(), "autocommit": autocommit, "backoff_policy": backoff_policy}
        target = f"account {params.get('account')} (connection {self.get_conn_id()!r})"
        try:
            return connect(**params)
        except errors.Error as error:
            raise translate(error, doing="log in to", target=target) from error
        except OSError as error:
            raise broken_off(error, doing="log in to", target=target) from error

    def _find_connection(self) -> Any:
        return find_connection(self.get_connection, self.get_conn_id(), conn_type="snowflake")

    def _checked_params(self) -> dict[str, Any]:
        self._find_connection()
        try:
            return self._connector_params()
        except (AirflowException, OSError, ValueError, TypeError) as error:
            # The error may quote a key or a passphrase.
            raise InvalidSettingError(
                f"Correct the Airflow connection {self.get_conn_id()!r}: its parameters, such as the private "
                f"key, can't be read ({type(error).__name__})"
            ) from None

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]
        """Log in and query Snowflake's version; the result is human-readable."""
        try:
            with self.open_session() as session:
                return True, f"Snowflake {session.version()} answers"
        except KinesisSnowflakeError as error:
            return False, str(error)

    def _connector_params(self) -> dict[str, Any]:
        # A property in older versions of the provider, a method in newer ones.
        given: Any = self._get_conn_params
        params: dict[str, Any] = dict(given() if callable(given) else given)
        protocol = self.get_connection(self.get_conn_id()).extra_dejson.get("protocol")
        if protocol:
            params["protocol"] = protocol
        if params.get("private_key"):
            # Connectors before 5 conclude it from the key, whatever authenticator the provider names.
            params["authenticator"] = "SNOWFLAKE_JWT"
        session_parameters = {
            **(params.get("session_parameters") or {}),
            "QUERY_TAG": self._query_tag,
            **SESSION_PARAMETERS,
        }
        if params.get("host") in _LOCAL_HOSTS:
            session_parameters["CLIENT_TELEMETRY_ENABLED"] = False
            params["platform_detection_timeout_seconds"] = 0
        params |= {
            "session_parameters": session_parameters,
            "paramstyle": "pyformat",
            "login_timeout": _LOGIN_TIMEOUT,
            "network_timeout": _STATEMENT_TIMEOUT,
            "socket_timeout": _SOCKET_TIMEOUT,
        }
        return params
