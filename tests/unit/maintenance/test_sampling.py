"""What is printed of a sample can be written into a DAG."""

from __future__ import annotations

import io
import json

import pytest

from airflow_kinesis_snowflake.cli.terminal import show
from airflow_kinesis_snowflake.formats.sample import Sample
from airflow_kinesis_snowflake.maintenance.sampling import sample_parts
from airflow_kinesis_snowflake.operators.mappings import Columns


@pytest.mark.parametrize("key", ["a", "**x**", "****", "[bold]", "'", '"', "\\"])
def test_the_settings_that_are_printed_are_those_that_were_found(key: str) -> None:
    sample = Sample(names="as_is")
    sample.add(json.dumps({key: 1, "ts": 1764000000123}).encode(), "key", None)
    file = io.StringIO()
    show(sample_parts(sample), file=file)
    printed = file.getvalue()

    settings = printed[printed.index("names=") : printed.index("If these")]
    assert eval(f"Columns({settings})", {"Columns": Columns}) == Columns(
        names="as_is", columns={key: "NUMBER(38, 18)"}
    )
