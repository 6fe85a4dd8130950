"""The check that takes minutes: how long a killed worker keeps its locks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, found
from airflow_kinesis_snowflake.check.holder import LOCKED
from airflow_kinesis_snowflake.check.snowflake_transactions import Contest
from airflow_kinesis_snowflake.exceptions import ServiceUnavailableError
from airflow_kinesis_snowflake.hooks.snowflake import SESSION_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_kinesis_snowflake.check.bench import Bench

_HOLDER = (sys.executable, "-m", "airflow_kinesis_snowflake.check.holder")


def killed_holder(bench: Bench) -> Observation:
    """Kill a process that holds the lock, and wait for the lock."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        contest.second.commit()
        with _holder(bench, contest) as holder:
            holder.kill()
            holder.wait()
            began = time.monotonic()
            contest.second.begin()
            contest.second.rows(contest.lock())
            waited = time.monotonic() - began
            contest.second.roll_back()
    limit = int(SESSION_PARAMETERS["LOCK_TIMEOUT"])
    return found(waited < limit, f"the lock was released after {waited:.0f} s; drains wait up to {limit} s")


@contextmanager
def _holder(bench: Bench, contest: Contest) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a contest."""
    offsets = contest.target.offsets
    asked = {
        "snowflake_conn_id": bench.settings.snowflake_conn_id,
        "uri": bench.snowflake.get_connection(bench.settings.snowflake_conn_id).get_uri(),
        "table": [offsets.database, offsets.schema, offsets.name],
        **contest.names,
    }
    with subprocess.Popen(_HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            holder.stdin.write(json.dumps(asked) + "\n")
            holder.stdin.flush()
            if LOCKED not in map(str.strip, holder.stdout):
                raise ServiceUnavailableError("See the log of the process that should hold a lock: it ended")
            yield holder
        finally:
            holder.kill()


KILLED_HOLDER = Check(
    name="killed-holder",
    tries="The locks of a killed worker are released before the next one gives up",
    promises=(7,),
    advice="After a kill, end the dead transaction: SHOW TRANSACTIONS IN ACCOUNT, SYSTEM$ABORT_TRANSACTION.",
    needs=Needs.DATABASE,
    run=killed_holder,
    slow=True,
)
