"""The operator that replays dead letters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.landing import LandingOperator
from airflow_kinesis_snowflake.operators.rendered import optional_moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.landing.dead_letters import LetterFilter


class ReplayDeadLettersOperator(LandingOperator):
    """Moves dead letters into the landing table, after what was wrong with them has been mended.

    Give it the same parameters for payloads and mapping as the drain. Each dead letter is decoded and mapped
    once more. In one transaction its rows are loaded and it is deleted, so each record lands once, however
    many replays run at the same time, and however often one is interrupted and run again. A record that still
    fails stays a dead letter, with the new reason and time. Gaps (``KIND`` is ``gap``) hold no record and
    stay.

    Only dead letters are replayed that exist when the operator starts, those of a shard in their order.
    Records that were loaded meanwhile are before them in the table.

    :param reason: only dead letters with this text in their reason (templated)
    :param column: only those that this column refused (templated)
    :param failed_since: only those that failed at this moment or later: ISO-8601 with a time zone, or an
        aware datetime (templated)
    :param failed_until: only those that failed at this moment or earlier (templated)
    :param kwargs: ``stream_name``, ``application_name``, ``table`` and what
        :class:`~airflow_kinesis_snowflake.operators.landing.LandingOperator` takes besides
    :return: how many ``dead_letters`` there were, how many of them ``landed`` and ``failed``, and the
        ``rows`` that the table got, as XCom
    :raises AirflowFailException: a setting or permission must be changed first, or Snowflake refuses the
        values of more than 100 dead letters
    """

    template_fields: Sequence[str] = (
        *LandingOperator.template_fields,
        "reason",
        "column",
        "failed_since",
        "failed_until",
    )

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

    def execute(self, context: Context) -> dict[str, int]:
        """Replay, and say how many."""
        from airflow_kinesis_snowflake.drain.replay import replay
        from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
        from airflow_kinesis_snowflake.landing.identifiers import TableName
        from airflow_kinesis_snowflake.landing.target import LandingTarget

        with no_retry_of_terminal_errors():
            table = TableName.parse(self.table)
            replayed = replay(
                self._chosen(),
                snowflake=SnowflakeLoadHook(
                    snowflake_conn_id=self.snowflake_conn_id, database=table.database
                ),
                target=LandingTarget.beside(table, self.table_options()),
                columns=self.columns_settings(),
                decoder=self.decoder(),
            )
        return asdict(replayed)

    def _chosen(self) -> LetterFilter:
        from airflow_kinesis_snowflake.landing.dead_letters import LetterFilter

        return LetterFilter(
            application=self.application_name,
            stream=self.stream_name,
            reason=self.reason or None,
            column=self.column or None,
            since=optional_moment("failed_since", self.failed_since),
            until=optional_moment("failed_until", self.failed_until),
        )
