"""Measures speed, latency, memory, cost and start-up, prints tables, and writes them as JSON and a plot.

``python -m benchmarks`` takes half an hour; ``--tiny`` only shows that everything runs, ``--speed`` measures
the speed with some kinds of records and prints that alone. Speed is given as ratios on the same machine in
the same run; an absolute figure says more about the machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.backlog import LARGE, SMALL, Backlog
from benchmarks.contenders import FORMATS
from benchmarks.machine import describe
from benchmarks.measuring import Measures, drains, overlap, parsing, speed
from benchmarks.tables import TITLES, speed_tables, tables
from benchmarks.visible import memory_of_following, put_to_visible
from local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 2**20
SINKS = ("copy", "streaming")
BOUNDS = {"logs": ("libraries",)}
"""Contenders for some kinds of records alone that do less than what is asked for."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    :param rounds: of each contender; what is told is the median
    :param speed: records of each of the four shards that contenders read
    :param batch_bytes: size of the batches that a slow sink takes; ``None`` leaves that out
    :param scaling: numbers of shards
    :param scaling_records: records that the stream holds at each of these numbers, if it has that many shards
    :param memory: records of each of the 64 shards of a long backlog; ``None`` leaves it out
    :param follow: seconds for which drains follow whose records are watched; ``None`` leaves that out
    :param follow_long: seconds for which drains follow whose memory is watched; ``None`` leaves that out
    """

    rounds: int
    speed: int
    batch_bytes: int | None
    scaling: tuple[int, ...]
    scaling_records: int
    memory: int | None
    follow: float | None
    follow_long: float | None


FULL = Size(
    rounds=3,
    speed=50_000,
    batch_bytes=8 * MIB,
    scaling=(1, 16, 64, 256),
    scaling_records=400_000,
    memory=48_000,
    follow=60.0,
    follow_long=300.0,
)
TINY = Size(
    rounds=1,
    speed=200,
    batch_bytes=None,
    scaling=(2,),
    scaling_records=400,
    memory=None,
    follow=None,
    follow_long=None,
)


def comparisons(size: Size) -> dict[str, tuple[Backlog, list[str]]]:
    """What is read, and by which contenders, by the kind of its records."""
    plain = Backlog(shards=4, records=size.speed)
    small = Backlog(shards=4, records=2 * size.speed, size=SMALL)
    large = Backlog(shards=4, records=size.speed // 2, size=LARGE)
    return {
        "plain": (plain, ["envelope", "boto3", "kcl-rs"]),
        "streamed": (plain, ["streamed", "boto3-streamed"]),
        "columns": (plain, ["columns", "json-columns"]),
        "aggregated": (replace(plain, kind="kpl"), ["envelope", "aws-kinesis-agg"]),
        **{
            kind: (replace(plain, kind=kind), ["envelope", "boto3", "unread", *BOUNDS.get(kind, ())])
            for kind in FORMATS
        },
        "small, plain": (small, ["envelope"]),
        "small, gzip": (replace(small, kind="gzip"), ["envelope"]),
        "large, plain": (large, ["envelope"]),
        "large, gzip": (replace(large, kind="gzip"), ["envelope"]),
    }


def speeds(size: Size, kinds: Iterable[str], *, dynamodb: str) -> Measures:
    """How fast contenders are, by the kind of records."""
    compared = {kind: comparisons(size)[kind] for kind in kinds}
    return {
        kind: speed(backlog, contenders, rounds=size.rounds, dynamodb=dynamodb)
        for kind, (backlog, contenders) in compared.items()
    }


def measure(size: Size, services: LocalServices) -> Measures:
    """All measures, by kind."""
    dynamodb = services.dynamodb_url
    return {
        "machine": describe(),
        "speed": speeds(size, TITLES, dynamodb=dynamodb),
        "overlap": None
        if size.batch_bytes is None
        else overlap(Backlog(shards=8, records=size.speed), batch_bytes=size.batch_bytes, dynamodb=dynamodb),
        "scaling": {
            str(shards): dict(
                zip(
                    ("busy", "idle"),
                    drains(
                        Backlog(shards=shards, records=max(1, size.scaling_records // shards)),
                        times=2,
                        dynamodb=dynamodb,
                    ),
                    strict=True,
                )
            )
            for shards in size.scaling
        },
        "long backlog": None
        if size.memory is None
        else {
            sink: drains(Backlog(shards=64, records=size.memory), dynamodb=dynamodb, sink=sink)[0]
            for sink in SINKS
        },
        "visible": None
        if size.follow is None
        else {
            f"{sink}, {'fan-out' if fan_out else 'polling'}": put_to_visible(
                services, sink=sink, fan_out=fan_out, seconds=size.follow
            )
            for sink in SINKS
            for fan_out in (False, True)
        },
        "long follow": None
        if size.follow_long is None
        else {sink: memory_of_following(services, sink=sink, seconds=size.follow_long) for sink in SINKS},
        "parsing": parsing(rounds=size.rounds),
    }


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs")
    parser.add_argument(
        "--output", type=Path, default=Path("build/benchmarks"), help="folder for the results"
    )
    parser.add_argument(
        "--speed",
        nargs="+",
        choices=TITLES,
        metavar="KIND",
        help=f"only the speed with records of these kinds: {', '.join(map(repr, TITLES))}",
    )
    asked = parser.parse_args()
    size = TINY if asked.tiny else FULL
    with LocalServices() as services:
        if asked.speed:
            print(speed_tables(speeds(size, asked.speed, dynamodb=services.dynamodb_url)))
            return
        measures = measure(size, services)
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "benchmarks.json").write_text(json.dumps(measures, indent=2) + "\n")
    text = tables(measures)
    (asked.output / "benchmarks.md").write_text(text)
    plot(measures, asked.output / "scaling.png")
    print(text)


def plot(measures: Measures, file: Path) -> None:
    """Draw throughput, memory and calls against the number of shards."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    shards = [int(number) for number in measures["scaling"]]
    busy = [of["busy"] for of in measures["scaling"].values()]
    idle = [of["idle"] for of in measures["scaling"].values()]
    figure, (speed_axes, memory_axes, calls_axes) = plt.subplots(
        1, 3, figsize=(12, 3.6), layout="constrained"
    )
    speed_axes.plot(shards, [one["bytes"] / one["cpu_seconds"] / 1e6 for one in busy], "o-")
    speed_axes.set_title("Payload per CPU second (MB)")
    memory_axes.plot(shards, [one["peak_rss_mb"] for one in busy], "o-", label="busy")
    memory_axes.plot(shards, [one["peak_rss_mb"] for one in idle], "o-", label="idle")
    memory_axes.set_title("Peak memory of the process (MB)")
    for name in ("GetRecords", "UpdateItem", "Query"):
        calls_axes.plot(shards, [one["calls"].get(name, 0) for one in idle], "o-", label=name)
    calls_axes.set_title("Calls of an idle drain")
    for axes in (speed_axes, memory_axes, calls_axes):
        axes.set_xlabel("shards")
        axes.set_xscale("log", base=2)
        axes.set_xticks(shards, [str(number) for number in shards])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    memory_axes.legend()
    calls_axes.legend()
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
