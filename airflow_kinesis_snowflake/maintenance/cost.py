"""What a pipeline costs a day, by sink and compared with others: a model from list prices, without any call.

Prices are those of US East as published in 2026. The stream costs the same with all of them, and is left out;
so are Airflow's workers, storage, and the cost of queries.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.rendering import Table

DAY_SECONDS = 86_400
HOURS = 24
GB_MEGABYTES = 1_000.0

# An XS uses a credit an hour, and is billed for at least a minute each time it starts.
XS_CREDITS_AN_HOUR = 1.0
SHORTEST_SECONDS = 60.0
# MB of JSON that an XS loads in a second: from one file, and from eight with the vectorized scanner.
ONE_FILE_MEGABYTES = 4.82
EIGHT_FILES_MEGABYTES = 108.1

STREAMING_CREDITS_A_GB = 0.0037

# Runtime and management of Openflow on Snowflake, all day; the larger runtime from that many GB a day.
OPENFLOW_CREDITS_AN_HOUR = 0.22
OPENFLOW_LARGER_CREDITS_AN_HOUR = 0.52
OPENFLOW_LARGER_FROM_GB = 500.0

# Firehose: per GB read from Kinesis, each record rounded up to 5 KB, and per GB delivered to Snowflake.
FIREHOSE_USD_A_GB = 0.029
FIREHOSE_TO_SNOWFLAKE_USD_A_GB = 0.071
FIREHOSE_STEP_KILOBYTES = 5.0

DYNAMODB_USD_A_WRITE = 0.625 / 1_000_000
LEASE_RENEWALS_A_DAY = DAY_SECONDS / 10
CHECKPOINTS_A_DAY = DAY_SECONDS

ASSUMPTIONS = (
    "List prices of US East, and the given price of a credit; not measured on an account",
    "The warehouse is an XS that nothing else uses and that suspends at once; it is billed for at least 60 s "
    "each time it starts",
    f"An XS loads {ONE_FILE_MEGABYTES} MB of JSON a second from one file, and {EIGHT_FILES_MEGABYTES:.0f} "
    "from eight with the vectorized scanner",
    f"Snowpipe Streaming uses {STREAMING_CREDITS_A_GB} credits for each GB, uncompressed",
    f"Openflow's runtime uses {OPENFLOW_CREDITS_AN_HOUR} credits an hour, or "
    f"{OPENFLOW_LARGER_CREDITS_AN_HOUR} from {OPENFLOW_LARGER_FROM_GB:.0f} GB a day, and streams as above",
    "Firehose rounds each record up to 5 KB",
    "The stream, Airflow's workers and storage aren't counted",
)


@dataclass(frozen=True, kw_only=True)
class Volume:
    """What goes through a pipeline.

    :param gb_per_day: GB (10^9 bytes) of records a day, uncompressed
    :param interval: minutes from one drain to the next
    :param shards: of the stream
    :param record_kilobytes: size of a record
    :param credit: USD for a credit
    :raises InvalidSettingError: one of them isn't a finite number above 0
    """

    gb_per_day: float
    interval: float = 10.0
    shards: int = 4
    record_kilobytes: float = 5.0
    credit: float = 3.0

    def __post_init__(self) -> None:
        for name in ("gb_per_day", "interval", "shards", "record_kilobytes", "credit"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InvalidSettingError(f"Give a number above 0 for {name}, not {getattr(self, name)}")

    @property
    def drains(self) -> float:
        """How many drains there are a day."""
        return 24 * 60 / self.interval


@dataclass(frozen=True)
class DailyCost:
    """What one way into Snowflake costs.

    :param usd: USD a day; ``None``: it falls behind
    """

    way: str
    usd: float | None


def copy_usd(volume: Volume, *, megabytes_a_second: float = EIGHT_FILES_MEGABYTES) -> float | None:
    """USD a day of the warehouse for drains that load by COPY; ``None``: it can't keep up.

    :param megabytes_a_second: how fast the warehouse loads
    """
    seconds = volume.gb_per_day * GB_MEGABYTES / volume.drains / megabytes_a_second
    if seconds > volume.interval * 60:
        return None
    billed = min(DAY_SECONDS, volume.drains * max(SHORTEST_SECONDS, seconds))
    return billed / 3_600 * XS_CREDITS_AN_HOUR * volume.credit


def streaming_usd(volume: Volume) -> float:
    """USD a day of Snowpipe Streaming."""
    return volume.gb_per_day * STREAMING_CREDITS_A_GB * volume.credit


def openflow_usd(volume: Volume) -> float:
    """USD a day of the Openflow connector on Snowflake."""
    larger = volume.gb_per_day >= OPENFLOW_LARGER_FROM_GB
    credits_an_hour = OPENFLOW_LARGER_CREDITS_AN_HOUR if larger else OPENFLOW_CREDITS_AN_HOUR
    return HOURS * credits_an_hour * volume.credit + streaming_usd(volume)


def firehose_usd(volume: Volume) -> float:
    """USD a day of Firehose."""
    steps = -(-volume.record_kilobytes // FIREHOSE_STEP_KILOBYTES)
    rounded = steps * FIREHOSE_STEP_KILOBYTES / volume.record_kilobytes
    return volume.gb_per_day * (FIREHOSE_USD_A_GB * rounded + FIREHOSE_TO_SNOWFLAKE_USD_A_GB)


def state_usd(volume: Volume) -> float:
    """USD a day of DynamoDB for drains at the interval that load one batch each.

    Each lease is taken, confirmed, extended by the checkpoint, and released.
    """
    return volume.drains * (4 * volume.shards + 1) * DYNAMODB_USD_A_WRITE


def following_state_usd(volume: Volume) -> float:
    """USD a day of DynamoDB for a drain that always follows: at most one checkpoint per second and shard."""
    writes = volume.shards * (CHECKPOINTS_A_DAY + LEASE_RENEWALS_A_DAY) + LEASE_RENEWALS_A_DAY
    return writes * DYNAMODB_USD_A_WRITE


def daily_costs(volume: Volume) -> tuple[DailyCost, ...]:
    """What each way costs a day."""
    every = f"a drain every {volume.interval:g} min"
    return (
        DailyCost(f"COPY, {every}", copy_usd(volume)),
        DailyCost(
            f"COPY, {every}, one file a batch", copy_usd(volume, megabytes_a_second=ONE_FILE_MEGABYTES)
        ),
        DailyCost("Snowpipe Streaming, at any interval", streaming_usd(volume)),
        DailyCost(f"DynamoDB with either, {every}", state_usd(volume)),
        DailyCost("DynamoDB with either, always following", following_state_usd(volume)),
        DailyCost("Openflow on Snowflake", openflow_usd(volume)),
        DailyCost(f"Firehose, records of {volume.record_kilobytes:g} KB", firehose_usd(volume)),
    )


def cost_table(costs: tuple[DailyCost, ...]) -> Table:
    """The costs, for people to read."""
    return Table.of(("", "USD a day"), [(cost.way, in_usd(cost.usd)) for cost in costs])


def in_usd(usd: float | None) -> str:
    """An amount, for people to read."""
    if usd is None:
        return "falls behind"
    return f"{usd:,.2f}" if usd >= 0.01 else f"{usd:.4f}"
