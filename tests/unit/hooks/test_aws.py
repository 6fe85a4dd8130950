"""Errors of AWS become errors that say whether another try is worth it, and what to do."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    WaiterError,
)

from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    IteratorExpiredError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StreamNotFoundError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.aws import translate, translated


def answer(code: str, message: str = "", *, status: int = 400, operation: str = "GetRecords") -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


def of_kinesis(error: ClientError | BotoCoreError) -> KinesisSnowflakeError:
    return translate(error, doing="kinesis:GetRecords", resource="stream 'orders'")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ResourceNotFoundException", StreamNotFoundError),
        ("ExpiredIteratorException", IteratorExpiredError),
        ("ProvisionedThroughputExceededException", ThrottledError),
        ("LimitExceededException", ThrottledError),
        ("KMSThrottlingException", ThrottledError),
        ("ThrottlingException", ThrottledError),
        ("TooManyRequestsException", ThrottledError),
        ("AccessDeniedException", AccessDeniedError),
        ("UnrecognizedClientException", AccessDeniedError),
        ("InvalidSignatureException", AccessDeniedError),
        ("ExpiredTokenException", AccessDeniedError),
        ("KMSAccessDeniedException", AccessDeniedError),
        ("KMSDisabledException", AccessDeniedError),
        ("KMSInvalidStateException", AccessDeniedError),
        ("KMSNotFoundException", AccessDeniedError),
        ("KMSOptInRequired", AccessDeniedError),
        ("InternalFailure", ServiceUnavailableError),
        ("ResourceInUseException", ServiceUnavailableError),
        ("ValidationException", ServiceRefusedError),
        ("InvalidArgumentException", ServiceRefusedError),
        ("AnythingNew", ServiceRefusedError),
    ],
)
def test_every_code_has_its_class(code: str, kind: type[Exception]) -> None:
    assert type(of_kinesis(answer(code))) is kind


def test_a_fault_of_the_service_is_transient_whatever_its_code() -> None:
    assert type(of_kinesis(answer("AnythingNew", status=503))) is ServiceUnavailableError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(endpoint_url="http://x"), ServiceUnavailableError),
        (ReadTimeoutError(endpoint_url="http://x"), ServiceUnavailableError),
        (ConnectionClosedError(endpoint_url="http://x"), ServiceUnavailableError),
        (IncompleteReadError(actual_bytes=1, expected_bytes=2), ServiceUnavailableError),
        (NoCredentialsError(), AccessDeniedError),
        (ParamValidationError(report="Limit"), ServiceRefusedError),
        (WaiterError(name="w", reason="Max attempts exceeded", last_response={}), ServiceUnavailableError),
    ],
)
def test_errors_without_an_answer_have_their_class(error: BotoCoreError, kind: type[Exception]) -> None:
    assert type(of_kinesis(error)) is kind


def test_a_missing_table_is_not_a_missing_stream() -> None:
    error = translate(answer("ResourceNotFoundException"), doing="dynamodb:Query", resource="table 't'")

    assert type(error) is ServiceRefusedError


def test_the_answer_that_ended_a_wait_counts() -> None:
    refusal = answer("AccessDeniedException", operation="DescribeTable").response
    ended = WaiterError(name="TableExists", reason="refused", last_response=refusal)

    error = translate(ended, doing="dynamodb:DescribeTable", resource="table 't'")

    assert type(error) is AccessDeniedError
    assert "Allow dynamodb:DescribeTable" in str(error)


def test_the_message_names_the_call_the_resource_the_reason_and_the_remedy() -> None:
    message = str(of_kinesis(answer("AccessDeniedException", "User x is not authorized.")))

    assert message == (
        "Allow kinesis:GetRecords in the policies of the role that runs the task. kinesis:GetRecords on "
        "stream 'orders' failed: An error occurred (AccessDeniedException) when calling the GetRecords "
        "operation: User x is not authorized"
    )


def test_a_refused_key_says_that_decrypting_is_needed() -> None:
    assert "kms:Decrypt" in str(of_kinesis(answer("KMSAccessDeniedException")))


def test_a_role_that_cannot_be_assumed_is_named_as_such() -> None:
    assert "Allow AssumeRole in" in str(of_kinesis(answer("AccessDenied", operation="AssumeRole")))


def test_a_signature_error_does_not_reveal_the_session_token() -> None:
    error = answer("InvalidSignatureException", "canonical string: x-amz-security-token:SESSION-TOKEN")

    with (
        pytest.raises(AccessDeniedError) as raised,
        translated(doing="kinesis:GetRecords", resource="stream 'orders'"),
    ):
        raise error

    assert "SESSION-TOKEN" not in "".join(traceback.format_exception(raised.value))
    assert "InvalidSignatureException" in str(raised.value)


def test_errors_of_others_pass() -> None:
    with pytest.raises(KeyError), translated(doing="kinesis:GetRecords", resource="stream 'orders'"):
        raise KeyError("ours")
