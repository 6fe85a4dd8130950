"""The smallest IAM policies for what this package does in AWS."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Purpose(StrEnum):
    """What a policy allows."""

    DRAIN = "drain"
    RESET = "reset"
    CLEANUP = "cleanup"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a policy is restricted to. Without account and region it names the same things in all of them.

    :param application: whose table
    :param stream: which stream is read
    :param consumer: name of a registered consumer (enhanced fan-out), if there is one
    :param key: ARN of the stream's KMS key, if it is encrypted with one
    :param backups: ``bucket/prefix`` of the JSON backups, if they go to S3
    """

    application: str
    stream: str
    account: str = "*"
    region: str = "*"
    partition: str = "aws"
    consumer: str | None = None
    key: str | None = None
    backups: str | None = None

    def arn(self, service: str, name: str) -> str:
        """The ARN of something in the account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{name}"


_READ_STREAM = ("DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards")
_TABLE = {
    Purpose.DRAIN: (
        "CreateTable",
        "DeleteItem",
        "DescribeTable",
        "GetItem",
        "Query",
        "TagResource",
        "UpdateItem",
    ),
    Purpose.RESET: (
        "CreateBackup",
        "CreateTable",
        "DeleteItem",
        "DeleteTable",
        "DescribeTable",
        "Query",
        "Scan",
        "TagResource",
        "UpdateItem",
    ),
    Purpose.CLEANUP: (
        "CreateBackup",
        "DeleteTable",
        "DescribeTable",
        "ListTagsOfResource",
        "Scan",
    ),
}


def policy(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    """A policy document. See the *Actions, resources, and condition keys* pages of the services."""
    statements = [_table(purpose, resources)]
    if purpose is Purpose.CLEANUP:
        statements += [_find_tables(), *_consumers(resources, ("DeregisterStreamConsumer",))]
        statements.append(
            _statement(
                "FindConsumers",
                "kinesis",
                ("ListStreamConsumers",),
                [resources.arn("kinesis", f"stream/{resources.stream}")],
            )
        )
    else:
        statements += _stream(resources)
    if purpose is not Purpose.DRAIN and resources.backups:
        statements.append(
            _statement(
                "KeepBackups",
                "s3",
                ("GetObject", "PutObject"),
                [f"arn:{resources.partition}:s3:::{resources.backups.rstrip('/')}/*"],
            )
        )
    return {"Version": "2012-10-17", "Statement": statements}


def drain_policy_text(*, application: str, stream: str) -> str:
    """The statement about the table that a drain needs, as JSON."""
    resources = Resources(application=application, stream=stream)
    return json.dumps(_table(Purpose.DRAIN, resources), indent=2)


def _table(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    return _statement(
        "ApplicationTable",
        "dynamodb",
        _TABLE[purpose],
        [resources.arn("dynamodb", f"table/{resources.application}")],
    )


def _find_tables() -> dict[str, Any]:
    # ListTables can't be restricted to a table.
    return _statement("FindTables", "dynamodb", ("ListTables",), ["*"])


def _stream(resources: Resources) -> list[dict[str, Any]]:
    statements = [
        _statement(
            "ReadStream", "kinesis", _READ_STREAM, [resources.arn("kinesis", f"stream/{resources.stream}")]
        )
    ]
    statements += _consumers(
        resources, ("DeregisterStreamConsumer", "DescribeStreamConsumer", "SubscribeToShard")
    )
    if resources.consumer:
        statements.append(
            _statement(
                "RegisterConsumer",
                "kinesis",
                ("RegisterStreamConsumer",),
                [resources.arn("kinesis", f"stream/{resources.stream}")],
            )
        )
    if resources.key:
        statements.append(_statement("ReadEncrypted", "kms", ("Decrypt",), [resources.key]))
    return statements


def _consumers(resources: Resources, actions: tuple[str, ...]) -> list[dict[str, Any]]:
    if not resources.consumer:
        return []
    name = f"stream/{resources.stream}/consumer/{resources.consumer}:*"
    return [_statement("Consumer", "kinesis", actions, [resources.arn("kinesis", name)])]


def _statement(sid: str, service: str, actions: tuple[str, ...], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions],
        "Resource": resources,
    }
