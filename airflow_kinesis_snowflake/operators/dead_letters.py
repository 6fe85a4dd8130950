"""The operator that replays dead letters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.landing_parameters import TEMPLATED, columns_settings, decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.landing.dead_letters import LetterFilter


class ReplayDeadLettersOperator(BaseOperator):
    """Moves dead letters into the landing table, after what was wrong with them has been mended.

    Give it the same parameters for payloads and mapping as the drain. Each dead letter is decoded and mapped
    once more. In one transaction its rows are loaded and it is deleted, so each record lands once, however
    many replays run at the same time, and however often one is interrupted and run again. A record that still
    fails stays a dead letter, with the new reason and time. Gaps (``KIND`` is ``gap``) hold no record and
    stay.

    Only dead letters are replayed that exist when the operator starts, those of a shard in their order.
    Records that were loaded meanwhile are before them in the table.

    :param application_name: whose dead letters (templated)
    :param stream_name: of which stream (templated)
    :param table: the landing table as ``DATABASE.SCHEMA.TABLE``; its dead-letter table is beside it
        (templated)
    :param reason: only dead letters with this text in their reason (templated)
    :param column: only those that this column refused (templated)
    :param failed_since: only those that failed at this moment or later: ISO-8601 with a time zone, or an
        aware datetime (templated)
    :param failed_until: only those that failed at this moment or earlier (templated)
    :param mapping: and all that follow up to ``create_table``: as of
        :class:`~airflow_kinesis_snowflake.operators.kinesis_to_snowflake.KinesisToSnowflakeOperator`
    :param snowflake_conn_id: Airflow connection of type ``snowflake`` (templated)
    :return: how many ``dead_letters`` there were, how many of them ``landed`` and ``failed``, and the
        ``rows`` that the table got, as XCom
    :raises AirflowFailException: a setting or permission must be changed first, or Snowflake refuses the
        values of more than 100 dead letters
    """

    template_fields: Sequence[str] = (
        "application_name",
        "stream_name",
        "table",
        "reason",
        "column",
        "failed_since",
        "failed_until",
        *TEMPLATED,
        "snowflake_conn_id",
    )
    ui_color = "#e6f2fb"

    def __init__(  # noqa: PLR0913 -- the parameters of a drain that say how records become rows, and which
        self,
        *,
        application_name: str,
        stream_name: str,
        table: str,
        reason: str | None = None,
        column: str | None = None,
        failed_since: str | datetime | None = None,
        failed_until: str | datetime | None = None,
        mapping: str = "envelope",
        columns: Mapping[str, str] | None = None,
        rename: Mapping[str, str] | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        schema_evolution: bool | str = True,
        unknown_keys: str = "ignore",
        infer_timestamps: bool | str = False,
        payload_format: str = "json",
        json_documents: str = "one",
        avro_schema: dict[str, Any] | list[Any] | str | None = None,
        avro_schema_resolver: Callable[[int | str], Any] | None = None,
        create_table: dict[str, Any] | str | None = None,
        snowflake_conn_id: str = "snowflake_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application_name = application_name
        self.stream_name = stream_name
        self.table = table
        self.reason = reason
        self.column = column
        self.failed_since = failed_since
        self.failed_until = failed_until
        self.mapping = mapping
        self.columns = columns
        self.rename = rename
        self.include = include
        self.exclude = exclude
        self.schema_evolution = schema_evolution
        self.unknown_keys = unknown_keys
        self.infer_timestamps = infer_timestamps
        self.payload_format = payload_format
        self.json_documents = json_documents
        self.avro_schema = avro_schema
        self.avro_schema_resolver = avro_schema_resolver
        self.create_table = create_table
        self.snowflake_conn_id = snowflake_conn_id

    def execute(self, context: Context) -> dict[str, int]:
        """Replay, and say how many."""
        from airflow_kinesis_snowflake.drain.replay import replay
        from airflow_kinesis_snowflake.hooks.snowflake import SnowflakeLoadHook
        from airflow_kinesis_snowflake.landing.identifiers import TableName
        from airflow_kinesis_snowflake.landing.tables import TableOptions
        from airflow_kinesis_snowflake.landing.target import LandingTarget

        with no_retry_of_terminal_errors():
            table = TableName.parse(self.table)
            replayed = replay(
                self._chosen(),
                snowflake=SnowflakeLoadHook(
                    snowflake_conn_id=self.snowflake_conn_id, database=table.database
                ),
                target=LandingTarget.beside(table, TableOptions.parse(self.create_table)),
                columns=columns_settings(self),
                decoder=decoder(self),
            )
        return asdict(replayed)

    def _chosen(self) -> LetterFilter:
        from airflow_kinesis_snowflake.landing.dead_letters import LetterFilter

        return LetterFilter(
            application=self.application_name,
            stream=self.stream_name,
            reason=self.reason or None,
            column=self.column or None,
            since=moment("failed_since", self.failed_since),
            until=moment("failed_until", self.failed_until),
        )


def moment(name: str, given: str | datetime | None) -> datetime | None:
    """A moment that may be left out.

    :raises InvalidSettingError: not ISO-8601, or without a time zone
    """
    from airflow_kinesis_snowflake.stream.positions import parse_timestamp

    try:
        return parse_timestamp(given) if given else None
    except ValueError as error:
        raise InvalidSettingError(f"{name}: {error}") from error
