"""The distributions: what is in them, where they can be installed, and how an index shows them."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from tests.install.conftest import REPOSITORY, REPOSITORY_URL, UV

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

pytestmark = pytest.mark.install

CONSTRAINTS = sorted((REPOSITORY / "requirements" / "constraints").glob("*.txt"))
PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    return dict(PIN.findall(text))


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda file: str(file.stem))
def test_the_wheel_can_be_installed_beside_an_airflow(constraints: Path, wheel: Path) -> None:
    command: list[str | Path] = [
        UV,
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--python",
        sys.executable,
    ]
    command += ["--python-version", "3.12", "--constraint", constraints, "-"]
    wanted = f"airflow-kinesis-snowflake[avro] @ {wheel.as_uri()}"

    resolved = subprocess.run(command, input=wanted, capture_output=True, text=True, check=False)

    assert resolved.returncode == 0, resolved.stderr
    found, demanded = pins(resolved.stdout), pins(constraints.read_text())
    assert {name: version for name, version in found.items() if demanded.get(name, version) != version} == {}
    assert "apache-airflow" in found


def test_every_part_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = {
        str(file.relative_to(REPOSITORY))
        for file in (REPOSITORY / "airflow_kinesis_snowflake").rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    assert files - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_a_package_index_can_show_both_distributions(distributions: Path) -> None:
    files = [str(file) for file in distributions.iterdir() if file.suffix in {".whl", ".gz"}]

    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(files) == 2
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_links_and_pictures_of_the_readme_work_on_a_package_index(wheel: Path) -> None:
    shown = metadata(wheel)
    links = re.findall(r"\]\(([^)]+)\)", str(shown.get_payload()))
    written = re.findall(r"\]\(([^)]+)\)", (REPOSITORY / "README.md").read_text())

    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert len(links) == len(written)
    inside = [link for link in written if not link.startswith(("https://", "#"))]
    assert [link for link in inside if not (REPOSITORY / link.partition("#")[0]).exists()] == []


def test_the_project_says_where_it_lives(wheel: Path) -> None:
    addresses = dict(entry.split(", ") for entry in metadata(wheel).get_all("Project-URL", []))

    assert addresses.keys() == {"Documentation", "Source", "Changelog", "Issues"}
    assert [address for address in addresses.values() if not address.startswith(REPOSITORY_URL)] == []


def metadata(wheel: Path) -> Message[str, str]:
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(archive.read(name))


def test_the_source_distribution_holds_no_folder_of_this_machine(distributions: Path) -> None:
    [archive] = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as archived:
        folders = {name.split("/")[1] for name in archived.getnames() if name.count("/") > 1}
    assert folders == {"airflow_kinesis_snowflake", "tests"}
