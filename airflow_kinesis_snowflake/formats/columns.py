"""The ``columns`` mapping: a column per first-level key, ``KINESISMETADATA`` beside them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airflow_kinesis_snowflake.formats.cells import (
    EPOCH_UNITS,
    TypeMismatch,
    Value,
    base64_text,
    fit,
    time_text,
)
from airflow_kinesis_snowflake.formats.column_types import (
    MAX_DIGITS,
    TIMES,
    TIMESTAMPS,
    Column,
    ColumnType,
    DataType,
)
from airflow_kinesis_snowflake.formats.dead_letters import DeadLetter
from airflow_kinesis_snowflake.formats.engine import BYTE_ORDER_MARK
from airflow_kinesis_snowflake.formats.envelope import (
    METADATA,
    METADATA_FIELDS,
    METADATA_SELECT,
    NO_ROWS,
    EncodedRecords,
    EnvelopeMapping,
    metadata_arrays,
    own_columns,
    own_selects,
    refusal,
)
from airflow_kinesis_snowflake.formats.fields import Encoding, FileColumn
from airflow_kinesis_snowflake.formats.inference import ObservedTypes, observe
from airflow_kinesis_snowflake.formats.json_rows import JsonColumn
from airflow_kinesis_snowflake.formats.schema import (
    JSON_NULL,
    Change,
    ColumnsSettings,
    IgnoredKey,
    RefusedKey,
    Schema,
    SchemaDelta,
    Target,
    decoded_raw,
    widest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from airflow_kinesis_snowflake.formats.decoding import Expansion
    from airflow_kinesis_snowflake.stream.records import Record

_MAX_INT_DIGITS = 19
# No JSON value contains one, and joining and splitting values is much cheaper than copying each.
_NUL = b"\0"
_FIRST_SECOND, _END_SECOND = -62_135_596_800, 253_402_300_800
"""Of the years 1 to 9999, since 1970."""
_PLAIN_DATE = "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
_PLAIN_CLOCK = "[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_PLAIN_ZONE = "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
# Trailing zeros of a fraction don't land.
_SPELLING = r"^(.{10})[T ](.{8})(?:(\.[0-9]*[1-9])0*|\.0+)?(Z|[+-].{5})?$"
_ZONES = {DataType.TIMESTAMP_NTZ: "", DataType.TIMESTAMP_LTZ: "+00:00", DataType.TIMESTAMP_TZ: "+00:00"}
# Numbers among JSON texts that may be too large for a double: with an exponent, or very long.
_SUSPICIOUS_NUMBER = r"^-?[0-9][0-9.]*(?:[eE]|[0-9]{300})"
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OBJECT = ColumnType.of(DataType.OBJECT)
_VARIANT = ColumnType.of(DataType.VARIANT)


@dataclass(frozen=True)
class ColumnsCopy:
    """What COPY does for the files of one batch: columns of the table, and what it selects for each."""

    columns: tuple[tuple[str, str], ...]
    copy_select: tuple[str, ...]


@dataclass
class _RecordVerdict:
    """What becomes of one record, value by value.

    :param values: by column, if it lands
    :param refusal: why it doesn't
    :param rescued: JSON texts, by key, for the column of what lands nowhere else
    """

    values: dict[str, Value] = field(default_factory=dict)
    refusal: DeadLetter | None = None
    keys: set[str] = field(default_factory=set)
    seen: dict[str, ObservedTypes] = field(default_factory=dict)
    widened: dict[str, ColumnType] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    rescued: dict[str, str] = field(default_factory=dict)


class ColumnsMapping:
    """Lands JSON objects: each key fills the column of its name, whatever the case of either.

    Types follow the table; those of new columns are inferred from all values seen before the column is
    created. A record lands as a whole or becomes a dead letter as a whole, with the column and the reason.
    What is written to a file was checked against the type the column has, or will have; if the table turns
    out to be different by the time of the load, :meth:`copy` reports it, and the records must be read again.

    Threads share one mapping. The table is read when the first records arrive.

    :param settings: which keys go where
    :param read_columns: the columns of the landing table as they are now
    """

    def __init__(
        self, settings: ColumnsSettings, *, read_columns: Callable[[], Mapping[str, Column]]
    ) -> None:
        self._settings = settings
        self._read_columns = read_columns
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._schema: Schema | None = None

    # --- the table -----------------------------------------------------------------------------------------

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Columns of a new landing table: name and Snowflake type."""
        pinned = ((name, column.sql) for name, column in self._settings.pins.items())
        aside = ((name, _VARIANT.sql) for name in self._settings.aside)
        return (*self._metadata, *pinned, *aside)

    @property
    def required(self) -> tuple[tuple[str, str], ...]:
        """Columns that a landing table must have before the first load."""
        return self._metadata if self._settings.schema_evolution else self.columns

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        own = own_columns(self._settings.metadata_columns)
        return ((METADATA, _OBJECT.sql), *((name, self._made(sql_type)) for name, sql_type in own))

    def _made(self, sql_type: str) -> str:
        return self._settings.made(ColumnType.parse(sql_type)).sql

    @property
    def can_create(self) -> bool:
        """Whether enough is known to create a landing table."""
        return self._settings.schema_evolution or bool(self._settings.pins)

    def found(self, columns: Mapping[str, Column]) -> None:
        """Take note of the columns that the table has now."""
        actual = {name: column for name, column in columns.items() if name not in self._settings.metadata}
        with self._lock:
            schema = self._schema
            self._schema = Schema.begin(self._settings, actual) if schema is None else schema.found(actual)

    def changes(self, fields: Iterable[FileColumn], missing: Collection[str]) -> list[Change]:
        """What must be done to the table before these fields can be loaded; safe to do twice.

        :param missing: columns that are NULL in some row
        """
        with self._lock:
            assert self._schema is not None
            changes, self._schema = self._schema.changes([item.column for item in fields], missing)
        return changes

    def filled(self, fields: Iterable[FileColumn], missing: Collection[str]) -> tuple[JsonColumn, ...] | None:
        """The columns that these fields fill, as the table was last found.

        :return: ``None`` if it can't take them: the records must be encoded again
        """
        with self._lock:
            assert self._schema is not None
            actual = self._schema.actual
        by_column: dict[str, list[FileColumn]] = {}
        for item in sorted(set(fields), key=lambda item: (item.number, item.encoding, item.type.sql)):
            column = actual.get(item.column)
            if column is None or not item.fits(column.type):
                return None
            by_column.setdefault(item.column, []).append(item)
        if any(not actual[name].nullable for name in by_column if name in missing):
            return None
        return tuple(
            JsonColumn(name, actual[name].type, tuple(items), default=actual[name].default)
            for name, items in by_column.items()
        )

    def copy(self, fields: Iterable[FileColumn], missing: Collection[str]) -> ColumnsCopy | None:
        """How to load these fields into the table as it was last found.

        :return: ``None`` if it can't take them: the records must be encoded again
        """
        filled = self.filled(fields, missing)
        if filled is None:
            return None
        selects = [
            _nvl({item.name: item.select(column.type) for item in column.fields}.values())
            for column in filled
        ]
        columns = (*self._metadata, *((column.name, column.type.sql) for column in filled))
        own = own_selects(self._settings.metadata_columns)
        return ColumnsCopy(columns, (METADATA_SELECT, *own, *selects))

    def _current(self) -> Schema:
        with self._lock:
            if self._schema is not None:
                return self._schema
        with self._reading:
            if self._schema is None:
                self.found(self._read_columns())
        with self._lock:
            assert self._schema is not None
            return self._schema

    def _merge(self, delta: SchemaDelta) -> None:
        with self._lock:
            assert self._schema is not None
            self._schema = self._schema.merge(delta)

    # --- records -------------------------------------------------------------------------------------------

    def encode(self, records: Sequence[Record], *, stream_name: str, shard_id: str) -> EncodedRecords:
        """Turn records of one shard into rows and dead letters; each record becomes one or the other.

        :raises KinesisSnowflakeError: the columns of the table can't be read
        """
        return self._encode(records, stream_name=stream_name, shard_id=shard_id, runs=None)

    def encode_documents(self, expansion: Expansion, *, stream_name: str, shard_id: str) -> EncodedRecords:
        """The same for the documents of records."""
        records = expansion.records()
        return self._encode(records, stream_name=stream_name, shard_id=shard_id, runs=expansion.runs)

    def _encode(
        self, records: Sequence[Record], *, stream_name: str, shard_id: str, runs: Sequence[int] | None
    ) -> EncodedRecords:
        if not records:
            return EncodedRecords(NO_ROWS, (), 0)
        while True:
            page = _Page(self._current(), records, runs)
            delta = page.judge()
            if not delta:
                return page.encoded(stream_name=stream_name, shard_id=shard_id)
            self._merge(delta)


def make_mapping(
    settings: ColumnsSettings | None,
    *,
    metadata_columns: tuple[str, ...] = (),
    read_columns: Callable[[], Mapping[str, Column]],
) -> EnvelopeMapping | ColumnsMapping:
    """The mapping that a user chose.

    :param settings: of the columns mapping; ``None``: the envelope mapping
    :param metadata_columns: facts about a record that get columns of their own
    :param read_columns: the columns of the landing table as they are now; only the columns mapping asks
    """
    if settings is None:
        return EnvelopeMapping(metadata_columns)
    return ColumnsMapping(replace(settings, metadata_columns=metadata_columns), read_columns=read_columns)


class _Page:
    """Records of one shard, against one state of the schema.

    All of them are decoded into the struct of the known keys first, and whole columns are checked. The few
    records that don't pass are judged value by value.

    :param runs: lengths of the runs of records that share their coordinates; ``None``: not known
    """

    def __init__(self, schema: Schema, records: Sequence[Record], runs: Sequence[int] | None) -> None:
        self._schema = schema
        self._records = records
        self._runs = runs
        self._judged: dict[int, _RecordVerdict] = {}
        self._columns: dict[str, tuple[pa.Array, Encoding]] = {}
        row = schema.row
        self._targets: Mapping[str, Target] = row.targets if row else {}
        values, odd = self._decode() if row else ({}, range(len(records)))
        self._values: dict[str, list[Any]] = values
        self._odd: set[int] = set(odd)
        if len(self._odd) < len(records):
            self._check()

    # --- vectorised ---

    def _decode(self) -> tuple[dict[str, list[Any]], list[int]]:
        row = self._schema.row
        assert row is not None
        decode, rows, odd = row.decode, [], []
        empty = decode(b"{}")
        for number, record in enumerate(self._records):
            try:
                if row.ignores:
                    record.data.decode()  # nothing else checks the UTF-8 of values that are skipped
                rows.append(decode(record.data))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                rows.append(empty)
                odd.append(number)
        values = {}
        for name, attributes in row.attributes.items():
            first, *others = [list(map(attrgetter(attribute), rows)) for attribute in attributes]
            values[name] = _united(first, others, odd) if others else first
        return values, odd

    def _check(self) -> None:
        """Pack all columns, and find the rows with a value that has to be judged."""
        for name, values in self._values.items():
            packed, encoding, bad = pack(self._targets[name], values)
            self._odd.update(bad)
            if packed is not None:
                self._columns[name] = packed, encoding
        if self._schema.settings.schema_evolution:
            return
        for name in self._schema.demanding:
            packed, _ = self._columns.get(name, (None, None))
            if packed is None:
                self._odd.update(range(len(self._records)))
            elif packed.null_count:
                self._odd.update(pc.indices_nonzero(packed.is_null()).to_pylist())

    # --- value by value ---

    def judge(self) -> SchemaDelta:
        """Judge the records that stand out; return what they add to the schema.

        Of a run with a record that is refused nothing lands, so it adds nothing.
        """
        keys: set[str] = set()
        seen: dict[str, ObservedTypes] = {}
        widened: dict[str, ColumnType] = {}
        aside: set[str] = set()
        for number in sorted(self._odd):
            self._judged[number] = _judge(self._schema, self._records[number])
        for judged in self._landing():
            keys |= judged.keys
            widened |= judged.widened
            aside |= judged.aside
            for name, what in judged.seen.items():
                seen[name] = seen.get(name, ObservedTypes()) | what
        return SchemaDelta(frozenset(keys), seen, widened, frozenset(aside))

    def _landing(self) -> list[_RecordVerdict]:
        """The verdicts on records of which all that share their coordinates can land."""
        refused = {number for number, judged in self._judged.items() if judged.refusal is not None}
        if refused and self._runs is not None:
            ends = list(accumulate(self._runs))
            runs = {bisect_right(ends, number) for number in refused}
            refused = {number for number in self._judged if bisect_right(ends, number) in runs}
        return [judged for number, judged in self._judged.items() if number not in refused]

    # --- the outcome ---

    def encoded(self, *, stream_name: str, shard_id: str) -> EncodedRecords:
        """Rows and dead letters, once the schema is complete."""
        if self._odd:
            self._insert_judged()
        landing = [
            number
            for number in range(len(self._records))
            if number not in self._judged or self._judged[number].refusal is None
        ]
        records = [self._records[number] for number in landing]
        letters = tuple(
            judged.refusal for _, judged in sorted(self._judged.items()) if judged.refusal is not None
        )
        arrays, fields, missing = [], [], set(self._schema.not_null)
        for name, (packed, encoding) in self._columns.items():
            kept = packed if not letters else packed.take(pa.array(landing, pa.int64()))
            if kept.null_count == 0:
                missing.discard(name)
            if kept.null_count < len(kept):
                target = self._targets[name]
                assert target.type is not None
                arrays.append(kept)
                fields.append(FileColumn(name, target.number, encoding, target.type))
        if self._runs is not None and not letters:
            sources = [records[end - 1] for end in accumulate(self._runs)]
            metadata = metadata_arrays(sources, stream_name=stream_name, shard_id=shard_id, runs=self._runs)
        else:
            metadata = metadata_arrays(records, stream_name=stream_name, shard_id=shard_id)
        rows = pa.RecordBatch.from_arrays(
            [*arrays, *metadata],
            schema=pa.schema(
                [
                    *(pa.field(item.name, packed.type) for item, packed in zip(fields, arrays, strict=True)),
                    *METADATA_FIELDS,
                ]
            ),
        )
        size = sum(len(record.data) for record in self._records)
        return EncodedRecords(
            rows, letters, size, fields=frozenset(fields), missing=frozenset(missing if landing else ())
        )

    def _insert_judged(self) -> None:
        """Put the values of judged records among the others, and pack the columns again."""
        self._targets = self._schema.targets
        judged_values: dict[str, dict[int, Value]] = {}
        for number, judged in self._judged.items():
            for name, value in judged.values.items() if judged.refusal is None else ():
                judged_values.setdefault(name, {})[number] = value
        for name in {**self._values, **judged_values}:
            target = self._targets[name]
            nothing = JSON_NULL if decoded_raw(target) else None
            if name in self._values:
                values = self._values[name]
                for number in self._judged:
                    values[number] = nothing
            else:
                values = [nothing] * len(self._records)
            for number, value in judged_values.get(name, {}).items():
                values[number] = nothing if value is None else as_decoded(target, value)
            packed, encoding, _ = pack(target, values)
            if packed is not None:
                self._columns[name] = packed, encoding


def _judge(schema: Schema, record: Record) -> _RecordVerdict:
    """Judge a record, value by value."""
    judged = _RecordVerdict()
    try:
        document = _document(record)
    except TypeMismatch as mismatch:
        judged.refusal = DeadLetter(record, str(mismatch))
        return judged
    column: str | None = None
    try:
        for key, raw in document.items():
            verdict = schema.verdict(key)
            if verdict is None:
                judged.keys.add(key)
            elif not isinstance(verdict, IgnoredKey) and (value := bytes(raw)) != b"null":
                column = verdict.name if isinstance(verdict, Target) else verdict.column
                _judge_key(judged, schema, key, verdict, value.decode())
        for column in schema.settings.aside if judged.rescued else ():
            target = schema.targets[column]
            assert target.type is not None
            judged.values[column] = fit(target.type, _object(judged.rescued))
        if not schema.settings.schema_evolution and not judged.keys:
            for column in schema.demanding:
                if judged.values.get(column) is None:
                    raise TypeMismatch("the column is NOT NULL, and the record has no value for it")
    except TypeMismatch as mismatch:
        judged.refusal = DeadLetter(record, str(mismatch), column)
    return judged


def _object(values: Mapping[str, str]) -> str:
    """A JSON object of JSON texts."""
    members = (f"{msgspec.json.encode(key).decode()}: {text}" for key, text in values.items())
    return f"{{{', '.join(members)}}}"


def _judge_key(
    judged: _RecordVerdict, schema: Schema, key: str, verdict: Target | RefusedKey, text: str
) -> None:
    """Judge the value of a key, and decide what becomes of it if it can't land in its column.

    :raises TypeMismatch: the record can't land
    """
    settings = schema.settings
    try:
        if isinstance(verdict, RefusedKey):
            raise TypeMismatch(verdict.reason)
        _judge_value(judged, verdict, text, settings=settings)
    except TypeMismatch:
        if settings.on_type_conflict == "rescue" and not (isinstance(verdict, RefusedKey) and verdict.wanted):
            judged.rescued[key] = str(fit(_VARIANT, text))
        elif settings.on_type_conflict == "column" and isinstance(verdict, Target):
            if not _land_beside(judged, schema, verdict, text):
                raise
        else:
            raise


def _land_beside(judged: _RecordVerdict, schema: Schema, target: Target, text: str) -> bool:
    """Land a value in the column beside its own; ``False`` if there can't be one."""
    beside = schema.beside(target.name)
    if isinstance(beside, RefusedKey) or beside in judged.values:
        return False
    if beside not in schema.aside:
        judged.aside.add(beside)
        return True
    found = schema.targets[beside]
    assert found.type is not None
    judged.values[beside] = fit(found.type, text)
    return True


def _document(record: Record) -> dict[str, msgspec.Raw]:
    payload = record.data.removeprefix(BYTE_ORDER_MARK)
    reason = refusal(payload)
    if reason is not None:
        raise TypeMismatch(reason)
    try:
        return _decode_raw(payload)
    except msgspec.ValidationError:
        raise TypeMismatch("not a JSON object") from None
    except RecursionError:
        raise TypeMismatch("nested too deeply") from None


def _judge_value(judged: _RecordVerdict, target: Target, text: str, *, settings: ColumnsSettings) -> None:
    if target.name in judged.values:
        raise TypeMismatch("rename or exclude a key: several keys of the record fill the column")
    judged.values[target.name] = None
    if target.seen is not None and (target.type is None or target.type.kind is not DataType.VARIANT):
        what = observe(text, times=settings.decimals_of_times, numbers=settings.numbers)
        together = target.seen | what
        if together.checked(settings.numbers) != target.seen.checked(settings.numbers):
            judged.seen[target.name] = what
            return
    assert target.type is not None
    try:
        judged.values[target.name] = fit(target.type, text, epoch=target.epoch)
    except TypeMismatch:
        if not target.widens or target.type.kind is not DataType.NUMBER:
            raise
        wider = widest(target.type)
        fit(wider, text)
        judged.widened[target.name] = wider


# --- whole columns -----------------------------------------------------------------------------------------


def _united(first: list[Any], others: list[list[Any]], odd: list[int]) -> list[Any]:
    """Values of several spellings of one key; a record that has more than one of them stands out."""
    united = first
    for other in others:
        for number, value in enumerate(other):
            if not _is_null(value):
                if not _is_null(united[number]):
                    odd.append(number)
                united[number] = value
    return united


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, msgspec.Raw) and bytes(value) == b"null")


def as_decoded(target: Target, value: Value) -> Any:
    """A judged value as the struct of the known keys would hold it."""
    if not decoded_raw(target):
        return value
    return msgspec.json.encode(value) if target.epoch else str(value).encode()


Packed = tuple["pa.Array | None", Encoding, "Iterable[int]"]


def pack(target: Target, values: list[Any]) -> Packed:
    """Make an Arrow array of the values of a column.

    :return: the array (``None``: nothing but null), its encoding, and the numbers of the rows to judge
    """
    if target.type is None:
        # Usually all of them are null, and one comparison is much cheaper than one for each.
        if _NUL.join(values) == _NUL.join([b"null"] * len(values)):
            return None, Encoding.JSON, ()
        return None, Encoding.JSON, [number for number, value in enumerate(values) if not _is_null(value)]
    if target.epoch:
        return _pack_epochs(target.type, values, unit=target.epoch)
    if decoded_raw(target):
        return _pack_json(target.type, values)
    return _PACKING[target.type.kind](target.type, values)


def _pack_doubles(column: ColumnType, values: list[float | None]) -> Packed:
    return pa.array(values, pa.float64()), Encoding.DOUBLE, ()


def _pack_booleans(column: ColumnType, values: list[bool | None]) -> Packed:
    return pa.array(values, pa.bool_()), Encoding.BOOLEAN, ()


def _pack_times(column: ColumnType, values: list[str | None]) -> Packed:
    plain = _plain_times(column, values)
    if plain is not None:
        return plain, Encoding.TIME, ()
    return _pack_each(values, partial(time_text, column), encoding=Encoding.TIME)


def _plain_times(column: ColumnType, values: list[str | None]) -> pa.Array | None:
    """What lands of dates and moments that are all written as in RFC 3339, with ``T`` or a blank: much
    cheaper than reading each; ``None`` if one is written in another way, or isn't one."""
    dates = column.kind is DataType.DATE
    if not dates and column.kind not in TIMESTAMPS:
        return None
    zone = _PLAIN_ZONE if not dates and _ZONES[column.kind] else ""
    clock = "" if dates else _PLAIN_CLOCK
    fraction = rf"(?:\.[0-9]{{1,{column.scale}}})?" if column.scale else ""
    texts = pa.array(values, pa.string())
    if not pc.all(pc.match_substring_regex(texts, f"^{_PLAIN_DATE}{clock}{fraction}{zone}$")).as_py():
        return None
    try:
        # Only the calendar knows how many days a month has.
        pc.cast(pc.utf8_slice_codeunits(texts, 0, len("YYYY-MM-DD")), pa.date32())
    except pa.ArrowInvalid:
        return None
    if dates:
        return texts
    texts = pc.replace_substring_regex(texts, _SPELLING, r"\1T\2\3\4")
    return pc.replace_substring(texts, "Z", "+00:00") if zone else texts


def _pack_base64(column: ColumnType, values: list[str | None]) -> Packed:
    return _pack_each(values, partial(base64_text, column), encoding=Encoding.TEXT)


def _pack_integers(column: ColumnType, values: list[int | None]) -> Packed:
    limit = 10**column.precision
    try:
        packed = pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        bad = [number for number, value in enumerate(values) if value is not None and abs(value) >= limit]
        return pa.array([None if value is None else str(value) for value in values]), Encoding.JSON, bad
    if column.precision >= _MAX_INT_DIGITS:
        return packed, Encoding.INTEGER, ()
    outside = pc.or_(pc.greater_equal(packed, limit), pc.less_equal(packed, -limit))
    return packed, Encoding.INTEGER, pc.indices_nonzero(outside).to_pylist()


def _pack_text(column: ColumnType, values: list[str | None]) -> Packed:
    packed = pa.array(values, pa.string())
    # No text has more characters than bytes.
    if (pc.max(pc.binary_length(packed)).as_py() or 0) <= column.length:
        return packed, Encoding.TEXT, ()
    longer = pc.greater(pc.utf8_length(packed), column.length)
    return packed, Encoding.TEXT, pc.indices_nonzero(longer).to_pylist()


def _pack_each(values: list[Any], land: Callable[[Any], str], *, encoding: Encoding) -> Packed:
    """Values that are checked one by one.

    :param land: what lands of a value
    """
    texts: list[str | None] = []
    bad = []
    for number, value in enumerate(values):
        try:
            texts.append(None if value is None else land(value))
        except TypeMismatch:
            texts.append(None)
            bad.append(number)
    return pa.array(texts, pa.string()), encoding, bad


def _pack_epochs(column: ColumnType, values: list[Any], *, unit: str) -> Packed:
    texts = _texts(_NUL.join(values))
    if texts is None:
        return None, Encoding.TIME, range(len(values))
    if column.kind in TIMESTAMPS and EPOCH_UNITS[unit] <= column.scale:
        try:
            return _moments(pc.cast(texts, pa.int64()), unit, zone=_ZONES[column.kind]), Encoding.TIME, ()
        except pa.ArrowInvalid:
            pass  # Not all of them are integers that make a date, so they are read one by one.
    return _pack_each(
        texts.to_pylist(), lambda text: str(fit(column, text, epoch=unit)), encoding=Encoding.TIME
    )


def _moments(numbers: pa.Array, unit: str, *, zone: str) -> pa.Array:
    """Epochs as text, all at once.

    :raises pyarrow.ArrowInvalid: one is outside the years 1 to 9999
    """
    ticks = 10 ** EPOCH_UNITS[unit]
    least, most = pc.min_max(numbers).as_py().values()
    if least is not None and not (_FIRST_SECOND * ticks <= least and most < _END_SECOND * ticks):
        raise pa.ArrowInvalid("a year that no date has")
    texts = pc.cast(pc.cast(numbers, pa.timestamp(unit)), pa.string())
    return pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), zone, "")


def _texts(joined: bytes) -> pa.StringArray | None:
    """Joined JSON texts as a column, with null where they say so; ``None`` if they aren't all UTF-8."""
    try:
        texts = pc.split_pattern(pa.array([joined], pa.binary()).cast(pa.string()), "\0").flatten()
    except pa.ArrowInvalid:
        return None
    null = pc.equal(texts, "null")
    return pc.if_else(null, None, texts) if pc.any(null).as_py() else texts


def _pack_json(column: ColumnType, values: list[Any]) -> Packed:
    joined = _NUL.join(values)
    packed = _texts(joined)
    if packed is None:
        return None, Encoding.JSON, range(len(values))
    if column.kind is DataType.NUMBER:
        return packed, Encoding.JSON, _not_decimal(column, packed, exponents=b"e" in joined or b"E" in joined)
    if column.kind is DataType.VARIANT:
        suspicious = pc.match_substring_regex(packed, _SUSPICIOUS_NUMBER)
    elif column.kind in {DataType.OBJECT, DataType.ARRAY}:
        suspicious = pc.invert(pc.starts_with(packed, "{" if column.kind is DataType.OBJECT else "["))
    else:
        suspicious = packed.is_valid()
    return packed, Encoding.JSON, pc.indices_nonzero(suspicious).to_pylist()


def _not_decimal(column: ColumnType, texts: pa.Array, *, exponents: bool) -> list[int]:
    try:
        # Arrow doesn't notice when a number overflows, and a file must not contain exponents.
        if exponents or _may_overflow(texts, scale=column.scale):
            raise pa.ArrowInvalid("to be judged one by one")
        pc.cast(texts, pa.decimal128(column.precision, column.scale))
    except pa.ArrowInvalid:
        return [number for number, text in enumerate(texts.to_pylist()) if not _fits(column, text)]
    return []


def _may_overflow(texts: pa.Array, *, scale: int) -> bool:
    """Whether Arrow may lack digits: it fills up each number to all the decimals of its column."""
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    if longest <= MAX_DIGITS - scale:
        return False
    more = rf"^-?[0-9]{{{MAX_DIGITS - scale + 1}}}"
    return longest > MAX_DIGITS or bool(pc.any(pc.match_substring_regex(texts, more)).as_py())


def _fits(column: ColumnType, text: str | None) -> bool:
    try:
        return text is None or fit(column, text) == text
    except TypeMismatch:
        return False


_PACKING: Mapping[DataType, Callable[[ColumnType, list[Any]], Packed]] = {
    DataType.NUMBER: _pack_integers,
    DataType.FLOAT: _pack_doubles,
    DataType.BOOLEAN: _pack_booleans,
    DataType.VARCHAR: _pack_text,
    DataType.BINARY: _pack_base64,
    **dict.fromkeys(TIMES, _pack_times),
}


def _nvl(selects: Iterable[str]) -> str:
    first, *others = selects
    for other in others:
        first = f"NVL({first}, {other})"
    return first
