"""What people install: the wheel, and environments with it and an Airflow of each minor version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.install.pythons import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.airflow import AirflowApi

REPOSITORY = Path(__file__).resolve().parents[2]
REPOSITORY_URL = "https://example.com/team/airflow-kinesis-snowflake"
UV = Path(sys.executable).with_name("uv")
# The versions of Python that the pins of an Airflow fit, each with another first.
PYTHONS = {"3.1": ("3.11", "3.12"), "3.2": ("3.12", "3.11", "3.13"), "3.3": ("3.13", "3.12")}
ONLY_INSTALLED = {"PYTHONPATH": ""}  # so that nothing is imported from this tree


def uv(*arguments: str | Path) -> str:
    """Run uv and return what it printed."""
    env = os.environ | {"REPOSITORY_URL": REPOSITORY_URL}
    done = subprocess.run([UV, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--out-dir", folder, REPOSITORY)
    return folder


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    [wheel] = distributions.glob("*.whl")
    return wheel


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Function that installs the wheel beside an Airflow, and returns the folder of commands."""

    def make(version: str) -> Path:
        venv = tmp_path / "venv"
        uv("venv", "--quiet", "--python", interpreter(*PYTHONS[version]), venv)
        uv("pip", "install", "--quiet", "--python", venv, "--constraint", constraints(version), "pip", wheel)
        return venv / "bin"

    return make


def constraints(version: str) -> Path:
    """The kept pins of an Airflow."""
    return REPOSITORY / "requirements" / "constraints" / f"airflow-{version}.txt"


def opened(url: str, api: AirflowApi) -> str:
    """Return what a browser gets there that is logged in."""
    answer = requests.get(url, headers={"Authorization": f"Bearer {api.token}"}, timeout=60)
    answer.raise_for_status()
    return answer.text
