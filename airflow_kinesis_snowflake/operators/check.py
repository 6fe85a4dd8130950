"""The operator that tests on the user's own account what the promises rest on."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_snowflake.exceptions import CheckFailedError, CheckIncompleteError
from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.maintenance import StateOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.check.bench import CheckSettings
    from airflow_kinesis_snowflake.operators.settings import SettingType


class CheckAccountOperator(StateOperator):
    """Tests what the promises rest on, with the user's own connections.

    Works in a scratch schema and a scratch DynamoDB table, which it creates and removes; stream, landing
    table and application's table are only read. The next run removes what a killed one has left behind. The
    quick checks take less than two minutes, and less than a minute of warehouse time.

    Name what to check; checks of anything that isn't named are skipped.

    :param application_name: whose table in DynamoDB is checked (templated)
    :param database: where the scratch schema is created, written as in SQL; default is the landing table's
        (templated)
    :param slow: also run checks that take minutes (templated)
    :param only: names of the checks to run, including slow ones; default is all (templated)
    :param scratch_table: create a scratch table in DynamoDB (templated)
    :param left_after_minutes: age after which scratch objects of other runs are removed; at least as long as
        the longest check (templated)
    :param kwargs: ``stream_name``, ``table`` and what
        :class:`~airflow_kinesis_snowflake.operators.maintenance.StateOperator` takes besides
    :return: the report, as XCom: ``status`` (0 all held, 1 some failed, 3 some couldn't be run), ``counts``,
        ``checks``, ``removed`` and ``left``. It is also under the key ``report`` if the task fails
    :raises AirflowFailException: a check failed
    :raises CheckIncompleteError: none failed, but some couldn't be run
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "application_name": types.optional(types.TEXT),
        "database": types.optional(types.TEXT),
        "slow": types.TRUTH,
        "only": types.optional(types.WORDS),
        "scratch_table": types.TRUTH,
        "left_after_minutes": types.number(minimum=0),
    }

    def __init__(
        self,
        *,
        application_name: str = "",
        database: str | None = None,
        slow: bool | str = False,
        only: Sequence[str] | str | None = None,
        scratch_table: bool | str = True,
        left_after_minutes: float | str = 120,
        **kwargs: Any,
    ) -> None:
        super().__init__(application_name=application_name, **kwargs)
        self.database = database
        self.slow = slow
        self.only = only
        self.scratch_table = scratch_table
        self.left_after_minutes = left_after_minutes
        self._stopping = threading.Event()
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Run the checks, and fail unless all hold."""
        from airflow_kinesis_snowflake.check.results import SOME_BROKEN, SOME_FAILED
        from airflow_kinesis_snowflake.check.running import run_checks

        report = run_checks(self._settings(), stopping=self._stopping)
        self.log.info("%s", report.text())
        shown = report.as_dict()
        context["ti"].xcom_push(key="report", value=shown)
        if report.status == SOME_FAILED:
            raise CheckFailedError(f"See the log for what to do: {report.summary}")
        if report.status == SOME_BROKEN:
            raise CheckIncompleteError(f"See the log for what prevented it: {report.summary}")
        return shown

    def on_kill(self) -> None:
        """Skip the remaining checks, and remove what was created."""
        self._stopping.set()

    def _settings(self) -> CheckSettings:
        from airflow_kinesis_snowflake.check.bench import CheckSettings

        return CheckSettings(
            database=self.setting("database"),
            table=self.setting("table"),
            stream=self.setting("stream_name"),
            application=self.setting("application_name"),
            slow=self.setting("slow"),
            only=tuple(self.setting("only") or ()),
            scratch_table=self.setting("scratch_table"),
            left_after=timedelta(minutes=self.setting("left_after_minutes")),
            snowflake_conn_id=self.snowflake_conn_id,
            aws=self.aws,
            dynamodb_conn_id=self.setting("dynamodb_conn_id"),
        )
