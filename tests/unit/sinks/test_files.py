"""The files of a micro-batch hold what was appended, in few row groups, and go away."""

from __future__ import annotations

import base64
import json
import random
import tempfile
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.sinks.snowflake import files
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles, work_folder
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords

SHARD = "shardId-000000000000"


def encode(*payloads: bytes, first: int = 0) -> EncodedRecords:
    records = [
        Record(
            sequence_number=str(number),
            approximate_arrival=1700000000.5,
            partition_key="é",
            data=data,
            sub_sequence_number=number if number % 2 else None,
        )
        for number, data in enumerate(payloads, start=first)
    ]
    return EnvelopeMapping().encode(records, stream_name="clicks", shard_id=SHARD)


@pytest.fixture
def batch(tmp_path: Path) -> BatchFiles:
    return BatchFiles(tmp_path, application="loader", stream_name="clicks")


def test_nothing_appended_makes_no_files(batch: BatchFiles, tmp_path: Path) -> None:
    batch.append(encode(), shard_id=SHARD)
    paths = batch.close()
    assert list(paths) == []
    assert (batch.rows, batch.dead_letters, batch.size) == (0, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_rows_come_back_in_the_order_they_were_appended(batch: BatchFiles) -> None:
    for number in range(50):
        batch.append(encode(b"%d" % number, first=number), shard_id=SHARD)
    paths = batch.close()
    assert paths.dead_letters is None
    (landing,) = paths.landing
    table = pq.read_table(landing)
    assert table["RECORD_CONTENT"].to_pylist() == [str(number) for number in range(50)]
    assert batch.rows == 50


def test_many_small_appends_make_one_row_group(batch: BatchFiles) -> None:
    for number in range(100):
        batch.append(encode(b"1", first=number), shard_id=SHARD)
    (path,) = batch.close()
    assert pq.read_metadata(path).num_row_groups == 1


def test_a_row_group_is_written_as_soon_as_it_is_full(
    batch: BatchFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 10_000)
    for number in range(10):
        batch.append(encode(json.dumps("x" * 4_000).encode(), first=number), shard_id=SHARD)
    (path,) = batch.close()
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [3, 3, 3, 1]


def test_a_large_file_is_followed_by_another_and_rows_stay_in_order(
    batch: BatchFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 1_000)
    monkeypatch.setattr(files, "FILE_BYTES", 2_000)
    monkeypatch.setattr(files, "MAX_FILES", 3)
    source = random.Random(0)
    payloads = [json.dumps(source.randbytes(400).hex()) for _ in range(60)]
    batch = BatchFiles(batch._landing.directory, application="application", stream_name="stream")
    for number, payload in enumerate(payloads):
        batch.append(encode(payload.encode(), first=number), shard_id=SHARD)
    paths = batch.close().landing
    assert [path.name for path in paths] == ["landing.parquet", "landing_1.parquet", "landing_2.parquet"]
    assert all(path.stat().st_size >= 2_000 for path in paths)
    assert [text for path in paths for text in pq.read_table(path)["RECORD_CONTENT"].to_pylist()] == payloads
    assert sum(path.stat().st_size for path in paths) == batch.size
    batch.exclude([0, 59], {})
    kept = [text for path in batch.close() for text in pq.read_table(path)["RECORD_CONTENT"].to_pylist()]
    assert kept == payloads[1:59]


def test_size_follows_what_the_files_take(batch: BatchFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 100_000)
    source = random.Random(0)
    sizes = []
    for number in range(200):
        batch.append(encode(json.dumps(source.randbytes(1_000).hex()).encode(), first=number), shard_id=SHARD)
        sizes.append(batch.size)
    (path,) = batch.close()
    assert sizes[0] > 0
    assert batch.size == path.stat().st_size
    assert sizes[-1] == pytest.approx(batch.size, rel=0.1)


def test_a_dead_letter_keeps_its_coordinates_and_payload(batch: BatchFiles) -> None:
    batch.append(encode(b"text", b"\xff\x00"), shard_id=SHARD)
    paths = batch.close()
    assert paths.landing == ()
    assert paths.dead_letters is not None
    assert batch.dead_letters == 2
    coordinates = {
        "KIND": "record",
        "APPLICATION": "loader",
        "STREAM": "clicks",
        "SHARD_ID": SHARD,
        "PARTITION_KEY": "é",
        "APPROXIMATE_ARRIVAL": 1700000000500,
        "COLUMN_NAME": None,
    }
    first, second = pq.read_table(paths.dead_letters).to_pylist()
    assert first.pop("REASON").startswith("not JSON")
    assert second.pop("REASON").startswith("not JSON")
    assert len({first.pop("ID"), second.pop("ID")}) == 2
    assert first == coordinates | {
        "SEQUENCE_NUMBER": "0",
        "SUB_SEQUENCE_NUMBER": None,
        "PAYLOAD": "text",
        "PAYLOAD_ENCODING": "utf-8",
    }
    assert second == coordinates | {
        "SEQUENCE_NUMBER": "1",
        "SUB_SEQUENCE_NUMBER": 1,
        "PAYLOAD": base64.b64encode(b"\xff\x00").decode(),
        "PAYLOAD_ENCODING": "base64",
    }


@pytest.mark.parametrize("closed", [True, False])
def test_leaving_the_batch_deletes_its_files(
    batch: BatchFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 1)
    with batch:
        batch.append(encode(b"1", b"x"), shard_id=SHARD)
        assert len(list(tmp_path.iterdir())) == 2
        if closed:
            batch.close()
    assert list(tmp_path.iterdir()) == []


# --- finished files ----------------------------------------------------------------------------------------


def numbers(path: Path) -> list[str]:
    return list(pq.read_table(path).column("sequenceNumber").to_pylist())


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchFiles]:
    """Files of ten records in row groups of two, of which the fifth has two rows and the last has none."""
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", 1)
    documents = [b"0", b"1", b"2", b"3", b"4", b"4", b"5", b"6", b"7", b"8", b"no JSON"]
    sequence = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    with BatchFiles(tmp_path, application="a", stream_name="s") as made:
        for at in range(0, len(documents), 2):
            records = [
                Record(sequence_number=str(number), approximate_arrival=0.0, data=data)
                for number, data in zip(sequence[at : at + 2], documents[at : at + 2], strict=True)
            ]
            made.append(EnvelopeMapping().encode(records, stream_name="s", shard_id=SHARD), shard_id=SHARD)
        made.close()
        yield made


@given(begin=st.integers(0, 9), size=st.integers(1, 10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_part_has_the_rows_it_should_and_goes_away(finished: BatchFiles, begin: int, size: int) -> None:
    (whole, _) = finished.close()
    with finished.part(begin, begin + size) as (part,):
        assert numbers(part) == numbers(whole)[begin : begin + size]
        assert part.name == whole.name
    assert not part.parent.exists()


def test_a_record_has_all_its_rows(finished: BatchFiles) -> None:
    assert finished.same_record({5, 8}) == {(SHARD, "4", 0): [4, 5], (SHARD, "7", 0): [8]}


def test_excluded_rows_are_gone_and_their_dead_letters_are_there(finished: BatchFiles) -> None:
    record = Record(sequence_number="4", approximate_arrival=0.0, data=b"[4,4]")
    finished.exclude([4, 5], {SHARD: [DeadLetter(record, "refused")]})

    paths = finished.close()

    assert (finished.rows, finished.dead_letters) == (8, 2)
    (landing,) = paths.landing
    assert paths.dead_letters is not None
    assert numbers(landing) == ["0", "1", "2", "3", "5", "6", "7", "8"]
    letters = pq.read_table(paths.dead_letters)
    assert letters.column("SEQUENCE_NUMBER").to_pylist() == ["9", "4"]
    assert letters.schema.equals(pq.read_table(paths.dead_letters).schema)
    assert sorted(path.name for path in landing.parent.iterdir()) == [
        "dead_letters.parquet",
        "landing.parquet",
    ]


def test_all_rows_can_be_excluded(finished: BatchFiles) -> None:
    record = Record(sequence_number="0", approximate_arrival=0.0, data=b"0")
    finished.exclude(range(10), {SHARD: [DeadLetter(record, "refused")]})

    paths = finished.close()

    assert (finished.rows, paths.landing) == (0, ())


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "a\nb"])
def test_a_temporary_folder_that_put_takes_for_a_pattern_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(InvalidSettingError, match="TMPDIR"), work_folder():
        pass


def test_a_machine_without_a_temporary_folder_is_a_setting_to_correct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(InvalidSettingError, match="TMPDIR"), work_folder():
        pass
