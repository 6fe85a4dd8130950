"""The consumers whose checkpoints can be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.takeover.kcl import KinesisClientLibrary
from airflow_kinesis_snowflake.maintenance.takeover.openflow import Openflow
from airflow_kinesis_snowflake.maintenance.takeover.redpanda import RedpandaConnect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_kinesis_snowflake.maintenance.takeover.source import CheckpointSource

SOURCES: tuple[CheckpointSource, ...] = (KinesisClientLibrary(), Openflow(), RedpandaConnect())


def find_source(keys: Mapping[str, str]) -> CheckpointSource | None:
    """The consumer whose table has this key; None: none that is known."""
    return next((source for source in SOURCES if source.keys == keys), None)
