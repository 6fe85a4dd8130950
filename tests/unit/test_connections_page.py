"""The connections of docs are ones that Airflow and the providers understand as the page says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from airflow.models import Connection
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "connections.md").read_text()
EXAMPLES: list[dict[str, Any]] = [
    json.loads(code) for code in re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
]
AWS = [example for example in EXAMPLES if example["conn_type"] == "aws"]
[SNOWFLAKE] = [example for example in EXAMPLES if example["conn_type"] == "snowflake"]
[ROLE] = [example for example in AWS if "role_arn" in example["extra"]]


def read(example: dict[str, Any]) -> Connection:
    return Connection.from_json(json.dumps(example), conn_id="aws_default")


@pytest.mark.parametrize("example", AWS, ids=lambda example: ",".join(example["extra"]))
def test_every_connection_to_aws_has_the_region(example: dict[str, Any]) -> None:
    assert AwsConnectionWrapper(read(example)).region_name == "eu-west-1"


def test_the_role_is_assumed_with_its_external_id() -> None:
    wrapper = AwsConnectionWrapper(read(ROLE))
    assert wrapper.role_arn == ROLE["extra"]["role_arn"]
    assert wrapper.assume_role_kwargs == {"ExternalId": "airflow-production"}


def test_command_and_uri_make_the_same_connection() -> None:
    [uri] = re.findall(r"^aws://.+$", PAGE, re.MULTILINE)
    [command] = re.findall(r"^airflow connections add .+?'\n", PAGE, re.DOTALL | re.MULTILINE)

    assert Connection(conn_id="aws_default", uri=uri).extra_dejson == ROLE["extra"]
    assert json.loads(shlex.split(command)[-1]) == ROLE["extra"]


def test_each_service_has_its_endpoint() -> None:
    [example] = [example for example in AWS if "service_config" in example["extra"]]
    wrapper = AwsConnectionWrapper(read(example))
    for service in ("kinesis", "dynamodb"):
        assert f".{service}." in str(wrapper.get_service_endpoint_url(service))


def test_the_key_that_the_page_makes_logs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [script] = re.findall(r"```bash\n(openssl.+?)```", PAGE, re.DOTALL)
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True, capture_output=True)
    extra = SNOWFLAKE["extra"] | {"private_key_file": str(tmp_path / "snowflake.pem")}
    monkeypatch.setenv("AIRFLOW_CONN_SNOWFLAKE_DEFAULT", json.dumps(SNOWFLAKE | {"extra": extra}))

    hook = SnowflakeLoadHook()

    assert hook.streaming_login().private_key.startswith("-----BEGIN PRIVATE KEY-----")
    assert hook.account_name() == "acme-prod"
    assert (tmp_path / "snowflake.pub").read_text().splitlines()[1].startswith("MIIBIjANBgkqh")
