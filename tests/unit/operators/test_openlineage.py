"""What OpenLineage learns of a drain, and that nothing needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from airflow_kinesis_snowflake.engine.report import DrainReport
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator

IMPORTED = """
import sys
import airflow_kinesis_snowflake.operators.kinesis_to_snowflake
optional = ("openlineage.client", "airflow.providers.openlineage.extractors")
print(*(name for name in sys.modules if name.startswith(optional)))
"""


@pytest.fixture
def operator() -> KinesisToSnowflakeOperator:
    return KinesisToSnowflakeOperator(
        task_id="drain", stream_name="clicks", application_name="app", table="A.R.C"
    )


def test_the_stream_is_the_input_and_the_table_the_output_with_its_rows(
    operator: KinesisToSnowflakeOperator,
) -> None:
    pytest.importorskip("airflow.providers.openlineage", reason="the provider is optional")
    report = DrainReport("clicks", "app", '"A"."R"."C"', "worker", records=10, bytes=99, dead_letters=1)
    operator._report = report.as_dict() | {
        "assets": {
            "stream": "kinesis-stream://eu-west-1/123456789012/clicks",
            "table": "snowflake://acme-prod/A/R/C",
        }
    }

    lineage = operator.get_openlineage_facets_on_complete(None)

    [stream], [table] = lineage.inputs, lineage.outputs
    assert (stream.namespace, stream.name) == ("arn:aws:kinesis:eu-west-1:123456789012", "stream/clicks")
    assert (table.namespace, table.name) == ("snowflake://acme-prod", "A.R.C")
    statistics = table.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size) == (9, 99)


def test_a_drain_that_did_not_end_has_no_lineage(operator: KinesisToSnowflakeOperator) -> None:
    pytest.importorskip("airflow.providers.openlineage", reason="the provider is optional")
    lineage = operator.get_openlineage_facets_on_complete(None)
    assert (lineage.inputs, lineage.outputs) == ([], [])


def test_the_operator_is_imported_without_the_openlineage_provider() -> None:
    imported = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert imported.stdout.split() == []
