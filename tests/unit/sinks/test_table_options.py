"""Tables are made as users want them, and nothing they write becomes other SQL than it should."""

from __future__ import annotations

from typing import Any

import pytest
import sqlglot
from sqlglot import expressions

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake import statements
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions

TABLE = TableName("DB", "select", 'My "Table"; DROP TABLE x --')
HOSTILE = "it's \\'; DROP TABLE x; --"


def ddl(**options: Any) -> str:
    made = statements.create_landing_table(TABLE, EnvelopeMapping.columns, TableOptions.parse(options))
    assert not made.params
    return made.sql


@pytest.mark.parametrize(
    ("options", "clause"),
    [
        ({}, "CREATE TABLE IF NOT EXISTS"),
        ({"transient": True}, "CREATE TRANSIENT TABLE IF NOT EXISTS"),
        ({"cluster_by": ['TO_DATE("D")', '"C"']}, 'CLUSTER BY (TO_DATE("D"), "C")'),
        ({"cluster_by": '"C"'}, 'CLUSTER BY ("C")'),
        ({"error_logging": True}, "ERROR_LOGGING = TRUE"),
        ({"enable_schema_evolution": True}, "ENABLE_SCHEMA_EVOLUTION = TRUE"),
        ({"data_retention_days": 0}, "DATA_RETENTION_TIME_IN_DAYS = 0"),
        ({"comment": "clicks"}, "COMMENT = 'clicks'"),
        ({"comment": HOSTILE}, r"COMMENT = 'it\'s \\\'; DROP TABLE x; --'"),
        (
            {"iceberg": True, "external_volume": HOSTILE, "base_location": "clicks/raw"},
            "CATALOG = 'SNOWFLAKE' BASE_LOCATION = 'clicks/raw' ICEBERG_VERSION = 3",
        ),
    ],
)
def test_each_option_has_its_clause_and_the_whole_is_one_create(options: dict[str, Any], clause: str) -> None:
    """Parsed only: the local Snowflake ignores most of these."""
    sql = ddl(**options)

    (parsed,) = sqlglot.parse(sql, read="snowflake")
    assert isinstance(parsed, expressions.Create)
    assert clause in sql


def test_an_iceberg_table_gets_metadata_with_a_structure_and_is_loaded_with_it() -> None:
    """Parsed only: the local Snowflake has no structured OBJECT."""
    structure = (
        "OBJECT(stream VARCHAR, shardId VARCHAR, approximateArrival NUMBER(19, 0), partitionKey VARCHAR, "
        "sequenceNumber VARCHAR, subSequenceNumber NUMBER(19, 0), shardedSequenceNumber VARCHAR)"
    )
    copy = statements.copy_landing(
        TABLE,
        mapping=EnvelopeMapping(),
        stage=TABLE.beside("S"),
        folder="a",
        options=TableOptions(iceberg=True),
    )

    assert f'"KINESISMETADATA" {structure}' in ddl(iceberg=True)
    assert f")::{structure} FROM" in copy.sql
    (parsed,) = sqlglot.parse(copy.sql, read="snowflake")
    assert isinstance(parsed, expressions.Copy)


def test_never_creates_nothing() -> None:
    assert not TableOptions.parse("never").create
    assert TableOptions.parse(None) == TableOptions.parse({}) == TableOptions.parse("") == TableOptions()


@pytest.mark.parametrize(
    "options",
    [
        "always",
        {"create": False},
        {"colour": "blue"},
        {"transient": "yes"},
        {"transient": True, "iceberg": True},
        {"transient": True, "data_retention_days": 2},
        {"data_retention_days": 91},
        {"data_retention_days": True},
        {"external_volume": "v"},
        {"iceberg": True, "base_location": "a\nb"},
        {"comment": 5},
        {"cluster_by": [""]},
        {"cluster_by": [5]},
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    with pytest.raises(InvalidSettingError):
        TableOptions.parse(options)
