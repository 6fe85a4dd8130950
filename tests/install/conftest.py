"""What people install: the wheel, and environments with it and an Airflow of each minor version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
REPOSITORY_URL = "https://example.com/team/airflow-kinesis-snowflake"
UV = Path(sys.executable).with_name("uv")


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
def environment(wheel: Path, tmp_path: Path) -> Callable[..., Path]:
    """Function that makes a virtual environment with the wheel, and returns its folder of commands."""

    def make(python: str, constraints: Path) -> Path:
        venv = tmp_path / "venv"
        uv("venv", "--quiet", "--python", python, venv)
        uv("pip", "install", "--quiet", "--python", venv, "--constraint", constraints, wheel)
        return venv / "bin"

    return make
