"""The operator that watches an application and alerts people when it needs attention."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_snowflake.notifications.alerts import THRESHOLDS, deliver
from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.maintenance import StateOperator
from airflow_kinesis_snowflake.operators.metrics import send_gauges, tags_of_place
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import BaseNotifier, Context

    from airflow_kinesis_snowflake.operators.settings import SettingType

TOLD = "told"


class KinesisAlertsOperator(StateOperator):
    """Checks the state of an application, sends it as metrics, and passes alerts to notifiers.

    It sees what no drain can report, because none may be running: ``lag`` above a threshold, records that
    approach the end of their ``retention``, a ``lease`` that expired and that nobody takes over, and, if a
    threshold is set for it, that nobody reads the stream (``unread``), for example because a drain that
    follows it has stopped. It reads the application's DynamoDB table and Kinesis' description of the stream,
    but no records, and needs ``dynamodb:DescribeTable``, ``dynamodb:Query``,
    ``kinesis:DescribeStreamSummary`` and ``kinesis:ListShards``.

    An alert is sent when it starts, repeatedly while it persists, and once more when it is over. The task
    succeeds whether or not there are alerts; it fails when it can't check, or when a notifier fails.

    Templates of the notifiers may use ``alert_text``, ``alert_subject`` and ``alerts``; see
    :class:`~airflow_kinesis_snowflake.notifications.alerts.DrainAlertNotifier`.

    :param notifiers: receive the alerts. Without any, alerts are only logged
    :param thresholds: thresholds for alerts, as JSON; default is the Airflow Variable
        ``kinesis_snowflake_thresholds`` (templated)
    :param repeat_after: an alert that persists is sent again after this long
    :param kwargs: ``application_name``, ``stream_name`` and what
        :class:`~airflow_kinesis_snowflake.operators.maintenance.StateOperator` takes besides
    :return: the current ``alerts``, ``told`` and the figures ``behind_millis``,
        ``retention_percent``, ``stale_leases``, ``stale_millis`` and ``unread_millis``, as XCom
    :raises AirflowFailException: a setting, permission or state must be changed first
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "stream_name": types.STREAM,
        "thresholds": types.optional(types.TEXT),
        "repeat_after": types.DURATION,
    }

    def __init__(
        self,
        *,
        notifiers: Sequence[BaseNotifier] = (),
        thresholds: str = THRESHOLDS,
        repeat_after: timedelta = timedelta(hours=6),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notifiers = tuple(notifiers)
        self.thresholds = thresholds
        self.repeat_after = repeat_after
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Check, send metrics, and notify."""
        from airflow_kinesis_snowflake.alerts.news import news_of
        from airflow_kinesis_snowflake.alerts.rules import alerts_of_state, gauges_of
        from airflow_kinesis_snowflake.alerts.thresholds import thresholds_of
        from airflow_kinesis_snowflake.maintenance.inspection import inspect_state

        kinesis = self.kinesis
        names = {"application": self.application_name, "stream": kinesis.stream_name}
        thresholds = thresholds_of(self.setting("thresholds"), self.application_name)
        now = now_millis()
        inspection = inspect_state(self.store, kinesis, now=now)
        gauges = gauges_of(inspection)
        ti = context["ti"]
        tags = {**getattr(ti, "stats_tags", {}), **tags_of_place(inspection.stream_arn)}
        send_gauges(gauges, **names, tags=tags)
        alerts = alerts_of_state(inspection, thresholds)
        repeat = int(self.setting("repeat_after").total_seconds() * 1000)
        news = news_of(alerts, self._told(ti), **names, now=now, repeat_millis=repeat)
        deliver(news.alerts, self.notifiers, context)
        self.log.info("%d alerts, %d sent now; %s", len(alerts), len(news.alerts), gauges)
        return {"alerts": [alert.as_dict() for alert in alerts], TOLD: dict(news.told), **asdict(gauges)}

    def _told(self, ti: Any) -> dict[str, int]:
        """When each alert was last sent, as left by the previous run."""
        left = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, include_prior_dates=True)
        told = left.get(TOLD) if isinstance(left, dict) else None
        return {str(rule): int(at) for rule, at in told.items()} if isinstance(told, dict) else {}
