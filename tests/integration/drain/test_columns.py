"""The columns mapping through whole drains: types, evolution, conflicts, and others who alter the table."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import countryinfo
import pytest

from airflow_kinesis_snowflake.engine.settings import Worker
from airflow_kinesis_snowflake.exceptions import InvalidSettingError, ServiceRefusedError, TableChangedError
from airflow_kinesis_snowflake.formats.columns import ColumnsMapping
from airflow_kinesis_snowflake.formats.envelope import METADATA_COLUMNS
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from tests.helpers import CONNECTOR_TELLS_OF_TRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_kinesis_snowflake.engine.report import DrainReport

    from .conftest import Pipeline

pytestmark = pytest.mark.usefixtures("services")


def send(pipeline: Pipeline, *documents: Any) -> None:
    """Put records into the stream; bytes as they are, everything else as JSON."""
    payloads = [
        document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents
    ]
    for start in range(0, len(payloads), 500):
        pipeline.send_payloads(
            [(str(number), data) for number, data in enumerate(payloads[start : start + 500])]
        )


def drain(pipeline: Pipeline, **settings: Any) -> DrainReport:
    return pipeline.drain(columns=ColumnsSettings(**settings)).run()


def types(pipeline: Pipeline) -> dict[str, str]:
    """Columns of the landing table, but for the metadata."""
    rows = pipeline.query("SHOW COLUMNS IN TABLE {table}")
    facts = {row[2]: json.loads(row[3]) for row in rows if row[2] != "KINESISMETADATA"}
    return {
        name: f"NUMBER({fact['precision']},{fact['scale']})" if fact["type"] == "FIXED" else fact["type"]
        for name, fact in facts.items()
    }


def landed(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Rows in the order of their records, without what is NULL; VARIANT as the value it holds."""
    columns = types(pipeline)
    # Of a time that is NULL, the local Snowflake gives something else over the wire; not so of text.
    names = ", ".join(
        f'"{name}"::VARCHAR' if sql_type.startswith(("DATE", "TIME")) else f'"{name}"'
        for name, sql_type in columns.items()
    )
    rows = pipeline.query(f'SELECT {names} FROM {{table}} ORDER BY "KINESISMETADATA":sequenceNumber::VARCHAR')
    return [
        {
            name: json.loads(value, parse_float=Decimal) if columns[name] == "VARIANT" else value
            for name, value in zip(columns, row, strict=True)
            if value is not None
        }
        for row in rows
    ]


def refusals(pipeline: Pipeline) -> list[tuple[str, str | None]]:
    """Payload and column of each dead letter."""
    return sorted(pipeline.query('SELECT "PAYLOAD", "COLUMN_NAME" FROM {dead_letters}'))


def test_keys_become_columns_of_the_types_their_values_have(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    send(
        pipeline,
        {"id": 1, "price": 19.99, "ratio": 0.1234567890123, "ok": True, "name": "a", "tags": ["x", 1.50]},
        b'{"ID": 18446744073709551617, "price": 12345678901234567.89, "mixed": 1, "gone": null}',
        {"mixed": "one", "name": "\u00e9\U0001f600\n"},
    )

    report = drain(pipeline)

    assert (report.records, report.dead_letters) == (3, 0)
    assert report.snowflake_connections == (1 if CONNECTOR_TELLS_OF_TRIES else 2)
    assert types(pipeline) == {
        "ID": "NUMBER(38,18)",
        "PRICE": "NUMBER(38,18)",
        "RATIO": "REAL",
        "OK": "BOOLEAN",
        "NAME": "TEXT",
        "TAGS": "VARIANT",
        "MIXED": "VARIANT",
    }
    landed = pipeline.query("SELECT ID, PRICE, RATIO, OK, NAME, TAGS, MIXED FROM {table} ORDER BY ID")
    assert [(*row[:5], row[5] and json.loads(row[5]), row[6]) for row in landed] == [
        (1, Decimal("19.99"), 0.1234567890123, True, "a", ["x", 1.5], None),
        (18446744073709551617, Decimal("12345678901234567.89"), None, None, None, None, "1"),
        (None, None, None, None, "\u00e9\U0001f600\n", None, '"one"'),
    ]
    assert pipeline.query('SELECT COUNT(*) FROM {table} WHERE "KINESISMETADATA":stream IS NOT NULL') == [(3,)]


def countries() -> list[bytes]:
    """The records that the package countryinfo ships: 254 objects with 9 to 26 keys each, in its order."""
    folder = Path(countryinfo.__file__).parent / "data"
    return [file.read_bytes() for file in sorted(folder.glob("*.json"))]


# Three areas have decimals, which a column that was made for integers can't be altered to take; one of these
# records is the only one with a 26th key.
@pytest.mark.parametrize(
    ("columns", "numbers", "area", "refused", "widths"),
    [
        pytest.param({}, "exact", "NUMBER(38,0)", 3, [9, 25, 25], id="exact"),
        pytest.param({}, "wide", "NUMBER(38,18)", 0, [9, 25, 26], id="wide"),
        pytest.param({"AREA": "NUMBER(12, 2)"}, "exact", "NUMBER(12,2)", 0, [10, 25, 26], id="pinned"),
    ],
)
def test_a_real_data_set_whose_keys_drift_lands_value_by_value(
    make_pipeline: Callable[..., Pipeline],
    columns: dict[str, str],
    numbers: str,
    area: str,
    refused: int,
    widths: list[int],
) -> None:
    pipeline = make_pipeline(shards=2)
    sent = countries()
    reports, found = [], []
    for start, end in ((0, 1), (1, 60), (60, None)):
        send(pipeline, *sent[start:end])
        reports.append(drain(pipeline, columns=columns, numbers=numbers))
        found.append(len(types(pipeline)))

    made = types(pipeline)
    assert found == widths
    assert {name: made[name] for name in ("NAME", "AREA", "POPULATION", "LATLNG", "CAPITAL")} == {
        "NAME": "TEXT",
        "AREA": area,
        "POPULATION": "NUMBER(38,0)" if numbers == "exact" else "NUMBER(38,18)",
        "LATLNG": "VARIANT",
        "CAPITAL": "TEXT",
    }
    assert [report.dead_letters for report in reports] == [0, 0, refused]
    letters = [(json.loads(payload), column) for payload, column in refusals(pipeline)]
    assert [(letter["area"] % 1 != 0, column) for letter, column in letters] == [(True, "AREA")] * refused
    names = {letter["name"] for letter, _ in letters}
    documents = [json.loads(document, parse_float=Decimal) for document in sent]
    rows = {row["NAME"]: row for row in landed(pipeline)}
    for row in rows.values():
        if row.get("CAPITAL", "").startswith("["):  # one country has a list of them
            row["CAPITAL"] = json.loads(row["CAPITAL"])
    assert rows == {
        document["name"]: {key.upper(): value for key, value in document.items() if value is not None}
        for document in documents
        if document["name"] not in names
    }


def test_what_does_not_fit_its_column_is_a_dead_letter_and_its_neighbours_land(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    pipeline.query(
        'CREATE TABLE {table} ("KINESISMETADATA" OBJECT, "N" NUMBER(6, 2), "T" VARCHAR(3), "D" DATE, '
        '"AT" TIMESTAMP_NTZ, "B" BOOLEAN, "BYTES" BINARY)'
    )
    fitting = [
        {"n": 1234.5, "t": "abc", "d": "2024-02-29", "at": "2024-02-29T12:30:00.123", "b": True},
        {"n": "12.50", "t": 12},
        {},
    ]
    misfits: dict[str, list[dict[str, Any]]] = {
        "N": [{"n": "many"}, {"n": 12345}, {"n": 0.125}, {"n": 10**40}, {"n": [1]}],
        "T": [{"t": "abcd"}],
        "D": [{"d": "2023-02-29"}, {"d": 1}, {"d": "2024-02-29T12:00:00"}],
        "AT": [{"at": "2024-02-29T12:30:00Z"}],
        "B": [{"b": "true"}],
        "BYTES": [{"bytes": "00"}],
    }
    send(pipeline, *fitting, *(document for documents in misfits.values() for document in documents))

    report = drain(pipeline, schema_evolution=False)

    assert report.dead_letters == sum(map(len, misfits.values()))
    assert refusals(pipeline) == sorted(
        (json.dumps(document), column) for column, documents in misfits.items() for document in documents
    )
    assert landed(pipeline) == [
        {"N": Decimal("1234.50"), "T": "abc", "D": "2024-02-29", "AT": "2024-02-29 12:30:00.123", "B": True},
        {"N": Decimal("12.50"), "T": "12"},
        {},
    ]


@pytest.mark.parametrize("on_type_conflict", ["rescue", "column"])
def test_what_does_not_fit_its_column_lands_elsewhere_if_the_settings_say_so(
    make_pipeline: Callable[..., Pipeline], on_type_conflict: str
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"id": 1, "n": 10, "at": 1764000000123, "day": "2024-02-29"})
    settings: dict[str, Any] = {
        "on_type_conflict": on_type_conflict,
        "epochs": {"AT": "ms"},
        "columns": {"DAY": "DATE", "OPENS": "TIME", "BYTES": "VARBINARY"},
    }
    drain(pipeline, **settings)
    send(
        pipeline,
        {"id": 2, "n": 12.5, "opens": "08:30", "bytes": "AP8="},
        {"id": 3, "n": "many", "at": "soon", "day": "2024-02-30"},
        {"id": 4, "n": {"m": 1.50}},
    )

    assert drain(pipeline, **settings).dead_letters == 0

    rows = {int(row.pop("ID")): row for row in landed(pipeline)}
    elsewhere: dict[int, dict[str, Any]] = {
        3: {"n": "many", "at": "soon", "day": "2024-02-30"},
        4: {"n": {"m": Decimal("1.50")}},
    }
    beside = {
        number: {f"{key.upper()}__VARIANT": value for key, value in values.items()}
        for number, values in elsewhere.items()
    }
    rescued = {number: {"_RESCUED": values} for number, values in elsewhere.items()}
    assert rows == {
        1: {"N": 10, "AT": "2025-11-24 16:00:00.123+00", "DAY": "2024-02-29"},
        2: {"N": Decimal("12.5"), "OPENS": "08:30:00", "BYTES": b"\0\xff"},
        **(rescued if on_type_conflict == "rescue" else beside),
    }


@pytest.mark.parametrize("mapping", ["columns", "envelope"])
def test_facts_about_records_have_columns_of_their_own(
    make_pipeline: Callable[..., Pipeline], mapping: str
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"id": 1}, {"id": 2})
    before = datetime.now(UTC)

    pipeline.drain(
        columns=ColumnsSettings() if mapping == "columns" else None, metadata_columns=tuple(METADATA_COLUMNS)
    ).run()

    rows = pipeline.query(
        'SELECT "KINESISMETADATA":shardId::VARCHAR = "KINESIS_SHARD_ID", '
        '"KINESISMETADATA":stream::VARCHAR = "KINESIS_STREAM", '
        '"KINESISMETADATA":sequenceNumber::VARCHAR = "KINESIS_SEQUENCE_NUMBER", '
        '"KINESISMETADATA":partitionKey::VARCHAR = "KINESIS_PARTITION_KEY", '
        '"KINESISMETADATA":subSequenceNumber::NUMBER = "KINESIS_SUB_SEQUENCE_NUMBER" FROM {table}'
    )
    assert rows == [(True,) * 5] * 2
    for millis, arrival, loaded in pipeline.query(
        'SELECT "KINESISMETADATA":approximateArrival::NUMBER, "KINESIS_ARRIVAL_TIME", "KINESIS_LOADED_AT" '
        "FROM {table}"
    ):
        assert arrival == datetime.fromtimestamp(millis / 1000, UTC)
        assert loaded.astimezone(UTC) >= before


def test_a_table_without_the_columns_of_facts_is_refused_with_the_ddl(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"id": 1})
    drain(pipeline)
    send(pipeline, {"id": 2})

    with pytest.raises(InvalidSettingError, match=r'ADD COLUMN IF NOT EXISTS "KINESIS_ARRIVAL_TIME"'):
        pipeline.drain(columns=ColumnsSettings(), metadata_columns=("arrival_time",)).run()


def test_a_table_is_widened_and_made_nullable_as_records_need_it(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    pipeline.query(
        'CREATE TABLE {table} ("KINESISMETADATA" OBJECT, "N" NUMBER(4, 1) NOT NULL, "k" VARCHAR NOT NULL)'
    )
    send(pipeline, {"n": 12345678.5, "K": "x"}, {"k": "y"}, {"n": 1})

    report = drain(pipeline)

    assert report.dead_letters == 0
    assert types(pipeline) == {"N": "NUMBER(38,1)", "k": "TEXT"}
    assert landed(pipeline) == [{"N": Decimal("12345678.5"), "k": "x"}, {"k": "y"}, {"N": 1}]


@pytest.mark.parametrize("unknown_keys", ["ignore", "dead_letter"])
def test_without_evolution_the_table_stays_as_it_is(
    make_pipeline: Callable[..., Pipeline], unknown_keys: str
) -> None:
    pipeline = make_pipeline()
    pipeline.query('CREATE TABLE {table} ("KINESISMETADATA" OBJECT, "A" NUMBER(2, 0), "B" VARCHAR NOT NULL)')
    send(pipeline, {"a": 1, "b": "x"}, {"a": 2, "b": "y", "c": 3}, {"a": 100, "b": "z"}, {"a": 4})

    drain(pipeline, schema_evolution=False, unknown_keys=unknown_keys)

    unknown = [('{"a": 2, "b": "y", "c": 3}', "C")] if unknown_keys == "dead_letter" else []
    assert types(pipeline) == {"A": "NUMBER(2,0)", "B": "TEXT"}
    assert refusals(pipeline) == sorted([('{"a": 100, "b": "z"}', "A"), ('{"a": 4}', "B"), *unknown])


def test_without_evolution_a_table_that_is_missing_is_an_error(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()

    with pytest.raises(InvalidSettingError, match=r"schema_evolution.*RECORDS.*doesn't exist"):
        drain(pipeline, schema_evolution=False)


def test_settings_say_what_lands_where(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline()
    send(
        pipeline,
        {"Amount": "12.5", "ts": "2024-01-02T03:04:05+02:00", "when": "2024-01-02T03:04", "old": 1, "x": 2},
    )

    drain(
        pipeline,
        columns={"AMOUNT": "NUMBER(12, 2)", "TS": "TIMESTAMP_TZ"},
        rename={"OLD": "NEW"},
        exclude=("X",),
        infer_timestamps=True,
    )

    assert types(pipeline) == {
        "AMOUNT": "NUMBER(12,2)",
        "TS": "TIMESTAMP_TZ",
        "NEW": "NUMBER(38,18)",
        "WHEN": "TIMESTAMP_NTZ",
    }
    assert pipeline.query('SELECT "AMOUNT", "NEW", "WHEN"::VARCHAR FROM {table}') == [
        (Decimal("12.50"), 1, "2024-01-02 03:04:00")
    ]
    [(at,)] = pipeline.query('SELECT "TS" FROM {table}')
    assert at == datetime.fromisoformat("2024-01-02T03:04:05+02:00")


# --- others who alter the table ----------------------------------------------------------------------------


def test_two_workers_that_find_the_same_key_with_different_types_land_all_records(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline(shards=2)
    send(pipeline, {"id": -1})
    drain(pipeline)
    send(
        pipeline,
        *({"id": number, "v": value} for number, value in enumerate([1, "a", 2.5, True, 3, "b"] * 5)),
    )
    workers = [
        pipeline.drain(columns=ColumnsSettings(), worker=Worker(name, "0"), max_batch_records=1)
        for name in ("one", "two")
    ]

    with ThreadPoolExecutor() as threads:
        reports = [running.result() for running in [threads.submit(worker.run) for worker in workers]]

    ids = [row["ID"] for row in landed(pipeline)] + [
        json.loads(payload)["id"] for payload, _ in refusals(pipeline)
    ]
    assert sorted(ids) == list(range(-1, 30))
    assert sum(report.records for report in reports) == 30
    assert types(pipeline)["ID"] == "NUMBER(38,18)"


ALTERED = {
    "another worker adds the column with another type": (
        'ALTER TABLE {table} ADD COLUMN "NEW" VARCHAR',
        [{"A": 1, "NEW": "5"}, {"A": 2, "NEW": "x"}],
        0,
    ),
    "another worker adds a column that some values don't fit": (
        'ALTER TABLE {table} ADD COLUMN "NEW" NUMBER(38, 0)',
        [{"A": 1, "NEW": 5}],
        1,
    ),
    "a person drops a column": (
        'ALTER TABLE {table} DROP COLUMN "A"',
        [{"A": 1, "NEW": 5}, {"A": 2, "NEW": "x"}],
        0,
    ),
    "a person gives a column another type": (
        'ALTER TABLE {table} ALTER COLUMN "A" SET DATA TYPE VARCHAR',
        [{"A": "1", "NEW": 5}, {"A": "2", "NEW": "x"}],
        0,
    ),
}


# When COPY begins, the worker's own column is there, and nobody else can add it.
@pytest.mark.parametrize(
    ("moment", "sql", "expected", "dead"),
    [
        pytest.param(moment, *case, id=f"{name}, before {moment}")
        for name, case in ALTERED.items()
        for moment in ("changes", "copy_landing")
        if moment == "changes" or "ADD COLUMN" not in case[0]
    ],
)
def test_a_table_that_is_altered_under_way_takes_everything_all_the_same(
    make_pipeline: Callable[..., Pipeline],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    sql: str,
    expected: list[dict[str, Any]],
    dead: int,
) -> None:
    pipeline = make_pipeline()
    pipeline.query('CREATE TABLE {table} ("KINESISMETADATA" OBJECT, "A" NUMBER(38, 0))')
    send(pipeline, {"a": 1, "new": 5}, {"a": 2, "new": "x"})
    owner = {"changes": ColumnsMapping, "copy_landing": SnowflakeSession}[moment]
    before = getattr(owner, moment)
    alterations = [sql]

    def alter_first(*args: Any, **kwargs: Any) -> Any:
        if alterations:
            pipeline.query(alterations.pop())
        return before(*args, **kwargs)

    monkeypatch.setattr(owner, moment, alter_first)

    report = drain(pipeline)

    assert (report.records, report.dead_letters) == (2, dead)
    assert sorted(landed(pipeline), key=lambda row: str(row["A"])) == expected


def test_a_table_that_never_stays_the_same_is_an_error(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"a": 1})
    monkeypatch.setattr(ColumnsMapping, "copy", lambda *_: None)

    with pytest.raises(TableChangedError, match="RECORDS"):
        drain(pipeline)

    monkeypatch.undo()
    assert drain(pipeline).records == 1
    assert landed(pipeline) == [{"A": 1}]


def test_columns_that_a_worker_added_before_it_died_are_used_by_the_next(
    make_pipeline: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"a": 1, "b": "x"}, {"b": 2})

    def die(*_: Any, **__: Any) -> int:
        raise ServiceRefusedError("the worker dies between DDL and COPY")

    monkeypatch.setattr(SnowflakeSession, "copy_landing", die)
    with pytest.raises(ServiceRefusedError):
        drain(pipeline)
    assert types(pipeline) == {"A": "NUMBER(38,18)", "B": "VARIANT"}
    monkeypatch.undo()

    assert drain(pipeline).records == 2
    assert landed(pipeline) == [{"A": 1, "B": "x"}, {"B": 2}]


def test_a_drain_that_finds_nothing_opens_no_snowflake_connection(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline()
    send(pipeline, {"a": 1})
    drain(pipeline)

    assert drain(pipeline).snowflake_connections == 0
