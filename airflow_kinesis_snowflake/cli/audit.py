"""``audit``: whether what was loaded is exactly once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, ExitStatus, option, repeated, switch
from airflow_kinesis_snowflake.cli.options import APPLICATION, AWS, SNOWFLAKE, STREAM, open_store, open_stream

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Audit what an application has loaded."""
    with terminal.working(f"Counting in {options.table}"):
        from airflow_kinesis_snowflake.audit.auditing import AuditRequest, audit, open_landed
        from airflow_kinesis_snowflake.audit.markdown import report_parts

        request = AuditRequest(
            stream=open_stream(options).stream_name,
            applications=(options.application, *options.together_with),
            several_documents=options.several_documents,
            compare_counts=not options.no_counts,
            with_stream=options.with_stream,
        )
        with open_landed(options.table, snowflake_conn_id=options.snowflake_conn_id) as landed:
            report = audit(
                request, landed=landed, open_store=partial(open_store, options), kinesis=open_stream(options)
            )
    status = ExitStatus.OK if report.exactly_once else ExitStatus.FINDINGS
    return Answer(report.as_dict(), report_parts(report), status)


COMMAND = Command(
    "audit",
    run,
    "say whether what an application has loaded is exactly once, and for how much",
    (
        APPLICATION,
        STREAM,
        option("--table", required=True, help="landing table, as DATABASE.SCHEMA.TABLE"),
        repeated(
            "--together-with",
            metavar="APPLICATION",
            help="another application that loads the stream into the table; may be repeated",
        ),
        switch("--with-stream", help="look for each record that the stream retains"),
        switch("--no-counts", help="allow for rows that were removed, or loaded by other software"),
        switch("--several-documents", help="a record may become several rows"),
        SNOWFLAKE,
        *AWS,
    ),
)
