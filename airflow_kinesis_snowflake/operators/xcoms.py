"""The XComs that drain tasks leave for the monitoring page and for alerts."""

from __future__ import annotations

RETURNED = "return_value"
PROGRESS = "progress"
FAILURE = "failure"
"""Why a task failed."""
DRAINED = "drained"
"""For a task that failed for some of its streams: what it would have returned for the others."""
