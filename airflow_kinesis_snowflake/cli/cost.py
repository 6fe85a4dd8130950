"""``cost``: what a pipeline costs per day, by sink and with other software."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command, option
from airflow_kinesis_snowflake.cli.options import OUTPUT
from airflow_kinesis_snowflake.maintenance.cost import ASSUMPTIONS, Volume, cost_table, daily_costs

if TYPE_CHECKING:
    import argparse

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, _: Terminal) -> Answer:
    """Compute the cost; no service is called."""
    volume = Volume(
        gb_per_day=options.gb_per_day,
        interval=options.interval,
        shards=options.shards,
        record_kilobytes=options.record_kb,
        credit=options.credit_usd,
    )
    costs = daily_costs(volume)
    data = {
        "volume": asdict(volume),
        "usd_per_day": {cost.way: cost.usd for cost in costs},
        "assumptions": list(ASSUMPTIONS),
    }
    return Answer(data, [cost_table(costs), "\n".join(f"- {each}." for each in ASSUMPTIONS)])


COMMAND = Command(
    "cost",
    run,
    "print what a pipeline costs per day with each sink, and with other software",
    (
        option("--gb-per-day", type=float, required=True, help="records, uncompressed"),
        option("--interval", type=float, default=10.0, help="minutes between drains; default is 10"),
        option("--shards", type=int, default=4, help="of the stream; default is 4"),
        option("--record-kb", type=float, default=5.0, help="size of a record; default is 5"),
        option("--credit-usd", type=float, default=3.0, help="price of a credit; default is 3"),
        *OUTPUT,
    ),
)
