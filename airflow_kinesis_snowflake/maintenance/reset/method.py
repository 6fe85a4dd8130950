"""What a method of resetting is: everything that the parts shared by all methods ask of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from airflow_kinesis_snowflake.exceptions import MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.reset.changes import unmet_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection
    from airflow_kinesis_snowflake.maintenance.reset.apply import ResetRun
    from airflow_kinesis_snowflake.maintenance.reset.changes import ShardChange
    from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
    from airflow_kinesis_snowflake.stream.lineage import Shard

    OpenStore = Callable[[str], CheckpointStoreHook]
    """Opens the store of an application."""

    ListShards = Callable[[], Iterable[Shard]]
    """Asks Kinesis for the stream's shards."""


@dataclass(frozen=True)
class MethodField:
    """A field that a method takes.

    :param name: of one of :data:`~airflow_kinesis_snowflake.maintenance.reset.fields.FIELDS`
    :param help: what it means for this method, without a full stop at its end
    :param required: whether it must be filled in
    """

    name: str
    help: str
    required: bool = False


@dataclass(frozen=True)
class Decision:
    """What a method does to each shard.

    :param notes: what a person should know before approving it, as sentences
    """

    changes: tuple[ShardChange, ...]
    notes: tuple[str, ...] = ()


class ResetMethod(Protocol):
    """A way to change where an application goes on.

    A subclass must have a name, a summary, :meth:`intention` and :meth:`decide`; everything else has a
    default that suits a method that writes the rows of shards. Modules of methods are imported while DAG
    files are parsed, so they import no library of a service.

    :cvar name: what operator, command line and forms call it
    :cvar summary: what it does, in a few words
    :cvar fields: the fields it takes
    :cvar needs_table: whether the application must have a table
    :cvar writes_rows: whether it writes rows of shards; then the stream must exist, and the rows there are
        must be of it and not of another stream of the same name
    :cvar needs_offsets: whether it can't do without what Snowflake says is committed
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    fields: ClassVar[tuple[MethodField, ...]] = ()
    needs_table: ClassVar[bool] = True
    writes_rows: ClassVar[bool] = True
    needs_offsets: ClassVar[bool] = False

    def intention(self, request: ResetRequest) -> str:
        """What the reset is for, as the end of the plan's first sentence."""
        ...

    def decide(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        offsets: Sequence[CommittedOffset],
        new_incarnation: Callable[[], str],
    ) -> Decision:
        """What becomes of each shard; without I/O.

        :param offsets: how far Snowflake is, as far as it was asked
        :param new_incarnation: makes an id that no row has had
        :raises MaintenanceRefusedError: nothing can be decided; the message says why
        """
        ...

    def check(self, request: ResetRequest) -> None:
        """Check the fields, which are there if they are required, and empty if the method doesn't take them.

        :raises InvalidSettingError: one of them can't be meant
        """
        return

    def refusals(self, request: ResetRequest, inspection: Inspection) -> Iterable[str]:
        """Why this method can't be used on this state; nothing if it can."""
        return ()

    def survey(
        self,
        request: ResetRequest,
        inspection: Inspection,
        *,
        store: CheckpointStoreHook,
        open_store: OpenStore,
    ) -> tuple[str, ...]:
        """Look at what only this method touches, besides the stream's rows. Changes nothing.

        :return: other streams whose state it changes too
        :raises MaintenanceRefusedError: it can't be done; the message says why
        """
        return ()

    def review(
        self,
        request: ResetRequest,
        inspection: Inspection,
        changes: Sequence[ShardChange],
        *,
        list_shards: ListShards,
    ) -> Iterable[str]:
        """Look at the changes once it is known whether the stream still has the records they lead to.

        :return: notes for the person who approves the plan
        :raises MaintenanceRefusedError: a change leads nowhere
        """
        return ()

    def apply(self, run: ResetRun) -> None:
        """Carry out the plan. Whatever an earlier try has done stays as it is.

        :raises MaintenanceRefusedError: a worker is reading, or the state isn't the one planned for
        """
        run.change_shards()

    def unmet(self, plan: ResetPlan, inspection: Inspection) -> list[str]:
        """What isn't as the plan, once carried out, leaves it; nothing if all is well."""
        return unmet_changes(plan.changes, inspection)

    def afterwards(self, request: ResetRequest) -> str:
        """What is left to do for a person who reset by the command line; empty: nothing."""
        return ""


def refuse(request: ResetRequest, reasons: Sequence[str]) -> None:
    """Refuse a reset if there are reasons to.

    :raises MaintenanceRefusedError: there are
    """
    if reasons:
        raise MaintenanceRefusedError(
            f"The reset {request.method} of application {request.application} was refused, and nothing was "
            f"changed: {'; '.join(reasons)}."
        )
