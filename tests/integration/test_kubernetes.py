"""The example for Kubernetes: each object follows the API's schema, and asks Airflow for what it has."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from airflow.cli import cli_parser

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "kubernetes"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLE / "airflow.yaml").read_text()))
[TEMPLATE] = [
    yaml.safe_load(each["data"]["pod.yaml"]) for each in OBJECTS if "pod.yaml" in each.get("data", {})
]
[SETTINGS] = [each["data"] for each in OBJECTS if each["metadata"]["name"] == "airflow-settings"]
PODS = [
    TEMPLATE["spec"],
    *(each["spec"]["template"]["spec"] for each in OBJECTS if "template" in each.get("spec", {})),
]
CONTAINERS = [container for pod in PODS for container in pod["containers"]]
MADE_BY_HAND = {"airflow-secrets", "snowflake-key"}


@pytest.mark.parametrize(
    "described", [*OBJECTS, TEMPLATE], ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_an_object_follows_the_schema_of_its_kind(described: dict[str, Any]) -> None:
    kubernetes_validate.validate(described, kubernetes_validate.latest_version(), strict=True)


def test_the_parts_of_airflow_are_all_there() -> None:
    commands = [container["args"][0] for container in CONTAINERS if "args" in container]
    assert sorted(commands) == ["api-server", "dag-processor", "db", "scheduler", "triggerer"]


@pytest.mark.parametrize(
    "container", [each for each in CONTAINERS if "args" in each], ids=lambda each: each["name"]
)
def test_a_container_runs_a_command_of_airflow(container: dict[str, Any]) -> None:
    cli_parser.get_parser().parse_args(container["args"])
    probe = container.get("livenessProbe", {}).get("exec")
    if probe:
        program, *arguments = shlex.split(probe["command"][2])
        assert program == "airflow"
        cli_parser.get_parser().parse_args(arguments)


def test_what_is_referred_to_exists() -> None:
    names = {each["metadata"]["name"] for each in OBJECTS} | MADE_BY_HAND
    text = (EXAMPLE / "airflow.yaml").read_text()
    referred = set(
        re.findall(r"(?:configMapRef|secretRef|configMap): \{name: ([\w-]+)\}|secretName: ([\w-]+)", text)
    )
    assert {name for pair in referred for name in pair if name} <= names
    assert {pod["serviceAccountName"] for pod in PODS} <= names
    assert all(name in (ROOT / "docs" / "kubernetes.md").read_text() for name in MADE_BY_HAND)


def test_all_run_one_image_whose_airflow_is_the_one_that_is_tested() -> None:
    assert len({container["image"] for container in CONTAINERS}) == 1
    [version] = re.findall(r"apache-airflow==([\d.]+)", (EXAMPLE / "Dockerfile").read_text())
    assert f"FROM apache/airflow:{version}-" in (EXAMPLE / "Dockerfile").read_text()
    assert f"apache-airflow=={version}\n" in (ROOT / "requirements" / "test.txt").read_text()


def test_airflow_reads_the_pod_template_where_it_is_mounted() -> None:
    [mount] = [
        mount for each in CONTAINERS for mount in each.get("volumeMounts", []) if mount["name"] == "template"
    ]
    assert SETTINGS["AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"] == f"{mount['mountPath']}/pod.yaml"


@pytest.mark.parametrize("name", ["AIRFLOW_CONN_AWS_DEFAULT", "AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])
def test_a_connection_is_json(name: str) -> None:
    assert json.loads(SETTINGS[name])["conn_type"] in name.lower()


def test_a_pod_has_time_to_release_its_leases_and_room_for_two_batches() -> None:
    assert TEMPLATE["spec"]["terminationGracePeriodSeconds"] >= 30
    [batches] = [volume for volume in TEMPLATE["spec"]["volumes"] if volume["name"] == "batches"]
    assert batches["emptyDir"]["sizeLimit"] == "512Mi"
