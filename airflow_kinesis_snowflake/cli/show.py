"""``show``: the state of one application on one stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, ExitStatus
from airflow_kinesis_snowflake.cli.options import APPLICATION, AWS, STREAM, open_store, open_stream
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Inspect the state of an application."""
    with terminal.working("Reading the state"):
        from airflow_kinesis_snowflake.maintenance.inspection import inspect_state, inspection_parts

        inspection = inspect_state(open_store(options), open_stream(options), now=now_millis())
    status = ExitStatus.FINDINGS if inspection.findings else ExitStatus.OK
    return Answer(inspection.as_dict(), inspection_parts(inspection), status)


COMMAND = Command(
    "show",
    run,
    "show the shards of an application with lag, checkpoint and lease, and what is wrong with them",
    (APPLICATION, STREAM, *AWS),
)
