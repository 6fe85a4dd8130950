"""Changes of DynamoDB, DMS and Debezium become the row with what happened to it."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import UndecodableError
from airflow_kinesis_snowflake.formats import values
from airflow_kinesis_snowflake.formats.catalog import payload_decoder
from airflow_kinesis_snowflake.formats.changes import Change, sortable
from airflow_kinesis_snowflake.formats.engine import DroppedPayload


def raw(format_name: str, payload: Any, key: str = "") -> bytes:
    decode = payload_decoder(format_name)
    assert decode is not None
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    documents = decode(data, key)
    assert not isinstance(documents, DroppedPayload)
    (document,) = documents
    return document


def row(format_name: str, payload: Any, key: str = "") -> dict[str, Any]:
    read: dict[str, Any] = json.loads(raw(format_name, payload, key), parse_float=Decimal)
    return read


def dropped(format_name: str, payload: Any) -> str:
    decode = payload_decoder(format_name)
    assert decode is not None
    answer = decode(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    assert isinstance(answer, DroppedPayload)
    return answer.what


# --- what they have in common ------------------------------------------------------------------------------


def test_what_is_not_known_of_a_change_is_left_out() -> None:
    assert Change(operation="insert", after={"id": 7}).document() == b'{"id":7,"__operation":"insert"}'


def test_a_deleted_row_has_what_is_known_of_it() -> None:
    change = Change(operation="delete", key={"id": 7}, before={"name": "Ann"})
    assert json.loads(change.document()) == {
        "id": 7,
        "name": "Ann",
        "__operation": "delete",
        "__key": {"id": 7},
        "__before": {"name": "Ann"},
    }


positions = st.integers(1 - 10**20, 10**20 - 1)


@given(st.lists(st.tuples(positions, positions), min_size=2))
def test_the_order_sorts_as_its_numbers_do(numbers: list[tuple[int, int]]) -> None:
    assert sorted(numbers) == sorted(numbers, key=lambda pair: sortable(*pair))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "0" * 20),
        (0, "0" * 20),
        (7, "0" * 19 + "7"),
        (-1, "-" + "9" * 20),
        (1 - 10**20, "-" + "0" * 19 + "1"),
    ],
)
def test_negative_numbers_sort_before_the_others_which_stay_as_they_were(
    number: int | None, text: str
) -> None:
    assert sortable(number) == text


@pytest.mark.parametrize("zeros", [20, 4301])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_of_more_digits_than_the_order_has_is_refused(zeros: int, sign: int) -> None:
    with pytest.raises(UndecodableError, match="20 digits"):
        sortable(1, sign * 10**zeros)


FACTS = ("operation", "key", "before", "time", "order", "table", "transaction", "source")


@pytest.mark.parametrize("name", [*(f"__{fact}" for fact in FACTS), "__KEY", "__Table", "__\u017fource"])
@pytest.mark.parametrize(
    "change",
    [
        lambda name: Change(operation="insert", after={"id": 7, name: None}),
        lambda name: Change(operation="delete", key={name: 7}),
        lambda name: Change(operation="delete", key={"id": 7}, before={name: 7}),
    ],
)
def test_a_row_with_a_column_that_would_pass_for_a_fact_is_refused(change: Any, name: str) -> None:
    with pytest.raises(UndecodableError, match=f"a column named {name.upper().lower()}"):
        change(name).document()


@pytest.mark.parametrize("name", ["__v", "__deleted", "_key", "key", "__keys"])
def test_other_columns_may_begin_with_underscores(name: str) -> None:
    assert json.loads(Change(operation="insert", after={name: 7}).document())[name] == 7


@pytest.mark.parametrize(
    ("text", "lands"),
    [
        ("2.22507385850721E-308", b"2.22507385850721E-308"),
        ("-1E-307", b"-1E-307"),
        ("1.7E+308", b"1.7E+308"),
        ("0E-400", b"0E-400"),
        ("-0.0e9", b"-0.0e9"),
        ("1E-400", "1E-400"),
        ("-1E-400", "-1E-400"),
        ("1.2345678901e-320", "1.2345678901e-320"),
        ("4E-324", "4E-324"),
        ("2.22507385850720E-308", "2.22507385850720E-308"),
        ("1.8E+308", "1.8E+308"),
        ("1E+400", "1E+400"),
    ],
)
def test_a_number_that_a_double_would_change_is_text(text: str, lands: bytes | str) -> None:
    read = values.number(text)
    assert (read if isinstance(read, str) else bytes(read)) == lands


@given(st.integers(-(10**17), 10**17), st.integers(-400, 400))
def test_a_number_with_an_exponent_that_stays_one_is_what_a_double_shows(digits: int, exponent: int) -> None:
    text = f"{digits}E{exponent}"
    if not isinstance(values.number(text), str):
        assert Decimal(f"{float(text):.14e}") == Decimal(text)


# --- DynamoDB ----------------------------------------------------------------------------------------------


def dynamodb(**changes: Any) -> dict[str, Any]:
    images = {
        "ApproximateCreationDateTime": 1764000000123456,
        "ApproximateCreationDateTimePrecision": "MICROSECOND",
        "Keys": {"pk": {"S": "o#7"}},
        "NewImage": {"pk": {"S": "o#7"}, "total": {"N": "12.50"}},
        "OldImage": {"pk": {"S": "o#7"}, "total": {"N": "10"}},
        "SizeBytes": 97,
    }
    images |= changes.pop("images", {})
    return {
        "awsRegion": "eu-west-1",
        "eventID": "0f0c",
        "eventName": "MODIFY",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "orders",
        "dynamodb": {name: image for name, image in images.items() if image is not None},
        "eventSource": "aws:dynamodb",
        **changes,
    }


def test_a_change_of_dynamodb_lands_as_plain_values() -> None:
    assert row("dynamodb", dynamodb()) == {
        "pk": "o#7",
        "total": Decimal("12.50"),
        "__operation": "update",
        "__key": {"pk": "o#7"},
        "__before": {"pk": "o#7", "total": 10},
        "__time": "2025-11-24T16:00:00.123456Z",
        "__order": "00001764000000123456",
        "__table": "orders",
        "__source": {
            "awsRegion": "eu-west-1",
            "eventID": "0f0c",
            "eventName": "MODIFY",
            "userIdentity": None,
            "recordFormat": "application/json",
            "tableName": "orders",
            "eventSource": "aws:dynamodb",
        },
    }
    assert b'"total":12.50' in raw("dynamodb", dynamodb())


def test_every_type_of_dynamodb_becomes_a_plain_one() -> None:
    item = {
        "text": "a",
        "none": None,
        "yes": True,
        "bytes": b"\0\1\2",
        "numbers": {Decimal("1.5")},
        "texts": {"a"},
        "binaries": {b"\0"},
        "list": [{"deep": [Decimal("0.1")]}],
    }
    typed = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    written = json.loads(json.dumps(typed, default=lambda data: base64.b64encode(data).decode()))
    landed = row("dynamodb", dynamodb(images={"NewImage": written}))
    assert {name: value for name, value in landed.items() if not name.startswith("__")} == {
        "text": "a",
        "none": None,
        "yes": True,
        "bytes": "AAEC",
        "numbers": [Decimal("1.5")],
        "texts": ["a"],
        "binaries": ["AA=="],
        "list": [{"deep": [Decimal("0.1")]}],
    }


@pytest.mark.parametrize(
    ("number", "lands"),
    [
        ("12345678901234567890123456789012345678", b"12345678901234567890123456789012345678"),
        ("-0.0000000000000000000000000000000000001", b"-0.0000000000000000000000000000000000001"),
        ("123456789012345678901234567890123456789", b'"123456789012345678901234567890123456789"'),
        ("1E+125", b"1E+125"),
        ("1.2345678901234567E+60", b'"1.2345678901234567E+60"'),
    ],
)
def test_numbers_keep_their_digits(number: str, lands: bytes) -> None:
    assert b'"n":' + lands + b"," in raw("dynamodb", dynamodb(images={"NewImage": {"n": {"N": number}}}))


def test_a_removed_item_is_a_delete_with_its_old_values_or_its_key() -> None:
    gone = dynamodb(eventName="REMOVE", images={"NewImage": None})
    assert (row("dynamodb", gone)["__operation"], row("dynamodb", gone)["total"]) == ("delete", 10)
    only_key = dynamodb(eventName="REMOVE", images={"NewImage": None, "OldImage": None})
    assert row("dynamodb", only_key)["pk"] == "o#7"
    keys_only = dynamodb(images={"NewImage": None, "OldImage": None})
    assert (row("dynamodb", keys_only)["pk"], row("dynamodb", keys_only)["__operation"]) == ("o#7", "update")


def test_both_precisions_sort_together() -> None:
    images = {"ApproximateCreationDateTime": 1764000000123, "ApproximateCreationDateTimePrecision": None}
    assert row("dynamodb", dynamodb(images=images))["__order"] == "00001764000000123000"
    assert row("dynamodb", dynamodb(images=images))["__time"] == "2025-11-24T16:00:00.123Z"


def deep(levels: int) -> dict[str, Any]:
    attribute: dict[str, Any] = {"S": "x"}
    for _ in range(levels):
        attribute = {"L": [attribute]}
    return attribute


@pytest.mark.parametrize(
    "attribute",
    [
        {},
        {"S": 1},
        {"S": "a", "N": "1"},
        {"N": "one"},
        {"N": "0x1"},
        {"NS": ["1", 2]},
        {"X": "a"},
        {"BOOL": "true"},
        "a",
        None,
        deep(200),
    ],
)
def test_an_attribute_that_is_none_of_dynamodb_makes_a_dead_letter(attribute: Any) -> None:
    with pytest.raises(UndecodableError):
        raw("dynamodb", dynamodb(images={"NewImage": {"a": attribute}}))


@pytest.mark.parametrize("payload", [dynamodb(eventName="NEW"), {"a": 1}, [], b"", b"{", b"\xff"])
def test_what_is_no_change_of_dynamodb_is_a_dead_letter(payload: Any) -> None:
    with pytest.raises(UndecodableError):
        raw("dynamodb", payload)


@pytest.mark.parametrize("digits", [20, 4299, 4300, 5000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_moment_of_dynamodb_that_no_order_has_room_for_makes_a_dead_letter(digits: int, sign: str) -> None:
    images = {"ApproximateCreationDateTime": 0, "ApproximateCreationDateTimePrecision": None}
    whole = json.dumps(dynamodb(images=images)).replace('Time": 0', f'Time": {sign}{"9" * digits}')
    with pytest.raises(UndecodableError):
        raw("dynamodb", whole.encode())


# --- DMS ---------------------------------------------------------------------------------------------------


def dms(operation: str = "update", **changes: Any) -> dict[str, Any]:
    return {
        "data": {"id": 7, "name": "Ann"},
        "metadata": {
            "timestamp": "2026-11-25T10:00:00.123456Z",
            "record-type": "data",
            "operation": operation,
            "partition-key-type": "primary-key",
            "schema-name": "shop",
            "table-name": "orders",
            "transaction-id": 87978110091475,
            "transaction-record-id": 3,
        },
        "before-image": {"name": "An"},
        **changes,
    }


@pytest.mark.parametrize("indent", [None, "\t"])
def test_a_change_of_dms_lands_as_its_row(indent: str | None) -> None:
    payload = json.dumps(dms(), indent=indent).encode() + b"\n"
    assert row("dms", payload, "7") == {
        "id": 7,
        "name": "Ann",
        "__operation": "update",
        "__key": "7",
        "__before": {"name": "An"},
        "__time": "2026-11-25T10:00:00.123456Z",
        "__order": "2026-11-25T10:00:00.123456Z",
        "__table": "shop.orders",
        "__transaction": 87978110091475,
        "__source": dms()["metadata"],
    }


@pytest.mark.parametrize(
    ("operation", "lands"), [("load", "read"), ("insert", "insert"), ("delete", "delete")]
)
def test_operations_of_dms(operation: str, lands: str) -> None:
    landed = row("dms", dms(operation))
    assert (landed["__operation"], landed["id"]) == (lands, 7)
    assert "__key" not in landed  # There is no partition key here.


def test_a_control_record_of_dms_is_dropped() -> None:
    metadata = {**dms()["metadata"], "record-type": "control", "operation": "create-table"}
    assert dropped("dms", {"metadata": metadata}) == "control record of DMS"


@pytest.mark.parametrize("payload", [{}, {"metadata": {}}, dms("copy"), dms(data=None), dms(data=[1])])
def test_what_is_no_record_of_dms_is_a_dead_letter(payload: Any) -> None:
    with pytest.raises(UndecodableError):
        raw("dms", payload)


# --- Debezium ----------------------------------------------------------------------------------------------

SOURCE = {
    "version": "3.3.1.Final",
    "connector": "postgresql",
    "ts_ms": 1764000000000,
    "ts_us": 1764000000000456,
    "snapshot": "false",
    "db": "shop",
    "schema": "public",
    "table": "orders",
    "txId": 555,
    "lsn": 24023128,
}


def debezium(**changes: Any) -> dict[str, Any]:
    event = {"before": None, "after": {"id": 7}, "source": SOURCE, "op": "u", "ts_ms": 1764000000123}
    return event | changes


def value_schema(**fields: Any) -> dict[str, Any]:
    listed = [{"optional": True, "field": name, **kind} for name, kind in fields.items()]
    struct = {"type": "struct", "fields": listed, "optional": True, "name": "srv.shop.orders.Value"}
    return {
        "type": "struct",
        "name": "srv.shop.orders.Envelope",
        "fields": [
            {**struct, "field": "before"},
            {**struct, "field": "after"},
            {"type": "string", "field": "op"},
        ],
    }


def test_an_event_of_debezium_lands_as_its_row() -> None:
    transaction = {"id": "555:1", "total_order": 1, "data_collection_order": 1}
    assert row("debezium", debezium(transaction=transaction), '{"id":7}') == {
        "id": 7,
        "__operation": "update",
        "__key": {"id": 7},
        "__time": "2025-11-24T16:00:00.000456Z",
        "__order": sortable(1764000000000, 24023128, None, None, None),
        "__table": "shop.public.orders",
        "__transaction": transaction,
        "__source": SOURCE,
    }


def test_a_later_binlog_file_sorts_later_although_its_positions_begin_anew() -> None:
    before, after = (
        row("debezium", debezium(source={"ts_ms": 1764000000000, "file": file, "pos": pos}))["__order"]
        for file, pos in (("mysql-bin.000010", 1_073_741_000), ("mysql-bin.000011", 157))
    )
    assert before < after


@pytest.mark.parametrize(
    "update",
    [
        {"updateDescription": {"updatedFields": '{"x": 5}'}},
        {"patch": '{"$set": {"x": 5}}', "filter": '{"_id": 1}'},
    ],
)
def test_an_update_that_tells_only_what_it_changed_is_a_dead_letter(update: dict[str, Any]) -> None:
    with pytest.raises(UndecodableError, match=r"capture\.mode"):
        row("debezium", debezium(after=None, **update))


@pytest.mark.parametrize("name", ["ts_ms", "lsn", "pos", "row"])
@pytest.mark.parametrize("zeros", [20, 4298])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_position_that_no_order_has_room_for_makes_a_dead_letter(name: str, zeros: int, sign: int) -> None:
    with pytest.raises(UndecodableError):
        raw("debezium", debezium(source={name: sign * 10**zeros}))


def test_rows_of_a_load_sort_before_changes_whatever_time_they_have() -> None:
    load = dms()
    load["metadata"] |= {"operation": "load", "timestamp": "2026-11-25T11:00:00.000000Z"}
    assert row("dms", load)["__order"] < row("dms", dms())["__order"]


def test_an_event_with_its_schema_lands_the_same() -> None:
    plain = raw("debezium", debezium(), '{"id":7}')
    wrapped = {"schema": value_schema(id={"type": "int64"}), "payload": debezium()}
    key = json.dumps(
        {"schema": {"type": "struct", "fields": [{"field": "id", "type": "int64"}]}, "payload": {"id": 7}}
    )
    assert raw("debezium", wrapped, key) == plain
    assert raw("debezium", {"schema": None, "payload": debezium()}, '{"id":7}') == plain


def b64(number: int) -> str:
    return base64.b64encode(number.to_bytes(20, signed=True)).decode()


DECIMAL = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}


@pytest.mark.parametrize(
    ("kind", "value", "lands"),
    [
        (DECIMAL, b64(1250), "12.50"),
        (DECIMAL, b64(-5), "-0.05"),
        (DECIMAL, b64(10**38 - 1), "9" * 36 + ".99"),
        (DECIMAL, b64(10**38), '"1' + "0" * 36 + '.00"'),
        (
            {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"},
            {"scale": 3, "value": b64(1)},
            "0.001",
        ),
        ({**DECIMAL, "parameters": {"scale": "-2"}}, b64(-7), "-700"),
        (DECIMAL, 12.5, "12.5"),
        ({"type": "int32", "name": "io.debezium.time.Date"}, 20417, '"2025-11-25"'),
        ({"type": "int64", "name": "io.debezium.time.MicroTime"}, -3_600_000_001, '"-01:00:00.000001"'),
        ({"type": "int64", "name": "io.debezium.time.MicroTime"}, 3_020_399_000_000, '"838:59:59.000000"'),
        ({"type": "int64", "name": "io.debezium.time.MicroTime"}, 1_000_001, '"00:00:01.000001"'),
        ({"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, -1, '"1969-12-31T23:59:59.999999999"'),
        ({"type": "int64", "name": "io.debezium.time.Timestamp"}, 0, '"1970-01-01T00:00:00.000"'),
        (
            {"type": "int64", "name": "io.debezium.time.MicroTimestamp"},
            9223371331200000000,
            "9223371331200000000",
        ),
        ({"type": "int64", "name": "io.debezium.time.Timestamp"}, -62_135_596_800_001, "-62135596800001"),
        ({"type": "int32", "name": "io.debezium.time.Date"}, 2_932_897, "2932897"),
        (
            {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
            "2026-01-01T00:00:00Z",
            '"2026-01-01T00:00:00Z"',
        ),
        ({"type": "string", "name": "io.debezium.data.Json"}, '{"a": 1.10}', '{"a": 1.10}'),
        ({"type": "string", "name": "io.debezium.data.Json"}, "{", '"{"'),
        (
            {"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}},
            [0, None],
            '["1970-01-01",null]',
        ),
        (
            {"type": "struct", "fields": [{"field": "d", "type": "int32", "name": "io.debezium.time.Date"}]},
            {"d": 0, "n": 1.10},
            '{"d":"1970-01-01","n":1.1}',
        ),
        (DECIMAL, None, "null"),
        ({"type": "int64"}, 12345678901234567890123, "12345678901234567890123"),
    ],
)
def test_a_schema_says_what_values_are(kind: dict[str, Any], value: Any, lands: str) -> None:
    event = {"schema": value_schema(v=kind), "payload": debezium(after={"v": value}, before={"v": value})}
    document = raw("debezium", event)
    assert document.count(f'"v":{lands}'.encode()) == 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (DECIMAL, "!"),
        (DECIMAL, True),
        (DECIMAL, {"scale": 1}),
        ({**DECIMAL, "parameters": {}}, b64(1)),
        ({**DECIMAL, "parameters": {"scale": "1000000000"}}, b64(1)),
        ({"name": "io.debezium.time.Date"}, "x"),
    ],
)
def test_a_value_that_does_not_fit_its_schema_makes_a_dead_letter(kind: dict[str, Any], value: Any) -> None:
    with pytest.raises(UndecodableError):
        raw("debezium", {"schema": value_schema(v=kind), "payload": debezium(after={"v": value})})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ({"name": "io.debezium.time.Date"}, 5),
        ({"name": "io.debezium.time.MicroTime"}, 5),
        ({"name": "io.debezium.time.Timestamp"}, 2**70),
        (DECIMAL, 5),
        (DECIMAL, 1e-7),
        ({"name": "io.debezium.data.VariableScaleDecimal"}, {"scale": 3, "value": b64(1)}),
        ({"name": "io.debezium.data.VariableScaleDecimal"}, {"scale": 40, "value": b64(1)}),
        ({"type": "array", "items": {"name": "io.debezium.time.Date"}}, [5]),
        ({"type": "array", "items": {"type": "array", "items": {"name": "io.debezium.time.Date"}}}, []),
    ],
)
@pytest.mark.parametrize(
    "event",
    [
        lambda value: debezium(op="c", after=value),
        lambda value: debezium(op="r", after=value),
        lambda value: debezium(op="u", after=value),
        lambda value: debezium(op="u", before=value),
        lambda value: debezium(op="d", before=value, after=None),
    ],
)
def test_a_row_that_its_schema_makes_no_object_is_a_dead_letter(
    kind: dict[str, Any], value: Any, event: Any
) -> None:
    schema = {"fields": [{**kind, "field": "before"}, {**kind, "field": "after"}]}
    with pytest.raises(UndecodableError):
        raw("debezium", {"schema": schema, "payload": event(value)}, "7")


@pytest.mark.parametrize("schema", [{}, [], "x", 7, {"fields": 7}, {"fields": [7, {"field": 7}]}])
def test_a_schema_of_another_shape_is_not_read(schema: Any) -> None:
    assert row("debezium", {"schema": schema, "payload": debezium()})["id"] == 7


def test_a_delete_has_the_row_before_or_its_key() -> None:
    gone = debezium(op="d", before={"id": 7, "name": "Ann"}, after=None)
    assert (row("debezium", gone)["__operation"], row("debezium", gone)["name"]) == ("delete", "Ann")
    assert row("debezium", debezium(op="d", after=None), '{"id":7}')["id"] == 7


def test_documents_of_mongodb_are_read() -> None:
    assert row("debezium", debezium(after='{"_id": 1}'))["_id"] == 1


@pytest.mark.parametrize("key", ["default", "7", '{"id":', '{"id":NaN}', "[]", "{" * 200])
def test_a_partition_key_that_is_no_key_is_not_one(key: str) -> None:
    assert "__key" not in row("debezium", debezium(), key)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "tombstone"),
        (b"null", "tombstone"),
        ({"schema": None, "payload": None}, "tombstone"),
        ({"ts_ms": 1764000000000}, "heartbeat"),
        ({"schema": {"type": "struct"}, "payload": {"ts_ms": 1}}, "heartbeat"),
        ({"ts_ms": 1, "ts_us": 1000, "ts_ns": 1000000}, "heartbeat"),
        ({"vgtid": "[]", "ts_ms": 1}, "heartbeat"),
        ({"status": "BEGIN", "id": "555:1", "event_count": None, "ts_ms": 1}, "transaction"),
        ({"status": "BEGIN", "id": "571", "event_count": None, "data_collections": None}, "transaction"),
        (
            {
                "status": "END",
                "id": "571:53195832",
                "ts_ms": 1486500577125,
                "event_count": 2,
                "data_collections": [{"data_collection": "s1.a", "event_count": 2}],
                "commit_lsn": 7,
            },
            "transaction",
        ),
        (
            {"source": SOURCE, "ts_ms": 1, "databaseName": "d", "ddl": "CREATE ...", "tableChanges": []},
            "schema change",
        ),
        ({"source": {"server": "mysql"}, "databaseName": "d", "ddl": "CREATE ..."}, "schema change"),
        (
            {
                "source": SOURCE,
                "ts_ms": 1,
                "databaseName": "testDB",
                "schemaName": "dbo",
                "ddl": None,
                "tableChanges": [{"type": "CREATE", "id": "t", "table": {"columns": []}}],
            },
            "schema change",
        ),
        (debezium(op="t", after=None), "truncate"),
        ({"source": SOURCE, "op": "t", "ts_ms": 1, "ts_us": 1000, "ts_ns": 1000000}, "truncate"),
        (debezium(op="m", after=None, message={"prefix": "p", "content": ""}), "message"),
        ({"source": SOURCE, "op": "m", "ts_ms": 1, "message": {"prefix": "p", "content": ""}}, "message"),
    ],
)
def test_what_holds_no_row_is_dropped_and_says_what_it_was(payload: Any, what: str) -> None:
    assert what in dropped("debezium", payload)


@pytest.mark.parametrize(
    "payload",
    [b"{", b"[]", b"7", {}, {"id": 7}, debezium(op="x"), debezium(after=[1]), debezium(after=7), b"\xff"],
)
def test_what_is_no_event_of_debezium_is_a_dead_letter(payload: Any) -> None:
    with pytest.raises(UndecodableError):
        raw("debezium", payload)


@pytest.mark.parametrize(
    "row_itself",
    [
        {"id": 1, "name": "x", "op": "c", "ts_ms": 1764000000123},
        {"id": 1, "name": "x", "op": "r", "source": "web"},
        {"id": 1, "name": "x", "op": "u", "before": {"id": 1}, "after": None},
        {"id": 1, "name": "x", "op": "d", "ts_ms": 1764000000123},
        {"id": 1, "name": "x", "op": "t"},
        {"id": 1, "name": "x", "op": "m", "source": "web", "message": {}},
        {"id": 1, "name": "x", "op": 7},
        {"id": 1, "name": "x", "op": ["c"]},
        {"id": 1, "name": "x", "ts_ms": 1764000000123},
        {"id": 1, "name": "x", "ts_ms": "2026-01-01"},
        {"id": 1, "ddl": "x"},
        {"id": 1, "tableChanges": []},
        {"source": "web", "ddl": "x"},
        {"id": 1, "status": "END"},
        {"id": "7", "status": "END"},
        {"id": 1, "status": "END", "event_count": 2},
        {"id": "7", "status": "END", "event_count": None, "name": "x"},
        {"id": 1, "status": 5},
        {"id": 1, "payload": None},
        {"id": 1, "payload": {"ts_ms": 1}},
        {"id": 1, "payload": {"op": "c", "after": {"id": 2}}},
    ],
)
def test_a_flattened_row_is_a_dead_letter_that_says_what_reads_it(row_itself: dict[str, Any]) -> None:
    for payload in (row_itself, {"schema": {"type": "struct"}, "payload": row_itself}):
        with pytest.raises(UndecodableError, match=r"flattened, which payload_format='json' reads$"):
            raw("debezium", payload, '{"id":1}')


@pytest.mark.parametrize(
    "payload",
    [
        debezium(op="c", after=None),
        debezium(op="r", after=None),
        debezium(op="u", after=None, before={"id": 7}),
        {"op": "u", "before": {"id": 1}, "after": None},
        {"op": "c"},
        debezium(op="t"),
        debezium(op="t", after=None, before={"id": 7}),
        debezium(op="m"),
        debezium(op="t", after=None, headers={"a": 1}),
        {"id": 1, "source": {}, "ddl": "x"},
        debezium(op="n"),
        debezium(op=None),
        {"op": None, "ts_ms": 1, "source": SOURCE},
        {"ts_ms": None},
    ],
)
def test_an_event_without_what_its_operation_requires_is_a_dead_letter(payload: Any) -> None:
    with pytest.raises(UndecodableError) as caught:
        raw("debezium", payload, '{"id":7}')
    assert "flattened" not in str(caught.value)


def test_members_that_a_transform_adds_to_an_event_do_not_make_it_a_dead_letter() -> None:
    assert row("debezium", debezium(headers={"a": 1}, ts_us=1, ts_ns=1))["id"] == 7
    gone = debezium(op="d", after=None, headers={"a": 1})
    assert row("debezium", gone | {"before": {"id": 8}})["id"] == 8
    assert row("debezium", gone, '{"id":7}')["id"] == 7


def test_a_key_with_a_column_named_payload_is_read_as_a_key() -> None:
    assert row("debezium", debezium(), '{"id":7,"payload":"p"}')["__key"] == {"id": 7, "payload": "p"}


# --- names of facts in rows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_name", "payload"),
    [
        ("debezium", {"op": "c", "after": {"__key": "k", "__transaction": 5}}),
        ("debezium", {"op": "d", "before": {"__source": "s"}}),
        ("debezium", {"op": "c", "after": '{"__before": 1}'}),
        ("dynamodb", dynamodb(images={"NewImage": {"pk": {"S": "a"}, "__table": {"S": "t"}}})),
        ("dynamodb", dynamodb(images={"Keys": {"__order": {"S": "a"}}, "NewImage": None})),
        ("dms", dms(data={"id": 7, "__key": "k"})),
        ("dms", dms(data={"id": 7, "__OPERATION": "x"})),
    ],
)
def test_no_format_lands_a_column_as_a_fact(format_name: str, payload: dict[str, Any]) -> None:
    with pytest.raises(UndecodableError, match=r"a column named __[a-z]+, which is kept for a fact"):
        raw(format_name, payload)


def test_what_a_change_nests_may_have_any_names() -> None:
    landed = row("debezium", debezium(after={"id": 7, "j": {"__key": 1}}, before={"__key": 1}))
    assert (landed["j"], landed["__before"]) == ({"__key": 1}, {"__key": 1})
