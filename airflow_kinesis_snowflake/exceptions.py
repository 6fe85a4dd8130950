"""Every error the package raises, in one tree.

The first branching answers the question an orchestrator asks: is it worth retrying the same task?
:class:`TerminalError` says no (somebody has to change something first), :class:`TransientError` says yes.
This module knows nothing about Airflow; the operators turn terminal errors into failures without retries.

Messages say first what to do, then what happened, to which stream, shard, table or application. They never
contain payloads or credentials.
"""

from __future__ import annotations

from airflow_kinesis_snowflake.printable import printable


class KinesisSnowflakeError(Exception):
    """Base of all errors of this package. A message is one line, whatever the names in it contain."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in args))


class TerminalError(KinesisSnowflakeError):
    """A retry can't succeed until somebody changes something."""


class TransientError(KinesisSnowflakeError):
    """A retry may succeed without anybody changing anything."""


# --- what the user asked for -------------------------------------------------------------------------------


class InvalidSettingError(TerminalError, ValueError):
    """A parameter has a value that can't work; found before anything is read or changed."""


# --- outside services --------------------------------------------------------------------------------------


class AccessDeniedError(TerminalError):
    """AWS or Snowflake refuses the call: a missing permission, key policy, grant or login."""


class StreamNotFoundError(TerminalError):
    """The Kinesis stream doesn't exist in this account and region."""


class ConsumerUnusableError(TerminalError):
    """The registered consumer (enhanced fan-out) is gone, of another stream, or used by another program."""


class SnowflakeObjectNotFoundError(TerminalError):
    """A Snowflake database, schema or table doesn't exist or isn't visible to the role."""


class ServiceRefusedError(TerminalError):
    """AWS or Snowflake rejects the call for a reason that a retry won't change."""


class ServiceUnavailableError(TransientError):
    """A service didn't answer or reported an internal error, or the connection broke."""


class ThrottledError(ServiceUnavailableError):
    """A service throttles its callers."""


class ChannelForgottenError(TransientError):
    """A streaming channel no longer exists, nor does its offset token; opening it creates a new one."""


class ChannelLimitError(TerminalError):
    """A pipe has as many streaming channels as it can have."""


class RowTooLargeError(TerminalError):
    """A row, or one request, is larger than Snowpipe Streaming allows."""


class IteratorExpiredError(TransientError):
    """A shard iterator is older than five minutes; a new one continues at the same position."""


# --- state -------------------------------------------------------------------------------------------------


class NotACheckpointTableError(TerminalError):
    """A DynamoDB table of the application's name exists, but it isn't a checkpoint table."""


class CorruptStateError(TerminalError):
    """A row of the checkpoint table can't have been written by a drain or the Openflow connector."""


class IncarnationClosedError(CorruptStateError):
    """A reset closed the incarnation of a shard's row: nothing can be loaded under it any more."""


class SinkInDoubtError(CorruptStateError):
    """What a drain with another sink has committed is in doubt; only that sink can find out."""


class OffsetWentBackError(CorruptStateError):
    """Snowflake's offset of a shard is before one that a drain has seen: the tables went back in time."""


class StreamRecreatedError(CorruptStateError):
    """The checkpoints belong to a deleted stream of the same name."""


class AnotherStreamError(CorruptStateError):
    """The checkpoints belong to a stream of the same name in another account or region."""


class ForeignCheckpointError(CorruptStateError):
    """A checkpoint holds a sequence number that its shard can't have assigned."""


class DataLossError(TerminalError):
    """Records between the checkpoint and the oldest retained record are gone from the stream."""


# --- records -----------------------------------------------------------------------------------------------


class UnreadablePageError(TerminalError):
    """A page of records triggers a bug in this package; its shard can't be read further, others can."""


class UndecodableError(TerminalError):
    """A payload isn't in the expected format; the record becomes a dead letter."""


class ValueRefusedError(ServiceRefusedError):
    """Snowflake refuses a value in a statement or file; another value may be accepted.

    :param number: Snowflake's error number; its message may quote the value, so it is omitted
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


class TooManyDeadLettersError(TerminalError):
    """More records fail to load than the user accepts; nothing of their batch is committed."""


# --- the drain ---------------------------------------------------------------------------------------------


class LeaseLostError(TransientError):
    """Another worker holds the lease of a shard that this worker was reading."""


class FencedError(TransientError):
    """Another worker was faster: what this one was about to write is already written, or overtaken."""


class IncompleteLoadError(TransientError):
    """Snowflake reports a number of loaded rows other than was sent; the transaction was rolled back."""


class TableChangedError(TransientError):
    """The columns of the landing table aren't those that the records were prepared for."""


class TransactionEndedError(ServiceUnavailableError):
    """Snowflake ended a transaction before its COMMIT; nothing of it is committed."""


class UnknownOutcomeError(TransientError):
    """The connection broke while COMMIT was under way; the offsets table shows whether it took effect."""


class WorkerFailedError(TerminalError):
    """A worker of a run failed; the failed task says why."""


class DrainStoppedError(TransientError):
    """The drain was told to stop before it was done; everything committed is checkpointed."""


# --- audits ------------------------------------------------------------------------------------------------


class NotExactlyOnceError(TerminalError):
    """An audit found records that are missing or duplicated, or state that goes beyond what is committed."""


# --- the check ---------------------------------------------------------------------------------------------


class CheckFailedError(TerminalError):
    """A check found that something a promise rests on doesn't hold."""


class CheckIncompleteError(TransientError):
    """Checks couldn't be run, or have left something behind; those that ran have held."""


# --- maintenance -------------------------------------------------------------------------------------------


class MaintenanceRefusedError(TerminalError):
    """A change of state would hurt a live consumer, or the state has changed since the plan."""
