"""Imported once by the server that worker processes are forked from, so that they start with warm caches."""

from __future__ import annotations

import inspect
from functools import cache

import boto3
import botocore.session
from botocore.loaders import create_loader

# Every session of Airflow's hooks reads megabytes of JSON: half a second of a process that lives for two.
botocore.session.create_loader = cache(create_loader)
for service in ("kinesis", "dynamodb", "sts"):
    session = boto3.Session(region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    session.client(service).close()
# The amazon provider asks for the stack; the first time that looks at the files of all modules.
inspect.stack()
