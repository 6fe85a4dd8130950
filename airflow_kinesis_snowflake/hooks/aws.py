"""AWS clients that detect broken responses, and what an AWS error means for a drain."""

from __future__ import annotations

import difflib
import functools
import random
import socket
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import botocore.session
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
    WaiterError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    IteratorExpiredError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StreamNotFoundError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.connections import find_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

_MAX_WAIT = 5.0


class BrokenAnswerError(BotoCoreError):
    """A response that is incomplete, or not from AWS."""

    fmt = "the answer {broken}"


class _Meaning(NamedTuple):
    kind: type[KinesisSnowflakeError]
    advice: str


_NOT_FOUND = _Meaning(ServiceRefusedError, "Check its name: it doesn't exist in this account and region.")
_STREAM_NOT_FOUND = _Meaning(
    StreamNotFoundError,
    "Check its name or ARN, and the connection's account and region: no such stream is in this account and "
    "region.",
)
_EXPIRED = _Meaning(IteratorExpiredError, "Get a new iterator at the same position.")
_THROTTLED = _Meaning(ThrottledError, "Call it less often, or raise the limit.")
_NOT_ALLOWED = _Meaning(AccessDeniedError, "Allow {action} in the policies of the role that runs the task.")
_BAD_CREDENTIALS = _Meaning(
    AccessDeniedError, "Check the credentials of the AWS connection and the clock of the worker."
)
_NO_CREDENTIALS = _Meaning(
    AccessDeniedError,
    "Set an access key with its secret, or a role, in the AWS connection; the worker itself has none.",
)
_KEY_REFUSED = _Meaning(
    AccessDeniedError,
    "Enable the stream's KMS key, and allow kms:Decrypt on it in its key policy and in the policies of the "
    "role that runs the task.",
)
_UNAVAILABLE = _Meaning(ServiceUnavailableError, "Try again.")
_REFUSED = _Meaning(ServiceRefusedError, "Change the settings or the state; a retry won't succeed.")
_BY_CODE = {
    code: meaning
    for meaning, codes in {
        _NOT_FOUND: ("ResourceNotFoundException",),
        _EXPIRED: ("ExpiredIteratorException",),
        _THROTTLED: (
            "KMSThrottlingException",
            "LimitExceededException",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ),
        _NOT_ALLOWED: ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"),
        _BAD_CREDENTIALS: (
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "NotAuthorized",
            "OptInRequired",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        _KEY_REFUSED: (
            "KMSAccessDeniedException",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMSNotFoundException",
            "KMSOptInRequired",
        ),
        _UNAVAILABLE: (
            "ExpiredNextTokenException",
            "InternalFailure",
            "InternalFailureException",
            "InternalServerError",
            "RequestTimeout",
            "RequestTimeoutException",
            "ResourceInUseException",
            "ServiceUnavailable",
        ),
    }.items()
    for code in codes
}

_BY_CLASS = (
    (
        (
            CredentialRetrievalError,
            NoAuthTokenError,
            PartialCredentialsError,
            SSOError,
            TokenRetrievalError,
        ),
        _BAD_CREDENTIALS,
    ),
    ((NoCredentialsError,), _NO_CREDENTIALS),
    (
        (
            BotoConnectionError,
            BrokenAnswerError,
            HTTPClientError,
            IncompleteReadError,
            MetadataRetrievalError,
            WaiterError,
        ),
        _UNAVAILABLE,
    ),
)


def error_code(error: Exception) -> str:
    """Return the AWS code of an error, or "" if AWS didn't answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def translate(error: ClientError | BotoCoreError, *, doing: str, resource: str) -> KinesisSnowflakeError:
    """Translate a botocore error into one of this package.

    AWS' message is included, except for credential errors: its response to a wrong signature repeats the
    signed headers, and with them the session token.

    :param error: what botocore raised
    :param doing: the IAM action of the call, such as ``kinesis:GetRecords``
    :param resource: what the call was about, such as ``stream 'orders' in eu-west-1``
    :return: an error to raise; transient exactly if a retry of the same call may succeed
    """
    if isinstance(error, WaiterError) and "Error" in error.last_response:
        error = ClientError(error.last_response, doing.partition(":")[2])
    meaning = _meaning(error, doing)
    said = (meaning is _BAD_CREDENTIALS and error_code(error)) or str(error)
    called = getattr(error, "operation_name", "")
    # Before the call itself, botocore may have called AWS to assume a role.
    advice = meaning.advice.format(action=doing if doing.endswith(f":{called}") else called)
    return meaning.kind(f"{advice} {doing} on {resource} failed: {said.rstrip('.')}")


def _meaning(error: ClientError | BotoCoreError, doing: str) -> _Meaning:
    if isinstance(error, ClientError):
        return _meaning_of_answer(error, doing)
    return next((meaning for classes, meaning in _BY_CLASS if isinstance(error, classes)), _REFUSED)


def _meaning_of_answer(error: ClientError, doing: str) -> _Meaning:
    meaning = _BY_CODE.get(error_code(error))
    if meaning is _NOT_FOUND and doing.startswith("kinesis:"):
        return _STREAM_NOT_FOUND
    if meaning is not None:
        return meaning
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return _UNAVAILABLE if status >= 500 else _REFUSED


def parameters_of_state(aws: Mapping[str, Any], dynamodb_conn_id: str | None) -> dict[str, Any]:
    """The parameters of the hooks of an application's state, given those of its stream's hook.

    The state is where the stream is, unless it has its own connection: then it is where that leads.

    :param aws: parameters of the stream's hook
    :param dynamodb_conn_id: Airflow connection for the state; empty: that of the stream
    """
    if not dynamodb_conn_id or dynamodb_conn_id == aws.get("aws_conn_id"):
        return dict(aws)
    return {**aws, "aws_conn_id": dynamodb_conn_id, "region_name": None}


class CheckedAwsHook(AwsBaseHook):
    """Uses an Airflow connection as intended, or reports what is wrong with it before AWS is called.

    For a connection that doesn't exist, or lacks part of its key, the base class would use the machine's own
    credentials; and a nonexistent region would look like an outage.
    """

    @cached_property
    def conn_config(self) -> AwsConnectionWrapper:
        """The Airflow connection as the base class reads it.

        :raises InvalidSettingError: it doesn't exist, is malformed, or has half a key
        """
        self._check_connection()
        return super().conn_config

    @property
    def where(self) -> str:
        """The region and the Airflow connection, for messages."""
        return f"in {self.region_name or 'the default region'} (connection {self.aws_conn_id!r})"

    def get_client_type(self, *args: Any, **kwargs: Any) -> Any:
        """Return a client, as the base class makes it.

        :raises InvalidSettingError: the Airflow connection doesn't exist, is malformed or not complete; or it
            names no region, or a nonexistent one
        """
        try:
            client: Any = super().get_client_type(*args, **kwargs)
        except NoRegionError:
            raise InvalidSettingError(
                f"Set region_name in the extra of the Airflow connection {self.aws_conn_id!r}, or on the "
                "operator: neither names an AWS region"
            ) from None
        except InvalidRegionError:
            raise InvalidSettingError(self._wrong_region(self.region_name or "")) from None
        self._check_region(client)
        return client

    def _check_connection(self) -> None:
        """Don't use the machine's credentials in place of those that a connection should have."""
        if not self.aws_conn_id:
            return
        connection = find_connection(
            self.get_connection,
            self.aws_conn_id,
            conn_type="aws",
            otherwise=", or set aws_conn_id=None for the worker's own credentials",
        )
        if bool(connection.login) != bool(connection.password):
            half, other = ("login", "password") if connection.login else ("password", "login")
            raise InvalidSettingError(
                f"Set the {other} of the Airflow connection {self.aws_conn_id!r}: its {half} is half of "
                "an AWS access key (login: the id of the key; password: its secret)"
            )

    def _check_region(self, client: Any) -> None:
        region, host = client.meta.region_name, urlsplit(client.meta.endpoint_url).hostname or ""
        # An address without the region is a service of the user's own.
        if region not in host or region in known_regions() or _has_address(host):
            return
        raise InvalidSettingError(self._wrong_region(region))

    def _wrong_region(self, region: str) -> str:
        similar = difflib.get_close_matches(region.lower(), known_regions(), n=1)
        suggestion = f", perhaps to {similar[0]}" if similar else ""
        return (
            f"Correct the AWS region {region!r}{suggestion}: there is none of that name. It comes from the "
            f"Airflow connection {self.aws_conn_id!r} or the operator's region_name"
        )


class AwsHook(CheckedAwsHook):
    """Creates clients that retry when a response was cut off.

    botocore doesn't check the length of an answer, takes one that isn't JSON for an empty one, and retries
    neither: see ``enforce_content_length`` in ``botocore.httpsession``. A client of this hook retries as
    often as for any other transient error, then raises :class:`BrokenAnswerError`. Not for services whose
    answers are streams, such as S3.
    """

    def get_client_type(self, *args: Any, **kwargs: Any) -> Any:
        """Return a client; for what it raises see the base class."""
        client: Any = super().get_client_type(*args, **kwargs)
        service = client.meta.service_model.service_id.hyphenize()
        attempts = (client.meta.config.retries or {}).get("total_max_attempts", 3)
        client.meta.events.register(f"needs-retry.{service}", retry_of_broken_answers(attempts))
        return client


@functools.cache
def known_regions() -> frozenset[str]:
    """All regions known to this botocore; there may be newer ones."""
    session = botocore.session.get_session()
    partitions = session.get_available_partitions()
    return frozenset(
        region for partition in partitions for region in session.get_available_regions("dynamodb", partition)
    )


def _has_address(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def retry_of_broken_answers(most: int) -> Callable[..., float | None]:
    """Make a listener of botocore's event ``needs-retry``, which answers with the seconds to wait.

    :param most: attempts, the first one included
    """

    def needs_retry(
        *, response: tuple[Any, Any] | None, operation: Any, attempts: int, **_: Any
    ) -> float | None:
        if response is None or operation.has_event_stream_output:
            return None
        answer = response[0]
        announced, came = answer.headers.get("Content-Length"), len(answer.content)
        if announced is not None and came != int(announced):
            broken = f"broke off after {came} of {announced} bytes"
        elif answer.status_code < 300 and not _is_json(answer, operation):
            broken = "isn't one of AWS; if that lasts, look for a proxy between the worker and AWS"
        else:
            return None
        if attempts >= most:
            raise BrokenAnswerError(broken=broken)
        # Like botocore's standard mode, but with shorter waits: leases are running.
        return random.random() * min(2.0 ** (attempts - 1), _MAX_WAIT)

    return needs_retry


def _is_json(answer: Any, operation: Any) -> bool:
    """Whether a response looks like the requested JSON object, if one was requested."""
    expected = operation.output_shape is not None and operation.output_shape.members
    speaks_json = "json" in operation.service_model.protocol  # STS and IAM speak XML.
    if not (expected and speaks_json) or "cbor" in answer.headers.get("Content-Type", ""):
        return True
    body = answer.content.strip()
    return bool(body[:1] == b"{" and body[-1:] == b"}")


@contextmanager
def translated(*, doing: str, resource: str) -> Iterator[None]:
    """Raise the errors of botocore as errors of this package; for the parameters see :func:`translate`."""
    try:
        yield
    except ResponseParserError as error:
        raise ServiceUnavailableError(
            "Try again; if that doesn't help, look for a proxy between the worker and AWS: the answer to "
            f"{doing} on {resource} isn't one of AWS"
        ) from error
    except (BotoCoreError, ClientError) as error:
        ours = translate(error, doing=doing, resource=resource)
        # The chained error would bring back what translate() left out.
        raise ours from (None if isinstance(ours, AccessDeniedError) else error)
