"""Thresholds beyond which something needs attention; read from one Airflow Variable."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

VARIABLE = "kinesis_snowflake_thresholds"

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Thresholds beyond which something needs attention.

    :ivar caught_up_seconds: lag up to which an application counts as caught up
    :ivar lag_seconds: lag above which there is an alert
    :ivar retention_percent: share of the stream's retention after which unread records are in danger
    :ivar dead_letters: how many a drain may write before there is an alert
    :ivar lease_seconds: how long a lease may have expired before somebody should have taken it over
    :ivar unread_seconds: how long the stream may go unread; None: without limit. For a stream that is
        followed, two minutes; otherwise a few times the interval between drains
    :ivar late_seconds: how late a run may start
    :ivar silent_seconds: how long a drain may run without reporting progress
    :ivar idle_drains: how many consecutive drains may load nothing from a shard that is behind
    """

    caught_up_seconds: Seconds = 60
    lag_seconds: Seconds = 900
    retention_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] = 50
    dead_letters: Annotated[int, msgspec.Meta(ge=0)] = 0
    lease_seconds: Seconds = 900
    unread_seconds: Seconds | None = None
    late_seconds: Seconds = 300
    silent_seconds: Seconds = 120
    idle_drains: Annotated[int, msgspec.Meta(ge=1)] = 3


DEFAULT = Thresholds()


def thresholds_of(said: str | None, application: str) -> Thresholds:
    """The Variable's thresholds for an application.

    :param said: JSON of an object with the names above, and as ``applications`` an object of such objects for
        single applications; None or empty: nothing
    :raises InvalidSettingError: it isn't that
    """
    if not said or not said.strip():
        return DEFAULT
    try:
        every = msgspec.json.decode(said, type=dict[str, Any])
        own = msgspec.convert(every.pop("applications", {}), dict[str, dict[str, Any]])
        return msgspec.convert(every | own.get(application, {}), Thresholds)
    except msgspec.MsgspecError as error:
        raise InvalidSettingError(f"Correct the Airflow Variable {VARIABLE}: {error}.") from None
