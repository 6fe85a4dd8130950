"""The command line: ``python -m airflow_kinesis_snowflake``, or ``airflow kinesis-snowflake``.

One module per command. The commands use the same functions as the operators.
"""

from __future__ import annotations

from airflow_kinesis_snowflake.cli.program import get_cli_commands, main

__all__ = ["get_cli_commands", "main"]
