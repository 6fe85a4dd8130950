"""Task instances that drained many streams, split into one drain per stream; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_kinesis_snowflake.identifiers import table_of_stream
from airflow_kinesis_snowflake.monitoring.drains import (
    Application,
    DrainTaskInstance,
    Failure,
    Settings,
    Summary,
    TaskProgress,
    TaskReport,
    decoded,
    name_and_arn,
    read_as,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class StreamsReport(msgspec.Struct, frozen=True):
    """What a task returned, or left behind when some of its streams failed.

    :param streams: reports, by name or ARN of the stream
    :param idle: streams with nothing new
    """

    application_name: str
    streams: dict[str, TaskReport]
    idle: tuple[str, ...] = ()


class StreamsProgress(msgspec.Struct, frozen=True):
    """What a running task reports about the streams it drains."""

    streams: dict[str, TaskProgress]


class StreamsFailure(msgspec.Struct, frozen=True):
    """Why a task failed, and what became of each stream that did."""

    reason: str
    streams: dict[str, str] = {}


class StreamsSettings(msgspec.Struct, frozen=True):
    """Template fields of a task, as Airflow stored them when it started."""

    application_name: str
    table: str = ""
    stream_names: Any = None
    drain: Any = None


class _Summaries(msgspec.Struct, frozen=True):
    application_name: str
    streams: dict[str, Summary]
    idle: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """What one task instance left behind.

    :param instance: what its drains have in common
    """

    instance: DrainTaskInstance
    report: StreamsReport | None = None
    progress: StreamsProgress | None = None
    failure: StreamsFailure | None = None
    settings: StreamsSettings | None = None

    @property
    def told(self) -> dict[str, None]:
        """Streams about which it reports something."""
        streams: list[str] = []
        for source in (self.report, self.progress, self.failure):
            streams += source.streams if source is not None else ()
        named = self.settings.stream_names if self.settings is not None else ()
        idle = self.report.idle if self.report is not None else ()
        return dict.fromkeys([*streams, *idle, *(map(str, named) if isinstance(named, list | tuple) else ())])


def apart(lefts: Iterable[TaskOutput]) -> tuple[DrainTaskInstance, ...]:
    """The drains of each stream.

    A task instance that hasn't succeeded may not report all streams, so it is given those of the previous
    instance too.

    :param lefts: of one task, the newest first
    """
    drains: list[DrainTaskInstance] = []
    known: dict[str, None] = {}
    for left in reversed(list(lefts)):
        told = left.told
        streams = told if left.instance.state == "success" else {**told, **known}
        drains += [_drain(left, stream) for stream in streams]
        if left.report is not None:
            known = streams
    return tuple(reversed(drains))


def summaries_of(text: str | bytes) -> StreamsReport | None:
    """A report without its shards, from its JSON; None if it isn't one."""
    read = decoded(text, _Summaries)
    if read is None:
        return None
    streams = {stream: TaskReport(*msgspec.structs.astuple(each)) for stream, each in read.streams.items()}
    return StreamsReport(read.application_name, streams, read.idle)


def _drain(left: TaskOutput, stream: str) -> DrainTaskInstance:
    settings = _settings(left.settings, stream) if left.settings is not None else None
    report = _report(left.report, stream) if left.report is not None else None
    failed = left.failure.streams.get(stream, left.failure.reason) if left.failure is not None else None
    return replace(
        left.instance,
        state="success" if report is not None else left.instance.state,
        report=report,
        progress=left.progress.streams.get(stream) if left.progress is not None else None,
        failure=None if failed is None or report is not None else Failure(failed),
        settings=settings,
        named=None
        if left.report is None
        else Application(left.report.application_name, *name_and_arn(stream)),
    )


def _report(report: StreamsReport, stream: str) -> TaskReport | None:
    if stream not in report.idle:
        return report.streams.get(stream)
    name, arn = name_and_arn(stream)
    return TaskReport(report.application_name, name, stream_arn=arn or None)


def _settings(settings: StreamsSettings, stream: str) -> Settings | None:
    said = settings.drain if isinstance(settings.drain, dict) else {}
    read: Settings | None = read_as(
        Settings,
        {
            **said,
            "application_name": settings.application_name,
            "stream_name": stream,
            "table": table_of_stream(settings.table, name_and_arn(stream)[0]),
        },
    )
    return read
