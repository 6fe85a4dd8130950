"""``iam``: the policies that AWS has to grant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import APPLICATION, OUTPUT, STREAM
from airflow_kinesis_snowflake.maintenance.iam import Purpose, Resources, policy

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, _: Terminal) -> Answer:
    """Make a policy; no service is asked."""
    document = policy(
        Purpose(options.purpose),
        Resources(
            application=options.application,
            stream=options.stream,
            account=options.account,
            region=options.region,
            partition=options.partition,
            consumer=options.consumer,
            fan_out=options.consumer_type == "enhanced_fan_out",
            source=options.source,
            key=options.key,
            backups=options.backups,
        ),
    )
    return Answer(document, [json.dumps(document, indent=2)])


COMMAND = Command(
    "iam",
    run,
    "print the smallest IAM policy",
    (
        APPLICATION,
        STREAM,
        option("--for", dest="purpose", choices=tuple(Purpose), default="drain", help="default is drain"),
        option("--account", default="*", help="default is *"),
        option("--region", default="*", help="default is *"),
        option("--partition", default="aws", help="default is aws"),
        option("--consumer-type", choices=("polling", "enhanced_fan_out"), default="polling"),
        option("--consumer", help="name of the registered consumer; default is the application's"),
        option("--source", help="table that an import reads"),
        option("--key", help="ARN of the stream's KMS key"),
        option("--backups", help="bucket/prefix of JSON backups"),
        *OUTPUT,
    ),
)
