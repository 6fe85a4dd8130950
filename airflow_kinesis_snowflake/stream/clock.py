"""What time it is where records arrive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class ServiceClock:
    """The clock of a service, as far as the date of one of its answers tells.

    Records arrive by the clock of Kinesis, and a worker's may be off by minutes. What must be true of records
    is therefore reckoned from an answer of Kinesis and the seconds that have passed here since, and what
    isn't known is left to the side that loses nothing.

    :param date: of the answer, to the second
    :param asked_at: when it was asked for, on this machine's monotonic clock
    :param answered_at: when it was there, on the same clock
    """

    date: datetime
    asked_at: float
    answered_at: float

    def earliest(self, at: float) -> int:
        """The time by that clock was this or later (ms since the epoch).

        :param at: when, on this machine's monotonic clock; not before the answer
        """
        return millis(self.date) + math.floor((at - self.answered_at) * 1000)

    def likely(self, at: float, *, own: int) -> int:
        """The time by that clock, to the millisecond where this machine's clock can be right (ms).

        :param at: when, on this machine's monotonic clock; not before the answer
        :param own: what this machine's wall clock said then. If it can't be right, the earliest time counts
        """
        return own if self.earliest(at) <= own <= self.latest(at) else self.earliest(at)

    def latest(self, at: float) -> int:
        """The time by that clock was this or earlier (ms since the epoch).

        :param at: when, on this machine's monotonic clock; not before the answer
        """
        return millis(self.date) + 1000 + math.ceil((at - self.asked_at) * 1000)
