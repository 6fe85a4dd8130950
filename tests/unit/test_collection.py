"""Tests can be run by any choice of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A conftest that imports fixtures comes before modules that name them as a plugin.
CHOICE = ("stream/test_loss.py", "test_faults.py", "maintenance/test_inspection.py")


def test_files_with_shared_fixtures_are_collected_in_any_order() -> None:
    files = [str(ROOT / "tests/integration" / name) for name in CHOICE]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *files]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert collected.returncode == 0, collected.stdout
