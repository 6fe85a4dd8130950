"""Tells other notifiers of alerts: Slack's, SNS's, PagerDuty's, that of an e-mail."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.alerts.rules import alert_of_failure, alerts_of_drain
from airflow_kinesis_snowflake.alerts.thresholds import VARIABLE, thresholds_of
from airflow_kinesis_snowflake.operators.failures import reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.alerts.rules import Alert

log = logging.getLogger(__name__)

THRESHOLDS = f"{{{{ var.value.get({VARIABLE!r}, '') }}}}"
_LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING, "resolved": logging.INFO}


class DrainAlertNotifier(BaseNotifier):
    """Tells other notifiers when the end of a drain is worth an alert; else it tells nobody.

    Give it to the task of a :class:`KinesisToSnowflakeOperator` as ``on_success_callback`` and as
    ``on_failure_callback``. There is an alert for a failure (``failed``), for records that aged out before
    they were read (``data_loss``), for rows that Snowflake didn't take (``rejected_rows``), for dead letters
    and for lag above their thresholds (``dead_letters``, ``lag``). What no drain can tell, because none runs,
    is for :class:`KinesisAlertsOperator`.

    Templates of the notifiers may use ``alert_text`` (all alerts, a line each), ``alert_subject`` and
    ``alerts`` (a list with ``rule``, ``severity``, ``application``, ``stream``, ``what``, ``advice`` and
    ``text`` of each).

    :param notifiers: who is told. Without any, alerts are only logged
    :param thresholds: from which values on there is an alert, as JSON; default is the Airflow Variable
        ``kinesis_snowflake_thresholds`` (templated)
    :param kwargs: as every notifier takes them
    """

    template_fields: Sequence[str] = ("thresholds",)

    def __init__(
        self, notifiers: Sequence[BaseNotifier] = (), *, thresholds: str = THRESHOLDS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.notifiers = tuple(notifiers)
        self.thresholds = thresholds

    def notify(self, context: Context) -> None:
        """Tell of what the drain's end is worth."""
        alerts = alerts_at_the_end(context, thresholds=self.thresholds)
        deliver(alerts, self.notifiers, context)


def alerts_at_the_end(context: Mapping[str, Any], *, thresholds: str) -> tuple[Alert, ...]:
    """The alerts that the end of a drain calls for.

    :param context: of the drain's task
    :param thresholds: as JSON
    :raises InvalidSettingError: the thresholds aren't such
    """
    ti = context["ti"]
    error = context.get("exception")
    if error is not None:
        reason = reason_of(error) if isinstance(error, BaseException) else str(error)
        names = {name: _name(context, f"{name}_name") for name in ("application", "stream")}
        return (alert_of_failure(reason, **names),)
    report = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index)
    if not isinstance(report, dict):
        return ()
    return alerts_of_drain(report, thresholds_of(thresholds, report["application_name"]))


def _name(context: Mapping[str, Any], name: str) -> str:
    """A name as the task has it; where a killed task left only a template, the DAG's."""
    value = str(getattr(context.get("task"), name, ""))
    return value if value and "{{" not in value else str(context["ti"].dag_id)


def deliver(alerts: Sequence[Alert], notifiers: Sequence[BaseNotifier], context: Mapping[str, Any]) -> None:
    """Log alerts, and tell each notifier of all of them; one that fails doesn't keep the others from it.

    :raises Exception: the last that a notifier raised
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
            # A notifier keeps what its templates became.
            deepcopy(notifier)(dict(told))
        except Exception as error:
            log.exception("The notifier %s failed", type(notifier).__name__)
            failure = error
    if failure is not None:
        raise failure


def subject(alerts: Sequence[Alert]) -> str:
    """Alerts of one application in a few words, such as ``critical: app on clicks: lag, retention``."""
    severities = {alert.severity for alert in alerts}
    severity = next(each for each in _LEVELS if each in severities)
    rules = ", ".join(dict.fromkeys(alert.rule for alert in alerts))
    return f"{severity}: {alerts[0].application} on {alerts[0].stream}: {rules}"
