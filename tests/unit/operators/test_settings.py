"""Settings are checked while the DAG is parsed, and again when templates are filled in."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG
from airflow.serialization.helpers import serialize_template_field

from airflow_kinesis_snowflake import operators, sensors
from airflow_kinesis_snowflake.engine.dead_letter_limit import DeadLetterLimit
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.formats import cells, envelope, inference, names, schema
from airflow_kinesis_snowflake.formats.compression import COMPRESSIONS, inflater
from airflow_kinesis_snowflake.formats.schema import ColumnsSettings
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan
from airflow_kinesis_snowflake.operators import consumer, maintenance, mappings, settings
from airflow_kinesis_snowflake.operators.alerts import KinesisAlertsOperator
from airflow_kinesis_snowflake.operators.approval import ApprovePlanOperator
from airflow_kinesis_snowflake.operators.audit import AuditOperator
from airflow_kinesis_snowflake.operators.check import CheckAccountOperator
from airflow_kinesis_snowflake.operators.compat import AirflowFailException
from airflow_kinesis_snowflake.operators.dead_letters import ReplayDeadLettersOperator
from airflow_kinesis_snowflake.operators.kinesis_streams_to_snowflake import (
    KinesisStreamsToSnowflakeOperator,
)
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.operators.landing import LandingOperator
from airflow_kinesis_snowflake.operators.mappings import Columns
from airflow_kinesis_snowflake.operators.settings import CheckedSettings, defaults
from airflow_kinesis_snowflake.sensors.lag import KinesisDrainedSensor
from airflow_kinesis_snowflake.sinks.snowflake.table_options import TableOptions
from airflow_kinesis_snowflake.triggers.backlog import KinesisBacklogTrigger
from airflow_kinesis_snowflake.triggers.lag import KinesisDrainedTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM: dict[str, Any] = {"stream_name": "clicks", "application_name": "clicks-to-snowflake"}
ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"
LANDING = STREAM | {"table": "ANALYTICS.RAW.CLICKS"}
PLAN: dict[str, Any] = {"plan": {"plan": {}}}
CONSUMER = "arn:aws:kinesis:us-east-1:123456789012:stream/clicks/consumer/clicks:1767225600"
ELSEWHERE = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"
NAIVE = datetime(2026, 1, 1)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)

# Every operator and sensor, with what it can't do without.
REQUIRED: dict[type[Any], dict[str, Any]] = {
    KinesisToSnowflakeOperator: LANDING,
    ReplayDeadLettersOperator: LANDING,
    consumer.StopConsumerOperator: STREAM,
    consumer.StartConsumerOperator: {
        "paused": "true",
        "drain_dag_id": "clicks",
        "airflow_conn_id": "airflow",
    },
    AuditOperator: LANDING,
    CheckAccountOperator: {},
    KinesisAlertsOperator: STREAM,
    KinesisStreamsToSnowflakeOperator: {
        "application_name": "clicks",
        "table": "ANALYTICS.RAW.{stream}",
        "stream_names": ["clicks"],
    },
    maintenance.InspectStateOperator: STREAM,
    maintenance.PlanStateResetOperator: STREAM | {"method": "rewind"},
    maintenance.ResetStateOperator: STREAM | PLAN,
    maintenance.VerifyStateResetOperator: STREAM | PLAN,
    maintenance.BackUpStateOperator: STREAM | {"folder": "/backups"},
    maintenance.RestoreStateOperator: STREAM | {"file": "/backups/file.json"},
    maintenance.PlanTableCleanupOperator: {},
    maintenance.DeleteCheckpointTablesOperator: PLAN | {"folder": "/backups"},
    maintenance.ImportCheckpointsOperator: STREAM | {"source_table": "kcl"},
    ApprovePlanOperator: {"subject": "Reset?"},
    KinesisDrainedSensor: STREAM,
}

# Parameters that are no settings: functions and objects of Airflow, which are taken as they are.
NO_SETTINGS = {"notifiers"}

# A value that can't be meant, per parameter.
WRONG: dict[str, Any] = {
    "airflow_conn_id": 5,
    "application_name": 5,
    "application_variable": "",
    "avro_schema": 5,
    "avro_schema_resolver": "resolver",
    "aws_conn_id": 5,
    "backup_folder": 5,
    "botocore_config": "retries",
    "column": ["A"],
    "columns": "A NUMBER",
    "compare_counts": "perhaps",
    "compression": "rar",
    "count_duplicates": "perhaps",
    "trust_snowflake": "perhaps",
    "create_table": "always",
    "database": 5,
    "days": "many",
    "deferrable": "perhaps",
    "drain": 5,
    "drain_dag_id": 5,
    "dry": "",
    "dynamodb_conn_id": 5,
    "exclude": "debug",
    "failed_since": "yesterday",
    "failed_until": NAIVE,
    "file": "",
    "folder": 5,
    "follow_seconds": "an hour",
    "force": "perhaps",
    "include": "id",
    "infer_timestamps": "perhaps",
    "initial_position": 5,
    "initial_timestamp": 5,
    "json_documents": "two",
    "mapping": "colums",
    "left_after_minutes": "many",
    "max_batch_bytes": "many",
    "max_batch_records": 0,
    "max_batch_seconds": True,
    "max_dead_letters": "101%",
    "max_lag": 300,
    "max_records": -5,
    "max_seconds": "1 minute",
    "metadata_columns": ["colour"],
    "method": "forget",
    "most": "1.5",
    "named": 5,
    "new_application_name": 5,
    "consumer_arn": "arn:aws:sqs:us-east-1:123456789012:queue",
    "consumer_type": "pulling",
    "on_data_loss": "ignore",
    "on_findings": "ignore",
    "only": 5,
    "own_hash_keys_only": "perhaps",
    "paused": "perhaps",
    "payload_format": "jsn",
    "plan": "plan",
    "position": 5,
    "reason": 5,
    "region_name": 5,
    "rename": ["id"],
    "registry_conn_id": 5,
    "repeat_after": 300,
    "required": "perhaps",
    "response_timeout": 300,
    "schema_evolution": "perhaps",
    "scratch_table": "perhaps",
    "several_documents": "perhaps",
    "shards": 5,
    "sink": "firehose",
    "slow": "perhaps",
    "snowflake_conn_id": "",
    "source_table": "",
    "stop_at": "2026-01-01T00:00:00",
    "stream_name": 5,
    "stream_names": 5,
    "stream_pattern": 5,
    "stream_tags": 5,
    "streams": 5,
    "streams_at_once": 17,
    "table": "CLICKS",
    "thresholds": 5,
    "timeout_seconds": "soon",
    "timestamp": "yesterday",
    "together_with": 5,
    "unknown_keys": "drop",
    "until": "yesterday",
    "used": {"a": 1},
    "verify": "false",
    "watch_seconds": -1,
    "with_stream": "perhaps",
}


def declared(operator_class: type[Any]) -> set[str]:
    """Names of the parameters that this package adds to those of Airflow."""
    names: set[str] = set()
    for cls in operator_class.__mro__:
        if cls.__module__.startswith("airflow_kinesis_snowflake") and "__init__" in vars(cls):
            parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
            names |= {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    return names


def make(operator_class: type[Any], **given: Any) -> Any:
    return operator_class(**({"task_id": "task"} | REQUIRED[operator_class] | given))


EVERY_PARAMETER = [
    pytest.param(operator_class, name, id=f"{operator_class.__name__}-{name}")
    for operator_class in REQUIRED
    for name in sorted(operator_class.setting_types)
    if name != "application_name" or name in REQUIRED[operator_class]
]


def with_settings(base: type[Any] = CheckedSettings) -> Iterator[type[Any]]:
    """The classes that this package gives to DAG files."""
    for each in base.__subclasses__():
        yield each
        yield from with_settings(each)


def test_every_class_with_settings_is_looked_at_here() -> None:
    for room in (operators, sensors):
        for module in pkgutil.iter_modules(room.__path__):
            importlib.import_module(f"{room.__name__}.{module.name}")
    ours = {each for each in with_settings() if each.__module__.startswith("airflow_kinesis_snowflake")}
    assert ours - REQUIRED.keys() == {LandingOperator, maintenance.StateOperator}


@pytest.mark.parametrize("operator_class", REQUIRED)
def test_every_parameter_has_a_type(operator_class: type[Any]) -> None:
    assert set(operator_class.setting_types) == declared(operator_class) - NO_SETTINGS


@pytest.mark.parametrize("operator_class", REQUIRED)
def test_what_a_docstring_calls_templated_is_a_template_field(operator_class: type[Any]) -> None:
    described: dict[str, str] = {}
    for cls in reversed(operator_class.__mro__):
        if cls.__module__.startswith("airflow_kinesis_snowflake"):
            found = re.findall(r":param (\w+): (.*?)(?=\n:|\Z)", inspect.getdoc(cls) or "", re.DOTALL)
            described |= dict(found)
    assert described.keys() >= operator_class.setting_types.keys()
    templated = {name for name in operator_class.setting_types if "(templated" in described[name]}
    assert templated == operator_class.setting_types.keys() & {*operator_class.template_fields}


def test_a_class_of_ones_own_may_say_its_template_fields() -> None:
    class Mine(KinesisDrainedSensor):
        template_fields = (*KinesisDrainedSensor.template_fields, "more")

    class Silent(KinesisDrainedSensor):
        pass

    assert Mine.template_fields == (*Silent.template_fields, "more")
    assert Silent.template_fields == KinesisDrainedSensor.template_fields
    assert {"stream_name", "verify"} - {*Silent.template_fields} == {"verify"}


def test_defaults_are_those_of_the_signature_and_its_bases() -> None:
    found = defaults(ReplayDeadLettersOperator)
    assert found.keys() == ReplayDeadLettersOperator.setting_types.keys() - LANDING.keys()
    assert (found["mapping"], found["reason"], found["schema_evolution"]) == ("envelope", None, True)
    assert defaults(Columns) == {name: getattr(Columns(), name) for name in Columns.setting_types}


@pytest.mark.parametrize(("operator_class", "name"), EVERY_PARAMETER)
def test_a_wrong_value_is_refused_by_name_while_the_dag_is_parsed(
    operator_class: type[Any], name: str
) -> None:
    with pytest.raises(InvalidSettingError, match=rf"\b{name}\b"):
        make(operator_class, **{name: WRONG[name]})


@pytest.mark.parametrize(("operator_class", "name"), EVERY_PARAMETER)
def test_a_wrong_value_out_of_a_template_is_refused_by_name(operator_class: type[Any], name: str) -> None:
    operator = make(operator_class)
    setattr(operator, name, WRONG[name])
    with pytest.raises(AirflowFailException, match=rf"\b{name}\b"):
        operator.execute({})


@pytest.mark.parametrize(
    "wrong",
    [
        {"include": ""},
        {"include": "id"},
        {"include": []},
        {"include": [1]},
        {"exclude": "debug"},
        {"rename": ["id"]},
        {"rename": {"id": 5}},
    ],
    ids=str,
)
@pytest.mark.parametrize("operator_class", [KinesisToSnowflakeOperator, ReplayDeadLettersOperator])
def test_text_is_never_taken_for_a_list_of_letters(operator_class: type[Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError, match="must be"):
        make(operator_class, mapping="columns", **wrong)


def test_a_partial_operator_is_checked_while_the_dag_is_parsed() -> None:
    with pytest.raises(
        InvalidSettingError, match=r"mapping must be 'envelope', 'columns' or Columns.*'colums'"
    ):
        KinesisToSnowflakeOperator.partial(task_id="drain", mapping="colums")


def test_default_args_are_checked_while_the_dag_is_parsed() -> None:
    with (
        DAG("dag", schedule=None, default_args={"max_seconds": "1 minute"}),
        pytest.raises(InvalidSettingError, match="max_seconds"),
    ):
        make(KinesisToSnowflakeOperator)


@pytest.mark.parametrize(
    "wrong",
    [
        {"include": ["id"]},
        {"columns": {"A": "NUMBER"}},
        {"mapping": "columns", "payload_format": "text"},
        {"mapping": Columns(), "payload_format": "text"},
        {"mapping": Columns(), "exclude": ["debug"]},
        {"mapping": Columns(), "schema_evolution": False},
        {"initial_position": "AT_TIMESTAMP"},
        {"initial_timestamp": "2026-01-01T00:00:00Z"},
        {"consumer_arn": CONSUMER},
        {"consumer_arn": CONSUMER, "consumer_type": "enhanced_fan_out", "stream_name": "orders"},
        {"consumer_arn": CONSUMER, "consumer_type": "enhanced_fan_out", "stream_name": ARN},
        {"consumer_arn": CONSUMER, "consumer_type": "enhanced_fan_out", "stream_name": ELSEWHERE},
        {"application_name": "a" * 129, "consumer_type": "enhanced_fan_out"},
        {"stream_name": ARN, "region_name": "us-east-1"},
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_refused_while_the_dag_is_parsed(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError):
        make(KinesisToSnowflakeOperator, **wrong)


def test_a_consumer_goes_with_its_stream_and_with_fan_out() -> None:
    long_name = {"application_name": "a" * 129, "consumer_type": "enhanced_fan_out"}
    assert make(KinesisToSnowflakeOperator, **long_name, consumer_arn=CONSUMER).consumer_arn == CONSUMER
    make(KinesisToSnowflakeOperator, consumer_type="enhanced_fan_out", stream_name="{{ params.stream }}")


def test_a_cleanup_needs_a_backup_folder_only_if_it_deletes() -> None:
    plan = CleanupPlan(made_at=0, decisions=()).as_dict()
    dry = make(maintenance.DeleteCheckpointTablesOperator, plan={"plan": plan}, folder="")
    assert dry.work({})["deleted"] == []

    with pytest.raises(InvalidSettingError, match="backup folder"):
        make(maintenance.DeleteCheckpointTablesOperator, plan={"plan": plan}, folder="", dry="false").work({})


def test_a_sensor_waits_for_a_moment_or_a_lag_not_for_both() -> None:
    with pytest.raises(InvalidSettingError, match="max_lag"):
        make(KinesisDrainedSensor, until=MOMENT, max_lag=timedelta(hours=1))


TEMPLATES = {
    "stream_name": "{{ params.stream }}",
    "table": "{{ params.table }}",
    "mapping": "{% if true %}columns{% endif %}",
    "include": ["{{ params.key }}"],
    "rename": {"id": "{{ params.key }}"},
    "max_records": "{{ params.records }}",
    "stop_at": "{{ dag_run.run_after }}",
    "create_table": {"comment": "{{ params.key }}"},
}
PARAMS = {"stream": "clicks", "table": "A.B.C", "key": "id", "records": 5}


@pytest.mark.parametrize("native", [False, True])
def test_what_templates_make_of_settings_is_read(native: bool) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        operator = make(KinesisToSnowflakeOperator, **TEMPLATES)
    context: Any = {"params": PARAMS, "dag_run": type("Run", (), {"run_after": MOMENT})}
    operator.render_template_fields(context)

    given = operator.read_settings()

    assert {name: given[name] for name in TEMPLATES} == {
        "stream_name": "clicks",
        "table": TableName("A", "B", "C"),
        "mapping": "columns",
        "include": ("id",),
        "rename": {"id": "id"},
        "max_records": 5.0,
        "stop_at": MOMENT,
        "create_table": TableOptions(comment="id"),
    }


# Of every setting of a mapping: a value that can't be meant.
WRONG_IN_COLUMNS: dict[str, Any] = {name: WRONG[name] for name in WRONG if name in Columns.setting_types} | {
    "epochs": {"TS": "minutes"},
    "flatten": -1,
    "names": "camel",
    "paths": "a.b",
    "numbers": "float",
    "on_type_conflict": "ignore",
    "rescue_column": "",
}


@pytest.mark.parametrize("name", Columns.setting_types)
def test_a_wrong_setting_of_a_mapping_is_refused_by_name_where_it_is_written(name: str) -> None:
    with pytest.raises(InvalidSettingError, match=rf"\b{name}\b"):
        Columns(**{name: WRONG_IN_COLUMNS[name]})


@pytest.mark.parametrize("name", Columns.setting_types)
def test_a_wrong_setting_of_a_mapping_out_of_a_template_is_refused_by_name(name: str) -> None:
    template = "{{ params.wrong }}"
    operator = make(KinesisToSnowflakeOperator, mapping=Columns(**{name: template}))
    operator.mapping = operator.mapping.rendered(
        lambda value: WRONG_IN_COLUMNS[name] if value == template else value
    )
    with pytest.raises(AirflowFailException, match=rf"mapping: {name}\b"):
        operator.execute({})


@pytest.mark.parametrize("native", [False, True])
def test_templates_in_the_settings_of_a_mapping_are_filled_in_and_its_object_stays_as_it_is(
    native: bool,
) -> None:
    mapping = Columns(
        columns={"AMOUNT": "{{ params.type }}"}, epochs={"TS": "ms"}, exclude=["{{ params.key }}"]
    )
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        operator = make(KinesisToSnowflakeOperator, mapping=mapping)
        mapped = KinesisToSnowflakeOperator.partial(
            task_id="mapped", mapping=mapping, application_name="clicks", table="A.B.C"
        ).expand(stream_name=["clicks"])
    context: Any = {"params": {"type": "NUMBER(12,2)", "key": "debug"}}
    for task in (operator, mapped.unmap({"stream_name": "clicks"})):
        task.render_template_fields(context)
        assert task.columns_settings() == ColumnsSettings(
            columns={"AMOUNT": "NUMBER(12,2)"}, epochs={"TS": "ms"}, exclude=("debug",)
        )
    assert mapping.columns == {"AMOUNT": "{{ params.type }}"}


def test_the_settings_of_a_mapping_are_those_that_it_takes() -> None:
    taken = {item.name for item in dataclasses.fields(ColumnsSettings)}
    of_documents = {"flatten", "paths"}
    assert Columns.setting_types.keys() - of_documents == taken - {"iceberg", "metadata_columns"}
    assert tuple(envelope.METADATA_COLUMNS) == settings.METADATA_COLUMNS
    assert tuple(cells.EPOCH_UNITS) == mappings.EPOCH_UNITS
    assert inference.NUMBERS == mappings.NUMBERS
    assert names.NAMES == mappings.NAMES
    assert schema.CHOICES["on_type_conflict"] == mappings.ON_TYPE_CONFLICT
    documents, columns = Columns().split()
    assert documents == {"depth": 0, "paths": {}}
    assert ColumnsSettings(**columns) == ColumnsSettings()


def test_the_table_says_whether_columns_are_made_for_iceberg() -> None:
    for mapping in ("columns", Columns()):
        operator = make(KinesisToSnowflakeOperator, mapping=mapping, create_table={"iceberg": True})
        assert operator.columns_settings().iceberg


def test_a_mapping_that_flattens_does_so_behind_the_format() -> None:
    mapping = Columns(flatten="1", paths={"ID": "a.b.c"})
    operator = make(KinesisToSnowflakeOperator, mapping=mapping, json_documents="array")
    assert operator.decoder()(b'[{"a": {"b": {"c": 1}}}]') == [b'{"a_b":{"c": 1},"ID":1}']
    assert make(KinesisToSnowflakeOperator, mapping=Columns()).decoder() is None


def test_airflow_shows_the_settings_of_a_mapping() -> None:
    keys: Any = {"TS", "ID"}
    mapping = Columns(epochs={"TS": "ms"}, include=keys, exclude=("DEBUG",))
    shown: Any
    for shown in (mapping.serialize(), serialize_template_field(mapping, "mapping")):
        assert json.loads(json.dumps(shown)) == shown
        assert shown["epochs"] == {"TS": "ms"}
        assert (shown["include"], shown["exclude"]) == (["ID", "TS"], ["DEBUG"])


def test_a_name_that_native_rendering_made_a_number_is_refused() -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        operator = make(KinesisToSnowflakeOperator, stream_name="{{ params.stream }}")
    operator.render_template_fields({"params": {"stream": "1_000"}})
    with pytest.raises(InvalidSettingError, match="stream_name must be the name of a Kinesis stream"):
        operator.read_settings()


@pytest.mark.parametrize("operator_class", [each for each in REQUIRED if "stream_name" in each.setting_types])
def test_a_stream_is_named_by_name_or_by_arn(operator_class: type[Any]) -> None:
    assert make(operator_class, stream_name=ARN).setting("stream_name") == ARN
    with pytest.raises(
        InvalidSettingError, match=r"stream_name: Give arn.* is the ARN of a resource of dynamodb"
    ):
        make(operator_class, stream_name="arn:aws:dynamodb:eu-west-1:123456789012:table/clicks")


def test_a_consumer_is_one_of_the_stream_of_the_arn() -> None:
    arn = CONSUMER.partition("/consumer/")[0]
    fan_out = {"consumer_arn": CONSUMER, "consumer_type": "enhanced_fan_out", "stream_name": arn}
    assert make(KinesisToSnowflakeOperator, **fan_out).setting("consumer_arn") == CONSUMER


def test_a_trigger_goes_by_the_arn_when_it_is_started_again() -> None:
    trigger = KinesisBacklogTrigger(**STREAM | {"stream_name": ARN}, dynamodb_conn_id="own")
    _, settings = trigger.serialize()
    again = KinesisBacklogTrigger(**json.loads(json.dumps(settings)))
    assert again.serialize() == trigger.serialize()
    assert (settings["stream_name"], settings["dynamodb_conn_id"]) == (ARN, "own")


def test_a_message_holds_no_value_that_may_have_a_secret() -> None:
    with pytest.raises(InvalidSettingError) as refusal:
        make(KinesisToSnowflakeOperator, botocore_config="proxy://user:secret@host")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "trigger",
    [
        lambda: KinesisBacklogTrigger(stream_name="clicks", application_name=["clicks"]),  # type: ignore[arg-type]
        lambda: KinesisBacklogTrigger(**STREAM, poll_seconds="often"),  # type: ignore[arg-type]
        lambda: KinesisBacklogTrigger(**STREAM, poll_seconds=0.5),
        lambda: KinesisBacklogTrigger(**STREAM, verify="false"),
        lambda: KinesisDrainedTrigger(**STREAM, until="yesterday"),
        lambda: KinesisDrainedTrigger(**STREAM, max_lag_seconds=-1),
        lambda: KinesisDrainedTrigger(stream_name="", application_name="clicks"),
        lambda: KinesisDrainedTrigger(**STREAM | {"stream_name": f"{ARN}/consumer/app:1"}),
        lambda: KinesisBacklogTrigger(**STREAM | {"stream_name": ARN}, region_name="us-east-1"),
    ],
)
def test_a_trigger_is_checked_where_it_is_made(trigger: Any) -> None:
    with pytest.raises(InvalidSettingError):
        trigger()


# --- types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        *[(settings.TEXT, value) for value in ("", " ", "None", None, 5, True, ["a"], MOMENT)],
        *[(settings.optional(settings.TEXT), value) for value in (5, ["a"])],
        *[(settings.TRUTH, value) for value in ("", "None", "yes", 1, None, MOMENT)],
        *[(settings.POSITIVE, value) for value in (0, -1, True, "inf", "nan", float("nan"), [1], 10**400)],
        *[(settings.number(minimum=1), value) for value in (0.5, "0.5", timedelta(seconds=5), None)],
        *[(settings.whole(1, 100), value) for value in (0, 101, 1.5, "1.5", "²", True, "many", None)],
        *[(settings.MOMENT, value) for value in ("", 1764000000, "2026-01-01", date(2026, 1, 1), NAIVE)],
        *[(settings.KEYS_TO_DROP, value) for value in ("", "a", "a,b", [1], [None], {"a": 1}, 5, b"a")],
        *[(settings.WORDS, value) for value in ([1], {"a": 1}, 5, (1, 2), b"a")],
        *[(settings.TEXT_BY_NAME, value) for value in ("", ["a"], {"a": 5}, {5: "a"}, 5)],
        *[(settings.COLUMN_TYPES, value) for value in ({"A": "MONEY"}, {"A": 5}, {"A": ""})],
        *[
            (settings.TABLE, value)
            for value in (
                "CLICKS",
                "A.B",
                "A.B.C.D",
                "A..C",
                'A.B."C',
                'A.B."C"D"',
                'A.B.""',
                "A.B.C D",
                f"A.B.{'C' * 256}",
                "A.B.KINESIS_OFFSETS",
                "a.b.kinesis_dead_letters",
                'A.B."KINESIS_OFFSETS"',
                5,
                None,
            )
        ],
        *[
            (settings.TABLE_OPTIONS, value)
            for value in (True, 5, ["never"], {"cluster_by": 5}, {"colour": "red"})
        ],
        *[(settings.DEAD_LETTERS, value) for value in (True, -1, 0.5, "101%", [1])],
        *[(settings.VERIFY, value) for value in ("false", "True", "None", "", 1)],
    ],
)
def test_a_type_refuses(type_: Any, value: Any) -> None:
    with pytest.raises(InvalidSettingError, match="setting"):
        type_.read("setting", value)


@pytest.mark.parametrize(
    ("type_", "value", "meant"),
    [
        (settings.TEXT, "clicks", "clicks"),
        (settings.optional(settings.TEXT), "None", None),
        (settings.optional(settings.TEXT), "", None),
        (settings.TRUTH, "True", True),
        (settings.TRUTH, " false ", False),
        (settings.POSITIVE, "1e6", 1e6),
        (settings.optional(settings.POSITIVE), "None", None),
        (settings.whole(1, 100), "10", 10),
        (settings.whole(1, 100), 10.0, 10),
        (settings.MOMENT, "2026-01-01 00:00:00+00:00", MOMENT),
        (settings.MOMENT, MOMENT, MOMENT),
        (settings.KEYS_TO_DROP, ["a", "b"], ("a", "b")),
        (settings.WORDS, "a, b", ("a", "b")),
        (settings.WORDS, "", ()),
        (settings.WORDS, None, ()),
        (settings.several("a", "b"), "b, a, b", ("b", "a")),
        (settings.several("a", "b"), "None", ()),
        (settings.several("a", "b"), ["a"], ("a",)),
        (settings.TABLE, 'a.b."C.d""e/f"', TableName("A", "B", 'C.d"e/f')),
        (settings.TABLE, f"A.B.{'C' * 255}", TableName("A", "B", "C" * 255)),
        (settings.TABLE, 'A.B."kinesis_offsets"', TableName("A", "B", "kinesis_offsets")),
        (settings.TABLE_OPTIONS, {"cluster_by": "A"}, TableOptions(cluster_by=("A",))),
        (settings.TABLE_OPTIONS, "", TableOptions()),
        (settings.TABLE_OPTIONS, "never", TableOptions(create=False)),
        (settings.DEAD_LETTERS, "5", DeadLetterLimit(count=5)),
        (settings.DEAD_LETTERS, "None", DeadLetterLimit()),
        (settings.VERIFY, "/etc/ca.pem", "/etc/ca.pem"),
    ],
)
def test_a_type_reads(type_: Any, value: Any, meant: Any) -> None:
    assert type_.read("setting", value) == meant


def test_every_compression_that_can_be_set_can_be_read() -> None:
    for name in COMPRESSIONS:
        inflater(name)
