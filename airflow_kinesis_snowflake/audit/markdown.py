"""The report of an audit in human-readable form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.maintenance.rendering import Part, Table, markdown

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.audit.counts import ShardCounts
    from airflow_kinesis_snowflake.audit.findings import AuditReport


def report_text(report: AuditReport) -> str:
    """The report as Markdown."""
    return markdown(report_parts(report))


def report_parts(report: AuditReport) -> list[Part]:
    """The answer, the shards, the findings, and what can't be known."""
    heading = (
        f"Stream **{report.stream}**, loaded by **{', '.join(report.applications)}** into **{report.table}**"
    )
    shards = Table.of(
        (
            "shard",
            "incarnation",
            "committed",
            "rows",
            "dead letters",
            "gaps",
            "records",
            "again",
            "doubled",
            "missing",
        ),
        (line for shard in report.shards for line in _lines(shard)),
    )
    findings = [
        f"- {found.shard_id}: {found.what}" + (f" (one is {found.example})" if found.example else "")
        for found in report.findings
    ]
    limits = [f"- {limit}." for limit in report.limits]
    return [
        heading,
        verdict(report),
        shards,
        "\n".join(findings),
        "\n".join(["What this can't know:", *limits]),
    ]


def verdict(report: AuditReport) -> str:
    """The answer in a sentence or two."""
    of_these = f"{_number(report.landed, 'row')} and {_number(report.dead_letters, 'dead letter')}"
    shards = _number(len(report.shards), "shard")
    if not report.exactly_once:
        return (
            f"NOT exactly once: {_number(len(report.findings), 'finding')} among "
            f"{_number(report.records, 'record')} ({of_these}) of {shards}."
        )
    sentences = [f"Exactly once for {_number(report.records, 'record')} ({of_these}) of {shards}."]
    if report.loaded_again:
        sentences.append(f"Loaded again on request, and so present more than once: {report.loaded_again:,}.")
    if report.compared is not None:
        sentences.append(f"Compared with the stream: {report.compared:,}; none is missing.")
    return " ".join(sentences)


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _lines(shard: ShardCounts) -> list[tuple[str, ...]]:
    """A line for the shard, and one for each incarnation where there are several."""
    known = [f"{each.application} {each.incarnation}" for each in shard.incarnations]
    total = (
        shard.shard_id or "none",
        known[0] if len(known) == 1 else f"{len(known)} of them",
        *(
            f"{number:,}"
            for number in (
                shard.committed,
                shard.landed,
                shard.dead_letters,
                shard.gaps,
                shard.records,
                shard.repeated - shard.doubled,
                shard.doubled,
                shard.missing_inside,
            )
        ),
    )
    if len(known) == 1:
        return [total]
    parts = [
        ("", name, f"{each.records:,}", *[""] * 7)
        for name, each in zip(known, shard.incarnations, strict=True)
    ]
    return [total, *parts]
