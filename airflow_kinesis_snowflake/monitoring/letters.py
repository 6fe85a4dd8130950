"""Dead letters on the page: how many with which reason, how to view them, and how to replay them; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats.catalog import NAMED
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_kinesis_snowflake.monitoring.drains import Application, Run, Settings

# The settings that determine how a record becomes rows, with the operator's defaults.
_OF_COLUMNS: dict[str, Any] = {
    "columns": None,
    "rename": None,
    "include": None,
    "exclude": [],
    "schema_evolution": True,
    "unknown_keys": "ignore",
    "infer_timestamps": False,
}
# The operator has no parameters for these.
_OF_COLUMNS_ALONE: dict[str, Any] = {
    "epochs": None,
    "flatten": 0,
    "paths": None,
    "numbers": "wide",
    "on_type_conflict": "dead_letter",
    "rescue_column": "_RESCUED",
    "names": "upper",
}
_LANDING: dict[str, Any] = {
    "mapping": "envelope",
    **_OF_COLUMNS,
    **_OF_COLUMNS_ALONE,
    "metadata_columns": [],
    "payload_format": "json",
    "compression": None,
    "json_documents": "one",
    "avro_schema": None,
    "registry_conn_id": None,
    "create_table": None,
    "snowflake_conn_id": "snowflake_default",
}
_ONE_OF = {"mapping": ("envelope", "columns"), "payload_format": NAMED}
_IN_A_FORM = (str, bool, int)


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """What the page shows about dead letters.

    :param count: in the drains known to the page
    :param reasons: the most frequent first, from drains that counted them
    :param reasons_sql: selects the reasons and their counts
    :param records_sql: selects the newest hundred, with their payloads
    :param operator: the task that replays them, as Python
    :param form: the values to fill in the form of the replay DAG; None: a form can't hold the settings
    :param objects: settings whose values Airflow doesn't store, for the user to fill in
    """

    count: int
    reasons: tuple[tuple[str, int], ...]
    reasons_sql: str
    records_sql: str
    operator: str
    form: Mapping[str, Any] | None
    objects: tuple[str, ...]


def dead_letters_of(
    application: Application, runs: Sequence[Run], settings: Settings | None, table: str
) -> DeadLetters | None:
    """What the page shows about dead letters; None if no table is known that could hold them.

    :param settings: of the newest drain
    :param table: the landing table
    """
    try:
        letters = LandingTarget.beside(TableName.parse(table)).dead_letters.sql
    except InvalidSettingError:
        return None
    reasons: Counter[str] = sum((Counter(run.reasons) for run in runs), Counter())
    name, stream = _literal(application.name), _literal(application.stream)
    where = f'WHERE "APPLICATION" = {name} AND "STREAM" = {stream}'
    chosen, objects = _landing(settings)
    names = {"application_name": application.name, "stream_name": application.stream, "table": table}
    return DeadLetters(
        count=sum(run.dead_letters for run in runs),
        reasons=tuple(reasons.most_common()),
        reasons_sql=(
            'SELECT "REASON", "COLUMN_NAME", COUNT(*) AS "RECORDS", MIN("FAILED_AT"), MAX("FAILED_AT")\n'
            f"FROM {letters}\n{where}\n"
            'GROUP BY 1, 2 ORDER BY "RECORDS" DESC;'
        ),
        records_sql=(
            'SELECT "FAILED_AT", "SHARD_ID", "SEQUENCE_NUMBER", "PARTITION_KEY", "REASON", "COLUMN_NAME", '
            f'"PAYLOAD"\nFROM {letters}\n{where}\nORDER BY "FAILED_AT" DESC LIMIT 100;'
        ),
        operator=_operator(names | chosen, objects),
        form=None if objects or not _fits_a_form(chosen) else {**names, **chosen},
        objects=objects,
    )


def _landing(settings: Settings | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The drain's settings that a replay needs too, and those that were objects."""
    said = {} if settings is None else msgspec.structs.asdict(settings)
    if isinstance(said.get("mapping"), Mapping):
        # Settings of columns, possibly along with the selected mapping, which may be a different one.
        said = {**said, "mapping": "columns", **said["mapping"]}
    if said.get("mapping") == "envelope":
        said = {name: value for name, value in said.items() if name not in _OF_COLUMNS | _OF_COLUMNS_ALONE}
    chosen: dict[str, Any] = {}
    objects = []
    for name, default in _LANDING.items():
        value = said.get(name)
        if value in (None, "", "{}", default, str(default).lower(), str(default)):
            continue
        if name in _ONE_OF and value not in _ONE_OF[name]:
            objects.append(name)
        else:
            chosen[name] = value
    return chosen, tuple(objects)


def _fits_a_form(chosen: Mapping[str, Any]) -> bool:
    simple = all(isinstance(value, _IN_A_FORM) for value in chosen.values())
    return simple and "rescue_column" not in chosen  # which has no field


def _operator(settings: Mapping[str, Any], objects: Sequence[str]) -> str:
    imports = ["from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator"]
    values = {name: _python(value) for name, value in settings.items()}
    if _OF_COLUMNS_ALONE.keys() & values.keys():
        imports.append("from airflow_kinesis_snowflake.operators.mappings import Columns")
        grouped = [name for name in values if name in _OF_COLUMNS | _OF_COLUMNS_ALONE]
        values["mapping"] = f"Columns({', '.join(f'{name}={values.pop(name)}' for name in grouped)})"
    lines = [f"    {name}={value}," for name, value in values.items()]
    lines += [f"    {name}=...,  # as the drain has it" for name in objects]
    return "\n".join(
        (
            *imports,
            "",
            "ReplayDeadLettersOperator(",
            '    task_id="replay",',
            *lines,
            ")",
        )
    )


def _python(value: Any) -> str:
    return msgspec.json.encode(value).decode() if isinstance(value, str) else repr(value)


def _literal(text: str) -> str:
    """A string in SQL for a person to copy; programs bind values instead."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
