"""The operator that drains many streams in one task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_kinesis_snowflake.assets.loads import LOADED, assets_of, tell_consumers
from airflow_kinesis_snowflake.engine.report import totals
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.identifiers import table_of_stream
from airflow_kinesis_snowflake.operators.compat import THREADS_MAY_TALK
from airflow_kinesis_snowflake.operators.failures import (
    leave,
    no_retry_of_terminal_errors,
    reason_kept,
)
from airflow_kinesis_snowflake.operators.kinesis_to_snowflake import KinesisToSnowflakeOperator, worker_of
from airflow_kinesis_snowflake.operators.metrics import send_metrics
from airflow_kinesis_snowflake.operators.settings import (
    TABLE,
    TEXT,
    TEXT_BY_NAME,
    WORDS,
    CheckedSettings,
    SettingType,
    as_written,
    optional,
    read,
    whole,
)
from airflow_kinesis_snowflake.operators.xcoms import DRAINED, PROGRESS
from airflow_kinesis_snowflake.stream.refs import StreamRef
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.engine.drain import Drain
    from airflow_kinesis_snowflake.engine.side_by_side import SideBySide
    from airflow_kinesis_snowflake.sinks.snowflake.session_pool import SessionPool

MAX_AT_ONCE = 16
_STREAMS = {"stream_names", "stream_pattern", "stream_tags"}
_SAID_HERE = {"stream_name", "application_name", "table"}


def _table(value: Any) -> str:
    TABLE.convert(table_of_stream(TEXT.convert(value), "STREAM"))
    return str(value)


def _settings(value: Any) -> dict[str, Any]:
    if not (value is None or isinstance(value, Mapping)):
        raise ValueError(value)
    return dict(value or {})


class KinesisStreamsToSnowflakeOperator(CheckedSettings, BaseOperator):
    """Drains many streams of one application into Snowflake, in one task.

    Each stream is drained as by a :class:`KinesisToSnowflakeOperator`, with checkpoints in the same table,
    and into a landing table of its own or a common one. A stream that fails doesn't stop the others: the task
    fails after all of them were drained, and the next try finds the others done. Matching streams are looked
    up at the start of each run, so new ones are picked up.

    Snowflake sessions are reused from stream to stream: there are as many as streams are drained at a time.
    For a stream with nothing new, the task reads its state and requests one record from each shard; it takes
    no lease, writes nothing, and opens no Snowflake connection. So a lag sensor isn't informed that there was
    nothing. Where that isn't enough to know that there is nothing, because the stream has more than 100
    shards to read or another worker holds a lease, it is drained.

    :param application_name: whose checkpoints these are (templated)
    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``; ``{stream}`` in it stands for the stream's
        name in upper case, with ``_`` in place of characters other than letters and digits (templated)
    :param stream_names: streams, by name or ARN (templated)
    :param stream_pattern: a regular expression for whole names of streams of the connection's account and
        region, such as ``clicks-.*`` (templated)
    :param stream_tags: tags that these streams must have (templated)
    :param streams_at_once: how many to drain at a time, 1 to 16; default 4
    :param drain: further settings of :class:`KinesisToSnowflakeOperator`, the same for all streams
        (templated)
    :return: ``streams`` (the report of each that was drained), ``idle`` (names of those with nothing new) and
        ``totals``, as XCom. If the task fails for some, the XCom ``drained`` reports the others
    :raises AirflowFailException: a setting, permission or state must be changed first
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "application_name": TEXT,
        "table": SettingType(
            f"{TABLE.expected}, in which {{stream}} may stand for the stream's name", _table
        ),
        "stream_names": WORDS,
        "stream_pattern": optional(TEXT),
        "stream_tags": optional(TEXT_BY_NAME),
        "streams_at_once": as_written(whole(1, MAX_AT_ONCE)),
        "drain": SettingType("a dict of settings", _settings),
    }

    def __init__(
        self,
        *,
        application_name: str,
        table: str,
        stream_names: Sequence[str] | str = (),
        stream_pattern: str | None = None,
        stream_tags: Mapping[str, str] | None = None,
        streams_at_once: int | str = 4,
        drain: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.outlets = [*self.outlets, LOADED]
        self.application_name = application_name
        self.table = table
        self.stream_names = stream_names
        self.stream_pattern = stream_pattern
        self.stream_tags = stream_tags
        self.streams_at_once = streams_at_once
        self.drain = drain
        self.check_settings()
        self._work: SideBySide | None = None
        self._killed = False
        self._pools: dict[str | None, SessionPool] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Drain the streams and return the reports."""
        from airflow_kinesis_snowflake.engine.side_by_side import SideBySide

        operators: dict[str, KinesisToSnowflakeOperator] = {}
        progress = partial(_push, context, {}) if THREADS_MAY_TALK else None
        self._work = work = SideBySide(lambda stream: self._make_drain(operators[stream], context, progress))
        if self._killed:
            work.stop()
        with reason_kept(context, of_streams=work.failures), no_retry_of_terminal_errors():
            given = self.read_settings()
            operators |= self._operators(given)
            try:
                work.run(list(operators), at_once=given["streams_at_once"])
            except BaseException:
                leave(context, DRAINED, self._told(operators))
                raise
            finally:
                for pool in self._pools.values():
                    pool.close()
                self._send_metrics(context)
        told = self._told(operators)
        if reports := list(told["streams"].values()):
            tell_consumers(context["outlet_events"], reports=reports, totals=told["totals"])
        return told

    def _told(self, operators: Mapping[str, KinesisToSnowflakeOperator]) -> dict[str, Any]:
        assert self._work is not None
        reports = {
            stream: report.as_dict() | {"assets": assets_of(report, account=operators[stream].account)}
            for stream, report in dict(self._work.reports).items()
        }
        return {
            "application_name": self.setting("application_name"),
            "streams": reports,
            "idle": sorted(self._work.idle),
            "totals": totals(list(reports.values())),
        }

    def _send_metrics(self, context: Context) -> None:
        assert self._work is not None
        for stream, drain in dict(self._work.drains).items():
            send_metrics(
                drain.report,
                tags=getattr(context["ti"], "stats_tags", {}),
                error=self._work.failures.get(stream),
            )

    def on_kill(self) -> None:
        """Make all drains stop; :meth:`execute` then raises."""
        self._killed = True
        if self._work is not None:
            self._work.stop()

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check that streams are given, and that their settings are valid.

        :raises InvalidSettingError: none are given, or a setting is invalid
        """
        super().check_together(settings)
        known = settings.keys() >= _STREAMS  # which of them a template may fill in
        if known and not any(settings[name] for name in _STREAMS):
            raise InvalidSettingError("Set stream_names, a stream_pattern or stream_tags: no stream is given")
        possible = KinesisToSnowflakeOperator.setting_types.keys() - _SAID_HERE
        given = settings.get("drain", {})
        if unknown := sorted(given.keys() - possible):
            raise InvalidSettingError(f"drain must be settings of a drain, without {', '.join(unknown)}")
        read({name: KinesisToSnowflakeOperator.setting_types[name] for name in given}, given)

    def _operators(self, given: Mapping[str, Any]) -> dict[str, KinesisToSnowflakeOperator]:
        """An operator for each stream, not run as a task.

        :raises InvalidSettingError: no stream matches, or two have one name
        """
        streams = list(dict.fromkeys([*given["stream_names"], *self._found(given)]))
        if not streams:
            raise InvalidSettingError(
                f"Correct stream_pattern or stream_tags, or the AWS connection: no stream has "
                f"{given['stream_pattern'] or 'any name'} and {given['stream_tags'] or 'any tags'}"
            )
        names = [StreamRef.parse(stream).name for stream in streams]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise InvalidSettingError(
                f"Drain {', '.join(sorted(doubled))} by applications of their own: streams of one name would "
                "share their rows"
            )
        return {
            stream: KinesisToSnowflakeOperator(
                task_id=self.task_id,
                stream_name=stream,
                application_name=given["application_name"],
                table=table_of_stream(given["table"], name),
                dag=None,
                **given["drain"],
            )
            for stream, name in zip(streams, names, strict=True)
        }

    def _found(self, given: Mapping[str, Any]) -> list[str]:
        from airflow_kinesis_snowflake.hooks.streams import KinesisStreamsHook

        if not (given["stream_pattern"] or given["stream_tags"]):
            return []
        said = given["drain"]
        hook = KinesisStreamsHook(
            aws_conn_id=said.get("aws_conn_id", "aws_default"),
            region_name=said.get("region_name"),
            verify=said.get("verify"),
            config=said.get("botocore_config"),
        )
        return hook.find(pattern=given["stream_pattern"], tags=given["stream_tags"])

    def _make_drain(
        self,
        operator: KinesisToSnowflakeOperator,
        context: Context,
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> Drain | None:
        """The drain of a stream; ``None`` if it is certain that there is nothing to drain."""
        from airflow_kinesis_snowflake.sinks.snowflake.session_pool import SessionPool
        from airflow_kinesis_snowflake.sources.backlog import BacklogWatch

        hooks = operator.hooks()
        watch = BacklogWatch(kinesis=hooks.kinesis, store=hooks.store, worker=worker_of(context))
        if watch.look(now=now_millis()).idle:
            return None
        snowflake = hooks.snowflake
        pool = self._pools.setdefault(snowflake.database, SessionPool(snowflake.open_session))
        return operator.make_drain(context, hooks, open_session=pool.open_session, on_progress=on_progress)


def _push(context: Context, told: dict[str, Any], progress: dict[str, Any]) -> None:
    """Show the progress of one stream among the others."""
    told[progress["stream_name"]] = progress
    context["ti"].xcom_push(PROGRESS, {"streams": dict(told)})
