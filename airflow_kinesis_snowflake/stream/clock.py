"""The time where records arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class ServiceClock:
    """The clock of a service, as far as the date of one of its responses reveals it.

    Records arrive by the clock of Kinesis, and a worker's may be off by minutes. So statements about records
    are based on a response of Kinesis and the seconds that have passed here since, and uncertainty is
    resolved in favour of losing nothing.

    :param date: of the response, to the second
    :param asked_at: when the request was sent, on this machine's monotonic clock
    :param answered_at: when the response was received, on the same clock
    """

    date: datetime
    asked_at: float
    answered_at: float

    def earliest(self, at: float) -> int:
        """A lower bound of the time by that clock (ms since the epoch).

        :param at: when, on this machine's monotonic clock; not before the answer
        """
        return millis(self.date) + math.floor((at - self.answered_at) * 1000)

    def likely(self, at: float, *, own: int) -> int:
        """The time by that clock (ms since the epoch), to the millisecond if this machine's clock is
        plausible.

        :param at: when, on this machine's monotonic clock; not before the answer
        :param own: what this machine's wall clock showed then. If that can't be right, the earliest time
            counts
        """
        return own if self.earliest(at) <= own <= self.latest(at) else self.earliest(at)

    def latest(self, at: float) -> int:
        """An upper bound of the time by that clock (ms since the epoch).

        :param at: when, on this machine's monotonic clock; not before the answer
        """
        return millis(self.date) + 1000 + math.ceil((at - self.asked_at) * 1000)
