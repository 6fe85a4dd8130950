"""Runs the pieces of the benchmark, each in a process of its own, and collects what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from local.airflow import EXAMPLE_DAGS
from local.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.backlog import Backlog

REPOSITORY = Path(__file__).resolve().parents[1]
Measures = dict[str, Any]

SINK_SECONDS = 2.0


class PieceFailedError(RuntimeError):
    """A piece of the benchmark ended with an error; the message ends with what it wrote."""


@contextmanager
def replaying(backlog: Backlog, *, dynamodb: str) -> Iterator[str]:
    """A replay server for as long as the block runs; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        command = [sys.executable, "-m", "benchmarks.replay", backlog.dumps(), "--dynamodb", dynamodb]
        with Process("replay", command, folder=Path(folder), env=environment()) as process:
            yield f"http://127.0.0.1:{process.wait_for_port(timeout=300)}"


def run(module: str, *arguments: str) -> Measures:
    """Run a module and return the JSON of its last line.

    :raises PieceFailedError: it failed
    """
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        cwd=REPOSITORY,
    )
    if ended.returncode:
        raise PieceFailedError(f"{module} {' '.join(arguments)}: {ended.stderr[-3000:]}")
    measures: Measures = json.loads(ended.stdout.splitlines()[-1])
    return measures


def environment() -> dict[str, str]:
    """The environment of the pieces: Airflow without the developer's settings, and quiet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    return kept | {
        "PYTHONPATH": str(REPOSITORY),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def speed(backlog: Backlog, contenders: Sequence[str], *, rounds: int, dynamodb: str) -> dict[str, Measures]:
    """Medians of contenders that read the same backlog, one after the other in each round.

    :param contenders: names in :data:`benchmarks.contenders.CONTENDERS`
    """
    measured: dict[str, list[Measures]] = {name: [] for name in contenders}
    with replaying(backlog, dynamodb=dynamodb) as url:
        for _ in range(rounds):
            for name in contenders:
                with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
                    one = run("benchmarks.contenders", name, url, backlog.dumps(), folder)
                if one["records"] != backlog.total_records:
                    raise PieceFailedError(
                        f"{name} wrote {one['records']} of {backlog.total_records} records"
                    )
                measured[name].append(one)
    return {name: rates(medians(of)) for name, of in measured.items()}


def medians(measured: Sequence[Measures]) -> Measures:
    """The median of each number of several runs."""
    return {name: median(one[name] for one in measured) for name in measured[0]}


def rates(measures: Measures) -> Measures:
    """The measures with what was done per CPU second."""
    cpu = measures["cpu_seconds"]
    return measures | {"records_per_cpu_second": measures["records"] / cpu}


def drains(
    backlog: Backlog,
    *,
    dynamodb: str,
    times: int = 1,
    sink_seconds: float = 0,
    batch_bytes: float | None = None,
    sink: str = "copy",
) -> list[Measures]:
    """Whole drains of one application, one after the other, and the calls that each made.

    :param times: from the second on, drains find nothing new
    :param sink_seconds: how long the stand-in for Snowflake takes for a batch
    :param batch_bytes: ``max_batch_bytes`` of the drains; default is the operator's
    :param sink: ``copy`` or ``streaming``
    """
    limits = ["--max-batch-bytes", str(batch_bytes)] if batch_bytes else []
    measured = []
    with replaying(backlog, dynamodb=dynamodb) as url:
        application = f"benchmark-{uuid.uuid4().hex}"
        before = calls(url)
        for _ in range(times):
            one = run(
                "benchmarks.drains",
                url,
                "--application",
                application,
                "--sink",
                sink,
                "--sink-seconds",
                str(sink_seconds),
                *limits,
            )
            after = calls(url)
            one["calls"] = {name: after[name] - before.get(name, 0) for name in after}
            before = after
            measured.append(one)
    return measured


def calls(url: str) -> Mapping[str, int]:
    """How often each AWS operation was called so far."""
    with urlopen(url) as answer:
        counted: dict[str, int] = json.load(answer)
    return counted


def overlap(backlog: Backlog, *, batch_bytes: float, dynamodb: str) -> Measures:
    """How a drain's time compares to that of its parts, when the sink is slow."""
    (alone,) = drains(backlog, dynamodb=dynamodb, batch_bytes=batch_bytes)
    (both,) = drains(backlog, dynamodb=dynamodb, batch_bytes=batch_bytes, sink_seconds=SINK_SECONDS)
    sink = both["batches"] * SINK_SECONDS
    return {
        "reading_seconds": alone["wall_seconds"],
        "sink_seconds": sink,
        "together_seconds": both["wall_seconds"],
        "batches": both["batches"],
        "to_the_larger": both["wall_seconds"] / max(alone["wall_seconds"], sink),
        "to_the_sum": both["wall_seconds"] / (alone["wall_seconds"] + sink),
    }


def parsing(*, rounds: int) -> Measures:
    """CPU seconds to start Python, import Airflow and parse a DAG file: an empty one and ours."""
    empty: list[Measures] = []
    ours: list[Measures] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        file = Path(folder) / "empty.py"
        file.write_text("from airflow.sdk import DAG\n\ndag = DAG('empty')\n")
        for _ in range(rounds):
            empty.append(run("benchmarks.parsing", str(file)))
            ours.append(run("benchmarks.parsing", str(EXAMPLE_DAGS / "kinesis_to_snowflake.py")))
    of_empty, of_ours = (medians(of)["cpu_seconds"] for of in (empty, ours))
    return {"empty_seconds": of_empty, "ours_seconds": of_ours, "to_empty": of_ours / of_empty}
