"""What stands around the code: workflows, forms for issues, and the checks before a commit."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
FORMS = sorted(file for file in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if file.stem != "config")
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
}
PINNED = re.compile(r"^[\w/.-]+@[0-9a-f]{40}$")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_github_can_read_its_files(schema: str) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        schema,
        *SCHEMAS[schema],
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_workflow_runs_what_must_hold_before_a_change_is_merged() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    assert {"run": "bash .ci/run"} in workflow["jobs"]["everything"]["steps"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: str(file.stem))
def test_actions_of_others_are_pinned_and_may_write_nothing(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert [action for action in used if not PINNED.match(action)] == []
    assert workflow["permissions"] == {"contents": "read"}


def test_the_tools_before_a_commit_are_those_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    assert [hook["entry"] for hook in hooks if not hook["entry"].startswith(".venv/bin/")] == []
    linted = (ROOT / "Makefile").read_text()
    assert [hook for hook in hooks if Path(hook["entry"].split()[0]).name not in linted] == []
