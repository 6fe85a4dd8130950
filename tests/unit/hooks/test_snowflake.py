"""What the Snowflake hook makes of errors, lost answers and odd answers."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]
from snowflake.connector import errors

from airflow_kinesis_snowflake.engine.offsets import Offset, OffsetKey
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    CorruptStateError,
    FencedError,
    IncarnationClosedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SnowflakeObjectNotFoundError,
    TransactionEndedError,
    UnknownOutcomeError,
    ValueRefusedError,
)
from airflow_kinesis_snowflake.formats.envelope import EnvelopeMapping
from airflow_kinesis_snowflake.hooks import snowflake as module
from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.errors import Tries, translate
from airflow_kinesis_snowflake.sinks.snowflake.session import SnowflakeSession
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget
from airflow_kinesis_snowflake.stream.positions import Position

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = LandingTarget.beside(TableName("DB", "S", "T"))


class StubConnection:
    """Answers statements by how they begin; an exception is raised, anything else is the rows."""

    session_id = 42

    def __init__(self, **answers: Any) -> None:
        self.answers = {"SELECT": [("17",)], **answers}
        self.executed: list[str] = []
        self.closed = False
        self.rowcount = 1

    def cursor(self) -> Any:
        return nullcontext(self)

    def execute(self, sql: str, params: object = None, timeout: int | None = None) -> StubConnection:
        words = sql.split(maxsplit=2)
        statement = "_".join(words[:2] if words[0] == "SHOW" else words[:1])
        self.executed.append(statement)
        answer = self.answers.get(statement, [])
        if isinstance(answer, BaseException):
            raise answer
        self.rows = answer
        return self

    def fetchall(self) -> Any:
        return self.rows

    def close(self, *, retry: bool = True) -> None:
        self.closed = True


def session(connection: StubConnection) -> SnowflakeSession:
    opened: Callable[[], Any] = lambda: connection  # noqa: E731
    return SnowflakeSession(opened)


def answer(
    errno: int, kind: type[errors.Error] = errors.ProgrammingError, message: str = "m"
) -> errors.Error:
    return kind(msg=message, errno=errno, sqlstate="00000", sfqid="01-query", send_telemetry=False)


def columns_of(columns: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    return [("T", "S", name, json.dumps({"type": kind, "nullable": True})) for name, kind in columns]


LOST = answer(250003, errors.OperationalError)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (answer(2003), SnowflakeObjectNotFoundError),
        (answer(2043), SnowflakeObjectNotFoundError),
        (answer(3001), AccessDeniedError),
        (answer(250001, errors.DatabaseError), AccessDeniedError),
        (answer(390100, errors.DatabaseError), AccessDeniedError),
        (answer(390144, errors.DatabaseError), AccessDeniedError),
        (answer(394304, errors.DatabaseError), AccessDeniedError),
        (errors.ForbiddenError(errno=403), AccessDeniedError),
        (answer(250001, errors.OperationalError), ServiceUnavailableError),
        (answer(250001, errors.DatabaseError, "HTTP request failed after retries"), ServiceUnavailableError),
        (
            answer(250001, errors.DatabaseError, "Failed to login: Invalid Snowflake response. end of file"),
            ServiceUnavailableError,
        ),
        (answer(250002, errors.DatabaseError), ServiceUnavailableError),
        (answer(253003, errors.OperationalError), ServiceUnavailableError),
        (answer(603), ServiceUnavailableError),
        (answer(604), ServiceUnavailableError),
        (answer(615), ServiceUnavailableError),
        (errors.ForbiddenError(errno=250001), AccessDeniedError),
        (answer(625), ServiceUnavailableError),
        (answer(630), ServiceUnavailableError),
        (answer(390111), ServiceUnavailableError),
        (answer(390112), ServiceUnavailableError),
        (answer(390318, errors.DatabaseError), ServiceUnavailableError),
        (errors.InternalServerError(errno=500), ServiceUnavailableError),
        (errors.ServiceUnavailableError(errno=503), ServiceUnavailableError),
        (errors.GatewayTimeoutError(errno=504), ServiceUnavailableError),
        (errors.TooManyRequests(errno=429), ServiceUnavailableError),
        (errors.RequestTimeoutError(errno=408), ServiceUnavailableError),
        (errors.BadRequest(errno=400), ServiceRefusedError),
        (answer(290404, errors.HttpError), ServiceRefusedError),
        (answer(1003), ServiceRefusedError),
        (answer(904), ServiceRefusedError),
        (answer(606), ServiceRefusedError),
        (answer(90073), ServiceRefusedError),
        (answer(100072, errors.IntegrityError), ValueRefusedError),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.errno}" if isinstance(value, errors.Error) else "",
)
def test_an_error_becomes_the_class_that_says_whether_another_try_helps(
    error: errors.Error, meaning: type[KinesisSnowflakeError]
) -> None:
    assert type(translate(error, doing="load into", target="DB.S.T")) is meaning


def test_a_message_says_what_was_tried_on_what_and_what_snowflake_said() -> None:
    message = str(
        translate(answer(3001, message="Insufficient\nprivileges"), doing="load into", target="DB.S.T")
    )
    assert message.startswith("Check the login, role and grants of the Airflow connection: ")
    assert "Snowflake can't load into DB.S.T: " in message
    assert message.endswith("Insufficient privileges")


@pytest.mark.parametrize("errno", [100038, 100069, 100078])
def test_a_refused_value_is_quoted_neither_in_the_error_nor_in_its_cause(errno: int) -> None:
    loading = session(StubConnection(COPY=answer(errno, message="Error parsing JSON: hunter2")))
    with pytest.raises(ServiceRefusedError, match="01-query") as caught:
        loading.copy_landing(TARGET, mapping=EnvelopeMapping(), folder="a")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_block_that_ends_well_is_committed_and_knows_its_transaction() -> None:
    connection = StubConnection()
    with session(connection).transaction() as transaction:
        assert transaction == "17"
    assert connection.executed == ["BEGIN", "SELECT", "COMMIT"]
    assert not connection.closed


@pytest.mark.parametrize("error", [FencedError("lost"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_an_exception_in_the_block_rolls_back_and_ends_the_session(error: BaseException) -> None:
    connection = StubConnection()
    with pytest.raises(type(error)), session(connection).transaction():
        raise error
    assert connection.executed == ["BEGIN", "SELECT", "ROLLBACK"]
    assert connection.closed


@pytest.mark.parametrize("broken", [LOST, OSError("reset")], ids=["connector", "socket"])
def test_a_rollback_that_fails_does_not_hide_why_it_was_made(broken: Exception) -> None:
    connection = StubConnection(ROLLBACK=broken)
    with pytest.raises(FencedError), session(connection).transaction():
        raise FencedError("lost")
    assert connection.closed


def test_a_transaction_that_is_gone_at_once_runs_nothing() -> None:
    connection = StubConnection(SELECT=[(None,)])
    ran = []
    with pytest.raises(TransactionEndedError), session(connection).transaction():
        ran.append(True)
    assert not ran


def test_a_transaction_is_rolled_back_after_a_cancellation_that_closed_the_session() -> None:
    connection = StubConnection()
    loading = session(connection)

    def cancelled() -> None:
        connection.answers["SELECT"] = LOST
        loading.cancel()

    with pytest.raises(ServiceUnavailableError, match="closed"), loading.transaction():
        cancelled()
    assert connection.executed[-1] == "ROLLBACK"


def test_a_transaction_that_can_not_begin_runs_nothing() -> None:
    connection = StubConnection(BEGIN=LOST)
    ran = []
    with pytest.raises(ServiceUnavailableError), session(connection).transaction():
        ran.append(True)
    assert not ran


@pytest.mark.parametrize(
    "error",
    [LOST, answer(604), answer(390111), errors.GatewayTimeoutError(errno=504), OSError("reset")],
    ids=["connection", "cancelled", "session gone", "gateway", "socket"],
)
def test_a_lost_answer_to_commit_is_an_unknown_outcome_and_ends_the_session(error: Exception) -> None:
    connection = StubConnection(COMMIT=error)
    loading = session(connection)
    with pytest.raises(UnknownOutcomeError, match="offsets table") as caught, loading.transaction():
        pass
    assert caught.value.__cause__ is not None
    assert connection.closed
    with pytest.raises(ServiceUnavailableError, match="closed"):
        loading.version()


def test_a_refused_commit_is_rolled_back_and_known() -> None:
    connection = StubConnection(COMMIT=answer(3001))
    with pytest.raises(AccessDeniedError), session(connection).transaction():
        pass
    assert connection.executed == ["BEGIN", "SELECT", "COMMIT", "ROLLBACK"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ([("KINESISMETADATA", "OBJECT")], r'ADD COLUMN IF NOT EXISTS "RECORD_CONTENT" VARIANT'),
        ([("RECORD_CONTENT", "VARIANT")], r'ADD COLUMN IF NOT EXISTS "KINESISMETADATA" OBJECT'),
        ([("record_content", "VARIANT"), ("KINESISMETADATA", "OBJECT")], "RECORD_CONTENT"),
        ([("RECORD_CONTENT", "TEXT"), ("KINESISMETADATA", "OBJECT")], "as VARIANT: .* is TEXT"),
        ([("RECORD_CONTENT", "VARIANT"), ("KINESISMETADATA", "TEXT")], "as OBJECT: .* is TEXT"),
    ],
)
def test_a_landing_table_that_can_not_take_the_records_is_named_with_what_to_run(
    columns: list[tuple[str, str]], problem: str
) -> None:
    with pytest.raises(InvalidSettingError, match=problem) as caught:
        session(StubConnection(SHOW_COLUMNS=columns_of(columns))).ensure_objects(
            TARGET, mapping=EnvelopeMapping()
        )
    assert str(TARGET.table) in str(caught.value)


@pytest.mark.parametrize("metadata", ["OBJECT", "VARIANT"])
def test_nothing_is_created_where_everything_is_there(metadata: str) -> None:
    connection = StubConnection(
        SHOW_COLUMNS=columns_of(
            [("RECORD_CONTENT", "VARIANT"), ("KINESISMETADATA", metadata), ("MORE", "DATE")]
        ),
        SHOW_STAGES=[(None, "KINESIS_STAGE")],
    )
    session(connection).ensure_objects(TARGET, mapping=EnvelopeMapping())
    assert "CREATE" not in connection.executed


def test_a_stage_with_a_similar_name_is_not_taken_for_the_stage() -> None:
    connection = StubConnection(
        SHOW_COLUMNS=columns_of([("RECORD_CONTENT", "VARIANT"), ("KINESISMETADATA", "OBJECT")]),
        SHOW_STAGES=[(None, "KINESISXSTAGE"), (None, "kinesis_stage")],
    )
    session(connection).ensure_objects(TARGET, mapping=EnvelopeMapping())
    assert connection.executed.count("CREATE") == 1


def test_offsets_are_judged_one_by_one() -> None:
    rows = [
        ("good", "i", "0015~", "batch"),
        ("closed", "i", "~0015~", "batch"),
        ("twice", "i", "0015~", "batch"),
        ("twice", "i", "0016~", "batch"),
        ("odd", "i", "0023~", None),
    ]
    keys = [OffsetKey(shard, "i") for shard in ("good", "closed", "twice", "odd")]

    offsets = session(StubConnection(SELECT=rows)).read_offsets(
        TARGET, application="a", stream="s", keys=keys
    )

    assert offsets.found == {keys[0]: Offset("good", "i", Position("5"), "batch")}
    assert {key.shard_id: type(error) for key, error in offsets.refused.items()} == {
        "closed": IncarnationClosedError,
        "twice": CorruptStateError,
        "odd": CorruptStateError,
    }


def test_a_row_to_lock_that_is_gone_is_a_fault() -> None:
    connection = StubConnection()
    connection.rowcount = 0
    with pytest.raises(ServiceUnavailableError, match="lock"):
        session(connection).lock_offsets(TARGET, application="a", stream="s")


def test_a_column_that_counts_itself_needs_no_value() -> None:
    shown = json.dumps({"type": "FIXED", "precision": 38, "scale": 0, "nullable": False})
    counted = ("T", "S", "ID", shown, "NOT_NULL", "", "COLUMN", "", "", "DB", "IDENTITY START 1 INCREMENT 1")
    plain = ("T", "S", "N", shown, "NOT_NULL", "", "COLUMN", "", "", "DB", "")

    virtual = ("T", "S", "V", shown, "NOT_NULL", "", "VIRTUAL_COLUMN", "N + 1", "", "DB", "")

    columns = session(StubConnection(SHOW_COLUMNS=[counted, plain, virtual])).landing_columns(TARGET)

    assert {name: column.default for name, column in columns.items()} == {"ID": True, "N": False, "V": True}
    assert [name for name, column in columns.items() if column.computed] == ["V"]


def test_cancelling_asks_snowflake_through_a_second_connection() -> None:
    connections = [StubConnection(), StubConnection()]
    opened = iter(connections)
    loading = SnowflakeSession(lambda: next(opened))  # type: ignore[arg-type, return-value]
    loading.cancel()
    assert connections[1].executed == ["SELECT"]
    assert connections[1].closed
    assert not connections[0].closed


@pytest.mark.parametrize("error", [LOST, OSError("reset")], ids=["connector", "socket"])
def test_a_statement_that_can_not_be_cancelled_loses_its_connection(error: Exception) -> None:
    connection = StubConnection(SELECT=error)
    session(connection).cancel()
    assert connection.closed


@pytest.fixture
def connected_with(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the hook hands to the connector."""
    given: dict[str, Any] = {}

    def connect(**params: Any) -> StubConnection:
        given.update(params)
        return StubConnection(SELECT=[("10.1",)])

    monkeypatch.setattr(module, "connect", connect)
    return given


def airflow_connection(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    connection = {"conn_type": "snowflake", "login": "loader", "password": "password", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SNOWFLAKE_DEFAULT", json.dumps(connection))


def test_a_session_commits_nothing_by_itself_and_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(
        monkeypatch,
        account="org-account",
        session_parameters={
            "QUERY_TAG": "theirs",
            "WEEK_START": 1,
            "QUOTED_IDENTIFIERS_IGNORE_CASE": True,
            "TIMESTAMP_INPUT_FORMAT": "DD.MM.YYYY",
        },
    )
    SnowflakeLoadHook(query_tag="ours").open_session()
    assert connected_with["account"] == "org-account"
    assert connected_with["autocommit"] is False
    parameters = connected_with["session_parameters"]
    assert (parameters["QUERY_TAG"], parameters["TIMEZONE"], parameters["WEEK_START"]) == ("ours", "UTC", 1)
    assert parameters["ABORT_DETACHED_QUERY"] is True
    assert parameters["QUOTED_IDENTIFIERS_IGNORE_CASE"] is False
    assert {parameters[f"{kind}_INPUT_FORMAT"] for kind in ("DATE", "TIME", "TIMESTAMP")} == {"AUTO"}
    assert parameters["ERROR_ON_NONDETERMINISTIC_UPDATE"] is True
    assert parameters["ERROR_ON_NONDETERMINISTIC_MERGE"] is True
    # A dead worker's transaction ends after up to 5 minutes of blocking, and another look up to 5 later.
    assert parameters["LOCK_TIMEOUT"] > 600
    assert "protocol" not in connected_with
    assert "CLIENT_TELEMETRY_ENABLED" not in parameters


def test_a_plain_connection_commits_by_itself(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(monkeypatch, account="org-account")
    SnowflakeLoadHook().get_conn()
    assert connected_with["autocommit"] is True


def test_a_session_opens_where_the_parameter_for_error_logging_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = StubConnection(ALTER=answer(2040))
    monkeypatch.setattr(module, "connect", lambda **_: connection)
    airflow_connection(monkeypatch, account="org-account")
    SnowflakeLoadHook().open_session()
    assert connection.executed == ["ALTER"]


def test_a_connection_that_does_not_exist_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SNOWFLAKE_DEFAULT", raising=False)
    hook = SnowflakeLoadHook(snowflake_conn_id="nowhere")
    monkeypatch.setattr(hook, "get_connection", missing)
    with pytest.raises(InvalidSettingError, match="nowhere"):
        hook.open_session()


def missing(conn_id: str) -> None:
    raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")


def test_a_private_key_that_can_not_be_read_is_a_setting_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    airflow_connection(monkeypatch, account="org-account", private_key_content="hunter2")
    with pytest.raises(InvalidSettingError, match="snowflake_default") as caught:
        SnowflakeLoadHook().open_session()
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_default_query_tag_is_json_that_names_the_package(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(monkeypatch, account="org-account")
    SnowflakeLoadHook().open_session()
    tag = json.loads(connected_with["session_parameters"]["QUERY_TAG"])
    assert tag == {"package": "airflow-kinesis-snowflake"}


def test_a_local_service_is_reached_by_its_protocol_and_gets_no_telemetry(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(monkeypatch, account="local", host="127.0.0.1", port=8080, protocol="http")
    SnowflakeLoadHook().open_session()
    assert (connected_with["host"], connected_with["port"], connected_with["protocol"]) == (
        "127.0.0.1",
        8080,
        "http",
    )
    assert connected_with["session_parameters"]["CLIENT_TELEMETRY_ENABLED"] is False


def test_connection_parameters_that_older_providers_keep_in_a_property_are_read_too(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(monkeypatch)
    monkeypatch.setattr(
        SnowflakeLoadHook, "_get_conn_params", property(lambda self: {"account": "from-property"})
    )
    SnowflakeLoadHook().open_session()
    assert connected_with["account"] == "from-property"


def test_the_connection_test_answers_with_the_version(
    monkeypatch: pytest.MonkeyPatch, connected_with: dict[str, Any]
) -> None:
    airflow_connection(monkeypatch, account="org-account")
    assert SnowflakeLoadHook().test_connection() == (True, "Snowflake 10.1 answers")


def test_the_connection_test_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise answer(390100, errors.DatabaseError, "Incorrect username or password was specified.")

    monkeypatch.setattr(module, "connect", refuse)
    airflow_connection(monkeypatch, account="org-account")
    ok, message = SnowflakeLoadHook().test_connection()
    assert not ok
    assert "org-account" in message
    assert "Incorrect username" in message


def test_a_session_that_sent_nothing_again_begins_another_transaction() -> None:
    tries = Tries()
    used = SnowflakeSession(StubConnection, tries=tries)  # type: ignore[arg-type]
    next(tries())

    with used.transaction():
        pass

    assert used.fit


def test_a_session_whose_connector_tells_of_no_tries_begins_one_transaction() -> None:
    used = session(StubConnection())
    assert used.fit

    with used.transaction():
        pass

    assert not used.fit
