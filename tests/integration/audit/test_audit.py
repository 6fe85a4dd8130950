"""What an audit finds in tables that a drain left on the local services."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from snowflake.connector.cursor import SnowflakeCursor

from airflow_kinesis_snowflake.audit.findings import DiscrepancyKind
from airflow_kinesis_snowflake.exceptions import SnowflakeObjectNotFoundError
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.stream.positions import Position
from tests.integration.maintenance.conftest import Maintenance
from tests.integration.stream.history import later
from tests.integration.stream.test_aggregates import by_aiokpl, by_aws_kinesis_agg, documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.audit.findings import AuditReport
    from tests.integration.stream.history import History

pytestmark = pytest.mark.slow


def kinds(report: AuditReport) -> set[DiscrepancyKind]:
    return {finding.kind for finding in report.findings}


def test_a_clean_drain_is_exactly_once(drained: History, audited: Callable[..., AuditReport]) -> None:
    report = audited(drained, with_stream=True)
    assert report.findings == ()
    assert (report.exactly_once, report.records, report.landed, report.compared) == (True, 20, 20, 20)
    assert [shard.committed for shard in report.shards] == [10, 10]


def test_rows_that_were_doubled_are_found(drained: History, audited: Callable[..., AuditReport]) -> None:
    drained.query('INSERT INTO {table} SELECT * FROM {table} WHERE "RECORD_CONTENT":n::NUMBER IN (3, 4, 15)')

    report = audited(drained)

    assert [(found.kind, found.shard_id, found.count) for found in report.findings] == [
        (DiscrepancyKind.DOUBLED, drained.shard_of[3], 2),
        (DiscrepancyKind.DOUBLED, drained.shard_of[15], 1),
        (DiscrepancyKind.TOO_MANY, drained.shard_of[3], 2),
        (DiscrepancyKind.TOO_MANY, drained.shard_of[15], 1),
    ]
    assert report.records == 20


def test_a_double_that_takes_the_place_of_another_record_is_found(
    drained: History, audited: Callable[..., AuditReport]
) -> None:
    drained.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 5')
    drained.query('INSERT INTO {table} SELECT * FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 6')

    assert kinds(audited(drained)) == {DiscrepancyKind.DOUBLED}
    assert kinds(audited(drained, with_stream=True)) == {DiscrepancyKind.DOUBLED, DiscrepancyKind.NOT_LANDED}


def test_a_record_that_was_removed_is_counted_and_found_with_the_stream(
    drained: History, audited: Callable[..., AuditReport]
) -> None:
    ((number,),) = drained.query(
        'SELECT "KINESISMETADATA":sequenceNumber::VARCHAR FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 5'
    )
    drained.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 5')

    (fewer,) = audited(drained).findings
    assert (fewer.kind, fewer.count, fewer.shard_id) == (DiscrepancyKind.TOO_FEW, 1, drained.shard_of[5])

    (missing,) = audited(drained, with_stream=True, compare_counts=False).findings
    assert (missing.kind, missing.count, missing.example) == (DiscrepancyKind.NOT_LANDED, 1, number)


def test_a_record_that_is_not_due_yet_is_not_missing(
    live: History, audited: Callable[..., AuditReport]
) -> None:
    live.put(live.open_shards[0], 5)
    assert audited(live, with_stream=True).compared == 20
    assert audited(live, with_stream=True).findings == ()


def test_records_before_the_start_are_not_missing(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put(shard_id, 5)
    start = history.latest()
    history.put(shard_id, 3)
    history.drain(initial_position=start).run()

    report = audited(history, with_stream=True)
    assert (report.findings, report.compared) == ((), 3)


def test_a_member_that_is_missing_inside_an_aggregate_is_found(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    payloads = *documents(0), by_aiokpl(documents(1, 2, 3)), by_aws_kinesis_agg(documents(4, 5))
    _, aggregate, _ = history.put_payloads(shard_id, *payloads)
    history.drain().run()
    assert audited(history, with_stream=True).records == 6

    history.query('DELETE FROM {table} WHERE "RECORD_CONTENT":n::NUMBER IN (1, 2)')

    (found,) = audited(history, compare_counts=False).findings
    assert (found.kind, found.count) == (DiscrepancyKind.MISSING_IN_AGGREGATE, 2)
    assert str(found.example).startswith(aggregate)


def test_an_import_may_begin_inside_an_aggregate(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    (aggregate,) = history.put_payloads(shard_id, by_aiokpl(documents(0, 1, 2)))
    history.import_checkpoint(shard_id, Position(aggregate, 0))
    history.drain().run()

    report = audited(history)
    assert (report.findings, report.records) == ((), 2)


def test_a_row_beyond_the_offset_is_found(drained: History, audited: Callable[..., AuditReport]) -> None:
    beyond = "9" * 56
    shard_id = drained.open_shards[0]
    drained.query(
        'INSERT INTO {table} ("RECORD_CONTENT", "KINESISMETADATA") SELECT "RECORD_CONTENT", OBJECT_CONSTRUCT('
        f"'stream', '{drained.stream}', 'shardId', '{shard_id}', 'sequenceNumber', '{beyond}', "
        "'subSequenceNumber', 0, 'approximateArrival', 1) FROM {table} LIMIT 1"
    )

    found, more = audited(drained).findings

    assert (found.kind, found.shard_id, found.count, found.example) == (
        DiscrepancyKind.BEYOND_OFFSET,
        shard_id,
        1,
        beyond,
    )
    assert more.kind is DiscrepancyKind.TOO_MANY


def test_rows_of_a_shard_without_an_offset_are_found(
    drained: History, audited: Callable[..., AuditReport]
) -> None:
    shard_id = drained.open_shards[0]
    drained.query(f"DELETE FROM {{offsets}} WHERE \"SHARD_ID\" = '{shard_id}'")

    report = audited(drained)

    assert {found.shard_id for found in report.findings} == {shard_id}
    assert kinds(report) == {DiscrepancyKind.NO_OFFSET, DiscrepancyKind.OFFSET_WENT_BACK}


def test_an_offset_of_which_no_row_is_there_is_found(
    drained: History, audited: Callable[..., AuditReport]
) -> None:
    drained.query("DELETE FROM {table}")
    report = audited(drained)
    assert [(found.kind, found.count) for found in report.findings] == [(DiscrepancyKind.TOO_FEW, 10)] * 2
    assert report.records == 0


def test_a_checkpoint_ahead_of_its_offset_is_found(
    live: History, audited: Callable[..., AuditReport]
) -> None:
    shard_id = live.open_shards[1]
    (number,) = live.put(shard_id)
    state = live.state.shards[shard_id]
    ahead = replace(state, checkpoint=Position(number))
    live.store.hold(live.stream, shard_id, owner="me", expiry=1, now=0)
    assert live.store.reset_shard(live.stream, ahead, owner="me", now=0)

    found, skipped = audited(live, with_stream=True).findings

    assert (found.kind, found.shard_id) == (DiscrepancyKind.CHECKPOINT_AHEAD, shard_id)
    assert (skipped.kind, skipped.example) == (DiscrepancyKind.NOT_LANDED, number)


def test_dead_letters_count(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put_payloads(shard_id, *documents(0), b"not JSON", *documents(1))
    history.drain().run()

    report = audited(history, with_stream=True)

    assert report.findings == ()
    assert (report.records, report.landed, report.dead_letters, report.compared) == (3, 2, 1, 3)


def test_a_record_that_landed_and_is_a_dead_letter_is_found(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    _, bad = history.put_payloads(shard_id, *documents(0), b"not JSON")
    history.drain().run()
    history.query(
        'INSERT INTO {table} ("RECORD_CONTENT", "KINESISMETADATA") SELECT "RECORD_CONTENT", OBJECT_CONSTRUCT('
        f"'stream', '{history.stream}', 'shardId', '{shard_id}', 'sequenceNumber', '{bad}', "
        "'subSequenceNumber', 0, 'approximateArrival', 1) FROM {table}"
    )

    (found,) = audited(history, compare_counts=False).findings

    assert (found.kind, found.count, found.example) == (DiscrepancyKind.DOUBLED, 1, bad)
    assert "as dead letters" in found.what


def test_data_loss_is_a_finding_and_no_record(drained: History, audited: Callable[..., AuditReport]) -> None:
    shard_id = drained.open_shards[0]
    checkpoint = drained.state.shards[shard_id].checkpoint
    assert checkpoint is not None
    drained.query(
        "INSERT INTO {dead_letters} SELECT 'id', 'gap', "
        f"'{drained.application}', '{drained.stream}', '{shard_id}', '{checkpoint.sequence_number}', NULL, "
        "'', 0, 'data loss', NULL, '', 'utf-8', CURRENT_TIMESTAMP"
    )
    drained.query(f'UPDATE {{offsets}} SET "RECORDS" = 11 WHERE "SHARD_ID" = \'{shard_id}\'')

    (found,) = audited(drained).findings

    assert (found.kind, found.shard_id, found.count) == (DiscrepancyKind.DATA_LOSS, shard_id, 1)
    assert audited(drained).records == 20


def test_what_a_reset_loads_again_is_told_from_a_double(
    live: History, audited: Callable[..., AuditReport]
) -> None:
    maintenance = Maintenance(live)
    maintenance.reset("rewind", position="TRIM_HORIZON")
    live.drain(stop_at=later()).run()
    assert len(live.landed) == 40

    report = audited(live, with_stream=True)
    assert (report.findings, report.records, report.landed, report.loaded_again) == ((), 20, 40, 20)
    assert [len(shard.incarnations) for shard in report.shards] == [2, 2]

    live.query('INSERT INTO {table} SELECT * FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 3 LIMIT 1')
    (doubled, more) = audited(live).findings
    assert (doubled.kind, doubled.count, more.kind, more.count) == (
        DiscrepancyKind.DOUBLED,
        1,
        DiscrepancyKind.TOO_MANY,
        1,
    )


def test_a_double_after_the_position_of_the_earlier_incarnation_is_no_reset(
    live: History, audited: Callable[..., AuditReport]
) -> None:
    """Two incarnations, but only one of them can have loaded the record."""
    Maintenance(live).reset("rewind", position="LATEST")
    shard_id = live.open_shards[0]
    live.put(shard_id, 1)
    live.drain(stop_at=later()).run()
    assert audited(live).findings == ()
    assert live.landed == list(range(21))
    live.query('INSERT INTO {table} SELECT * FROM {table} WHERE "RECORD_CONTENT":n::NUMBER = 20')

    assert kinds(audited(live, compare_counts=False)) == {DiscrepancyKind.DOUBLED}


def test_two_streams_in_one_table_are_kept_apart(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    one, other = make_history(), make_history()
    other.application = f"{one.application}-2"
    one.put(one.open_shards[0], 3)
    other.put(other.open_shards[0], 4)
    one.drain().run()
    other.drain().run()
    other.query(f"DELETE FROM {{table}} WHERE \"KINESISMETADATA\":stream::VARCHAR = '{other.stream}'")

    report = audited(one)
    assert (report.findings, report.records) == ((), 3)
    assert kinds(audited(other)) == {DiscrepancyKind.TOO_FEW}


def test_two_applications_on_one_stream_in_one_table_are_counted_together(
    live: History, audited: Callable[..., AuditReport]
) -> None:
    """Rows don't say which application loaded them, so one alone looks doubled, and the audit says why."""
    first = live.application
    live.application = f"{first}-2"
    live.drain(stop_at=later()).run()

    report = audited(live, together_with=(first,))
    assert (report.findings, report.records, report.landed, report.loaded_again) == ((), 20, 40, 20)

    alone = audited(live)
    assert kinds(alone) == {DiscrepancyKind.DOUBLED, DiscrepancyKind.TOO_MANY}
    assert any(first in limit for limit in alone.limits)


def test_the_columns_mapping_is_audited_too(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (shard_id,) = history.open_shards
    history.put_payloads(shard_id, b'{"id": 1, "stream": "x"}', by_aiokpl([b'{"id": 2}', b"[]"]))
    history.drain(columns=ColumnsSettings()).run()
    report = audited(history, with_stream=True)
    assert (report.findings, report.landed, report.dead_letters, report.compared) == ((), 2, 1, 3)

    history.query('INSERT INTO {table} SELECT * FROM {table} WHERE "ID" = 2')

    assert kinds(audited(history)) == {DiscrepancyKind.DOUBLED, DiscrepancyKind.TOO_MANY}


def test_several_documents_of_a_record_are_no_doubles(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    history.put_payloads(history.open_shards[0], b"[1, 2, 3]", b"4", b"[")
    history.drain(decoder=payload_decoder(json_documents="array")).run()

    report = audited(history, several_documents=True, with_stream=True)
    assert (report.findings, report.records, report.landed, report.dead_letters) == ((), 3, 4, 1)
    assert kinds(audited(history)) == {DiscrepancyKind.DOUBLED}

    history.query('INSERT INTO {table} SELECT * FROM {table} WHERE "RECORD_CONTENT"::NUMBER = 2')
    assert kinds(audited(history, several_documents=True)) == {DiscrepancyKind.TOO_MANY}


def test_an_empty_table_is_exactly_once_for_nothing(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    history.put(history.open_shards[0], 1)
    history.run()
    for table in ("{table}", "{offsets}"):
        history.query(f"DELETE FROM {table}")
    history.store.delete_table()

    report = audited(history)

    assert (report.exactly_once, report.records, report.shards) == (True, 0, ())
    assert any("no state" in limit for limit in report.limits)


@pytest.mark.parametrize("name", ["{table}", "{offsets}", "{dead_letters}"])
def test_a_table_that_is_not_there_is_not_an_empty_one(
    drained: History, audited: Callable[..., AuditReport], name: str
) -> None:
    drained.query(f"DROP TABLE {name}")
    with pytest.raises(SnowflakeObjectNotFoundError):
        audited(drained)


def test_a_child_that_is_there_before_its_parent_is_read_is_found(
    make_history: Callable[..., History], audited: Callable[..., AuditReport]
) -> None:
    history = make_history()
    (parent,) = history.open_shards
    history.put(parent, 3)
    child, _ = history.split(parent)
    history.put(child, 3)
    history.run()
    assert audited(history).findings == ()
    state = history.state.shards[parent]
    history.store.hold(history.stream, parent, owner="me", expiry=1, now=0)
    assert history.store.reset_shard(history.stream, replace(state, ended=False), owner="me", now=0)

    (found,) = audited(history).findings

    assert (found.kind, found.shard_id) == (DiscrepancyKind.CHILD_BEFORE_PARENT, child)


@pytest.mark.parametrize("rows", [10, 100_000])
def test_a_table_of_any_size_takes_as_many_statements(
    drained: History, audited: Callable[..., AuditReport], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_id = drained.open_shards[0]
    drained.query(
        'INSERT INTO {table} ("RECORD_CONTENT", "KINESISMETADATA") SELECT 1, OBJECT_CONSTRUCT('
        f"'stream', '{drained.stream}', 'shardId', '{shard_id}', "
        "'sequenceNumber', (SEQ8() + 10)::VARCHAR, 'subSequenceNumber', 0, 'approximateArrival', 1) "
        f"FROM TABLE(GENERATOR(ROWCOUNT => {rows}))"
    )
    drained.query(f'UPDATE {{offsets}} SET "RECORDS" = {rows + 10} WHERE "SHARD_ID" = \'{shard_id}\'')
    statements = []
    execute = SnowflakeCursor.execute

    def noted(cursor: SnowflakeCursor, command: str, *args: Any, **kwargs: Any) -> Any:
        statements.append(command)
        return execute(cursor, command, *args, **kwargs)

    monkeypatch.setattr(SnowflakeCursor, "execute", noted)

    report = audited(drained)

    assert (report.findings, report.records) == ((), rows + 20)
    of_the_table = [statement for statement in statements if drained.table.sql in statement]
    assert len(of_the_table) == 1
    assert of_the_table[0].count(drained.table.sql) == 1
