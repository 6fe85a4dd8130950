"""What AWS allows is found out by calls that change nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from moto.server import ThreadedMotoServer

from airflow_kinesis_snowflake.check import permissions
from airflow_kinesis_snowflake.check.bench import CheckSettings
from airflow_kinesis_snowflake.check.checks import CheckVerdict
from airflow_kinesis_snowflake.check.running import run_checks
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy
from tests.faults.actions import aws_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.check.checks import CheckResult
    from tests.faults.proxy import FaultProxy

pytest_plugins = ["tests.faults.fixtures"]
NEEDED = {
    action: statement["Sid"]
    for statement in policy(Purpose.DRAIN, Resources(application="app", stream="s"))["Statement"]
    for action in statement["Action"]
}
TRIED = {
    action: {"ApplicationTable": "state-permissions", "Stream": "stream-permissions"}[sid]
    for action, sid in NEEDED.items()
    if action not in {"dynamodb:CreateTable", "dynamodb:TagResource"}
}


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("table_is_there", [False, True])
def test_what_is_allowed_is_said_and_nothing_is_changed(
    settings: dict[str, Any], result: Callable[[str], CheckResult], table_is_there: bool
) -> None:
    store = CheckpointStoreHook(settings["application"])
    if table_is_there:
        store.create_table()
    stream, state = result("stream-permissions"), result("state-permissions")
    assert (stream.verdict, state.verdict) == (CheckVerdict.HELD, CheckVerdict.HELD)
    assert re.match("4 actions on arn:aws:kinesis:", stream.text)
    assert re.match("5 actions on arn:aws:dynamodb:", state.text)
    assert state.text.endswith("dynamodb:CreateTable and dynamodb:TagResource not tried")
    assert store.describe_table().exists == table_is_there
    assert not table_is_there or store.read_items() == []


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("action", TRIED)
def test_every_action_that_is_refused_is_named_with_the_statement_to_add(
    result: Callable[[str], CheckResult],
    kinesis_proxy: FaultProxy,
    dynamodb_proxy: FaultProxy,
    action: str,
) -> None:
    for proxy in (kinesis_proxy, dynamodb_proxy):
        proxy.add(aws_error("AccessDeniedException", "not yours"), operation=action.partition(":")[2])
    found = result(TRIED[action])
    assert (found.verdict, found.text.startswith(f"{action} not allowed; add ")) == (
        CheckVerdict.FAILED,
        True,
    )
    statement = json.loads(found.text.partition("; add ")[2])
    assert statement["Action"] == [action]
    assert statement["Resource"].startswith(f"arn:aws:{action.partition(':')[0]}:us-east-1:")


@pytest.mark.usefixtures("services")
def test_credentials_that_are_wrong_say_nothing_of_permissions(
    result: Callable[[str], CheckResult], dynamodb_proxy: FaultProxy
) -> None:
    dynamodb_proxy.add(aws_error("UnrecognizedClientException", "no such key"))
    found = result("state-permissions")
    assert (found.verdict, "credentials" in found.text) == (CheckVerdict.BROKEN, True)


@pytest.mark.usefixtures("services")
def test_a_key_that_is_refused_is_left_to_its_own_check(
    result: Callable[[str], CheckResult], kinesis_proxy: FaultProxy
) -> None:
    kinesis_proxy.add(aws_error("KMSAccessDeniedException", "not yours"), operation="GetRecords")
    assert result("stream-permissions").verdict == CheckVerdict.HELD


@pytest.mark.usefixtures("services")
def test_a_dry_run_that_would_have_succeeded_is_a_permission(
    result: Callable[[str], CheckResult], kinesis_proxy: FaultProxy
) -> None:
    rule = kinesis_proxy.add(
        aws_error("DryRunOperationException", "it would have succeeded"),
        operation="GetRecords",
        when=lambda request: json.loads(request.body).get("DryRun") is True,
    )
    assert (result("stream-permissions").verdict, rule.hits) == (CheckVerdict.HELD, 1)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """All of AWS, with a session of a role that has a path."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    requests.post(f"{url}/moto-api/reset", timeout=10).raise_for_status()
    given: Any = {"region_name": "us-east-1", "endpoint_url": url}
    iam = boto3.client("iam", aws_access_key_id="test", aws_secret_access_key="test", **given)
    role = iam.create_role(RoleName="airflow", Path="/service-role/", AssumeRolePolicyDocument="{}")["Role"]
    connection = {
        "conn_type": "aws",
        "login": "test",
        "password": "test",
        "extra": {**given, "role_arn": role["Arn"], "service_config": {"sts": {"endpoint_url": url}}},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    yield url
    server.stop()


@pytest.mark.parametrize(
    ("decision", "verdict"), [("allowed", CheckVerdict.HELD), ("implicitDeny", CheckVerdict.FAILED)]
)
def test_what_only_the_simulator_can_say_is_asked_for_the_role_of_the_session(
    cloud: str, monkeypatch: pytest.MonkeyPatch, decision: str, verdict: CheckVerdict
) -> None:
    asked: list[dict[str, Any]] = []
    client = permissions._client

    def with_simulator(bench: Any, service: str) -> Any:
        made = client(bench, service)
        if service == "iam":

            def simulate(**request: Any) -> dict[str, Any]:
                asked.append(request)
                names = request["ActionNames"]
                return {
                    "EvaluationResults": [
                        {"EvalActionName": name, "EvalDecision": decision} for name in names
                    ]
                }

            made.simulate_principal_policy = simulate
        return made

    monkeypatch.setattr(permissions, "_client", with_simulator)
    report = run_checks(CheckSettings(application="not-there-yet", only=("state-permissions",)))

    [result] = report.results
    assert result.verdict == verdict, result.text
    assert ("CreateTable" in result.text) == (verdict is CheckVerdict.FAILED)
    [request] = asked
    assert request["PolicySourceArn"] == "arn:aws:iam::123456789012:role/service-role/airflow"
    assert request["ActionNames"] == ["dynamodb:CreateTable", "dynamodb:TagResource"]
    assert request["ResourceArns"] == ["arn:aws:dynamodb:us-east-1:*:table/not-there-yet"]


def test_who_may_not_simulate_is_told_what_was_not_tried(cloud: str) -> None:
    # moto doesn't know the simulator at all.
    report = run_checks(CheckSettings(application="not-there-yet", only=("state-permissions",)))
    [result] = report.results
    assert (result.verdict, "not tried" in result.text) == (CheckVerdict.HELD, True)
