"""IAM policies name only what is theirs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy

RESOURCES = Resources(
    application="app",
    stream="orders",
    account="123456789012",
    region="eu-west-1",
    consumer="fan",
    key="arn:aws:kms:eu-west-1:123456789012:key/1",
    source="source-of-app",
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


def test_a_cleanup_may_deregister_the_consumer_of_the_application() -> None:
    plain = Resources(application="app", stream="orders")
    [consumer] = [each for each in policy(Purpose.CLEANUP, plain)["Statement"] if each["Sid"] == "Consumer"]
    assert consumer["Resource"] == ["arn:aws:kinesis:*:*:stream/orders/consumer/app:*"]


def test_only_a_drain_with_fan_out_may_register_a_consumer_and_subscribe() -> None:
    more = {"DescribeStreamConsumer", "RegisterStreamConsumer", "SubscribeToShard"}
    fan_out = replace(RESOURCES, fan_out=True)
    for purpose in Purpose:
        added = actions(purpose, fan_out) - actions(purpose)
        assert added == ({f"kinesis:{action}" for action in more} if purpose is Purpose.DRAIN else set())
    [statement] = [each for each in policy(Purpose.DRAIN, fan_out)["Statement"] if each["Sid"] == "FanOut"]
    assert statement["Resource"] == [
        "arn:aws:kinesis:eu-west-1:123456789012:stream/orders",
        "arn:aws:kinesis:eu-west-1:123456789012:stream/orders/consumer/fan:*",
    ]


def test_only_what_reads_records_may_decrypt_them() -> None:
    allowed = {purpose for purpose in Purpose if "kms:Decrypt" in actions(purpose)}
    assert allowed == {Purpose.DRAIN, Purpose.RESET}


@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_documentation_lists_the_same_actions(purpose: Purpose) -> None:
    page = (Path(__file__).parents[3] / "docs" / "state-and-reset.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| {purpose} |")]
    needed = {action.partition(":")[2] for action in actions(purpose)}
    listed = set(re.findall(r"[A-Z][A-Za-z]+", row.replace("kms:Decrypt", "Decrypt")))
    assert listed == needed
