"""The smallest IAM policies for what this package does in AWS: no action that no call needs."""

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
    IMPORT = "import"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a policy is restricted to. Without account and region it names the same things in all of them.

    :param application: whose table
    :param stream: which stream is read
    :param consumer: name of the registered consumer, which a drain with enhanced fan-out registers and a
        cleanup deregisters; default is the application's
    :param fan_out: a drain reads by enhanced fan-out, and by polling where that fails
    :param source: the table that an import reads
    :param key: ARN of the stream's KMS key, if it is encrypted with one
    :param backups: ``bucket/prefix`` of the JSON backups, if they go to S3
    """

    application: str
    stream: str
    account: str = "*"
    region: str = "*"
    partition: str = "aws"
    consumer: str | None = None
    fan_out: bool = False
    source: str | None = None
    key: str | None = None
    backups: str | None = None

    @property
    def consumer_arn(self) -> str:
        """The ARN of the registered consumer, which ends with the time when it was registered."""
        return self.arn("kinesis", f"stream/{self.stream}/consumer/{self.consumer or self.application}:*")

    def arn(self, service: str, name: str) -> str:
        """The ARN of something in the account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{name}"


# CreateTable needs TagResource too, for the tags that it gives. GetItem is called where the answer to a write
# whose condition isn't met has no item in it.
_MAKE_TABLE = ("CreateTable", "DescribeTable", "TagResource")
_TABLE = {
    Purpose.DRAIN: (*_MAKE_TABLE, "DeleteItem", "GetItem", "Query", "UpdateItem"),
    Purpose.RESET: (
        *_MAKE_TABLE,
        "CreateBackup",
        "DeleteItem",
        "DeleteTable",
        "GetItem",
        "Query",
        "Scan",
        "UpdateItem",
    ),
    Purpose.CLEANUP: ("CreateBackup", "DeleteTable", "DescribeTable", "ListTagsOfResource", "Scan"),
    Purpose.IMPORT: (*_MAKE_TABLE, "GetItem", "Query", "UpdateItem"),
}
_STREAM = {
    Purpose.DRAIN: ("DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"),
    Purpose.RESET: ("DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"),
    Purpose.CLEANUP: ("DescribeStreamSummary", "ListStreamConsumers"),
    Purpose.IMPORT: ("DescribeStreamSummary", "ListShards"),
}
# Of consumers that are named after their application; DescribeStreamConsumer is about either of the two.
_FAN_OUT = ("DescribeStreamConsumer", "RegisterStreamConsumer", "SubscribeToShard")
_BACKUPS = {Purpose.RESET: ("GetObject", "PutObject"), Purpose.CLEANUP: ("PutObject",)}


def policy(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    """A policy document. See the *Actions, resources, and condition keys* pages of the services."""
    statements = [_table(purpose, resources)]
    if purpose is Purpose.CLEANUP:
        # ListTables can't be restricted to a table.
        statements.append(_statement("FindTables", "dynamodb", ("ListTables",), ["*"]))
    if purpose is Purpose.IMPORT:
        source = [resources.arn("dynamodb", f"table/{resources.source or '*'}")]
        statements.append(_statement("ReadSource", "dynamodb", ("DescribeTable", "Scan"), source))
    stream = [resources.arn("kinesis", f"stream/{resources.stream}")]
    statements.append(_statement("Stream", "kinesis", _STREAM[purpose], stream))
    if purpose is Purpose.DRAIN and resources.fan_out:
        statements.append(_statement("FanOut", "kinesis", _FAN_OUT, [*stream, resources.consumer_arn]))
    if purpose is Purpose.CLEANUP:
        statements.append(
            _statement("Consumer", "kinesis", ("DeregisterStreamConsumer",), [resources.consumer_arn])
        )
    if resources.key and "GetRecords" in _STREAM[purpose]:
        statements.append(_statement("ReadEncrypted", "kms", ("Decrypt",), [resources.key]))
    if resources.backups and purpose in _BACKUPS:
        objects = [f"arn:{resources.partition}:s3:::{resources.backups.rstrip('/')}/*"]
        statements.append(_statement("KeepBackups", "s3", _BACKUPS[purpose], objects))
    return {"Version": "2012-10-17", "Statement": statements}


def drain_policy_text(*, application: str, stream: str) -> str:
    """The statement about the table that a drain needs, as JSON in one line."""
    resources = Resources(application=application, stream=stream)
    return json.dumps(_table(Purpose.DRAIN, resources))


def _table(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    return _statement(
        "ApplicationTable",
        "dynamodb",
        _TABLE[purpose],
        [resources.arn("dynamodb", f"table/{resources.application}")],
    )


def _statement(sid: str, service: str, actions: tuple[str, ...], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in sorted(actions)],
        "Resource": resources,
    }
