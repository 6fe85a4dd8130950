"""The engine can be imported where there is neither Airflow nor a client of a service."""

from __future__ import annotations

import subprocess
import sys

# None in sys.modules lets an import fail as if nothing were installed.
SCRIPT = """
import importlib, pkgutil, sys

for name in ("airflow", "boto3", "botocore", "snowflake"):
    sys.modules[name] = None
count = 0
for package in ("engine", "formats", "state", "stream", "testing"):
    root = importlib.import_module(f"airflow_kinesis_snowflake.{package}")
    for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
        importlib.import_module(module.name)
        count += 1
print(count)
"""


def test_the_engine_needs_neither_airflow_nor_a_client() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 40
