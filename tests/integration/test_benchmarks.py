"""The benchmark runs; what it measures is nothing for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_on_a_tiny_input(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--tiny", "--output", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    measures = json.loads((tmp_path / "benchmarks.json").read_text())
    assert set(measures["speed"]["plain"]) == {"envelope", "boto3", "kcl-rs"}
    assert "this package is faster by" in ended.stdout
    assert (tmp_path / "scaling.png").stat().st_size > 0
