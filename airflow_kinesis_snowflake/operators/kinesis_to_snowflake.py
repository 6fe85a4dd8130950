"""The operator that drains a stream."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow.configuration import conf

from airflow_kinesis_snowflake.assets.loads import LOADED, assets_of, tell_consumers
from airflow_kinesis_snowflake.engine.report import totals
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import LINKS, link_urls, push_links
from airflow_kinesis_snowflake.operators.compat import THREADS_MAY_TALK
from airflow_kinesis_snowflake.operators.failures import (
    labelled_failure,
    no_retry_of_terminal_errors,
    reason_kept,
)
from airflow_kinesis_snowflake.operators.landing import LandingOperator
from airflow_kinesis_snowflake.operators.metrics import send_metrics
from airflow_kinesis_snowflake.operators.settings import (
    AWS,
    CONSUMER_ARN,
    DEAD_LETTERS,
    MOMENT,
    POSITIVE,
    TRUTH,
    SettingType,
    aws_parameters,
    choice,
    optional,
)
from airflow_kinesis_snowflake.operators.xcoms import PROGRESS
from airflow_kinesis_snowflake.stream.consumers import check_consumer
from airflow_kinesis_snowflake.stream.positions import initial_position
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from airflow_kinesis_snowflake.engine.drain import Drain
    from airflow_kinesis_snowflake.engine.ports import SinkSettings, Source
    from airflow_kinesis_snowflake.engine.settings import DrainSettings, Worker
    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
    from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
    from airflow_kinesis_snowflake.sinks.snowflake.factories import OpenSession
    from airflow_kinesis_snowflake.stream.positions import StartAt

LIMITS = ("max_batch_bytes", "max_batch_records", "max_batch_seconds", "max_seconds", "max_records")


class DrainHooks(NamedTuple):
    """The hooks of a drain."""

    kinesis: FanOutHook
    store: CheckpointStoreHook
    snowflake: SnowflakeLoadHook


class KinesisToSnowflakeOperator(LandingOperator):
    """Drains a Kinesis stream into a Snowflake table, from the saved checkpoints up to a stated point.

    Every user record from the start position on is committed once, as a row of the landing table or as a dead
    letter, whatever crashes, retries or reshards happen. Records of one shard are loaded in order; a child
    shard starts after its parents. A drain that finds nothing opens no Snowflake connection.

    Several tasks with the same ``application_name`` share the shards, so
    ``KinesisToSnowflakeOperator.partial(...).expand(...)`` spreads a stream over workers. The table, its
    offsets table, dead-letter table and stage are created if they are missing.

    While it runs, the task reports its progress every five seconds: in its log, and with Airflow 3.2 or later
    as XCom ``progress``. When it has loaded records, it adds an event of the asset
    ``snowflake://<account>/<database>/<schema>/<table>`` with the totals as its extra, through the asset
    alias ``kinesis_to_snowflake``. A mapped task adds none, so that its workers don't start consumers one by
    one; let a task downstream do so.

    When the task is told to stop, it abandons what isn't committed, releases its leases and fails; the next
    run continues at once. Errors that a retry can't fix fail the task without retries.

    :param initial_position: where the application starts on its first run on this stream: ``TRIM_HORIZON``,
        ``LATEST`` (pinned to the time of that run, so that nothing is lost between two drains) or
        ``AT_TIMESTAMP`` (templated)
    :param initial_timestamp: for ``AT_TIMESTAMP``: ISO-8601 with a time zone, or an aware datetime
        (templated)
    :param stop_at: records that arrived at or after this moment are left for the next run: ISO-8601 with a
        time zone, or an aware datetime; default is the moment the task starts (templated). ``"{{
        dag_run.data_interval_end or dag_run.run_after }}"`` drains the run's interval; in a run without an
        interval, such as one triggered by an asset, everything up to when the run was due
    :param follow_seconds: keep running for this many seconds and load what arrives meanwhile, instead of
        ending when the stream is read up to the start of the task; the next run continues at once. Not
        together with ``stop_at``. Default: end (templated)
    :param sink: ``copy``: load batches by COPY, with a warehouse; or ``streaming``: stream rows through
        Snowpipe Streaming, within seconds and without a warehouse, which requires the extra ``streaming`` and
        a key pair in the Snowflake connection. May change between drains (templated)
    :param max_dead_letters: how many records may become dead letters: a number for the whole drain, or a
        share of each batch such as ``"5%"``; one more fails the task before its batch is committed. Default:
        any number, but at most 100 rows of a batch that Snowflake refuses (templated)
    :param max_batch_bytes: size at which a batch is loaded; default 128 MiB of compressed Parquet, or 24 MiB
        of streamed rows (templated)
    :param max_batch_records: number of records at which a batch is loaded; default 5,000,000, or 500,000 when
        streaming (templated)
    :param max_batch_seconds: age at which a batch is loaded; default 60, or 1 when streaming (templated)
    :param max_seconds: stop reading after this many seconds; what was read is still loaded. Default: no limit
        (templated)
    :param max_records: stop reading after this many records; pages under way still count. Default: no limit
        (templated)
    :param consumer_type: ``polling``, or ``enhanced_fan_out`` to have records pushed to a registered
        consumer, which AWS bills by shard-hour and gigabyte. The consumer is named after the application,
        registered if it is missing, and deregistered by the cleanup. If that isn't allowed, or the stream has
        reached its limit of consumers, the drain warns and polls (templated)
    :param consumer_arn: for ``enhanced_fan_out``: an existing consumer of the stream that nobody else uses;
        if it can't be used, that is an error (templated)
    :param on_data_loss: ``fail`` or ``warn`` when records aged out of the stream before they were read
        (templated)
    :param own_hash_keys_only: drop KPL aggregates that hold a record outside the shard's range of hash keys,
        as the Kinesis Client Library does; by default every record is kept, because no other copy may exist
        (templated)
    :param aws_conn_id: Airflow connection of type ``aws`` (templated)
    :param region_name: AWS region of the stream, default is that of its ARN, or else the connection's
        (templated)
    :param dynamodb_conn_id: Airflow connection of type ``aws`` for the state, whose region counts then;
        default is ``aws_conn_id`` in the stream's region (templated)
    :param verify: whether or with which CA bundle to check certificates of AWS
    :param botocore_config: arguments of ``botocore.config.Config``
    :param kwargs: ``stream_name``, ``application_name``, ``table`` and what
        :class:`~airflow_kinesis_snowflake.operators.landing.LandingOperator` takes besides: the mapping, the
        format of payloads, how tables are created, the Snowflake connection
    :return: the report of the drain, as XCom: ``records`` (dead letters included), ``bytes``, ``batches``,
        ``dead_letters``, ``millis_behind_latest``, ``takeovers``, ``fenced``, ``snowflake_connections``,
        ``seconds``, ``dropped`` (how many records without data, such as control messages, by what they were),
        ``assets`` (the URIs of ``stream`` and ``table``) and, per shard id in ``shards``, the
        shard's part of them
    :raises AirflowFailException: a setting, permission or state must be changed first
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **LandingOperator.setting_types,
        "initial_position": choice("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
        "initial_timestamp": optional(MOMENT),
        "stop_at": optional(MOMENT),
        "follow_seconds": optional(POSITIVE),
        "sink": choice("copy", "streaming"),
        "max_dead_letters": DEAD_LETTERS,
        **dict.fromkeys(LIMITS, optional(POSITIVE)),
        "consumer_type": choice("polling", "enhanced_fan_out"),
        "consumer_arn": optional(CONSUMER_ARN),
        "on_data_loss": choice("fail", "warn"),
        "own_hash_keys_only": TRUTH,
        **AWS,
    }
    operator_extra_links = LINKS

    def __init__(  # noqa: PLR0913 -- every setting of a drain is one of its parameters
        self,
        *,
        initial_position: str = "TRIM_HORIZON",
        initial_timestamp: str | datetime | None = None,
        stop_at: str | datetime | None = None,
        follow_seconds: float | str | None = None,
        sink: str = "copy",
        max_dead_letters: int | str | None = None,
        max_batch_bytes: int | str | None = None,
        max_batch_records: int | str | None = None,
        max_batch_seconds: float | str | None = None,
        max_seconds: float | str | None = None,
        max_records: int | str | None = None,
        consumer_type: str = "polling",
        consumer_arn: str | None = None,
        on_data_loss: str = "fail",
        own_hash_keys_only: bool | str = False,
        aws_conn_id: str | None = "aws_default",
        dynamodb_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.outlets = [*self.outlets, LOADED]
        self.initial_position = initial_position
        self.initial_timestamp = initial_timestamp
        self.stop_at = stop_at
        self.follow_seconds = follow_seconds
        self.sink = sink
        self.max_dead_letters = max_dead_letters
        self.max_batch_bytes = max_batch_bytes
        self.max_batch_records = max_batch_records
        self.max_batch_seconds = max_batch_seconds
        self.max_seconds = max_seconds
        self.max_records = max_records
        self.consumer_type = consumer_type
        self.consumer_arn = consumer_arn
        self.on_data_loss = on_data_loss
        self.own_hash_keys_only = own_hash_keys_only
        self.aws_conn_id = aws_conn_id
        self.dynamodb_conn_id = dynamodb_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.check_settings()
        self.link_urls: dict[str, str] = {}
        self._drain: Drain | None = None
        self._killed = False
        self.account: str | None = None
        self._report: dict[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Drain the stream and return the report."""
        with (
            reason_kept(context),
            no_retry_of_terminal_errors(),
            labelled_failure(context, "drained"),
        ):
            hooks = self.hooks()
            self._show_links(context, hooks)
            push = partial(_push, context) if THREADS_MAY_TALK else None
            self._drain = drain = self.make_drain(context, hooks, on_progress=push)
            if self._killed:
                drain.stop()
            failure: BaseException | None = None
            try:
                report = drain.run()
            except BaseException as error:
                failure = error
                raise
            finally:
                send_metrics(drain.report, tags=getattr(context["ti"], "stats_tags", {}), error=failure)
        context["drained"] = f"{report.records:,} records of {len(report.shards)} shards"  # type: ignore[typeddict-unknown-key]
        self._report = report.as_dict() | {"assets": assets_of(report, account=self.account)}
        if context["ti"].map_index in (None, -1):
            tell_consumers(context["outlet_events"], reports=[self._report], totals=totals([self._report]))
        return self._report

    def on_kill(self) -> None:
        """Make the drain stop; :meth:`execute` then raises, because Airflow takes a return for success."""
        self._killed = True
        if self._drain is not None:
            self._drain.stop()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """What was read and loaded, for Airflow's OpenLineage provider if that is installed."""
        from airflow_kinesis_snowflake.operators.openlineage import lineage

        return lineage(self._report)

    def hooks(self) -> DrainHooks:
        """The hooks of stream, state and Snowflake; their connections are checked, and nothing is called.

        :raises InvalidSettingError: a setting or connection must be corrected
        """
        from airflow_kinesis_snowflake.hooks.aws import parameters_of_state
        from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
        from airflow_kinesis_snowflake.hooks.fan_out import FanOutHook
        from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook

        given = self.read_settings()
        aws = aws_parameters(given)
        kinesis = FanOutHook(given["stream_name"], **aws)
        store = CheckpointStoreHook(
            given["application_name"], **parameters_of_state(aws, given["dynamodb_conn_id"])
        )
        snowflake = SnowflakeLoadHook(
            snowflake_conn_id=given["snowflake_conn_id"], database=given["table"].database
        )
        # Before anything is read, because it can be checked in advance.
        snowflake.check_connection()
        if given["sink"] == "streaming":
            snowflake.streaming_login()
        self.account = snowflake.account_name()
        return DrainHooks(kinesis, store, snowflake)

    def make_drain(
        self,
        context: Context,
        hooks: DrainHooks,
        *,
        open_session: OpenSession | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Drain:
        """The drain that the settings describe, ready to run: its threads are waiting.

        :param open_session: logs in to Snowflake; by default the hook does
        :raises InvalidSettingError: a setting must be corrected
        """
        from airflow_kinesis_snowflake.engine.drain import Drain
        from airflow_kinesis_snowflake.sinks.snowflake.factories import Copy, Streaming
        from airflow_kinesis_snowflake.sources.fan_out import FanOutSource
        from airflow_kinesis_snowflake.sources.polling import PollingSource

        given = self.read_settings()
        landing, open_session = self.landing(given), open_session or hooks.snowflake.open_session
        sink: SinkSettings = Copy(landing, open_session)
        if given["sink"] == "streaming":
            sink = Streaming(landing, open_session, hooks.snowflake.open_channels)
        source: Source = PollingSource(hooks.kinesis)
        if given["consumer_type"] == "enhanced_fan_out":
            source = FanOutSource(
                hooks.kinesis, application_name=given["application_name"], consumer_arn=given["consumer_arn"]
            )
        return Drain(
            self._settings(given),
            worker=worker_of(context),
            source=source,
            store=hooks.store,
            sink=sink,
            on_progress=on_progress,
        )

    def _show_links(self, context: Context, hooks: DrainHooks) -> None:
        given = self.read_settings()
        region, partition = hooks.kinesis.place()
        self.link_urls = link_urls(
            base_url=conf.get("api", "base_url", fallback="/"),
            region=region,
            state_region=hooks.store.place()[0],
            partition=partition,
            stream_name=hooks.kinesis.stream_name,
            application_name=given["application_name"],
            table=given["table"],
            account=self.account,
        )
        push_links(context["ti"], self)

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check that a timestamp is set if the initial position needs one, and a consumer only if it is used.

        :raises InvalidSettingError: one is missing or superfluous
        """
        super().check_together(settings)
        _check_consumer(settings)
        if settings.get("stop_at") is not None and settings.get("follow_seconds") is not None:
            raise InvalidSettingError(
                "stop_at must be left out, or follow_seconds: a drain that follows ends by itself, that "
                "many seconds after it started"
            )
        if {"initial_position", "initial_timestamp"} <= settings.keys():
            # Only the task can tell whether a moment is in the future.
            _initial_position(settings, now=datetime.max.replace(tzinfo=UTC))

    def _settings(self, given: Mapping[str, Any]) -> DrainSettings:
        from airflow_kinesis_snowflake.engine.settings import DrainSettings

        now = datetime.now(UTC)
        following = given["follow_seconds"]
        return DrainSettings(
            stream_name=StreamRef.parse(given["stream_name"]).name,
            application_name=given["application_name"],
            initial_position=_initial_position(given, now=now),
            stop_at=given["stop_at"] or now + timedelta(seconds=following or 0),
            follow_seconds=following,
            on_data_loss=given["on_data_loss"],
            own_hash_keys_only=given["own_hash_keys_only"],
            max_dead_letters=given["max_dead_letters"],
            **{name: given[name] for name in LIMITS if given[name] is not None},
        )


def _push(context: Context, progress: dict[str, Any]) -> None:
    context["ti"].xcom_push(PROGRESS, progress)


def _check_consumer(settings: Mapping[str, Any]) -> None:
    consumer_type, consumer_arn = settings.get("consumer_type"), settings.get("consumer_arn")
    if consumer_type == "polling" and consumer_arn is not None:
        raise InvalidSettingError(
            "Leave out consumer_arn, or set consumer_type='enhanced_fan_out': polling uses no consumer"
        )
    known = {"stream_name", "application_name", "consumer_arn"} <= settings.keys()
    if consumer_type == "enhanced_fan_out" and known:
        check_consumer(
            stream=StreamRef.parse(settings["stream_name"]),
            application_name=settings["application_name"],
            consumer_arn=consumer_arn,
        )


def _initial_position(settings: Mapping[str, Any], *, now: datetime) -> StartAt:
    try:
        return initial_position(settings["initial_position"], settings["initial_timestamp"], now=now)
    except ValueError as error:
        raise InvalidSettingError(str(error)) from error


def worker_of(context: Context) -> Worker:
    """The worker of a task instance: all its tries share the task, each start is another worker."""
    from airflow_kinesis_snowflake.engine.settings import Worker

    ti = context["ti"]
    return Worker(
        task=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}",
        start=f"{ti.try_number}-{uuid.uuid4().hex[:8]}",
    )
