"""The operators that inspect, reset, back up, restore, clean up and import the state of applications."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, Variable

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, find_method
from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.settings import CheckedSettings, SettingType
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context, XComArg

    from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
    from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
    from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan
    from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
    from airflow_kinesis_snowflake.maintenance.snowflake_state import SnowflakeState

MAX_TABLES = 10_000
METHOD = SettingType(
    f"one of {', '.join(map(repr, METHODS))}", lambda value: find_method(value).name, options=tuple(METHODS)
)


class StateOperator(CheckedSettings, BaseOperator):
    """Base of the operators that work on the state of one application.

    :param application_name: whose state: the name of the DynamoDB table (templated)
    :param stream_name: name of the Kinesis stream, or its ARN if it is of another account or region
        (templated)
    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``, for what involves Snowflake (templated)
    :param aws_conn_id: Airflow connection of type ``aws`` (templated)
    :param region_name: AWS region of the stream, default is that of its ARN, or else the connection's
        (templated)
    :param dynamodb_conn_id: Airflow connection of type ``aws`` for the state, in the region of that
        connection; default is ``aws_conn_id`` in the stream's region (templated)
    :param verify: whether or with which CA bundle to check certificates of AWS
    :param botocore_config: arguments of ``botocore.config.Config``
    :param snowflake_conn_id: Airflow connection of type ``snowflake`` (templated)
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "application_name": types.TEXT,
        "stream_name": types.optional(types.STREAM),
        "table": types.optional(types.TABLE),
        **types.AWS,
        "snowflake_conn_id": types.TEXT,
    }
    ui_color = "#fbf3e2"

    def __init__(
        self,
        *,
        application_name: str,
        stream_name: str = "",
        table: str | None = None,
        aws_conn_id: str | None = "aws_default",
        dynamodb_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        snowflake_conn_id: str = "snowflake_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application_name = application_name
        self.stream_name = stream_name
        self.table = table
        self.aws_conn_id = aws_conn_id
        self.dynamodb_conn_id = dynamodb_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.snowflake_conn_id = snowflake_conn_id
        self.check_settings()

    def execute(self, context: Context) -> Any:
        """Do the work; errors that another try can't fix fail the task at once."""
        with no_retry_of_terminal_errors():
            self.read_settings()
            return self.work(context)

    def work(self, context: Context) -> Any:
        """The operator's work."""
        raise NotImplementedError

    @property
    def aws(self) -> dict[str, Any]:
        """How the hook of the stream accesses AWS."""
        return types.aws_parameters({name: self.setting(name) for name in ("stream_name", *types.AWS)})

    @property
    def aws_of_state(self) -> dict[str, Any]:
        """How the hooks of state and backups access AWS."""
        from airflow_kinesis_snowflake.hooks.aws import parameters_of_state

        return parameters_of_state(self.aws, self.setting("dynamodb_conn_id"))

    def open_store(self, application_name: str) -> CheckpointStoreHook:
        """The state of an application."""
        from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook

        return CheckpointStoreHook(application_name, **self.aws_of_state)

    @property
    def store(self) -> CheckpointStoreHook:
        """The state of the operator's application."""
        return self.open_store(self.application_name)

    @property
    def kinesis(self) -> KinesisStreamHook:
        """The operator's stream."""
        from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook

        return KinesisStreamHook(self.setting("stream_name") or "", **self.aws)

    @contextmanager
    def snowflake(self, *, count: bool = True) -> Iterator[SnowflakeState | None]:
        """What Snowflake has, over a session that ends with the block; None without a landing table."""
        table = self.setting("table")
        if table is None:
            yield None
            return
        from airflow_kinesis_snowflake.maintenance.snowflake_state import open_snowflake_state

        with open_snowflake_state(
            str(table), snowflake_conn_id=self.snowflake_conn_id, count=count
        ) as snowflake:
            yield snowflake


class InspectStateOperator(StateOperator):
    """Reads the state of an application on a stream, and says what is wrong with it. Changes nothing.

    The log shows a table of the shards and the findings, each with its remedy.

    :return: the inspection, as XCom: ``shards``, ``workers``, ``findings``, and facts about table and stream
    """

    def work(self, context: Context) -> dict[str, Any]:
        """Inspect."""
        from airflow_kinesis_snowflake.maintenance.inspection import inspect_state, inspection_text

        inspection = inspect_state(self.store, self.kinesis, now=now_millis())
        self.log.info("%s", inspection_text(inspection))
        return inspection.as_dict()


class PlanStateResetOperator(StateOperator):
    """Plans a reset: what becomes of each shard, and what that will cause. Changes nothing.

    With a ``table``, it counts how many records in Snowflake would be loaded again.

    :param method: ``delete_table``, ``rename``, ``rewind`` or ``recover`` (templated)
    :param shards: for ``rewind``: shard ids, or text with commas between them; none means all (templated)
    :param position: for ``rewind``: ``TRIM_HORIZON``, ``LATEST``, an ISO-8601 timestamp with a time zone, or
        the sequence number of the last record that counts as loaded. For ``recover``: where shards start
        that Snowflake has nothing of (templated)
    :param new_application_name: for ``rename`` (templated)
    :param initial_position: where the drain starts a new application: for the forecast of ``delete_table``
        and ``rename`` (templated)
    :param trust_snowflake: for ``recover``: Snowflake went back in time (Time Travel, a clone, a failover to
        a replica), and checkpoints go back to its offsets too, so that what is missing there is read again
        (templated)
    :param count_duplicates: whether to count in Snowflake (templated)
    :param force: take leases from workers that may still be reading (templated)
    :param backup_folder: where the rows will be saved; an empty file is written there, so that a reset that
        couldn't be undone is refused here. None: this isn't tried (templated)
    :return: ``plan``, for :class:`ResetStateOperator`, and ``text``, for people, as XCom
    :raises AirflowFailException: it can't be done; the message says why
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "method": METHOD,
        "shards": types.WORDS,
        "position": types.optional(types.TEXT),
        "new_application_name": types.optional(types.TEXT),
        "initial_position": types.TEXT,
        "trust_snowflake": types.TRUTH,
        "count_duplicates": types.TRUTH,
        "force": types.TRUTH,
        "backup_folder": types.given(types.FOLDER),
    }

    def __init__(
        self,
        *,
        method: str,
        shards: Sequence[str] | str = (),
        position: str | None = None,
        new_application_name: str | None = None,
        initial_position: str = "TRIM_HORIZON",
        trust_snowflake: bool | str = False,
        count_duplicates: bool | str = True,
        force: bool | str = False,
        backup_folder: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.shards = shards
        self.position = position
        self.new_application_name = new_application_name
        self.initial_position = initial_position
        self.trust_snowflake = trust_snowflake
        self.count_duplicates = count_duplicates
        self.force = force
        self.backup_folder = backup_folder
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Plan."""
        from airflow_kinesis_snowflake.maintenance.reset.plan import plan_reset, plan_text

        self._try_backup()
        with self.snowflake(count=self.setting("count_duplicates")) as snowflake:
            plan = plan_reset(
                self._request(),
                store=self.store,
                kinesis=self.kinesis,
                snowflake=snowflake,
                open_store=self.open_store,
                now=now_millis(),
            )
        text = plan_text(plan)
        self.log.info("%s", text)
        return {"plan": plan.as_dict(), "text": text}

    def _try_backup(self) -> None:
        folder = self.setting("backup_folder")
        if folder is None:
            return
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.maintenance.backup import try_out

        try_out(self.store, BackupFilesHook(**self.aws_of_state), folder=folder)

    def _request(self) -> ResetRequest:
        from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest

        return ResetRequest(
            application=self.application_name,
            stream=self.kinesis.stream_name,
            method=self.setting("method"),
            force=self.setting("force"),
            **{field.name: self.setting(field.name) for field in FIELDS},
        )


class ResetStateOperator(StateOperator):
    """Carries out the plan of a reset.

    First it leases every shard concerned to itself, and refuses if a worker is reading one of them. A
    rewound shard gets a new incarnation, so that what was loaded before doesn't hold it back. With a
    ``table`` the old incarnation is closed in the offsets table, so that a worker that should be dead can't
    commit under it.

    If it is run again with the same plan, it does what is left to do, and nothing twice.

    :param plan: what :class:`PlanStateResetOperator` returned (templated)
    :param application_variable: for ``rename``: the Airflow Variable from which the drain reads its
        application name (templated)
    :return: number of shards per action, as XCom
    :raises AirflowFailException: a worker is reading, or the state has changed since the plan was made
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "plan": types.PLAN,
        "application_variable": types.TEXT,
    }

    def __init__(
        self,
        *,
        plan: dict[str, Any] | XComArg,
        application_variable: str = "kinesis_to_snowflake_application_name",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.application_variable = application_variable
        self.check_settings()

    def work(self, context: Context) -> dict[str, int]:
        """Reset."""
        from airflow_kinesis_snowflake.maintenance.reset.apply import apply_reset

        plan = read_plan(self.plan, self.application_name)
        with self.snowflake() as snowflake:
            return apply_reset(
                plan,
                store=self.store,
                snowflake=snowflake,
                open_store=self.open_store,
                remember=self._remember,
                clock=now_millis,
            )

    def _remember(self, application_name: str) -> None:
        Variable.set(self.application_variable, application_name)
        if Variable.get(self.application_variable) != application_name:
            raise MaintenanceRefusedError(
                f"Set the Variable {self.application_variable} to {application_name} in the environment or "
                "secrets backend that provides it: it still has its old value."
            )


class VerifyStateResetOperator(StateOperator):
    """Checks that a reset left the state as planned.

    :param plan: what :class:`PlanStateResetOperator` returned (templated)
    :return: the inspection, as XCom
    :raises AirflowFailException: it didn't
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "plan": types.PLAN,
    }

    def __init__(self, *, plan: dict[str, Any] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Verify."""
        from airflow_kinesis_snowflake.maintenance.inspection import inspection_text
        from airflow_kinesis_snowflake.maintenance.reset.apply import verify_reset

        plan = read_plan(self.plan, self.application_name)
        inspection = verify_reset(plan, store=self.store, kinesis=self.kinesis, now=now_millis())
        self.log.info("%s", inspection_text(inspection))
        return inspection.as_dict()


class BackUpStateOperator(StateOperator):
    """Saves all rows of an application to a JSON file, and creates a backup in DynamoDB where it can.

    :param folder: an absolute path that all workers share, or ``s3://bucket/prefix`` (templated)
    :return: ``file``, ``dynamodb`` (ARN, or None) and ``rows``, as XCom
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "folder": types.FOLDER,
    }

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Save."""
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.maintenance.backup import back_up

        return back_up(self.store, BackupFilesHook(**self.aws_of_state), folder=self.folder, now=now_millis())


class RestoreStateOperator(StateOperator):
    """Restores the rows of a backup, for all streams of the application.

    Leases and signs of life aren't restored; rows that aren't in the backup are removed. With a ``table``,
    incarnations that a reset has closed since are reopened, which drains need. Can be run again.

    :param file: the ``file`` that :class:`BackUpStateOperator` returned (templated)
    :param force: take leases from workers that may still be reading (templated)
    :return: how many rows were ``restored`` and ``removed``, as XCom
    :raises AirflowFailException: a worker is reading, or the backup is of another application
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "file": types.TEXT,
        "force": types.TRUTH,
    }

    def __init__(self, *, file: str, force: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.force = force
        self.check_settings()

    def work(self, context: Context) -> dict[str, int]:
        """Restore."""
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.maintenance.backup import Backup, restore

        ti = context["ti"]
        backup = Backup.decode(BackupFilesHook(**self.aws_of_state).read(self.file))
        with self.snowflake() as snowflake:
            return restore(
                backup,
                store=self.store,
                snowflake=snowflake,
                owner=f"restore#{ti.dag_id}/{ti.run_id}/{ti.task_id}",
                clock=now_millis,
                force=self.setting("force"),
            )


class PlanTableCleanupOperator(StateOperator):
    """Finds tables of applications, and says why each of them can go or has to stay. Changes nothing.

    Recognizes the tables of this package, Openflow, the Kinesis Client Library and Redpanda Connect by their
    keys, and their companions; other tables are never looked into. A table can go if nothing has written to
    it for ``days``, no worker is alive in it, and nobody is known to use the application. One without the tag
    of this package, or without a row that says when it was used, can go only if it is named.

    With a ``table``, offsets and channels in Snowflake that no state row names can go as well, offsets if
    they haven't changed and channels if they have existed for ``days``: they belong to incarnations before a
    reset, or to shards that ended and left the stream.

    :param days: age from which a table is stale (templated)
    :param used: applications that are in use: a list, or text with commas between them (templated)
    :param named: applications whose tables may go although this package didn't create them (templated)
    :param most: tables to delete in one run (templated)
    :param streams: whose registered consumers to look at, besides those that the tables have rows of
        (templated)
    :param airflow_conn_id: connection to Airflow's API, which knows which applications the tasks of
        ``KinesisToSnowflakeOperator`` and ``KinesisStreamsToSnowflakeOperator`` have used lately; empty: it
        isn't asked (templated)
    :return: ``plan``, for :class:`DeleteCheckpointTablesOperator`, ``text``, for people, ``to_delete``,
        the names of tables that can go, and ``offsets`` and ``channels``, how many of these can, as XCom
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "application_name": types.optional(types.TEXT),
        "days": types.POSITIVE,
        "used": types.WORDS,
        "named": types.WORDS,
        "most": types.whole(1, MAX_TABLES),
        "streams": types.WORDS,
        "airflow_conn_id": types.optional(types.TEXT),
    }

    def __init__(
        self,
        *,
        days: float | str = 30,
        used: Sequence[str] | str = (),
        named: Sequence[str] | str = (),
        most: int | str = 10,
        streams: Sequence[str] | str = (),
        airflow_conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(application_name="", **kwargs)
        self.days = days
        self.used = used
        self.named = named
        self.most = most
        self.streams = streams
        self.airflow_conn_id = airflow_conn_id
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Plan."""
        from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.cleanup.plan import cleanup_text, plan_cleanup

        with self.snowflake(count=False) as snowflake:
            plan = plan_cleanup(
                self._rules(),
                tables=DynamoDBTablesHook(**self.aws_of_state),
                consumers=StreamConsumersHook(**self.aws),
                snowflake=snowflake,
                streams=self.setting("streams"),
                clock=now_millis,
            )
        text = cleanup_text(plan)
        self.log.info("%s", text)
        to_delete = [decision.table.name for decision in plan.to_delete]
        return {
            "plan": plan.as_dict(),
            "text": text,
            "to_delete": to_delete,
            "offsets": len(plan.offsets),
            "channels": len(plan.channels),
        }

    def _rules(self) -> CleanupRules:
        from airflow_kinesis_snowflake.maintenance.cleanup.rules import CleanupRules

        return CleanupRules(
            days=self.setting("days"),
            used=frozenset({*self.setting("used"), *self._used_lately()}),
            named=frozenset(self.setting("named")),
            most=self.setting("most"),
        )

    def _used_lately(self) -> set[str]:
        conn_id = self.setting("airflow_conn_id")
        if conn_id is None:
            return set()
        from airflow_kinesis_snowflake.hooks.airflow_api import AirflowApiHook

        return AirflowApiHook(conn_id).applications()


class DeleteCheckpointTablesOperator(StateOperator):
    """Backs up and deletes the tables that can go according to :class:`PlanTableCleanupOperator`.

    A table that was used or created again since the plan is left alone. Consumers of deleted applications are
    deregistered. With a ``table``, their offsets, channels and staged files in Snowflake go as well. Can be
    run again.

    :param plan: what :class:`PlanTableCleanupOperator` returned (templated)
    :param folder: where each table is saved first: an absolute path that all workers share, or
        ``s3://bucket/prefix`` (templated). A dry run needs none
    :param dry: only say what would be done; True by default (templated)
    :return: ``deleted`` and ``kept`` tables and ``deregistered`` consumers, as XCom
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "application_name": types.optional(types.TEXT),
        "plan": types.PLAN,
        "folder": types.optional(types.FOLDER),
        "dry": types.TRUTH,
    }

    def __init__(
        self, *, plan: dict[str, Any] | XComArg, folder: str, dry: bool | str = True, **kwargs: Any
    ) -> None:
        super().__init__(application_name="", **kwargs)
        self.plan = plan
        self.folder = folder
        self.dry = dry
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Delete."""
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.hooks.consumers import StreamConsumersHook
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.cleanup.apply import clean_up
        from airflow_kinesis_snowflake.maintenance.cleanup.plan import CleanupPlan

        plan = CleanupPlan.from_dict(plan_of(self.plan))
        if self.setting("dry"):
            self.log.info("A dry run: %d tables would be deleted", len(plan.to_delete))
            return {
                "deleted": [],
                "kept": [decision.table.name for decision in plan.to_delete],
                "deregistered": [],
                "offsets": 0,
                "channels": 0,
            }
        folder = self.setting("folder")
        if folder is None:
            raise InvalidSettingError("Set the backup folder: tables are saved there before they are deleted")
        with self.snowflake() as snowflake:
            return clean_up(
                plan,
                tables=DynamoDBTablesHook(**self.aws_of_state),
                consumers=StreamConsumersHook(**self.aws),
                files=BackupFilesHook(**self.aws_of_state),
                folder=folder,
                snowflake=snowflake,
                clock=now_millis,
            )


class ImportCheckpointsOperator(StateOperator):
    """Takes over the checkpoints of another consumer. The source table is never written.

    The source is recognized by its key: a lease table of the Kinesis Client Library (any version), a table of
    Openflow, or one of Redpanda Connect. Stop that consumer first: a live one is refused. Rows that an
    earlier run has created stay as they are, so it can be run again.

    If the source is an Openflow table of the application's own name, it is used in place: nothing is written.

    :param source_table: the table with the checkpoints (templated)
    :param timestamp: for leases that stand at ``AT_TIMESTAMP``: ISO-8601 with a time zone (templated)
    :param watch_seconds: how long to watch for signs of a live consumer, where leases carry no time
    :param force: import even from a live consumer (templated)
    :return: how many rows were ``created`` and ``there``, the ``plan``, and its ``text``, as XCom
    :raises AirflowFailException: the source can't be imported; the message says why
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "source_table": types.TEXT,
        "timestamp": types.optional(types.MOMENT),
        "watch_seconds": types.as_written(types.number(minimum=0)),
        "force": types.TRUTH,
    }

    def __init__(
        self,
        *,
        source_table: str,
        timestamp: str | None = None,
        watch_seconds: float = 12.0,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_table = source_table
        self.timestamp = timestamp
        self.watch_seconds = watch_seconds
        self.force = force
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Import."""
        from airflow_kinesis_snowflake.hooks.tables import DynamoDBTablesHook
        from airflow_kinesis_snowflake.maintenance.takeover.apply import apply_import
        from airflow_kinesis_snowflake.maintenance.takeover.plan import import_text, plan_import

        moment = self.setting("timestamp")
        plan = plan_import(
            source=self.source_table,
            kinesis=self.kinesis,
            tables=DynamoDBTablesHook(**self.aws_of_state),
            store=self.store,
            now=now_millis(),
            timestamp=None if moment is None else moment.isoformat(),
            watch_seconds=self.watch_seconds,
            force=self.setting("force"),
        )
        text = import_text(plan)
        self.log.info("%s", text)
        done = apply_import(plan, store=self.store, clock=now_millis)
        return {**done, "plan": plan.as_dict(), "text": text}


def read_plan(plain: Any, application_name: str) -> ResetPlan:
    """Read a plan that came through XCom.

    :raises InvalidSettingError: it isn't one, or it is for another application
    """
    from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan

    plan = ResetPlan.from_dict(plan_of(plain))
    if plan.request.application != application_name:
        raise InvalidSettingError(
            f"give the plan of application {application_name}: this one is for {plan.request.application}"
        )
    return plan


def plan_of(returned: Any) -> Any:
    """The plan in the result of a planning operator.

    :raises InvalidSettingError: there is none
    """
    if not isinstance(returned, dict) or "plan" not in returned:
        raise InvalidSettingError("the plan must be what the operator that makes it returned")
    return returned["plan"]
