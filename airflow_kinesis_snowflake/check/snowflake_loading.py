"""Checks of stages, files, COPY and values, with the statements of a load."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, failed, found, held, not_shown
from airflow_kinesis_snowflake.exceptions import (
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
    TerminalError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.envelope import (
    CONTENT,
    METADATA,
    METADATA_SELECT,
    EnvelopeMapping,
)
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.sinks.snowflake import statements
from airflow_kinesis_snowflake.sinks.snowflake.copy import prepare_table
from airflow_kinesis_snowflake.sinks.snowflake.files import BatchFiles
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement, stage_folder
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.stream.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_kinesis_snowflake.check.bench import Bench
    from airflow_kinesis_snowflake.check.sessions import CheckSession
    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

_SHARD = "shardId-000000000000"
_ODD_NAMES = (
    "clicks",
    "a b",
    "50%",
    "it's",
    '"quoted"',
    "back\\slash",
    "café-☕",
    "a--b",
    ".hidden",
    "x=y&z",
)
_LONG = 10 * 2**20 - 100
GOLDEN = (
    "99999999999999999999999999999999999999",
    "-9223372036854775808",
    "9223372036854775807",
    "0.1",
    "5e-324",
    "1.7976931348623157e308",
    '"2026-01-31T23:59:59.123456789Z"',
    '"\\u0000"',
    '"☕ 😀 é \\" \\\\ /"',
    '""',
    "null",
    "true",
    "[]",
    '{"a": {"b": [1, null, "x"]}, "": 0}',
    '{"k": 1, "k": 2}',
)
"""JSON documents that must come back as they were sent; for a key that occurs twice, the last value."""


_COLUMNS = {
    "WHOLE": (
        "NUMBER(38, 0)",
        "99999999999999999999999999999999999999",
        "99999999999999999999999999999999999999",
    ),
    "EXACT": (
        "NUMBER(38, 9)",
        "12345678901234567890123456789.123456789",
        "12345678901234567890123456789.123456789",
    ),
    "DOUBLE": ("FLOAT", "1.7976931348623157e308", "1.7976931348623157e308::FLOAT"),
    "TEXT": ("VARCHAR", '"☕ 😀"', "'☕ 😀'"),
    "TRUTH": ("BOOLEAN", "true", "TRUE"),
    "DAY": ("DATE", '"2026-01-31"', "'2026-01-31'::DATE"),
    "NTZ": (
        "TIMESTAMP_NTZ",
        '"2026-01-31T23:59:59.123456789"',
        "'2026-01-31T23:59:59.123456789'::TIMESTAMP_NTZ",
    ),
    "LTZ": (
        "TIMESTAMP_LTZ",
        '"2026-01-31T23:59:59.123456789Z"',
        "'2026-01-31T23:59:59.123456789Z'::TIMESTAMP_LTZ",
    ),
    "TZ": (
        "TIMESTAMP_TZ",
        '"2026-01-31T23:59:59.123456789+05:30"',
        "'2026-01-31T18:29:59.123456789Z'::TIMESTAMP_TZ",
    ),
}
"""Columns: the type of each, a JSON value for it, and the same value in SQL."""


class Copying(NamedTuple):
    """What a COPY fills; see :class:`~airflow_kinesis_snowflake.sinks.snowflake.statements.CopyMapping`."""

    columns: tuple[tuple[str, str], ...]
    copy_select: tuple[str, ...]


def upload(
    bench: Bench, session: CheckSession, target: LandingTarget, documents: Sequence[str | bytes]
) -> str:
    """Upload a file with these documents to a folder of its own, as a load does; return the folder."""
    with _files(bench, documents, EnvelopeMapping()) as files:
        return _put(session, target, files)


@contextmanager
def _files(
    bench: Bench, documents: Sequence[str | bytes], mapping: EnvelopeMapping | ColumnsMapping
) -> Iterator[BatchFiles]:
    """Files with these documents, as a load writes them."""
    directory = bench.folder / uuid.uuid4().hex
    directory.mkdir()
    records = [
        Record(
            sequence_number=str(number),
            approximate_arrival=1.0,
            data=document.encode() if isinstance(document, str) else document,
            partition_key="check",
        )
        for number, document in enumerate(documents)
    ]
    with BatchFiles(directory, application="check", stream_name="check") as files:
        files.append(mapping.encode(records, stream_name="check", shard_id=_SHARD), shard_id=_SHARD)
        yield files


def _put(session: CheckSession, target: LandingTarget, files: BatchFiles) -> str:
    """Upload files to a folder of their own."""
    folder = stage_folder("check", uuid.uuid4().hex)
    for file in files.close():
        session.upload(file, target=target, folder=folder)
    return folder


def copy(session: CheckSession, target: LandingTarget, folder: str) -> int:
    """Load a folder as a drain with ``mapping="envelope"`` does."""
    return session.copy_landing(target, mapping=EnvelopeMapping(), folder=folder)


def files_in(session: CheckSession, stage: TableName, folder: str) -> int:
    """How many files there are in a folder of a stage."""
    return len(session.rows(statements.list_files(stage, folder=folder)))


def count(session: CheckSession, table: TableName) -> int:
    """How many rows a table has."""
    return int(session.value(f"SELECT COUNT(*) FROM {table.sql}"))


def odd_folders(bench: Bench) -> Observation:
    """PUT, LIST and REMOVE with folders whose names are odd."""
    wrong = []
    target = bench.target
    file = bench.folder / "odd.parquet"
    file.write_bytes(b"x")
    with bench.session() as session:
        for name in _ODD_NAMES:
            folder = stage_folder("check", name, "1")
            session.upload(file, target=target, folder=folder)
            there = files_in(session, target.stage, folder)
            session.remove_folder(target.stage, folder=folder)
            left = files_in(session, target.stage, folder)
            if (there, left) != (1, 0):
                wrong.append(f"{name!r}: {there} files after PUT, {left} after REMOVE")
    return found(not wrong, "; ".join(wrong) or f"{len(_ODD_NAMES)} names")


def golden_values(bench: Bench) -> Observation:
    """Values at the limits, loaded with either scanner of Parquet files and read back."""
    wrong = []
    with bench.session() as session:
        for scanner in ("TRUE", "FALSE"):
            target = bench.landing(session)
            folder = upload(bench, session, target, [*GOLDEN, json.dumps("x" * _LONG)])
            statement = statements.copy_landing(
                target.table, mapping=EnvelopeMapping(), stage=target.stage, folder=folder
            )
            other = statement.sql.replace(
                "USE_VECTORIZED_SCANNER = TRUE", f"USE_VECTORIZED_SCANNER = {scanner}"
            )
            session.rows(Statement(other))
            session.commit()
            wrong += [f"{each} (vectorized {scanner})" for each in _wrong_values(session, target)]
    return found(not wrong, f"not as sent: {', '.join(wrong)}" if wrong else f"{len(GOLDEN) + 1} values")


def _wrong_values(session: CheckSession, target: LandingTarget) -> list[str]:
    number = f'"{METADATA}":sequenceNumber::VARCHAR::NUMBER(38, 0)'
    content = f'"{CONTENT}"'
    long = len(GOLDEN)
    rows = dict(
        session.rows(f"SELECT {number}, TO_JSON({content}) FROM {target.table.sql} WHERE {number} < {long}")
    )
    wrong = [
        document
        for place, document in enumerate(GOLDEN)
        if place not in rows or not same_value(document, rows[place])
    ]
    quoted = session.rows(
        f"SELECT LENGTH(TO_JSON({content})) FROM {target.table.sql} WHERE {number} = {long}"
    )
    return wrong + ([] if quoted == [(_LONG + 2,)] else ["a text of 10 MiB"])


def same_value(sent: str, came: str | None) -> bool:
    """Whether a document came back; NULL stands for JSON's null."""
    return bool(_value(sent) == (None if came is None else _value(came)))


def _value(document: str) -> Any:
    # Whole numbers exactly, others as doubles, which is how Snowflake keeps those with an exponent.
    return json.loads(document, parse_int=lambda text: ("whole", int(text)), parse_float=_number)


def _number(text: str) -> tuple[str, Any]:
    value = float(text)
    return ("whole", int(value)) if value.is_integer() and abs(value) < 1e38 else ("double", value)


def golden_columns(bench: Bench) -> Observation:
    """Values at the limits in typed columns, compared in Snowflake."""
    shared, settings = bench.target, ColumnsSettings(columns={name: of[0] for name, of in _COLUMNS.items()})
    target = replace(shared, table=bench.scratch("TYPED"))
    document = f"{{{', '.join(f'{json.dumps(name)}: {of[1]}' for name, of in _COLUMNS.items())}}}"
    with bench.session() as session:
        mapping = ColumnsMapping(settings, read_columns=lambda: session.landing_columns(target))
        session.ensure_objects(target, mapping=mapping)
        with _files(bench, [document], mapping) as files:
            filled = prepare_table(session, files, target=target, mapping=mapping)
            folder = _put(session, target, files)
        session.copy_landing(target, mapping=filled, folder=folder)
        session.commit()
        same = ", ".join(f"{quote(name)} = {of[2]}" for name, of in _COLUMNS.items())
        rows = session.rows(f"SELECT {same} FROM {target.table.sql}")
    if len(rows) != 1:
        return failed(f"{len(rows)} of 1 rows")
    wrong = [
        f"{name} {of[0]}" for (name, of), right in zip(_COLUMNS.items(), rows[0], strict=True) if not right
    ]
    return found(not wrong, f"not as sent: {', '.join(wrong)}" if wrong else f"{len(_COLUMNS)} types")


def copy_rolls_back(bench: Bench) -> Observation:
    """A COPY is rolled back and repeated from another folder."""
    with bench.session() as session:
        target = bench.landing(session)
        folder = upload(bench, session, target, ["1", "2"])
        session.begin()
        loaded = copy(session, target, folder)
        session.roll_back()
        rolled_back = count(session, target.table)
        files = files_in(session, target.stage, folder)
        again = upload(bench, session, target, ["1", "2"])
        copy(session, target, again)
        session.commit()
        rows = count(session, target.table)
    text = f"{loaded} rows loaded, {rolled_back} after ROLLBACK, {rows} after another try; the first file "
    text += "is still there" if files else "is gone"
    return found((loaded, rolled_back, rows) == (2, 0, 2), text)


def copy_twice(bench: Bench) -> Observation:
    """A COPY runs twice in one transaction, with and without PURGE."""
    numbers = []
    with bench.session() as session:
        target = bench.landing(session)
        for purge in ("TRUE", "FALSE"):
            folder = upload(bench, session, target, ["1", "2"])
            statement = statements.copy_landing(
                target.table, mapping=EnvelopeMapping(), stage=target.stage, folder=folder
            )
            kept = Statement(statement.sql.replace("PURGE = TRUE", f"PURGE = {purge}"))
            before = count(session, target.table)
            session.begin()
            session.rows(kept)
            session.rows(kept)
            session.commit()
            numbers.append(count(session, target.table) - before)
    return found(numbers == [2, 2], f"of 2 rows, {numbers[0]} landed with PURGE and {numbers[1]} without")


def alter_beside_copy(bench: Bench) -> Observation:
    """One session alters a table into which another has copied without committing."""
    with bench.session() as loading, bench.session() as altering:
        target = bench.landing(loading)
        folder = upload(bench, loading, target, ["1"])
        loading.begin()
        copy(loading, target, folder)
        query = altering.start(statements.add_column(target.table, "ADDED", "NUMBER(38, 0)"))
        wait = altering.wait_of(query)
        loading.commit()
        altering.finish(query)
        folder = upload(bench, altering, target, ["2"])
        copy(altering, target, folder)
        altering.commit()
        with bench.new_session() as reader:
            rows = reader.rows(f'SELECT "{CONTENT}"::VARCHAR, "ADDED" FROM {target.table.sql} ORDER BY 1')
    text = "ALTER waited for the COPY" if wait.waits else "ALTER didn't wait for the COPY"
    return found(rows == [("1", None), ("2", None)], f"{text}; {len(rows)} of 2 rows")


_REFUSED = {
    '"no number"': "NUMBER(38, 0)",
    "1000": "NUMBER(2, 0)",
    '"no date"': "DATE",
    '"no time"': "TIMESTAMP_NTZ",
}


def refused_values(bench: Bench) -> Observation:
    """Values that a column can't take, and a folder without files."""
    taken, numbers = [], []
    with bench.session() as session:
        shared = bench.target
        for place, (document, sql_type) in enumerate(_REFUSED.items()):
            table = bench.scratch(f"REFUSING_{place}")
            session.rows(f'CREATE TABLE {table.sql} ("V" {sql_type})')
            target = replace(shared, table=table)
            folder = upload(bench, session, target, [document])
            mapping = Copying(
                (("V", sql_type),), (f"PARSE_JSON($1:{CONTENT}::VARCHAR, 'd')::VARCHAR::{sql_type}",)
            )
            try:
                session.copy_landing(target, mapping=mapping, folder=folder)
            except ValueRefusedError as error:
                numbers.append(f"{error.number:06d}")
            else:
                taken.append(f"{document} as {sql_type}")
            session.roll_back()
        empty = copy(session, shared, stage_folder("check", "nothing", uuid.uuid4().hex))
        session.roll_back()
    if taken:
        return failed(f"accepted: {', '.join(taken)}")
    return found(empty == 0, f"refused with {', '.join(numbers)}; without files, {empty} rows")


def error_logging(bench: Bench) -> Observation:
    """COPY into a table with ERROR_LOGGING, with and without the parameter that drains set."""
    said = []
    with bench.new_session() as session:
        target = bench.landing(session, TableOptions(error_logging=True))
        for opted_out in ("FALSE", "TRUE"):
            folder = upload(bench, session, target, ["1"])
            try:
                session.rows(f"ALTER SESSION SET OPT_OUT_ERROR_LOGGING = {opted_out}")
            except ServiceRefusedError:
                said.append("the parameter is unknown")
            try:
                loaded = copy(session, target, folder)
            except ServiceRefusedError:
                loaded = 0
            session.commit()
            said.append(f"{loaded} of 1 rows with OPT_OUT_ERROR_LOGGING = {opted_out}")
    return found(loaded == 1, "; ".join(said))


def real_copy(bench: Bench) -> Observation:
    """COPY an empty folder into the user's landing table, and roll back."""
    table = bench.settings.table
    assert table is not None
    mapping = Copying(((METADATA, "OBJECT"),), (METADATA_SELECT,))
    target = replace(bench.target, table=table)
    with bench.session() as session:
        session.begin()
        try:
            if not session.landing_columns(target):
                return not_shown(f"{table} has no columns that the role can see")
            session.copy_landing(target, mapping=mapping, folder=stage_folder("check", uuid.uuid4().hex))
        except SnowflakeObjectNotFoundError:
            return not_shown(f"{table} doesn't exist yet, or isn't visible to the role")
        except TerminalError as error:
            return failed(f"{type(error).__name__}: {error}")
        finally:
            session.roll_back()
    return held(f"COPY into {table} is accepted")


ODD_FOLDERS = Check(
    name="odd-folders",
    tries="PUT, LIST and REMOVE work in folders whose names are odd",
    promises=(1, 10),
    advice="Use only letters, digits and _ in the names of application and stream, and report it.",
    needs=Needs.DATABASE,
    run=odd_folders,
)
GOLDEN_VALUES = Check(
    name="golden-values",
    tries="Values at the limits come back as they were sent, with both scanners of Parquet files",
    promises=(1, 10),
    advice="Report the values it names; until that is fixed, send such values as text.",
    needs=Needs.DATABASE,
    run=golden_values,
)
GOLDEN_COLUMNS = Check(
    name="golden-columns",
    tries="Values at the limits land in columns of every type as they were sent",
    promises=(1, 10),
    advice="Report the types it names; until that is fixed, pin such columns to VARCHAR.",
    needs=Needs.DATABASE,
    run=golden_columns,
)
COPY_ROLLS_BACK = Check(
    name="copy-rolls-back",
    tries="Rows of a COPY that is rolled back are gone, and a retry loads them",
    promises=(1, 2),
    advice="Stop all drains and report it: a failed load would leave rows in the table.",
    needs=Needs.DATABASE,
    run=copy_rolls_back,
)
COPY_TWICE = Check(
    name="copy-twice",
    tries="A COPY that runs twice in one transaction loads its files once",
    promises=(1,),
    advice="Report it: a resent COPY could duplicate rows; loads count them and refuse most cases.",
    needs=Needs.DATABASE,
    run=copy_twice,
)
ALTER_BESIDE_COPY = Check(
    name="alter-beside-copy",
    tries="ALTER TABLE concurrent with an open COPY leaves both correct",
    promises=(1,),
    advice='With mapping="columns", run one worker at a time, or set schema_evolution=False.',
    needs=Needs.DATABASE,
    run=alter_beside_copy,
)
REFUSED_VALUES = Check(
    name="refused-values",
    tries="Values that a column can't take are refused with error 1000.., and an empty folder is no error",
    promises=(10,),
    advice="Report the error number: a record with such a value would stop its stream.",
    needs=Needs.DATABASE,
    run=refused_values,
)
ERROR_LOGGING = Check(
    name="error-logging",
    tries="COPY into a table with ERROR_LOGGING = TRUE works with the parameter that drains set",
    promises=(1,),
    advice="Load into tables without ERROR_LOGGING: ALTER TABLE ... SET ERROR_LOGGING = FALSE.",
    needs=Needs.DATABASE,
    run=error_logging,
)
REAL_COPY = Check(
    name="landing-table",
    tries="COPY of an empty folder into your landing table is accepted",
    promises=(1,),
    advice="Grant INSERT and SELECT on the landing table, and look at its column KINESISMETADATA.",
    needs=Needs.TABLE,
    run=real_copy,
)
