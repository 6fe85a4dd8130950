"""Checks of what AWS allows before a drain needs it, by calls that change nothing and by IAM's simulator."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, failed, held
from airflow_kinesis_snowflake.exceptions import KinesisSnowflakeError
from airflow_kinesis_snowflake.hooks.aws import AwsHook, error_code, translated
from airflow_kinesis_snowflake.maintenance.iam import missing_text
from airflow_kinesis_snowflake.state.attributes import key_of_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_kinesis_snowflake.check.bench import Bench

_STAND_IN = ":000000000000:"
_QUICK = Config(connect_timeout=5, read_timeout=15)
_DENIED = {"AccessDenied", "AccessDeniedException"}
_NEVER = "attribute_exists(shardId) AND attribute_not_exists(shardId)"
_ONLY_SIMULATED = ("dynamodb:CreateTable", "dynamodb:TagResource")


@dataclass
class Permissions:
    """What was learned about actions on one resource.

    :param what: the resource, for messages
    :param untried: actions that no harmless call can test
    """

    what: str
    allowed: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)

    def call(self, action: str, call: Callable[[], Any], *, may_be_missing: bool = False) -> Any:
        """Try an action; its answer, or ``None`` where there is none.

        :param may_be_missing: an answer that something doesn't exist means that the action is allowed
        :raises KinesisSnowflakeError: whether it is allowed is unknown
        """
        with translated(doing=action, resource=self.what):
            try:
                answer = call()
            except ClientError as error:
                answer = None
                # Assuming a role is a different action, and says nothing about this one.
                if error_code(error) in _DENIED and action.endswith(f":{error.operation_name}"):
                    self.denied.append(action)
                    return None
                if not _says_allowed(error_code(error), may_be_missing=may_be_missing):
                    raise
        self.allowed.append(action)
        return answer

    def finding(self, arn: str) -> Observation:
        """The observation, with the statement to add if something is denied.

        :param arn: of the resource, for the statement
        """
        if self.denied:
            return failed(f"{', '.join(self.denied)} not allowed; add {missing_text(self.denied, arn)}")
        untried = f", {' and '.join(self.untried)} not tried" if self.untried else ""
        return held(f"{len(self.allowed)} actions on {arn} allowed{untried}")


def of_stream(bench: Bench) -> Observation:
    """What a drain does to the stream; the key of an encrypted stream has a check of its own."""
    kinesis = bench.kinesis
    client: Any = kinesis.get_conn()
    stream = kinesis.ref.parameters
    found = Permissions(f"stream {str(kinesis.ref)!r} {kinesis.where}")
    described = found.call("kinesis:DescribeStreamSummary", partial(client.describe_stream_summary, **stream))
    listed = found.call("kinesis:ListShards", partial(client.list_shards, **stream))
    shard_id = listed["Shards"][0]["ShardId"] if listed else "shardId-000000000000"
    start = {"ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON"}
    got = found.call(
        "kinesis:GetShardIterator",
        partial(client.get_shard_iterator, **stream, **start),
        may_be_missing=listed is None,
    )
    if got:
        asked = {"ShardIterator": got["ShardIterator"], "Limit": 1, **_dry_run(client)}
        asked |= {} if kinesis.ref.arn is None else stream
        found.call("kinesis:GetRecords", partial(client.get_records, **asked))
    else:
        found.untried.append("kinesis:GetRecords")
    region, partition = kinesis.place()
    anywhere = f"arn:{partition}:kinesis:{region}:*:stream/{kinesis.stream_name}"
    arn = described["StreamDescriptionSummary"]["StreamARN"] if described else kinesis.ref.arn
    return found.finding(arn or anywhere)


def of_state(bench: Bench) -> Observation:
    """What a drain does to the application's table, whether or not it exists yet."""
    store = bench.store
    client: Any = store.get_conn()
    found = Permissions(f"table {store.application_name!r} {store.where}")
    table = {"TableName": store.application_name}
    row = {**table, "Key": key_of_row("check", "check")}
    never = {"ConditionExpression": _NEVER}
    query = {
        "KeyConditionExpression": "streamName = :stream",
        "ExpressionAttributeValues": {":stream": {"S": "check"}},
    }
    calls: Mapping[str, Callable[[], Any]] = {
        "dynamodb:Query": partial(client.query, **table, **query, Limit=1),
        "dynamodb:GetItem": partial(client.get_item, **row),
        "dynamodb:UpdateItem": partial(client.update_item, **row, **never, UpdateExpression="REMOVE checked"),
        "dynamodb:DeleteItem": partial(client.delete_item, **row, **never),
    }
    described = found.call(
        "dynamodb:DescribeTable", partial(client.describe_table, **table), may_be_missing=True
    )
    for action, call in calls.items():
        found.call(action, call, may_be_missing=True)
    region, partition = store.place()
    arn = f"arn:{partition}:dynamodb:{region}:*:table/{store.application_name}"
    if described:
        arn = described["Table"]["TableArn"]
    _simulate(bench, found, arn)
    return found.finding(arn)


def _says_allowed(code: str, *, may_be_missing: bool) -> bool:
    """Whether only those who are allowed to call get this error."""
    return (
        code in {"DryRunOperationException", "ConditionalCheckFailedException"}
        or (may_be_missing and code == "ResourceNotFoundException")
        or code.startswith("KMS")  # Of the stream's key, which has a check of its own.
    )


def _dry_run(client: Any) -> Mapping[str, bool]:
    """What makes GetRecords a dry run, where botocore supports it."""
    shape = client.meta.service_model.operation_model("GetRecords").input_shape
    return {"DryRun": True} if "DryRun" in shape.members else {}


def _simulate(bench: Bench, found: Permissions, arn: str) -> None:
    """Ask IAM about actions that can't be tried without changing something."""
    try:
        on_stand_in = _STAND_IN in arn or (bool(bench.settings.stream) and bench.aws_stand_in)
        decisions = {} if on_stand_in else _decisions(bench, _ONLY_SIMULATED, arn)
    except KinesisSnowflakeError:
        decisions = {}  # To simulate takes permissions that no drain needs.
    for action in _ONLY_SIMULATED:
        if action not in decisions:
            found.untried.append(action)
        else:
            (found.allowed if decisions[action] else found.denied).append(action)


def _decisions(bench: Bench, actions: Sequence[str], arn: str) -> dict[str, bool]:
    """Whether the caller's policies allow actions on a resource.

    Needs ``iam:SimulatePrincipalPolicy``, and ``iam:GetRole`` where the role's ARN has a path.
    """
    with translated(doing="sts:GetCallerIdentity", resource="the credentials"):
        caller = _client(bench, "sts").get_caller_identity()["Arn"]
    iam = _client(bench, "iam")
    with translated(doing="iam:SimulatePrincipalPolicy", resource=caller):
        answer = iam.simulate_principal_policy(
            PolicySourceArn=_principal(iam, caller), ActionNames=list(actions), ResourceArns=[arn]
        )
    return {
        result["EvalActionName"]: result["EvalDecision"] == "allowed"
        for result in answer["EvaluationResults"]
    }


def _principal(iam: Any, caller: str) -> str:
    """The user or role behind a caller: a session's ARN has no path, and the simulator doesn't accept it."""
    _, partition, service, _, account, resource = caller.split(":", 5)
    if service != "sts":
        return caller
    name = resource.split("/")[1]
    try:
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])
    except ClientError:
        return f"arn:{partition}:iam::{account}:role/{name}"


def _client(bench: Bench, service: str) -> Any:
    return AwsHook(client_type=service, **bench.settings.aws_of_state | {"config": _QUICK}).get_conn()


CHECKS = (
    Check(
        name="stream-permissions",
        tries="What a drain does to the stream is allowed",
        promises=(1,),
        advice="Add the statement to the role's policy and, for a stream in another account, to that "
        "stream's policy.",
        needs=Needs.STREAM,
        run=of_stream,
    ),
    Check(
        name="state-permissions",
        tries="What a drain does to the application's table is allowed, whether or not it exists",
        promises=(2,),
        advice="Add the statement to the role's policy.",
        needs=Needs.APPLICATION,
        run=of_state,
    ),
)
