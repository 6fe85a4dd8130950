"""A process that locks offsets and dies with its parent.

``python -m airflow_kinesis_snowflake.check.holder`` reads a line of JSON from the standard input:
``snowflake_conn_id``, ``uri`` (the connection, because only the task itself may request it from Airflow),
``table`` (the offsets table, as its three parts), ``application`` and ``stream``. It prints ``locked`` when
it holds the lock, then waits to be killed, or for the end of its input, which comes when its parent dies.
"""

from __future__ import annotations

import json
import os
import sys

from airflow_kinesis_snowflake.check.sessions import SnowflakeCheckHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake import statements

LOCKED = "locked"
"""The line it prints when it holds the lock, among what Airflow may log."""


def main() -> None:
    """Lock and wait."""
    asked = json.loads(sys.stdin.readline())
    os.environ[f"AIRFLOW_CONN_{asked['snowflake_conn_id'].upper()}"] = asked["uri"]
    table = TableName(*asked["table"])
    hook = SnowflakeCheckHook(snowflake_conn_id=asked["snowflake_conn_id"], database=table.database)
    with hook.open_check_session() as session:
        session.begin()
        lock = statements.lock_offsets(table, application=asked["application"], stream=asked["stream"])
        session.rows(lock)
        print(LOCKED, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
