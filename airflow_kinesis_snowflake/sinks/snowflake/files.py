"""The files of one micro-batch: written as records arrive, bounded in memory, deleted when done."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.dead_letters import dead_letter_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
    from airflow_kinesis_snowflake.formats.envelope import EncodedRecords
    from airflow_kinesis_snowflake.formats.fields import FileColumn

    Coordinates = tuple[str, str, int]
    """Shard id, sequence number, and sub-sequence number as it lands: 0 where there is no aggregate."""

# Characters that PUT takes for a pattern in a path, or doesn't accept at all.
NOT_IN_PATH = re.compile(r"[\x00-\x1f*?\[\]]")
LANDING = "landing"
DEAD_LETTERS = "dead_letters"
ROW_GROUP_BYTES = 8 * 2**20
# Each thread of a warehouse loads one file, and an XS has eight threads. Smaller files cost more to start
# than they save ("Preparing your data files" in Snowflake's documentation).
FILE_BYTES = 16 * 2**20
MAX_FILES = 8
_COORDINATES = ["shardId", "sequenceNumber", "subSequenceNumber"]


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for files of batches, removed at the end.

    :raises InvalidSettingError: PUT can't name files in it, or no folder is writable
    """
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InvalidSettingError(f"Set TMPDIR to a writable folder: {error}") from error
    if NOT_IN_PATH.search(parent):
        raise InvalidSettingError(
            f"Set TMPDIR to a folder without * ? [ ] and control characters in its path: Snowflake's PUT "
            f"can't name files in {parent!r}"
        )
    with tempfile.TemporaryDirectory(prefix="kinesis-drain-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class BatchPaths:
    """Files of a finished batch; those with nothing to write are missing."""

    landing: tuple[Path, ...]
    dead_letters: Path | None

    def __iter__(self) -> Iterator[Path]:
        return iter(self.landing if self.dead_letters is None else (*self.landing, self.dead_letters))


class BatchFiles:
    """Writes one micro-batch to landing files and, only if there are any, a dead-letter file.

    A landing file that reaches 16 MiB is followed by another, up to eight. Rows with fields that the landing
    file lacks also start another, which has all fields so far. Files are zstd Parquet. Appended rows are
    collected into row groups of 8 MiB of uncompressed data, so that is what one batch holds in memory per
    kind of file. Nothing is created before something is appended. As a context manager it deletes its files
    on leaving.

    :param directory: where to write; exists, and belongs to this batch alone
    :param application: for the dead letters
    :param stream_name: for the dead letters
    """

    def __init__(self, directory: Path, *, application: str, stream_name: str) -> None:
        self._application = application
        self._stream_name = stream_name
        self._landing = _ParquetFiles(directory, LANDING, most=MAX_FILES)
        self._dead_letters = _ParquetFiles(directory, DEAD_LETTERS)
        self.fields: set[FileColumn] = set()
        self.missing: set[str] = set()

    @property
    def rows(self) -> int:
        """Rows for the landing table so far."""
        return self._landing.rows

    @property
    def dead_letters(self) -> int:
        """Dead letters so far."""
        return self._dead_letters.rows

    @property
    def size(self) -> int:
        """Compressed bytes of all files so far; rows that aren't in a row group yet are estimated."""
        return self._landing.size + self._dead_letters.size

    def append(self, encoded: EncodedRecords, *, shard_id: str) -> None:
        """Add records of one shard, after those added before."""
        self._landing.append(encoded.rows)
        self.fields |= encoded.fields
        self.missing |= encoded.missing
        if encoded.dead_letters:
            self._append_letters(encoded.dead_letters, shard_id)

    def _append_letters(self, dead_letters: Sequence[DeadLetter], shard_id: str) -> None:
        self._dead_letters.append(
            dead_letter_rows(
                dead_letters,
                application=self._application,
                stream_name=self._stream_name,
                shard_id=shard_id,
            )
        )

    def close(self) -> BatchPaths:
        """Finish the files and return their paths. They can be uploaded as often as needed until deleted."""
        dead_letters = self._dead_letters.close()
        return BatchPaths(self._landing.close(), dead_letters[0] if dead_letters else None)

    @contextmanager
    def part(self, begin: int, end: int) -> Iterator[tuple[Path, ...]]:
        """Separate landing files with the rows from ``begin`` up to ``end``, deleted on leaving."""
        part = _ParquetFiles(self._landing.directory / "part", LANDING, most=MAX_FILES)
        part.directory.mkdir()
        try:
            _copy_rows(self._landing.close(), part, [(begin, end)])
            yield part.close()
        finally:
            part.delete()
            part.directory.rmdir()

    def same_record(self, rows: Collection[int]) -> dict[Coordinates, list[int]]:
        """The records that rows come from, each with all its rows, in order."""
        wanted = {key for number, key in self._coordinates() if number in rows}
        found: dict[Coordinates, list[int]] = {}
        for number, key in self._coordinates():
            if key in wanted:
                found.setdefault(key, []).append(number)
        return found

    def exclude(self, rows: Collection[int], letters: Mapping[str, Sequence[DeadLetter]]) -> None:
        """Take rows out of the finished landing files, and add dead letters to the finished dead-letter
        files.

        :param letters: by shard id
        """
        self._landing = _rewritten(self._landing, without=rows)
        self._dead_letters = _rewritten(self._dead_letters)
        for shard_id, of_shard in letters.items():
            self._append_letters(of_shard, shard_id)

    def _coordinates(self) -> Iterator[tuple[int, Coordinates]]:
        groups = _row_groups(self._landing.close(), columns=_COORDINATES)
        rows = (row for group in groups for row in zip(*group.to_pydict().values(), strict=True))
        yield from enumerate(rows)

    def delete(self) -> None:
        """Remove the files, finished or not."""
        self._landing.delete()
        self._dead_letters.delete()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.delete()


class _ParquetFiles:
    """Files of one kind, one after another.

    The next one starts when rows bring new fields, or when the last one is large.

    :param most: how many there may be on account of their size
    """

    def __init__(self, directory: Path, name: str, *, most: int = 1) -> None:
        self.directory = directory
        self.name = name
        self.most = most
        self._paths: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._written_raw = 0
        self.rows = 0

    @property
    def size(self) -> int:
        if not self._written_raw:
            return self._waiting_bytes
        written = sum(path.stat().st_size for path in self._paths)
        return written + self._waiting_bytes * written // self._written_raw

    def append(self, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        self.rows += rows.num_rows
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> tuple[Path, ...]:
        if self._waiting:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        return tuple(self._paths)

    def delete(self) -> None:
        self._waiting.clear()
        if self._writer is not None:
            self._writer.close()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _flush(self) -> None:
        table = _together(self._waiting)
        if (
            self._writer is None
            or not set(table.schema.names) <= set(self._writer.schema.names)
            or (len(self._paths) < self.most and self._paths[-1].stat().st_size >= FILE_BYTES)
        ):
            table = self._begin(table)
        assert self._writer is not None
        if table.schema != self._writer.schema:
            table = pa.concat_tables([self._writer.schema.empty_table(), table], promote_options="default")
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._waiting = []
        self._written_raw += self._waiting_bytes
        self._waiting_bytes = 0

    def _begin(self, table: pa.Table) -> pa.Table:
        """Start the next file, with the fields of the last one and of a table."""
        if self._writer is not None:
            self._writer.close()
            table = pa.concat_tables([self._writer.schema.empty_table(), table], promote_options="default")
        number = f"_{len(self._paths)}" if self._paths else ""
        self._paths.append(self.directory / f"{self.name}{number}.parquet")
        self._writer = pq.ParquetWriter(
            self._paths[-1],
            table.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["stream", "shardId", "STREAM", "SHARD_ID", "APPLICATION"],
            write_statistics=False,
            store_schema=False,
        )
        return table


def _together(batches: list[pa.RecordBatch]) -> pa.Table:
    """Rows of several pages; a field that a page lacks is NULL in its rows."""
    if all(batch.schema == batches[0].schema for batch in batches):
        return pa.Table.from_batches(batches)
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="default")


def _row_groups(paths: Iterable[Path], *, columns: list[str] | None = None) -> Iterator[pa.Table]:
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)


def _copy_rows(
    sources: Iterable[Path], destination: _ParquetFiles, ranges: Sequence[tuple[int, int]]
) -> None:
    """Append the rows from one number up to another, for each of the ranges, which are in order."""
    first = 0
    for table in _row_groups(sources):
        for begin, end in ranges:
            inside = table.slice(max(0, begin - first), max(0, end - max(begin, first)))
            for rows in inside.to_batches():
                destination.append(rows)
        first += table.num_rows


def _rewritten(files: _ParquetFiles, *, without: Collection[int] = ()) -> _ParquetFiles:
    """The files, reopened for appending."""
    old = [path.rename(path.with_suffix(".old")) for path in files.close()]
    rewritten = _ParquetFiles(files.directory, files.name, most=files.most)
    try:
        _copy_rows(old, rewritten, _between(files.rows, without))
    finally:
        for path in old:
            path.unlink()
    return rewritten


def _between(count: int, without: Collection[int]) -> list[tuple[int, int]]:
    """The ranges of ``count`` rows that remain."""
    cuts = sorted(without)
    begins = [0, *(row + 1 for row in cuts)]
    return [(begin, end) for begin, end in zip(begins, [*cuts, count], strict=True) if begin < end]
