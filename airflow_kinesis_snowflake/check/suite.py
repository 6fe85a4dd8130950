"""All checks, in the order in which they run."""

from __future__ import annotations

from airflow_kinesis_snowflake.check import (
    aws,
    permissions,
    snowflake_loading,
    snowflake_objects,
    snowflake_streaming,
    snowflake_transactions,
)
from airflow_kinesis_snowflake.check.snowflake_killed import KILLED_HOLDER

CHECKS = (
    # The warehouse first: the others wake it.
    snowflake_objects.WAREHOUSE,
    snowflake_objects.SESSION,
    snowflake_objects.OBJECTS,
    snowflake_loading.ODD_FOLDERS,
    snowflake_loading.GOLDEN_VALUES,
    snowflake_loading.GOLDEN_COLUMNS,
    snowflake_loading.COPY_ROLLS_BACK,
    snowflake_loading.COPY_TWICE,
    *snowflake_transactions.CHECKS,
    snowflake_loading.ALTER_BESIDE_COPY,
    snowflake_loading.REFUSED_VALUES,
    snowflake_loading.ERROR_LOGGING,
    snowflake_loading.REAL_COPY,
    snowflake_transactions.SAME_REQUEST,
    snowflake_objects.PRIVILEGES,
    snowflake_objects.CANCEL,
    *snowflake_streaming.CHECKS,
    KILLED_HOLDER,
    snowflake_objects.ICEBERG,
    *permissions.CHECKS,
    *aws.CHECKS,
)
"""Their names are unique."""
