"""What is known about a stream as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow_kinesis_snowflake.stream.clock import ServiceClock


@dataclass(frozen=True)
class StreamFacts:
    """What DescribeStreamSummary reports about a stream.

    :param created: aware, in UTC; differs for another stream of the same name
    :param retention: how long a record can be read
    :param status: ``CREATING``, ``ACTIVE``, ``UPDATING`` or ``DELETING``
    :param encryption: records are encrypted with a KMS key, so that reading needs ``kms:Decrypt``
    :param clock: the clock of the service, by which records arrive
    """

    name: str
    arn: str
    created: datetime
    retention: timedelta
    status: str
    encryption: bool
    clock: ServiceClock
