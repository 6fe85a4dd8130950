"""``python -m tests.torture``: torture, print the figures, and fail if a promise was broken."""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import isolate_from_the_developer

isolate_from_the_developer()
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"

from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY  # noqa: E402
from local.services import LocalServices  # noqa: E402
from tests.torture.journal import Journal  # noqa: E402
from tests.torture.torture import Plan, Torture, report  # noqa: E402
from tests.torture.weather import FAULTS  # noqa: E402


def main() -> int:
    """Run once and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--seconds", type=float, default=60, help="go on for at least so long (%(default)s)")
    parser.add_argument("--kills", type=int, default=0, help="and until so many workers were killed")
    parser.add_argument("--pauses", type=int, default=0, help="and until so many were paused")
    parser.add_argument("--workers", type=int, default=3, help="workers at a time (%(default)s)")
    parser.add_argument("--sink", choices=FAULTS, default=COPY, help="how rows get in (%(default)s)")
    parser.add_argument("--fan-out", action="store_true", help="have records pushed")
    parser.add_argument("--mutant", help="put a defect into every worker: MODULE:FUNCTION")
    parser.add_argument("--journal", type=Path, help="keep what happened here, even if all went well")
    given = parser.parse_args()
    path = given.journal or Path(tempfile.gettempdir()) / f"torture-{given.seed}-{int(time.time())}.jsonl"
    path.unlink(missing_ok=True)
    plan = Plan(
        seed=given.seed,
        seconds=given.seconds,
        workers=given.workers,
        kills=given.kills,
        pauses=given.pauses,
        mutant=given.mutant,
        fan_out=given.fan_out,
        sink=given.sink,
    )
    print(f"seed {plan.seed}, journal {path}", flush=True)
    # A worker that is killed leaves requests half sent.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with LocalServices() as services:
        os.environ |= services.airflow_connections()
        outcome = Torture(plan, services, Journal(path)).run()
    print(report(plan, outcome))
    if outcome.good and not given.journal:
        path.unlink()
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
