"""Which alerts to send: those that are new, those that persist, and those that are over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.alerts.rules import Alert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESOLVED = "resolved"


@dataclass(frozen=True)
class News:
    """What to send now.

    :param alerts: new ones and those to repeat, followed by those that are over, with the severity
        ``resolved``
    :param told: when each ongoing alert was last sent, by its rule; milliseconds since the epoch
    """

    alerts: tuple[Alert, ...]
    told: Mapping[str, int]


def news_of(
    alerts: Sequence[Alert],
    told: Mapping[str, int],
    *,
    application: str,
    stream: str,
    now: int,
    repeat_millis: int,
) -> News:
    """What to send now about an application's alerts.

    :param told: as the previous call returned it
    :param now: milliseconds since the epoch
    :param repeat_millis: an alert that persists is sent again after this long
    """
    due = [each for each in alerts if each.rule not in told or now - told[each.rule] >= repeat_millis]
    going_on = {alert.rule for alert in alerts}
    over = [
        Alert(
            rule=rule,
            severity=RESOLVED,
            application=application,
            stream=stream,
            what=f"the alert {rule} is over",
            advice="Nothing to do.",
        )
        for rule in sorted(told.keys() - going_on)
    ]
    kept = {rule: at for rule, at in told.items() if rule in going_on}
    return News((*due, *over), {**kept, **dict.fromkeys((each.rule for each in due), now)})
