"""Which alerts somebody is told of: those that are new, those that stay, and those that are over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.alerts.rules import Alert

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESOLVED = "resolved"


@dataclass(frozen=True)
class News:
    """What to tell now.

    :param alerts: new ones and those to repeat, then, with the severity ``resolved``, those that are over
    :param told: when each alert that goes on was told last, by its rule; milliseconds since the epoch
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
    """What to tell now of an application's alerts.

    :param told: of the last time
    :param now: milliseconds since the epoch
    :param repeat_millis: an alert that stays is told again after so long
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
