"""Passes alerts on to other notifiers: Slack, SNS, PagerDuty, e-mail."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.alerts.rules import alert_of_failure, alerts_of_drain
from airflow_kinesis_snowflake.alerts.thresholds import VARIABLE, thresholds_of
from airflow_kinesis_snowflake.operators.failures import reason_of
from airflow_kinesis_snowflake.operators.xcoms import DRAINED, FAILURE, RETURNED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.alerts.rules import Alert

log = logging.getLogger(__name__)

THRESHOLDS = f"{{{{ var.value.get({VARIABLE!r}, '') }}}}"
_LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING, "resolved": logging.INFO}


class DrainAlertNotifier(BaseNotifier):
    """Notifies other notifiers when the end of a drain warrants an alert.

    Give it to a task that drains one stream or many as ``on_success_callback`` and as
    ``on_failure_callback``. There is an alert for a failure (``failed``), for records that aged out before
    they were read (``data_loss``), for rows that Snowflake rejected (``rejected_rows``), for dead letters and
    for lag above their thresholds (``dead_letters``, ``lag``). For what no drain can report because none
    runs, use :class:`KinesisAlertsOperator`.

    Templates of the notifiers may use ``alert_text`` (all alerts, a line each), ``alert_subject`` and
    ``alerts`` (a list with ``rule``, ``severity``, ``application``, ``stream``, ``what``, ``advice`` and
    ``text`` of each).

    :param notifiers: receive the alerts. Without any, alerts are only logged
    :param thresholds: thresholds for alerts, as JSON; default is the Airflow Variable
        ``kinesis_snowflake_thresholds`` (templated)
    :param kwargs: as for every notifier
    """

    template_fields: Sequence[str] = ("thresholds",)

    def __init__(
        self, notifiers: Sequence[BaseNotifier] = (), *, thresholds: str = THRESHOLDS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.notifiers = tuple(notifiers)
        self.thresholds = thresholds

    def notify(self, context: Context) -> None:
        """Send the alerts that the drain's end calls for."""
        alerts = alerts_at_the_end(context, thresholds=self.thresholds)
        deliver(alerts, self.notifiers, context)


def alerts_at_the_end(context: Mapping[str, Any], *, thresholds: str) -> tuple[Alert, ...]:
    """The alerts that the end of a drain calls for.

    :param context: of the drain's task
    :param thresholds: as JSON
    :raises InvalidSettingError: the thresholds are invalid
    """
    error = context.get("exception")
    if error is None:
        return tuple(_of_reports(_left(context, RETURNED), thresholds))
    told = _of_reports(_left(context, DRAINED), thresholds)
    return (*_of_failure(context, error), *told)


def _of_failure(context: Mapping[str, Any], error: Any) -> list[Alert]:
    application = _name(context, "application_name")
    of_streams = _left(context, FAILURE).get("streams")
    if of_streams:
        return [
            alert_of_failure(reason, application=application, stream=stream)
            for stream, reason in of_streams.items()
        ]
    reason = reason_of(error) if isinstance(error, BaseException) else str(error)
    return [alert_of_failure(reason, application=application, stream=_name(context, "stream_name"))]


def _of_reports(left: Mapping[str, Any], thresholds: str) -> list[Alert]:
    """Alerts of a drain's report, or of those of a task that drained many streams."""
    reports = list(left["streams"].values()) if "streams" in left else [left] if left else []
    return [
        alert
        for report in reports
        for alert in alerts_of_drain(report, thresholds_of(thresholds, report["application_name"]))
    ]


def _left(context: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What the task left as XCom; empty: nothing."""
    ti = context["ti"]
    value = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=key)
    return value if isinstance(value, dict) else {}


def _name(context: Mapping[str, Any], name: str) -> str:
    """A name from the task, or from the DAG if a killed task left only a template."""
    value = str(getattr(context.get("task"), name, ""))
    return value if value and "{{" not in value else str(context["ti"].dag_id)


def deliver(alerts: Sequence[Alert], notifiers: Sequence[BaseNotifier], context: Mapping[str, Any]) -> None:
    """Log alerts, and pass all of them to each notifier; one that fails doesn't affect the others.

    :raises Exception: the last exception that a notifier raised
    """
    if not alerts:
        return
    for alert in alerts:
        log.log(_LEVELS[alert.severity], "Alert %s: %s", alert.rule, alert.text)
    told = {
        **context,
        "alerts": [alert.as_dict() for alert in alerts],
        "alert_text": "\n".join(alert.text for alert in alerts),
        "alert_subject": subject(alerts),
    }
    failure: Exception | None = None
    for notifier in notifiers:
        try:
            # A notifier keeps its rendered templates.
            deepcopy(notifier)(dict(told))
        except Exception as error:
            log.exception("The notifier %s failed", type(notifier).__name__)
            failure = error
    if failure is not None:
        raise failure


def subject(alerts: Sequence[Alert]) -> str:
    """Alerts of one application in a few words, such as ``critical: app on clicks: lag, retention``.

    Of several streams, the first is named.
    """
    severities = {alert.severity for alert in alerts}
    severity = next(each for each in _LEVELS if each in severities)
    rules = ", ".join(dict.fromkeys(alert.rule for alert in alerts))
    first, *others = dict.fromkeys(alert.stream for alert in alerts)
    more = f" and {len(others)} more" if others else ""
    return f"{severity}: {alerts[0].application} on {first}{more}: {rules}"
