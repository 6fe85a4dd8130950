"""Checks of the session, DDL, privileges and the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.check.checks import (
    Check,
    Needs,
    Observation,
    failed,
    found,
    held,
    not_shown,
)
from airflow_kinesis_snowflake.check.snowflake_loading import copy, count, upload
from airflow_kinesis_snowflake.exceptions import (
    KinesisSnowflakeError,
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
    TerminalError,
)
from airflow_kinesis_snowflake.formats.envelope import METADATA, EnvelopeMapping
from airflow_kinesis_snowflake.hooks.snowflake import SESSION_PARAMETERS
from airflow_kinesis_snowflake.identifiers import quote
from airflow_kinesis_snowflake.sinks.snowflake import statements
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.check.bench import Bench
    from airflow_kinesis_snowflake.check.sessions import CheckSession

_LOCK_TIMEOUT = 10


def session_parameters(bench: Bench) -> Observation:
    """The session has what drains request."""
    with bench.session() as session:
        shown = {str(row[0]).upper(): str(row[1]) for row in session.rows("SHOW PARAMETERS IN SESSION")}
        where = session.rows("SELECT CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE()")[0]
    asked = {**SESSION_PARAMETERS, "AUTOCOMMIT": False}
    other = [
        f"{name} is {shown.get(name, 'unknown')}"
        for name, value in asked.items()
        if shown.get(name, "").lower() != str(value).lower()
    ]
    role, warehouse, database = where
    if not warehouse:
        other.append("no warehouse is selected: name one in the connection")
    return found(not other, "; ".join(other) or f"role {role}, warehouse {warehouse}, database {database}")


def own_objects(bench: Bench) -> Observation:
    """Everything that a drain creates, created twice and inspected."""
    target = bench.target
    with bench.session() as session:
        columns = session.landing_columns(target)
        for statement in (
            statements.create_landing_table(target.table, EnvelopeMapping.columns),
            statements.create_offsets_table(target.offsets),
            statements.create_dead_letter_table(target.dead_letters),
            statements.create_stage(target.stage),
            statements.add_dead_letter_column(target.dead_letters, "KIND"),
            statements.add_column(target.table, "AMOUNT", "NUMBER(5, 0)"),
            statements.add_column(target.table, "AMOUNT", "NUMBER(5, 0)"),
            statements.widen_column(target.table, "AMOUNT", "NUMBER(38, 0)"),
            statements.drop_not_null(target.table, "AMOUNT"),
            statements.drop_not_null(target.table, "AMOUNT"),
        ):
            session.rows(statement)
        session.ensure_objects(target, mapping=EnvelopeMapping())
        widened = session.landing_columns(target)["AMOUNT"].type.sql
    text = f"columns {', '.join(columns)}; a NUMBER(5, 0) became {widened}"
    return found(list(columns) == ["RECORD_CONTENT", METADATA] and widened == "NUMBER(38, 0)", text)


def privileges(bench: Bench) -> Observation:
    """What a drain does to the companions of the user's landing table, with conditions that match nothing."""
    assert bench.settings.table is not None
    target = LandingTarget.beside(bench.settings.table)
    names = bench.offset_names()
    refused, absent = [], []
    with bench.new_session() as session:
        session.rows(f"ALTER SESSION SET LOCK_TIMEOUT = {_LOCK_TIMEOUT}")
        for what, statement in _harmless(target, names["application"], names["stream"]):
            try:
                session.rows(statement)
            except SnowflakeObjectNotFoundError:
                absent.append(what)
            except TerminalError as error:
                refused.append(f"{what} ({type(error).__name__})")
        session.roll_back()
    if refused:
        return failed(f"refused: {'; '.join(refused)}")
    if absent:
        # Snowflake doesn't distinguish the two.
        return not_shown(f"missing, or not visible to the role: {'; '.join(absent)}")
    return held(f"all on {target.table} and beside")


def _harmless(target: LandingTarget, application: str, stream: str) -> Iterator[tuple[str, Statement]]:
    yield "SELECT of the landing table", Statement(f"SELECT 1 FROM {target.table.sql} WHERE FALSE")
    yield "columns of the landing table", statements.list_columns(target.table)
    yield (
        "INSERT into the landing table",
        Statement(
            f"INSERT INTO {target.table.sql} ({quote(METADATA)}) "
            f"SELECT {quote(METADATA)} FROM {target.table.sql} WHERE FALSE"
        ),
    )
    for name, table in (("offsets", target.offsets), ("dead letters", target.dead_letters)):
        yield f"SELECT of the {name}", Statement(f"SELECT 1 FROM {table.sql} WHERE FALSE")
        yield (
            f"INSERT into the {name}",
            Statement(f"INSERT INTO {table.sql} SELECT * FROM {table.sql} WHERE FALSE"),
        )
    lock = statements.lock_offsets(target.offsets, application=application, stream=stream)
    yield "UPDATE of the offsets", Statement(f"{lock.sql} AND FALSE", lock.params)
    yield "LIST of the stage", statements.list_files(target.stage, folder="check-nothing")


def warehouse(bench: Bench) -> Observation:
    """Which statements of a drain wake a suspended warehouse."""
    file = bench.folder / "asleep.parquet"
    file.write_bytes(b"x")
    with bench.session() as session:
        name = session.value("SELECT CURRENT_WAREHOUSE()")
        if not name or _warehouse_state(session, name) != "SUSPENDED":
            return not_shown(f"warehouse {name} is already running; try again when it is suspended")
        woke: list[str] = []
        for what, step in _sleepy(bench, session):
            step()
            if not woke and _warehouse_state(session, name) != "SUSPENDED":
                woke.append(what)
    return found(not woke, f"{woke[0]} woke it" if woke else "none of login, DDL, SHOW, PUT, REMOVE woke it")


def _sleepy(bench: Bench, session: CheckSession) -> Iterator[tuple[str, Callable[[], object]]]:
    file = bench.folder / "asleep.parquet"
    folder = statements.stage_folder("check", "asleep")
    yield "CREATE", lambda: bench.target
    yield "SHOW", lambda: session.landing_columns(bench.target)
    yield "PUT", lambda: session.upload(file, target=bench.target, folder=folder)
    yield "REMOVE", lambda: session.remove_folder(bench.target.stage, folder=folder)


def _warehouse_state(session: CheckSession, name: str) -> str:
    rows = session.rows(Statement("SHOW WAREHOUSES LIKE %s", (name,)))
    # Columns of SHOW WAREHOUSES: the second is the state.
    return next((str(row[1]) for row in rows if row[0] == name), "unknown")


def cancelled(bench: Bench) -> Observation:
    """A statement is cancelled from a second connection, as a stop does."""
    with bench.new_session() as session:
        query = session.start("CALL SYSTEM$WAIT(60)")
        session.cancel()
        try:
            session.finish(query)
        except KinesisSnowflakeError as error:
            return held(f"it ended with {type(error).__name__}")
    return failed("it ran on")


def iceberg(bench: Bench) -> Observation:
    """An Iceberg landing table is created and loaded."""
    with bench.session() as session:
        try:
            target = bench.landing(session, TableOptions(iceberg=True))
        except (ServiceRefusedError, SnowflakeObjectNotFoundError) as error:
            return not_shown(f"no Iceberg table can be created here: {error}")
        folder = upload(bench, session, target, ['{"a": 1}'])
        copy(session, target, folder)
        session.commit()
        rows = count(session, target.table)
    return found(rows == 1, f"{rows} of 1 rows")


SESSION = Check(
    name="session",
    tries="A session has the parameters that drains request, and a warehouse",
    promises=(1, 3),
    advice="Name a warehouse in the connection; ask the account's administrator what overrides parameters.",
    needs=Needs.DATABASE,
    run=session_parameters,
    beyond_stand_ins="a stand-in supports few parameters and no warehouse",
)
WAREHOUSE = Check(
    name="warehouse",
    tries="Login, DDL, SHOW, PUT and REMOVE don't wake a suspended warehouse",
    promises=(),
    advice="Allow for the warehouse time they take: docs/cost.md.",
    needs=Needs.DATABASE,
    run=warehouse,
    beyond_stand_ins="a stand-in has no warehouse",
)
OBJECTS = Check(
    name="objects",
    tries="Tables and stage can be created and altered, both repeatedly",
    promises=(1,),
    advice="Create them by hand (docs/snowflake.md), set create_table='never', and report the statement.",
    needs=Needs.DATABASE,
    run=own_objects,
)
CANCEL = Check(
    name="cancel",
    tries="A statement that is cancelled from a second connection ends",
    promises=(7,),
    advice="Stopping a drain may have to wait for its statement: lower the user's "
    "STATEMENT_TIMEOUT_IN_SECONDS.",
    needs=Needs.DATABASE,
    run=cancelled,
    beyond_stand_ins="a stand-in can't cancel",
)
PRIVILEGES = Check(
    name="privileges",
    tries="What a drain does to your landing table and its companions is allowed",
    promises=(1,),
    advice="Grant what is refused, see docs/snowflake.md; the first drain creates what is missing.",
    needs=Needs.TABLE,
    run=privileges,
)
ICEBERG = Check(
    name="iceberg",
    tries="An Iceberg landing table can be created and loaded",
    promises=(1,),
    advice="Name an external_volume in create_table, or use another kind of table.",
    needs=Needs.DATABASE,
    run=iceberg,
    slow=True,
    beyond_stand_ins="a stand-in has no Iceberg tables",
)
