"""IAM policies name only what is theirs."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy

RESOURCES = Resources(
    application="app",
    stream="orders",
    account="123456789012",
    region="eu-west-1",
    consumer="fan",
    key="arn:aws:kms:eu-west-1:123456789012:key/1",
    backups="bucket/prefix/",
)


def actions(purpose: Purpose, resources: Resources = RESOURCES) -> set[str]:
    return {action for statement in policy(purpose, resources)["Statement"] for action in statement["Action"]}


@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_policy_names_the_application_the_stream_the_consumer_and_the_key(purpose: Purpose) -> None:
    for statement in policy(purpose, RESOURCES)["Statement"]:
        for resource in statement["Resource"]:
            if statement["Sid"] == "FindTables":
                continue
            assert any(name in resource for name in ("app", "orders", "key/1", "bucket/prefix/"))
            assert "prefix//" not in resource


def test_a_drain_cannot_delete_its_table() -> None:
    assert "dynamodb:DeleteTable" not in actions(Purpose.DRAIN)
    assert "dynamodb:DeleteTable" in actions(Purpose.RESET)


def test_no_policy_allows_everything_of_a_service() -> None:
    for purpose in Purpose:
        assert not any("*" in action for action in actions(purpose))


def test_what_isnt_there_needs_no_permission() -> None:
    plain = Resources(application="app", stream="orders")
    assert not any(action.startswith(("kms:", "s3:")) for action in actions(Purpose.RESET, plain))
    assert "kinesis:SubscribeToShard" not in actions(Purpose.DRAIN, plain)
