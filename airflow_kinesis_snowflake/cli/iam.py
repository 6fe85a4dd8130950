"""``iam``: print the policies to grant in AWS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import APPLICATION, OUTPUT, STREAM
from airflow_kinesis_snowflake.maintenance.iam import Document, Purpose, Resources, document

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, _: Terminal) -> Answer:
    """Create a policy; no service is called."""
    policy = document(
        Document(options.document),
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
            principal=options.principal,
            external_id=options.external_id,
            role=options.role,
        ),
    )
    return Answer(policy, [json.dumps(policy, indent=2)])


COMMAND = Command(
    "iam",
    run,
    "print the smallest policy",
    (
        APPLICATION,
        STREAM,
        option("--for", dest="purpose", choices=tuple(Purpose), default="drain", help="default is drain"),
        option(
            "--document",
            choices=tuple(Document),
            default="policy",
            help="for a stream in another account, also what its owner attaches; default is policy",
        ),
        option("--principal", help="for its owner: ARN of the role that runs the tasks"),
        option("--external-id", help="for a trust policy: what the connection has to present"),
        option("--role", help="ARN of the role in the stream's account that the connection assumes"),
        option("--account", default="*", help="of the state; default is *"),
        option("--region", help="of the state; default is that of the stream's ARN, or *"),
        option("--partition", help="of AWS; default is that of the region"),
        option("--consumer-type", choices=("polling", "enhanced_fan_out"), default="polling"),
        option("--consumer", help="name of the registered consumer; default is the application's"),
        option("--source", help="table that an import reads"),
        option("--key", help="ARN of the stream's KMS key"),
        option("--backups", help="bucket/prefix of JSON backups"),
        *OUTPUT,
    ),
)
