"""The measures as Markdown tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Measures = dict[str, Any]

TITLES = {
    "plain": "GetRecords to zstd Parquet, payload as one JSON column",
    "streamed": "GetRecords to the lines that Snowflake's SDK for streaming sends",
    "columns": "GetRecords to zstd Parquet, a column for each key",
    "gzip": "The same from records that are compressed by gzip",
    "lines": "The same from records of 50 lines, each a document",
    "gzip lines": "The same from records of 50 lines that are compressed by gzip",
    "logs": "The same from messages of CloudWatch Logs with 50 events",
    "small, plain": "Records of 60 bytes",
    "small, gzip": "Records of 60 bytes, compressed by gzip",
    "large, plain": "Records of 1,300 bytes",
    "large, gzip": "Records of 1,300 bytes, compressed by gzip",
    "aggregated": "The same from KPL aggregates of 50 records, payload as one JSON column",
}
CONTENDERS = {
    "envelope": 'this package, `mapping="envelope"`',
    "unread": "this package, looking into no payload: received, inflated, written",
    "libraries": "this package, only what libraries do with log events: no documents are made",
    "columns": 'this package, `mapping="columns"`',
    "streamed": 'this package, `sink="streaming"`',
    "boto3": "boto3 loop, `json`, `pyarrow.Table.from_pylist`",
    "boto3-streamed": "boto3 loop, `json.loads`, `append_rows` of dicts",
    "json-columns": "boto3 loop, `json`, `pyarrow.Table.from_pylist`",
    "kcl-rs": "`kcl-rs`, polling",
    "aws-kinesis-agg": "boto3 loop, `aws-kinesis-agg`",
}
CALLS = ("GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary", "Query", "UpdateItem")


def tables(measures: Measures) -> str:
    """All tables, one below the other."""
    parts = [_machine(measures["machine"])]
    parts.append(speed_tables(measures["speed"]))
    if measures["overlap"]:
        parts.append(_overlap(measures["overlap"]))
    parts += [_scaling(measures["scaling"]), _calls(measures["scaling"])]
    if measures["long backlog"]:
        parts.append(_long(measures["long backlog"]))
    if measures["visible"]:
        parts.append(_visible(measures["visible"]))
    if measures["long follow"]:
        parts.append(_long_follow(measures["long follow"]))
    parts.append(_parsing(measures["parsing"]))
    return "\n\n".join(parts) + "\n"


def speed_tables(measured: dict[str, dict[str, Measures]]) -> str:
    """The tables of what contenders read, by kind."""
    return "\n\n".join(_speed(TITLES[kind], of) for kind, of in measured.items())


def _machine(facts: dict[str, str]) -> str:
    return "Machine: " + "; ".join(f"{name} {value}" for name, value in facts.items())


def _speed(title: str, measured: dict[str, Measures]) -> str:
    ours = next(iter(measured.values()))["records_per_cpu_second"]
    rows = [
        (
            CONTENDERS[name],
            f"{one['records_per_cpu_second']:,.0f}",
            f"{one['cpu_seconds']:.2f}",
            f"{one['peak_rss_mb']:.0f}",
            f"{one['file_mb']:.1f}",
            f"{ours / one['records_per_cpu_second']:.1f}",
        )
        for name, one in measured.items()
    ]
    heads = ("contender", "records per CPU s", "CPU s", "peak RSS MB", "file MB", "this package is faster by")
    return f"### {title}\n\n{_table(heads, rows)}"


def _overlap(measured: Measures) -> str:
    return (
        "### A slow sink: 2 s for each batch\n\n"
        f"Reading alone took {measured['reading_seconds']:.1f} s and the sink alone "
        f"{measured['sink_seconds']:.1f} s ({measured['batches']} batches). Together they took "
        f"{measured['together_seconds']:.1f} s: {measured['to_the_larger']:.2f} of the larger of the two, "
        f"{measured['to_the_sum']:.2f} of their sum."
    )


def _scaling(measured: dict[str, dict[str, Measures]]) -> str:
    rows = [
        (
            shards,
            f"{of['busy']['bytes'] / 1e6:,.0f}",
            f"{of['busy']['bytes'] / of['busy']['cpu_seconds'] / 1e6:.0f}",
            f"{of['busy']['peak_rss_mb']:.0f}",
            f"{of['idle']['peak_rss_mb']:.0f}",
        )
        for shards, of in measured.items()
    ]
    heads = ("shards", "backlog MB", "MB per CPU s", "peak RSS MB", "peak RSS MB when idle")
    return f"### Whole drains against the number of shards\n\n{_table(heads, rows)}"


def _calls(measured: dict[str, dict[str, Measures]]) -> str:
    rows = [
        (
            shards,
            kind,
            *(f"{one['calls'].get(name, 0):,}" for name in CALLS),
            str(one["statements"]),
            str(one["batches"]),
        )
        for shards, of in measured.items()
        for kind, one in of.items()
    ]
    heads = ("shards", "drain", *CALLS, "Snowflake statements", "batches")
    return f"### Calls of a drain\n\n{_table(heads, rows)}"


def _long(measured: dict[str, Measures]) -> str:
    rows = [
        (sink, f"{of['bytes'] / 1e9:.1f}", f"{of['peak_rss_mb']:.0f}", str(of["batches"]))
        for sink, of in measured.items()
    ]
    return (
        "### A long backlog of 64 shards\n\n"
        "What is streamed ends before Snowflake's SDK, whose memory comes on top.\n\n"
        f"{_table(('sink', 'GB', 'peak RSS MB', 'batches'), rows)}"
    )


def _visible(measured: dict[str, Measures]) -> str:
    rows = [
        (how, f"{of['records']:,}", str(of["batches"]), *(f"{of[nth]:.2f}" for nth in ("p50", "p95", "p99")))
        for how, of in measured.items()
    ]
    heads = ("sink, source", "records", "batches", "p50", "p95", "p99")
    return (
        "### Seconds from put to visible, of a drain that follows\n\n"
        f"With `max_batch_seconds=1`, on local services.\n\n{_table(heads, rows)}"
    )


def _long_follow(measured: dict[str, Measures]) -> str:
    rows = [
        (
            sink,
            f"{of['wall_seconds']:.0f}",
            f"{of['records']:,}",
            f"{of['batches']:,}",
            str(of["renewals"]),
            f"{of['second_third_mb']:.0f}",
            f"{of['last_third_mb']:.0f}",
        )
        for sink, of in measured.items()
    ]
    heads = (
        "sink",
        "seconds",
        "records",
        "batches",
        "channels renewed",
        "mean RSS MB, second third",
        "last third",
    )
    return f"### Memory of a drain that follows\n\n{_table(heads, rows)}"


def _parsing(measured: Measures) -> str:
    return (
        "### Parsing the shipped DAG file\n\n"
        f"{measured['ours_seconds']:.2f} CPU s, an empty DAG file {measured['empty_seconds']:.2f}, both with "
        f"the start of Python and Airflow: {measured['to_empty']:.2f} times as much."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
