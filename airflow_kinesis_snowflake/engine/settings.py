"""The settings of a drain."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from airflow_kinesis_snowflake.engine.dead_letter_limit import ANY_NUMBER, DeadLetterLimit
from airflow_kinesis_snowflake.exceptions import InvalidSettingError

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_kinesis_snowflake.engine.batch import BatchLimits
    from airflow_kinesis_snowflake.stream.positions import StartAt


@dataclass(frozen=True, kw_only=True)
class DrainSettings:
    """The settings of one drain, checked on creation.

    :param stream_name: the Kinesis stream
    :param application_name: whose checkpoints these are; the name of the DynamoDB table
    :param initial_position: where the application starts on this stream, on its first run only
    :param stop_at: records that arrived at or after this moment stay for the next drain
    :param follow_seconds: keep running for this long, but not past ``stop_at``, and load what arrives
        meanwhile. ``None``: end when the shards are read up to ``stop_at``, or to their tips
    :param max_batch_bytes: size of a batch at which it is loaded, as its sink counts; ``None``, here and for
        the next two: as its sink has it
    :param max_batch_records: number of records at which a batch is loaded; the last page may exceed it
    :param max_batch_seconds: age of a batch's first record in memory at which the batch is loaded
    :param max_seconds: start no further reads after this time; what was read is still loaded. ``None``: no
        limit
    :param max_records: start no further reads after this many records; pages under way still count.
        ``None``: no limit
    :param on_data_loss: ``fail`` or ``warn`` when records aged out of the stream before they were read
    :param max_dead_letters: how many dead letters are too many
    :param own_hash_keys_only: drop KPL aggregates with records outside the shard's range of hash keys, as the
        Kinesis Client Library does
    :raises InvalidSettingError: a limit isn't positive, or a value is unknown
    """

    stream_name: str
    application_name: str
    initial_position: StartAt
    stop_at: datetime
    follow_seconds: float | None = None
    max_batch_bytes: float | None = None
    max_batch_records: float | None = None
    max_batch_seconds: float | None = None
    max_seconds: float | None = None
    max_records: float | None = None
    on_data_loss: Literal["fail", "warn"] = "fail"
    own_hash_keys_only: bool = False
    max_dead_letters: DeadLetterLimit = ANY_NUMBER

    def limits(self, sink: BatchLimits) -> BatchLimits:
        """When a batch is full.

        :param sink: the default
        """
        said = {name: getattr(self, name) for name in asdict(sink)}
        return replace(sink, **{name: value for name, value in said.items() if value is not None})

    def __post_init__(self) -> None:
        for name in (
            "follow_seconds",
            "max_batch_bytes",
            "max_batch_records",
            "max_batch_seconds",
            "max_seconds",
            "max_records",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidSettingError(f"{name} must be greater than 0, not {value}")
        if self.on_data_loss not in ("fail", "warn"):
            raise InvalidSettingError(f"on_data_loss must be 'fail' or 'warn', not {self.on_data_loss!r}")
        if self.stop_at.tzinfo is None:
            raise InvalidSettingError(f"Give stop_at a time zone: {self.stop_at.isoformat()} has none")


@dataclass(frozen=True)
class Worker:
    """One running drain task.

    Its id is unique to this start; ids of one task instance share a prefix, so that a retry recognizes the
    leases its predecessor left behind.

    :param task: names the task instance (DAG, run, task and map index), the same for all its tries
    :param start: unique to this start; begins with the number of the try, as in ``2-5f0c``
    """

    task: str
    start: str

    @property
    def id(self) -> str:
        """The lease owner as written to DynamoDB."""
        return f"{self.task}#{self.start}"

    def succeeds(self, owner: str | None) -> bool:
        """Whether ``owner`` is an earlier try of the same task instance.

        A later try doesn't count: a try that was presumed dead and comes back must leave its retry alone.
        """
        task, _, start = (owner or "").rpartition("#")
        return task == self.task and number_of_try(start) < number_of_try(self.start)


def number_of_try(start: str) -> int:
    """The number at the beginning of a start, 0 if there is none."""
    digits = start.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0
