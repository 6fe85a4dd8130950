"""Differences between the Airflow versions that this package supports."""

from __future__ import annotations

import airflow
from packaging.version import Version

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import (  # type: ignore[no-redef]
        AirflowFailException,
        AirflowSkipException,
    )

try:
    from airflow.sdk.observability.stats import Stats
except ImportError:  # before Airflow 3.2
    from airflow.stats import Stats

# Before Airflow 3.2, two threads that talk to their task's supervisor get each other's responses.
THREADS_MAY_TALK = Version(airflow.__version__) >= Version("3.2.0")

__all__ = ["THREADS_MAY_TALK", "AirflowFailException", "AirflowSkipException", "Stats"]
