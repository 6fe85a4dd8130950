"""docker-compose.yaml: what it promises, and its local services as plain processes. No image is built."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local import keys
from local.airflow import free_port
from local.processes import Process
from local.services import LocalServices, find_node, wait_until_it_answers
from tests import compose
from tests.compose import AIRFLOW_PARTS, COMPOSE_FILE, REPOSITORY, SERVICES

STREAMING_PORT = "8085"
LOCAL_SERVICES = {"kinesis": "4567", "dynamodb": "8000", "snowflake": "8084"}
DOCKERFILE = (REPOSITORY / "local" / "Dockerfile").read_text()
EXACT_VERSION = re.compile(r":\d+(\.\d+)+(-[a-z]+)*$")


def test_the_file_follows_the_schema_of_the_compose_specification() -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        COMPOSE_FILE,
    ]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_images_of_others_are_pinned_to_exact_versions() -> None:
    pulled = [service["image"] for service in SERVICES.values() if "build" not in service]
    version = re.search("ARG AIRFLOW_VERSION=(.+)", DOCKERFILE)
    assert version
    bases = [
        base.replace("${AIRFLOW_VERSION}", version[1]).replace("-python3.12", "")
        for base in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    ]

    assert len(pulled) == len(bases) == 2
    assert [image for image in pulled + bases if not EXACT_VERSION.search(image)] == []


def test_the_image_has_the_airflow_that_is_tested() -> None:
    version = re.search("ARG AIRFLOW_VERSION=(.+)", DOCKERFILE)

    assert version
    assert f"apache-airflow=={version[1]}\n" in (REPOSITORY / "requirements" / "test.txt").read_text()


def test_the_images_get_every_file_that_their_build_needs() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (.+)", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    assert {"README.md", "hatch_build.py", *project["license-files"], "pyproject.toml"} <= set(copied)
    sources = [source for source in copied if not source.startswith("--")]
    assert [source for source in sources if not any(REPOSITORY.glob(source))] == []
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert [source for source in sources if f"!{source.split('/')[0]}" not in ignored] == []


def test_the_image_of_the_services_has_every_module_that_they_import() -> None:
    [copied] = re.findall(r"^COPY (local/serve\.cjs .+) local/$", DOCKERFILE, flags=re.MULTILINE)
    files = {file for pattern in copied.split() for file in REPOSITORY.glob(pattern)}
    modules = {file.stem for file in (REPOSITORY / "local").glob("*.py")} - {"__init__"}
    imported = {
        module
        for file in files
        for module in re.findall(r"^(?:from|import) (\w+)", file.read_text(), flags=re.MULTILINE)
    }

    assert (imported & modules) - {file.stem for file in files} == set()


def test_ports_are_published_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_everything_that_keeps_running_has_a_health_check() -> None:
    assert [name for name, service in SERVICES.items() if "healthcheck" not in service] == ["airflow-init"]


@pytest.mark.parametrize("part", AIRFLOW_PARTS)
def test_each_part_of_airflow_has_the_package_and_reaches_the_local_services(part: str) -> None:
    services = LocalServices()
    services.kinesis_url, services.dynamodb_url = "http://kinesis:4567", "http://dynamodb:8000"
    services.snowflake_host, services.snowflake_port = "snowflake", 8084
    services.streaming_url, services.streaming_authority = "https://snowflake:8085", Path()
    environment = SERVICES[part]["environment"]

    assert SERVICES[part]["build"]["target"] == "airflow"
    connections = services.airflow_connections()
    for name in ("AIRFLOW_CONN_AWS_DEFAULT", "AIRFLOW_CONN_SNOWFLAKE_DEFAULT"):
        expected = json.loads(connections[name])
        if expected["extra"].pop("private_key_content", None):
            expected["extra"]["private_key_file"] = "/opt/airflow/keys/snowflake-key.pem"
        assert json.loads(environment[name]) == expected


@pytest.mark.parametrize("part", [*AIRFLOW_PARTS, "airflow-init"])
def test_keys_of_airflow_are_in_no_environment_variable(part: str) -> None:
    environment = SERVICES[part]["environment"]

    for name in ("API__SECRET_KEY", "API_AUTH__JWT_SECRET", "CORE__FERNET_KEY"):
        assert f"AIRFLOW__{name}" not in environment
        assert environment[f"AIRFLOW__{name}_CMD"].startswith("cat /opt/airflow/keys/")


def test_each_key_that_airflow_asks_for_is_made_strong_enough_and_for_its_owner_only(tmp_path: Path) -> None:
    keys.main(str(tmp_path))

    environment = SERVICES["api-server"]["environment"]
    asked = set(re.findall(r"/opt/airflow/keys/([\w.-]+)", " ".join(environment.values())))
    assert {path.name for path in tmp_path.iterdir()} == asked
    assert len(base64.urlsafe_b64decode((tmp_path / "fernet-key").read_text())) == 32
    assert len((tmp_path / "jwt-secret").read_bytes()) >= 64
    assert len((tmp_path / "secret-key").read_bytes()) >= 64
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    users = SERVICES["api-server"]["environment"]["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"]
    assert f"{keys.USER}:admin" == users
    assert list(json.loads((tmp_path / "passwords.json").read_text())) == [keys.USER]


def test_keys_stay_the_same_when_they_are_made_again(tmp_path: Path) -> None:
    keys.main(str(tmp_path))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "jwt-secret").unlink()

    keys.main(str(tmp_path))

    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert after.pop("jwt-secret") != before.pop("jwt-secret")
    assert after == before


@pytest.mark.parametrize("service", LOCAL_SERVICES)
def test_a_local_service_answers_its_health_check_while_it_runs_and_not_before(
    service: str, tmp_path: Path
) -> None:
    port = free_port()
    replacing = {LOCAL_SERVICES[service]: str(port), STREAMING_PORT: str(free_port()), "0.0.0.0": "127.0.0.1"}
    node = {"PATH": f"{Path(find_node()).parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    (tmp_path / ".venv-fakesnow").symlink_to(REPOSITORY / ".venv-fakesnow")
    (tmp_path / "streaming").mkdir()
    command = compose.command(service, replacing=replacing)
    command[0] = shutil.which(command[0], path=node["PATH"]) or command[0]

    def healthy() -> bool:
        test = compose.health_command(service, replacing=replacing)
        return subprocess.run(test, env=os.environ | node, check=False, capture_output=True).returncode == 0

    assert not healthy()
    with Process(service, command, folder=tmp_path, env=os.environ | node) as process:
        assert wait_until_it_answers(process) == port
        assert healthy()


def test_workers_trust_the_streaming_service_by_its_name_and_the_authority_in_the_volume(
    tmp_path: Path,
) -> None:
    worker, snowflake = SERVICES["worker"], SERVICES["snowflake"]
    file = Path(worker["environment"]["SSL_CERT_FILE"])
    url = urlsplit(
        json.loads(worker["environment"]["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])["extra"]["streaming_url"]
    )
    assert f"streaming-authority:{file.parent}:ro" in worker["volumes"]
    assert "streaming-authority:/opt/services/streaming" in snowflake["volumes"]
    assert set(SERVICES["api-server"]["volumes"]) < set(worker["volumes"])

    port = free_port()
    replacing = {LOCAL_SERVICES["snowflake"]: "0", str(url.port): str(port), "0.0.0.0": "127.0.0.1"}
    for name in ("local", ".venv-fakesnow"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "streaming").mkdir()
    command = compose.command("snowflake", replacing=replacing)
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with Process("snowflake", command, folder=tmp_path, env=env) as process:
        wait_until_it_answers(process)
        trust = ssl.create_default_context(cafile=tmp_path / "streaming" / file.name)
        with (
            socket.create_connection(("127.0.0.1", port)) as connection,
            trust.wrap_socket(connection, server_hostname=url.hostname) as trusted,
        ):
            assert trusted.version() == "TLSv1.3"
