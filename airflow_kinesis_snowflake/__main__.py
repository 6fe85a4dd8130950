"""``python -m airflow_kinesis_snowflake``."""

from __future__ import annotations

import sys

from airflow_kinesis_snowflake.cli import main

if __name__ == "__main__":
    sys.exit(main())
