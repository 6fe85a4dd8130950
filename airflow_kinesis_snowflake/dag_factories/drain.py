"""The DAG that drains a stream on a schedule."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, task

from airflow_kinesis_snowflake.assets.loads import LOADED, tell_consumers
from airflow_kinesis_snowflake.dag_factories.settings import (
    YES_OR_NO,
    FormField,
    choice,
    connections,
    default_texts,
    form,
    number,
    setting,
    text,
    variable,
)
from airflow_kinesis_snowflake.engine.report import totals
from airflow_kinesis_snowflake.exceptions import InvalidSettingError, WorkerFailedError
from airflow_kinesis_snowflake.formats.basic import DOCUMENTS
from airflow_kinesis_snowflake.formats.catalog import NAMED
from airflow_kinesis_snowflake.formats.compression import COMPRESSIONS
from airflow_kinesis_snowflake.notifications.alerts import DrainAlertNotifier
from airflow_kinesis_snowflake.operators.compat import AirflowSkipException
from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator
from airflow_kinesis_snowflake.operators.mappings import ChosenMapping
from airflow_kinesis_snowflake.operators.settings import METADATA_COLUMNS, STREAM, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import BaseNotifier, Param
    from airflow.sdk.definitions.dag import ScheduleArg

    from airflow_kinesis_snowflake.operators.landing import LandingOperator

log = logging.getLogger(__name__)

EVERY_TEN_MINUTES = "*/10 * * * *"
MAX_WORKERS = 100
DEFAULTS = {
    **default_texts(ChosenMapping),
    **default_texts(KinesisToSnowflakeOperator),
    "columns": "{}",
    "epochs": "{}",
}
"""The defaults of all optional settings of the drain and its mapping."""
_DOCUMENTS_IN_WORDS = ("One document", "The items of an array", "A sequence of documents")


def build_drain_dag(
    *,
    dag_id: str = "kinesis_to_snowflake",
    schedule: ScheduleArg = EVERY_TEN_MINUTES,
    notifiers: Sequence[BaseNotifier] | None = None,
) -> DAG:
    """A DAG whose mapped task ``drain`` is a :class:`KinesisToSnowflakeOperator` per worker.

    ``plan`` decides how many workers there are, ``drain`` runs them side by side, and ``summarise`` adds up
    what they did; it fails if one of them failed. Leases share out the shards among the workers. If records
    were loaded, ``summarise`` adds one event of the landing table's asset, as the operator does when it isn't
    mapped.

    Each setting comes from the run's Param, otherwise from the Airflow Variable ``<dag_id>_<setting>``,
    otherwise it is the operator's default. ``application_name`` defaults to the DAG id, and ``workers`` to 1;
    a run with neither ``stream_name`` nor ``table`` does nothing. The form has a field with a default for
    each setting that it can represent; for the operator's other parameters, write your own DAG.

    One run at a time. A task that fails for a transient reason is retried three times, after 10 seconds and
    then after longer waits, up to 5 minutes.

    :param dag_id: also the default application name, so it must be a valid name for a DynamoDB table
    :param schedule: whatever a DAG takes: a cron expression, a preset such as ``@hourly`` or ``@continuous``,
        a timetable, assets such as a stream with a watcher, or None for manual runs only
    :param notifiers: notified of a drain's failure, data loss, dead letters and lag; see
        :class:`~airflow_kinesis_snowflake.notifications.alerts.DrainAlertNotifier`. None: nobody
    """
    settings = drain_settings(dag_id, KinesisToSnowflakeOperator)
    with DAG(
        dag_id,
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=10),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=5),
        },
        params=drain_params(dag_id),
        tags=["kinesis", "snowflake"],
        doc_md=f"""Moves new records of a Kinesis stream into a Snowflake table, exactly once.

        Settings left empty in the form come from the Airflow Variables `{dag_id}_<setting>`.""",
    ) as dag:
        planned = plan(
            dag_id=dag_id,
            stream_name=settings.pop("stream_name"),
            table=settings["table"],
            workers=setting(dag_id, "workers", "1"),
        )
        drained = KinesisToSnowflakeOperator.partial(
            task_id="drain",
            map_index_template="{{ drained | default('draining') }}",
            **settings,
            **_callbacks(notifiers),
        ).expand(stream_name=planned)
        summarise(planned, drained.output)  # type: ignore[arg-type]
    return dag


def _callbacks(notifiers: Sequence[BaseNotifier] | None) -> dict[str, Any]:
    if notifiers is None:
        return {}
    notifier = DrainAlertNotifier(notifiers)
    return {"on_success_callback": notifier, "on_failure_callback": notifier}


def drain_settings(dag_id: str, operator: type[LandingOperator]) -> dict[str, Any]:
    """Settings of an operator, from form, Variables and defaults.

    :param dag_id: of the drain's DAG, whose Variables these are
    :param operator: takes some of the drain's settings
    """
    said = DEFAULTS | {"application_name": dag_id}
    settings: dict[str, Any] = {
        name: setting(dag_id, name, said.get(name, "")) for name in drain_params(dag_id)
    }
    mapping = ChosenMapping(**{name: settings.pop(name) for name in COLUMNS})
    return {name: settings[name] for name in operator.setting_types if name in settings} | {
        "mapping": mapping
    }


@task
def plan(dag_id: str, stream_name: str, table: str, workers: str) -> list[str]:
    """The stream of each worker: the same for all; none if neither stream nor table is set.

    :raises AirflowFailException: only one of the two is given, or not a number of workers from 1 to 100
    """
    given = {"stream_name": stream_name.strip(), "table": table.strip()}
    missing = [f"{variable(dag_id, name)} (in the form: {name})" for name in given if not given[name]]
    advice = f"Set Airflow Variables: {' and '.join(missing)}."
    if len(missing) == len(given):
        log.warning("%s Nothing was read.", advice)
        return []
    with no_retry_of_terminal_errors():
        if missing:
            raise InvalidSettingError(f"{advice} A drain needs both a stream and a table.")
        number_of_workers = whole(1, MAX_WORKERS).read("workers", workers)
        return [STREAM.read("stream_name", stream_name)] * number_of_workers


@task(trigger_rule="all_done", retries=0, outlets=[LOADED])
def summarise(
    planned: list[str] | None, reports: Iterable[dict[str, Any]] | None, outlet_events: Any = None
) -> dict[str, Any]:
    """What all workers did together; one landing-table event for all of them.

    :param outlet_events: of the task's context
    :raises AirflowFailException: a worker failed; what the others did is in the log
    :raises AirflowSkipException: nothing to drain has been configured
    """
    if planned is not None and not planned:
        raise AirflowSkipException("Nothing was drained; the log of the task plan says what to set.")
    done = [report for report in reports or () if report is not None]
    summed = totals(done)
    log.info("%d of %d workers: %s", len(done), len(planned or ()), summed)
    with no_retry_of_terminal_errors():
        if not planned or len(done) < len(planned):
            raise WorkerFailedError(
                f"See the log of the failed task drain: only {len(done)} of {len(planned or ())} workers "
                "finished"
            )
    tell_consumers(outlet_events, reports=done, totals=summed)
    return summed


def drain_params(dag_id: str) -> dict[str, Param]:
    """The form of the DAG; every field may be left empty."""
    return form(
        dag_id,
        {
            "": _essentials(dag_id),
            "Start and end": _START_AND_END,
            "Reading": _READING,
            "Payloads": _PAYLOADS,
            "Mapping": _MAPPING,
            "Batches": _BATCHES,
            "Dead letters and data loss": _LOSSES,
            "Connections": connections(dag_id),
        },
    )


def _essentials(dag_id: str) -> dict[str, FormField]:
    return {
        "stream_name": text(
            "Stream name",
            "The Kinesis stream, or its ARN if it is in another account or region.",
            otherwise=None,
        ),
        "table": text(
            "Landing table", "DATABASE.SCHEMA.TABLE; it is created if it is missing.", otherwise=None
        ),
        "application_name": text(
            "Application name",
            "Whose checkpoints these are; also the name of the DynamoDB table that holds them.",
            otherwise=dag_id,
        ),
        "sink": choice(
            "Sink",
            "How rows get into Snowflake; it may change between runs.",
            {
                "copy": "COPY: batches, with a warehouse",
                "streaming": "Snowpipe Streaming: within seconds and without one; needs a key pair",
            },
            otherwise=DEFAULTS["sink"],
        ),
        "workers": number("Workers", "Drain tasks side by side; they share the shards.", otherwise="1"),
    }


_START_AND_END = {
    "initial_position": choice(
        "Initial position",
        "Where the application starts on its first run on the stream.",
        {
            "TRIM_HORIZON": "TRIM_HORIZON: the oldest record there is",
            "LATEST": "LATEST: what arrives from the first run on",
            "AT_TIMESTAMP": "AT_TIMESTAMP: what arrived from the initial timestamp on",
        },
        otherwise=DEFAULTS["initial_position"],
    ),
    "initial_timestamp": text(
        "Initial timestamp",
        "For AT_TIMESTAMP: ISO-8601 with a time zone.",
        otherwise="none",
        format="date-time",
    ),
    "stop_at": text(
        "Stop at",
        "Records that arrived at or after this moment are left for the next run: ISO-8601 with a time zone.",
        otherwise="the start of the task",
        format="date-time",
    ),
    "follow_seconds": number(
        "Follow (seconds)",
        "Keep running for this long, and load what arrives meanwhile. Not together with *Stop at*.",
        otherwise="a run ends once it has caught up",
    ),
    "max_seconds": number(
        "Maximum duration (seconds)", "After which nothing more is read.", otherwise="no limit"
    ),
    "max_records": number("Maximum records", "After which nothing more is read.", otherwise="no limit"),
}
_READING = {
    "consumer_type": choice(
        "Consumer type",
        "How records are read.",
        {
            "polling": "polling: GetRecords, at no cost",
            "enhanced_fan_out": "enhanced_fan_out: pushed to a registered consumer, which AWS bills",
        },
        otherwise=DEFAULTS["consumer_type"],
    ),
    "consumer_arn": text(
        "Consumer ARN",
        "For enhanced_fan_out: a consumer of the stream that nobody else uses.",
        otherwise="one that is named after the application, and registered if it is missing",
    ),
}
_PAYLOADS = {
    "payload_format": choice(
        "Payload format",
        "text lands as a string, binary as a base64 string; both need the mapping envelope. "
        "avro needs a schema or a registry, protobuf a registry; csv and tsv take names from the first line "
        "of a payload.",
        NAMED,
        otherwise=DEFAULTS["payload_format"],
    ),
    "compression": choice(
        "Compression",
        "How payloads are compressed; auto detects it from their first bytes.",
        COMPRESSIONS,
        otherwise="not at all",
    ),
    "json_documents": choice(
        "JSON documents",
        "What a payload holds; each document becomes a row.",
        dict(zip(DOCUMENTS, _DOCUMENTS_IN_WORDS, strict=True)),
        otherwise=DEFAULTS["json_documents"],
    ),
    "avro_schema": text(
        "Avro schema",
        "For avro: the schema of all payloads, as JSON.",
        otherwise="none",
        format="multiline",
    ),
    "registry_conn_id": text(
        "Schema registry connection ID",
        "For avro, protobuf and json_schema: Airflow connection of type http (Confluent) or aws (Glue).",
        otherwise="none",
    ),
}
_MAPPING = {
    "mapping": choice(
        "Mapping",
        "How a record becomes a row.",
        {"envelope": "envelope: a record as one VARIANT", "columns": "columns: a column per key"},
        otherwise=DEFAULTS["mapping"],
    ),
    "columns": text(
        "Columns",
        'For columns: types of columns that the drain creates, as JSON, such as {"AMOUNT": "NUMBER(12, 2)"}.',
        otherwise="they are inferred",
        format="multiline",
    ),
    "epochs": text(
        "Epochs",
        "For columns: columns with times sent as numbers of s, ms, us or ns since 1970, as JSON, "
        'such as {"TS": "ms"}.',
        otherwise="none",
    ),
    "flatten": number(
        "Flatten (levels)",
        "For columns: how many levels of nested objects become columns of their own.",
        otherwise=DEFAULTS["flatten"],
        minimum=0,
    ),
    "names": choice(
        "Names",
        "For columns: how they are named after the keys.",
        {
            "upper": "upper: in upper case",
            "snake": "snake: in upper case, with underscores between words",
            "as_is": "as_is: as keys are written",
        },
        otherwise=DEFAULTS["names"],
    ),
    "numbers": choice(
        "Numbers",
        "For columns: the type for numbers of new keys.",
        {
            "wide": "wide: NUMBER with room for decimals",
            "exact": "exact: NUMBER with the decimals that were seen",
            "double": "double: FLOAT",
        },
        otherwise=DEFAULTS["numbers"],
    ),
    "on_type_conflict": choice(
        "On type conflict",
        "For columns: what happens to a value that doesn't fit its column.",
        {
            "dead_letter": "Its record becomes a dead letter",
            "rescue": "It goes to the column _RESCUED",
            "column": "It goes to a VARIANT column beside its own",
        },
        otherwise=DEFAULTS["on_type_conflict"],
    ),
    "schema_evolution": choice(
        "Schema evolution",
        "For columns: add columns, drop NOT NULL and widen numbers as needed by records.",
        YES_OR_NO,
        otherwise=DEFAULTS["schema_evolution"],
    ),
    "unknown_keys": choice(
        "Unknown keys",
        "For columns without schema evolution: what to do about keys without a column.",
        {"ignore": "Ignore them", "dead_letter": "Make the record a dead letter"},
        otherwise=DEFAULTS["unknown_keys"],
    ),
    "infer_timestamps": choice(
        "Infer timestamps",
        "For columns: create timestamp columns for new keys with ISO-8601 values.",
        YES_OR_NO,
        otherwise=DEFAULTS["infer_timestamps"],
    ),
    "metadata_columns": text(
        "Metadata columns",
        "Facts about records that get columns of their own, comma-separated; any of "
        f"{', '.join(METADATA_COLUMNS)}.",
        otherwise="none",
    ),
    "create_table": choice(
        "Create tables",
        "Never: a missing table fails the task with the DDL to run.",
        {"never": "Never"},
        otherwise="what is missing is created",
    ),
}
COLUMNS = {name: DEFAULTS[name] for name in ChosenMapping.setting_types if name in _MAPPING}
"""The mapping and those of its settings that the form has, with their defaults."""
_BATCHES = {
    "max_batch_bytes": number(
        "Maximum batch size (bytes)",
        "Compressed size at which a batch is loaded.",
        otherwise="134217728 (128 MiB), or 25165824 (24 MiB) of streamed rows",
    ),
    "max_batch_records": number(
        "Maximum batch records",
        "At which a batch is loaded.",
        otherwise="5000000, or 500000 streamed",
    ),
    "max_batch_seconds": number(
        "Maximum batch age (seconds)",
        "At which a batch is loaded.",
        otherwise="60, or 1 when streaming",
    ),
}
_LOSSES = {
    "max_dead_letters": text(
        "Maximum dead letters",
        "A number for a worker's whole drain, or a share of each batch such as 5%; one more fails the "
        "task before the batch is committed.",
        otherwise="no limit",
        pattern=r"^\s*(\d+|\d+(\.\d+)?\s*%)?\s*$",
    ),
    "on_data_loss": choice(
        "On data loss",
        "What to do when records aged out of the stream before they were read.",
        {"fail": "Fail the task", "warn": "Warn, and continue without them"},
        otherwise=DEFAULTS["on_data_loss"],
    ),
    "own_hash_keys_only": choice(
        "Own hash keys only",
        "Drop KPL aggregates with records of another shard's hash keys, as the Kinesis Client Library does.",
        YES_OR_NO,
        otherwise=DEFAULTS["own_hash_keys_only"],
    ),
}
