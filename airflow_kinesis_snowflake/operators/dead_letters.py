"""The operator that replays dead letters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.landing import LandingOperator
from airflow_kinesis_snowflake.operators.settings import MOMENT, TEXT, SettingType, optional
from airflow_kinesis_snowflake.stream.refs import StreamRef

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter


class ReplayDeadLettersOperator(LandingOperator):
    """Moves dead letters into the landing table, after what was wrong with them has been fixed.

    Give it the same parameters for payloads and mapping as the drain. Each dead letter is decoded and mapped
    again. In one transaction its rows are loaded and it is deleted, so each record lands once, however many
    replays run at the same time, and however often one is interrupted and run again. A record that still
    fails stays a dead letter, with the new reason and time. Gaps (``KIND`` is ``gap``) hold no record and
    stay.

    Only dead letters that exist when the operator starts are replayed, those of a shard in order. Records
    loaded meanwhile precede them in the table.

    :param reason: only dead letters with this text in their reason (templated)
    :param column: only those that this column refused (templated)
    :param failed_since: only those that failed at this moment or later: ISO-8601 with a time zone, or an
        aware datetime (templated)
    :param failed_until: only those that failed at this moment or earlier (templated)
    :param kwargs: ``stream_name``, ``application_name``, ``table`` and what
        :class:`~airflow_kinesis_snowflake.operators.landing.LandingOperator` takes besides
    :return: how many ``dead_letters`` there were, how many of them ``landed`` and ``failed``, and the number
        of ``rows`` added to the table, as XCom
    :raises AirflowFailException: a setting or permission must be changed first, or Snowflake refuses the
        values of more than 100 dead letters
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **LandingOperator.setting_types,
        "reason": optional(TEXT),
        "column": optional(TEXT),
        "failed_since": optional(MOMENT),
        "failed_until": optional(MOMENT),
    }

    def __init__(
        self,
        *,
        reason: str | None = None,
        column: str | None = None,
        failed_since: str | datetime | None = None,
        failed_until: str | datetime | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reason = reason
        self.column = column
        self.failed_since = failed_since
        self.failed_until = failed_until
        self.check_settings()

    def execute(self, context: Context) -> dict[str, int]:
        """Replay, and return the counts."""
        from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
        from airflow_kinesis_snowflake.sinks.snowflake.replay import replay

        with no_retry_of_terminal_errors():
            settings = self.read_settings()
            snowflake = SnowflakeLoadHook(
                snowflake_conn_id=settings["snowflake_conn_id"], database=settings["table"].database
            )
            replayed = replay(
                self._chosen(settings),
                landing=self.landing(settings),
                open_session=snowflake.open_session,
            )
        return asdict(replayed)

    def _chosen(self, settings: Mapping[str, Any]) -> LetterFilter:
        from airflow_kinesis_snowflake.formats.dead_letters import LetterFilter

        return LetterFilter(
            application=settings["application_name"],
            stream=StreamRef.parse(settings["stream_name"]).name,
            reason=settings["reason"],
            column=settings["column"],
            since=settings["failed_since"],
            until=settings["failed_until"],
        )
