"""Reads a sample of a stream, independently of all applications: it takes no lease and writes no state."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.exceptions import ThrottledError
from airflow_kinesis_snowflake.formats.sample import Sample
from airflow_kinesis_snowflake.maintenance.rendering import Table
from airflow_kinesis_snowflake.stream.aggregation import deaggregate
from airflow_kinesis_snowflake.stream.positions import TRIM_HORIZON, StartAt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_kinesis_snowflake.formats.engine import Decoder
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.rendering import Part
    from airflow_kinesis_snowflake.stream.records import Page

MAX_SHARDS = 20
_MAX_PER_PAGE = 1_000
_SECONDS_BETWEEN_PAGES = 0.25


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What to read.

    :param records: how many user records to read at most, from up to 20 shards in turn
    :param seconds: after how long to stop reading
    :param start: where to begin in each shard
    """

    records: int = 1_000
    seconds: float = 30
    start: StartAt = TRIM_HORIZON


def take_sample(
    request: SampleRequest,
    *,
    kinesis: KinesisStreamHook,
    decode: Decoder | None,
    names: str = "upper",
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Sample:
    """Read some records of a stream, to see which columns they need.

    Needs ``kinesis:ListShards``, ``GetShardIterator`` and ``GetRecords``; it uses a part of what each shard
    allows all its readers, five calls and 2 MB a second.

    :param decode: takes payloads apart; ``None``: each is a document
    :param names: how columns are named after keys
    :raises KinesisSnowflakeError: the stream can't be read
    """
    sample = Sample(names=names)
    give_up_at = monotonic() + request.seconds
    shards = sorted(kinesis.list_shards(), key=lambda shard: shard.closed)[:MAX_SHARDS]
    limit = min(_MAX_PER_PAGE, -(-request.records // len(shards)))
    iterators = {shard.shard_id: kinesis.get_iterator(shard.shard_id, request.start) for shard in shards}
    while iterators:
        for shard_id, iterator in list(iterators.items()):
            with suppress(ThrottledError):  # others read the shard too
                page = kinesis.get_page(iterator, limit=limit)
                _add(sample, page, decode, most=request.records)
                if page.next_iterator is None or not (page.records or page.millis_behind):
                    del iterators[shard_id]
                else:
                    iterators[shard_id] = page.next_iterator
            if sample.records >= request.records or monotonic() >= give_up_at:
                return sample
        sleep(_SECONDS_BETWEEN_PAGES)
    return sample


def _add(sample: Sample, page: Page, decode: Decoder | None, *, most: int) -> None:
    for record in deaggregate(page.records).users[: most - sample.records]:
        sample.add(record.data, record.partition_key, decode)


def sample_parts(sample: Sample) -> list[Part]:
    """A sample for people to read, with the settings that follow from it, as Python."""
    counts = [
        f"{sample.records:,} records, {sample.documents:,} documents.",
        *(f"{count:,} dropped: {what}." for what, count in sample.dropped.most_common()),
    ]
    if sample.others:
        counts.append(f"{sample.others:,} documents aren't JSON objects: only mapping='envelope' takes them.")
    if sample.further_keys:
        counts.append(f"{sample.further_keys:,} values of further keys weren't examined.")
    keys = Table.of(
        ("key", "documents", "values"),
        [
            (
                name,
                f"{seen.documents:,}",
                ", ".join(f"{count:,} {kind}" for kind, count in seen.kinds.most_common()),
            )
            for name, seen in sample.keys.items()
        ],
    )
    letters = Table.of(
        ("dead letters", "reason"),
        [(f"{count:,}", reason) for reason, count in sample.dead_letters.most_common()],
    )
    conflicts = Table.of(
        ("not with mapping='columns'", "reason"),
        [(f"{count:,}", reason) for reason, count in sample.conflicts.most_common()],
    )
    return [
        "\n".join(counts),
        *([letters] if letters.rows else []),
        *([conflicts] if conflicts.rows else []),
        *([keys] if keys.rows else []),
        *([f"names={sample.names!r},"] if sample.names != "upper" else []),
        *([_setting("columns", sample.columns)] if sample.columns else []),
        *([f"If these are times:\n{_setting('epochs', sample.epochs)}"] if sample.epochs else []),
        *([f"If they aren't:\n{_setting('columns', sample.no_epochs)}"] if sample.no_epochs else []),
    ]


def _setting(name: str, values: Mapping[str, str]) -> str:
    # What two asterisks enclose would be emphasized.
    lines = (f"    {key!r}: {value!r},".replace("**", r"*\x2a") for key, value in values.items())
    return "\n".join([f"{name}={{", *lines, "},"])
