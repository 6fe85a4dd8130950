"""DAG files are parsed often, so what they import must be cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("boto3", "botocore", "pyarrow", "snowflake.connector")


@pytest.mark.parametrize("module", ["operators.kinesis_to_snowflake", "dag_factories"])
def test_importing_for_a_dag_file_imports_no_client_library(module: str) -> None:
    program = (
        f"import sys, airflow_kinesis_snowflake.{module}\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or None)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
