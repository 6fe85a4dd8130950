"""DynamoDB played by moto inside of this process."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws
from moto.dynamodb.responses import DynamoHandler

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "us-east-1"
CONNECTION = {"conn_type": "aws", "login": "a", "password": "b", "extra": {"region_name": REGION}}


@contextmanager
def dynamodb_inside() -> Iterator[None]:
    """Let Airflow's default connection lead to a DynamoDB without tables, which takes one call at a time."""
    lock, act = threading.Lock(), DynamoHandler.call_action

    def one_by_one(handler: DynamoHandler) -> Any:
        # moto looks at a condition and writes as if nobody else could come between.
        with lock:
            return act(handler)

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setattr(DynamoHandler, "call_action", one_by_one)
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(CONNECTION))
        yield
