"""What counts mean: findings, what is no finding, and what can't be known."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_kinesis_snowflake.audit.counts import Evidence, Incarnation, ShardCounts, StreamComparison
from airflow_kinesis_snowflake.audit.findings import DiscrepancyKind, describe, judge
from airflow_kinesis_snowflake.audit.markdown import report_text, verdict
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState
from airflow_kinesis_snowflake.stream.positions import Position, encode_position

PARENT, CHILD = "shardId-000000000000", "shardId-000000000001"


def loaded(records: int = 10, position: str | None = "100", **facts: Any) -> Incarnation:
    known = {
        "application": "app",
        "incarnation": "first",
        "position": Position(position) if position else None,
        "records": records,
    }
    return Incarnation(**known | facts)


def shard(shard_id: str = PARENT, *incarnations: Incarnation, **counts: Any) -> ShardCounts:
    known: dict[str, Any] = {"records": 10, "landed": 10}
    return ShardCounts(shard_id=shard_id, incarnations=incarnations or (loaded(),), **known | counts)


def evidence(*shards: ShardCounts, **facts: Any) -> Evidence:
    known: dict[str, Any] = {"stream": "clicks", "table": "T", "audited": ("app",), "shards": shards}
    return Evidence(**known | facts)


def with_state(*rows: ShardState, after: tuple[ShardState, ...] | None = None) -> dict[str, Any]:
    before, later = ({row.shard_id: row for row in each} for each in (rows, rows if after is None else after))
    return {"state_before": {"app": StreamState(before)}, "state_after": {"app": StreamState(later)}}


def row(shard_id: str = PARENT, checkpoint: str | None = "100", **facts: Any) -> ShardState:
    at = None if checkpoint is None else Position(checkpoint)
    return ShardState(shard_id, checkpoint=at, **{"incarnation": "first"} | facts)


def kinds(found: Evidence) -> list[DiscrepancyKind]:
    return [finding.kind for finding in judge(found).findings]


def test_as_many_as_were_committed_each_once_is_exactly_once() -> None:
    report = judge(evidence(shard(landed=8, dead_letters=2), **with_state(row())))
    assert report.exactly_once
    assert (report.records, report.landed, report.dead_letters) == (10, 8, 2)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"landed": 9}, [DiscrepancyKind.TOO_FEW]),
        ({"landed": 11}, [DiscrepancyKind.TOO_MANY]),
        ({"landed": 9, "gaps": 1}, [DiscrepancyKind.DATA_LOSS]),
        ({"repeated": 1, "doubled": 1}, [DiscrepancyKind.DOUBLED]),
        ({"repeated": 1}, []),
        ({"beyond": 1}, [DiscrepancyKind.BEYOND_OFFSET]),
        ({"missing_inside": 1}, [DiscrepancyKind.MISSING_IN_AGGREGATE]),
        ({"records": 0, "landed": 0}, [DiscrepancyKind.TOO_FEW]),
    ],
)
def test_each_count_has_its_finding(counts: dict[str, int], expected: list[DiscrepancyKind]) -> None:
    assert kinds(evidence(replace(shard(), **counts))) == expected  # type: ignore[arg-type]


def test_numbers_are_not_compared_where_rows_were_removed() -> None:
    found = evidence(shard(landed=5), compare_counts=False)
    assert kinds(found) == []
    assert any("wasn't compared" in limit for limit in judge(found).limits)


def test_rows_without_any_offset_are_one_finding_and_not_three() -> None:
    nobody = ShardCounts(shard_id=PARENT, records=5, landed=5, beyond=5)
    assert kinds(evidence(nobody)) == [DiscrepancyKind.NO_OFFSET]


def test_an_offsets_row_without_records_is_no_finding() -> None:
    assert kinds(evidence(shard(PARENT, loaded(0, None), records=0, landed=0))) == []


def test_a_key_that_is_there_twice_is_a_finding() -> None:
    assert kinds(evidence(shard(PARENT, loaded(5), loaded(5)))) == [DiscrepancyKind.REPEATED_OFFSET]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (row(checkpoint="100"), []),
        (row(checkpoint="99"), []),
        (row(checkpoint=None), []),
        (row(checkpoint="101"), [DiscrepancyKind.CHECKPOINT_AHEAD]),
        (row(checkpoint="101", incarnation="next"), []),
        (row(checkpoint="100", offset=Position("100")), []),
        (row(checkpoint="100", offset=Position("101")), [DiscrepancyKind.OFFSET_WENT_BACK]),
        (
            row(checkpoint="100", offset=Position("100"), incarnation="next"),
            [DiscrepancyKind.OFFSET_WENT_BACK],
        ),
    ],
)
def test_a_checkpoint_is_compared_with_the_offset_of_its_incarnation(
    state: ShardState, expected: list[DiscrepancyKind]
) -> None:
    assert kinds(evidence(shard(), **with_state(state))) == expected


def test_a_checkpoint_of_an_import_has_no_offset_yet() -> None:
    found = evidence(shard(PARENT, loaded(0, None), records=0, landed=0), **with_state(row()))
    assert kinds(found) == []


def test_a_child_is_loaded_after_its_parent_is_read_to_its_end() -> None:
    shards = shard(PARENT), shard(CHILD)
    child = row(CHILD, parents=(PARENT,))
    ended, unfinished = row(ended=True), row()
    assert kinds(evidence(*shards, **with_state(ended, child))) == []
    assert kinds(evidence(*shards, **with_state(unfinished, child))) == [DiscrepancyKind.CHILD_BEFORE_PARENT]
    assert kinds(evidence(*shards, **with_state(child))) == []


def test_a_parent_that_ended_while_records_were_counted_had_ended_before_its_child_began() -> None:
    child = row(CHILD, parents=(PARENT,))
    state = with_state(row(), child, after=(row(ended=True), child))
    assert kinds(evidence(shard(PARENT), shard(CHILD), **state)) == []


def test_a_parent_that_was_reset_may_be_read_once_more() -> None:
    again = shard(PARENT, loaded(5, closed=True), loaded(5, "50", incarnation="next"))
    state = with_state(row(checkpoint="50", incarnation="next"), row(CHILD, parents=(PARENT,)))
    assert kinds(evidence(again, shard(CHILD), **state)) == []


def test_what_the_stream_has_and_the_tables_have_not_is_a_finding() -> None:
    code = encode_position(Position("77", 3))
    compared = StreamComparison(shard_id=PARENT, compared=9, missing=1, foreign=1, missing_examples=(code,))
    missing, foreign = judge(evidence(shard(), compared=(compared,))).findings
    assert (missing.kind, missing.count, missing.example) == (DiscrepancyKind.NOT_LANDED, 1, "77/3")
    assert (foreign.kind, foreign.example) == (DiscrepancyKind.NOT_IN_STREAM, None)


def test_what_can_not_be_known_is_said() -> None:
    again = shard(PARENT, loaded(5, closed=True), loaded(5, incarnation="next"))
    found = evidence(again, others=("other",), several_documents=True, compare_counts=False)
    limits = "\n".join(judge(found).limits)
    for words in ("aren't dense", "which incarnation", "other too", "no state of app", "several rows"):
        assert words in limits


def test_the_report_goes_through_json() -> None:
    plain = judge(evidence(shard(landed=9))).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["exactly_once"], plain["findings"][0]["kind"]) == (False, "too_few")


def test_the_answer_comes_first_and_says_for_how_much() -> None:
    good = judge(evidence(shard(records=1_000, landed=1_000), compare_counts=False))
    assert verdict(good).startswith(
        "Exactly once for 1,000 records (1,000 rows and 0 dead letters) of 1 shard."
    )
    bad = judge(evidence(shard(landed=9)))
    assert verdict(bad).startswith("NOT exactly once: 1 finding")
    assert bad.findings[0].what in report_text(bad)


def test_the_text_has_a_line_for_each_incarnation() -> None:
    text = report_text(judge(evidence(shard(PARENT, loaded(4), loaded(6, incarnation="next")))))
    assert "app first" in text
    assert "app next" in text


@pytest.mark.parametrize(
    ("position", "expected"), [(Position("12", 0), "12"), (Position("12", 4), "12/4"), (None, None)]
)
def test_records_are_shown_as_people_know_them(position: Position | None, expected: str | None) -> None:
    assert describe(None if position is None else encode_position(position)) == expected
