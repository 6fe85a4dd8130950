"""Amazon Kinesis Data Streams into Snowflake, from Airflow, exactly once."""

from __future__ import annotations

__version__ = "0.1.0"
