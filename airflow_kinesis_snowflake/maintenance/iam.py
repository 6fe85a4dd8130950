"""The smallest IAM policies for what this package does in AWS: only actions that a call needs.

If the stream is in another account, its owner has a part in it: a resource policy on the stream, or a role to
assume.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.refs import StreamRef, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class Purpose(StrEnum):
    """What a policy is for."""

    DRAIN = "drain"
    RESET = "reset"
    CLEANUP = "cleanup"
    IMPORT = "import"


class Document(StrEnum):
    """Which policy, by what it is attached to."""

    POLICY = "policy"
    """The role that runs the tasks."""

    RESOURCE_POLICY = "resource-policy"
    """The stream in another account, where its owner attaches it."""

    ROLE_POLICY = "role-policy"
    """The role in the stream's account that the connection assumes."""

    TRUST_POLICY = "trust-policy"
    """The same role, as its trust policy: who may assume it."""

    KEY_POLICY = "key-policy"
    """The KMS key of a stream in another account, where its owner attaches it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a policy is restricted to. Without account and region, it covers these names in all of them.

    :param application: the application, whose name its table has
    :param stream: the stream that is read: its ARN, or its name if it is where the table is
    :param account: of the table
    :param region: of the table; default is that of the stream's ARN, or else all
    :param partition: of AWS; default is that of the stream's ARN or of the region
    :param consumer: name of the consumer that a drain with enhanced fan-out registers and a cleanup
        deregisters; default is the application's
    :param fan_out: a drain reads by enhanced fan-out, and by polling where that fails
    :param source: the table that an import reads
    :param key: ARN of the stream's KMS key, if it is encrypted with one
    :param backups: ``bucket/prefix`` of the JSON backups, if they go to S3
    :param principal: ARN of the role that runs the tasks, for policies in the stream's account
    :param external_id: external ID that the role in the stream's account requires
    :param role: ARN of the role in the stream's account that the connection assumes
    """

    application: str
    stream: str
    account: str = "*"
    region: str | None = None
    partition: str | None = None
    consumer: str | None = None
    fan_out: bool = False
    source: str | None = None
    key: str | None = None
    backups: str | None = None
    principal: str | None = None
    external_id: str | None = None
    role: str | None = None

    @property
    def ref(self) -> StreamRef:
        """The stream.

        :raises InvalidSettingError: neither a name nor an ARN
        """
        return StreamRef.parse(self.stream)

    @property
    def consumer_arn(self) -> str:
        """The ARN of the registered consumer, with ``*`` for the time of its registration."""
        return self.stream_arn(f"/consumer/{self.consumer or self.application}:*")

    def arn(self, service: str, name: str) -> str:
        """The ARN of something in the account and region of the table."""
        region = self.region or self.ref.region or "*"
        partition = self.partition or self.ref.partition or partition_of(region)
        return f"arn:{partition}:{service}:{region}:{self.account}:{name}"

    def stream_arn(self, suffix: str = "") -> str:
        """The ARN of the stream, or of a resource under it."""
        return (self.ref.arn or self.arn("kinesis", f"stream/{self.ref.name}")) + suffix


# CreateTable needs TagResource too, for the tags that it sets. GetItem is called if the answer to a write
# whose condition isn't met contains no item.
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
# For consumers that are named after their application; DescribeStreamConsumer takes a stream or a consumer.
_FAN_OUT = ("DescribeStreamConsumer", "RegisterStreamConsumer", "SubscribeToShard")
_BACKUPS = {Purpose.RESET: ("GetObject", "PutObject"), Purpose.CLEANUP: ("PutObject",)}


def document(kind: Document, purpose: Purpose, resources: Resources) -> dict[str, Any]:
    """A policy document.

    :raises InvalidSettingError: something that the document names is missing
    """
    match kind:
        case Document.POLICY:
            return policy(purpose, resources)
        case Document.ROLE_POLICY:
            return _policy(*_on_stream(purpose, resources))
        case Document.TRUST_POLICY:
            return _policy(_trust(resources))
        case Document.RESOURCE_POLICY:
            return _policy(_of_owner(purpose, resources))
        case Document.KEY_POLICY:
            return _policy(_of_key(resources))


def policy(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    """The policy of the role that runs the tasks.

    See the *Actions, resources, and condition keys* pages of the services. If a role in the stream's account
    is given, it allows assuming that role, whose own policy then has what the stream needs.
    """
    statements = [_table(purpose, resources)]
    if purpose is Purpose.CLEANUP:
        # ListTables can't be restricted to a table.
        statements.append(_statement("FindTables", "dynamodb", ("ListTables",), ["*"]))
    if purpose is Purpose.IMPORT:
        source = [resources.arn("dynamodb", f"table/{resources.source or '*'}")]
        statements.append(_statement("ReadSource", "dynamodb", ("DescribeTable", "Scan"), source))
    if resources.role:
        statements.append(_statement("ReachStream", "sts", ("AssumeRole",), [resources.role]))
    else:
        statements += _on_stream(purpose, resources)
    if resources.backups and purpose in _BACKUPS:
        partition = resources.arn("s3", "").split(":")[1]
        objects = [f"arn:{partition}:s3:::{resources.backups.rstrip('/')}/*"]
        statements.append(_statement("KeepBackups", "s3", _BACKUPS[purpose], objects))
    return _policy(*statements)


def missing_text(actions: Iterable[str], resource: str) -> str:
    """The statement that allows actions on a resource, as JSON on one line."""
    statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return json.dumps(statement)


def drain_policy_text(*, application: str, stream: str) -> str:
    """The statement about the table that a drain needs, as JSON on one line."""
    resources = Resources(application=application, stream=stream)
    return json.dumps(_table(Purpose.DRAIN, resources))


def _table(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    return _statement(
        "ApplicationTable",
        "dynamodb",
        _TABLE[purpose],
        [resources.arn("dynamodb", f"table/{resources.application}")],
    )


def _on_stream(purpose: Purpose, resources: Resources) -> list[dict[str, Any]]:
    stream = [resources.stream_arn()]
    statements = [_statement("Stream", "kinesis", _STREAM[purpose], stream)]
    if purpose is Purpose.DRAIN and resources.fan_out:
        statements.append(_statement("FanOut", "kinesis", _FAN_OUT, [*stream, resources.consumer_arn]))
    if purpose is Purpose.CLEANUP:
        statements.append(
            _statement("Consumer", "kinesis", ("DeregisterStreamConsumer",), [resources.consumer_arn])
        )
    if resources.key and "GetRecords" in _STREAM[purpose]:
        statements.append(_statement("ReadEncrypted", "kms", ("Decrypt",), [resources.key]))
    return statements


def _of_owner(purpose: Purpose, resources: Resources) -> dict[str, Any]:
    arn = resources.ref.arn
    if arn is None:
        raise InvalidSettingError(f"Give the ARN of stream {resources.stream!r}: its policy must name it")
    if purpose is Purpose.CLEANUP:
        raise InvalidSettingError("Use a role-policy: a cleanup in another account needs a role there")
    if resources.fan_out:
        raise InvalidSettingError(
            "Use a role-policy: registering a consumer in another account needs a role there"
        )
    allowed = _statement("Stream", "kinesis", _STREAM[purpose], [arn])
    return allowed | {"Principal": _principal(resources)}


def _of_key(resources: Resources) -> dict[str, Any]:
    # In a key policy, "*" is this key.
    return _statement("ReadEncrypted", "kms", ("Decrypt",), ["*"]) | {"Principal": _principal(resources)}


def _trust(resources: Resources) -> dict[str, Any]:
    statement = {
        "Sid": "AssumeFromAirflow",
        "Effect": "Allow",
        "Action": ["sts:AssumeRole"],
        "Principal": _principal(resources),
    }
    if resources.external_id:
        statement["Condition"] = {"StringEquals": {"sts:ExternalId": resources.external_id}}
    return statement


def _principal(resources: Resources) -> dict[str, str]:
    if not resources.principal:
        raise InvalidSettingError("Give the principal: the ARN of the role that runs the tasks")
    return {"AWS": resources.principal}


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(sid: str, service: str, actions: tuple[str, ...], resources: list[str]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in sorted(actions)],
        "Resource": resources,
    }
