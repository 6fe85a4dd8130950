"""The checkpoint hook against answers that no local service gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake import __version__
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    ServiceUnavailableError,
    ThrottledError,
)
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.state.shards import StreamState

if TYPE_CHECKING:
    from tests.unit.hooks.conftest import Answers

TWICE = {"retries": {"total_max_attempts": 2, "mode": "standard"}}


@pytest.fixture(scope="module")
def hook(aws_of_module: Answers) -> CheckpointStoreHook:
    return CheckpointStoreHook("app", config=TWICE)


@pytest.mark.parametrize("name", ["ab", "a" * 256, "sp ace", "a/b/c"])
def test_a_name_that_cannot_be_a_table_is_refused(name: str) -> None:
    with pytest.raises(InvalidSettingError):
        CheckpointStoreHook(name)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ProvisionedThroughputExceededException", 400, ThrottledError),
        ("AccessDeniedException", 400, AccessDeniedError),
        ("InternalServerError", 500, ServiceUnavailableError),
    ],
)
def test_a_lease_is_not_called_lost_because_of_an_error(
    aws: Answers, hook: CheckpointStoreHook, code: str, status: int, kind: type[Exception]
) -> None:
    aws.add_error(code, status=status)

    with pytest.raises(kind):
        hook.renew_lease("orders", "shardId-0", owner="w", expiry=2, now=1)


def test_a_write_is_tried_again(aws: Answers, hook: CheckpointStoreHook) -> None:
    aws.add_error("InternalServerError", status=500)
    aws.add(200, {"Attributes": {"shardId": {"S": "shardId-0"}}})

    assert hook.renew_lease("orders", "shardId-0", owner="w", expiry=2, now=1)
    assert len(aws.requests) == 2


@pytest.mark.parametrize("answer", [b"", b"<html>A proxy</html>", b'{"Attributes": {"shardId": {"S": "sh'])
def test_an_answer_that_is_no_json_is_asked_for_again(
    aws: Answers, hook: CheckpointStoreHook, answer: bytes
) -> None:
    aws.add(200, answer)
    aws.add(200, {"Items": [], "Count": 0})

    assert hook.read_state("orders") == StreamState()
    assert len(aws.requests) == 2


def test_answers_that_are_never_json_say_that_the_service_is_unavailable(
    aws: Answers, hook: CheckpointStoreHook
) -> None:
    aws.add(200, b"<html>A proxy</html>")

    with pytest.raises(ServiceUnavailableError):
        hook.read_state("orders")


def test_a_new_table_says_who_made_it(aws: Answers, hook: CheckpointStoreHook) -> None:
    table = {
        "KeySchema": [
            {"AttributeName": "streamName", "KeyType": "HASH"},
            {"AttributeName": "shardId", "KeyType": "RANGE"},
        ],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("streamName", "shardId")
        ],
        "TableArn": "arn:aws:dynamodb:eu-west-1:1:table/app",
        "TableStatus": "ACTIVE",
        "CreationDateTime": 1_700_000_000,
    }
    aws.add_error("ResourceNotFoundException")
    aws.add(200, {})
    aws.add(200, {"Table": table})

    hook.create_table()

    tags = {tag["Key"]: tag["Value"] for tag in aws.requests[1]["Tags"]}
    assert tags == {
        "created-by": "airflow-kinesis-snowflake",
        "application": "app",
        "version": __version__,
    }


def test_the_connection_test_says_which_permission_is_missing(
    aws: Answers, hook: CheckpointStoreHook
) -> None:
    aws.add_error("AccessDeniedException", "not authorized")

    works, message = hook.test_connection()

    assert not works
    assert "Allow dynamodb:DescribeTable" in message
    assert "table 'app' in eu-west-1" in message


@pytest.mark.usefixtures("nobody")
def test_a_service_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(ServiceUnavailableError, match="table 'app' in eu-west-1"):
        CheckpointStoreHook("app", config=TWICE).read_state("orders")
