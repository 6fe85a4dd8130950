"""IAM policies name only what is theirs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.iam import Document, Purpose, Resources, document, policy

DOCS = Path(__file__).parents[3] / "docs"
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


ARN = "arn:aws:kinesis:eu-west-1:222222222222:stream/orders"
PRINCIPAL = "arn:aws:iam::123456789012:role/airflow"
ROLE = "arn:aws:iam::222222222222:role/reader"
ELSEWHERE = Resources(application="app", stream=ARN, account="123456789012", principal=PRINCIPAL)


def test_the_stream_is_that_of_the_arn_and_the_table_that_of_the_account() -> None:
    table, stream = policy(Purpose.DRAIN, ELSEWHERE)["Statement"]
    assert table["Resource"] == ["arn:aws:dynamodb:eu-west-1:123456789012:table/app"]
    assert stream["Resource"] == [ARN]
    table, _ = policy(Purpose.DRAIN, replace(ELSEWHERE, region="us-east-1"))["Statement"]
    assert table["Resource"] == ["arn:aws:dynamodb:us-east-1:123456789012:table/app"]


def test_the_partition_is_that_of_the_region() -> None:
    chinese = Resources(application="app", stream="orders", region="cn-north-1", backups="bucket/prefix")
    resources = [each for each in policy(Purpose.RESET, chinese)["Statement"] for each in each["Resource"]]
    assert {resource.split(":")[1] for resource in resources} == {"aws-cn"}


def test_with_a_role_one_policy_may_assume_it_and_the_other_has_the_stream() -> None:
    own = policy(Purpose.DRAIN, replace(ELSEWHERE, role=ROLE))["Statement"]
    theirs = document(Document.ROLE_POLICY, Purpose.DRAIN, ELSEWHERE)["Statement"]
    assert [(each["Sid"], each["Resource"]) for each in own[1:]] == [("ReachStream", [ROLE])]
    assert [*own[:1], *theirs] == policy(Purpose.DRAIN, ELSEWHERE)["Statement"]


@pytest.mark.parametrize("purpose", [Purpose.DRAIN, Purpose.RESET, Purpose.IMPORT])
def test_the_owner_allows_on_the_stream_what_the_policy_allows(purpose: Purpose) -> None:
    [theirs] = document(Document.RESOURCE_POLICY, purpose, ELSEWHERE)["Statement"]
    [own] = [each for each in policy(purpose, ELSEWHERE)["Statement"] if each["Sid"] == "Stream"]
    assert theirs == own | {"Principal": {"AWS": PRINCIPAL}}


def test_who_may_assume_a_role_presents_its_external_id() -> None:
    [plain] = document(Document.TRUST_POLICY, Purpose.DRAIN, ELSEWHERE)["Statement"]
    [agreed] = document(Document.TRUST_POLICY, Purpose.DRAIN, replace(ELSEWHERE, external_id="x"))[
        "Statement"
    ]
    assert (plain["Principal"], "Condition" in plain) == ({"AWS": PRINCIPAL}, False)
    assert agreed == plain | {"Condition": {"StringEquals": {"sts:ExternalId": "x"}}}


@pytest.mark.parametrize(
    ("kind", "purpose", "resources", "why"),
    [
        (Document.RESOURCE_POLICY, Purpose.DRAIN, RESOURCES, "Give the ARN of stream 'orders'"),
        (Document.RESOURCE_POLICY, Purpose.CLEANUP, ELSEWHERE, "needs a role there"),
        (Document.RESOURCE_POLICY, Purpose.DRAIN, replace(ELSEWHERE, fan_out=True), "needs a role there"),
        (Document.RESOURCE_POLICY, Purpose.DRAIN, replace(ELSEWHERE, principal=None), "the principal"),
        (Document.TRUST_POLICY, Purpose.DRAIN, RESOURCES, "the principal"),
        (Document.KEY_POLICY, Purpose.DRAIN, RESOURCES, "the principal"),
    ],
)
def test_a_document_that_lacks_something_is_not_made(
    kind: Document, purpose: Purpose, resources: Resources, why: str
) -> None:
    with pytest.raises(InvalidSettingError, match=why):
        document(kind, purpose, resources)


def test_the_documentation_shows_the_policy_that_is_printed() -> None:
    page = (DOCS / "iam.md").read_text()
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    resources = Resources(
        application="clicks-to-snowflake", stream="clicks", account="123456789012", region="eu-west-1"
    )
    assert shown == policy(Purpose.DRAIN, resources)


@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_documentation_lists_the_same_actions(purpose: Purpose) -> None:
    page = (DOCS / "state-and-reset.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith(f"| {purpose} |")]
    needed = {action.partition(":")[2] for action in actions(purpose)}
    listed = set(re.findall(r"[A-Z][A-Za-z]+", row.replace("kms:Decrypt", "Decrypt")))
    assert listed == needed
