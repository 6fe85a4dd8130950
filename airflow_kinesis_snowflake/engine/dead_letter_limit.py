"""How many dead letters a drain may write."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


@dataclass(frozen=True)
class DeadLetterLimit:
    """The dead letters that a user accepts; without a number or a share, any number.

    :param count: the limit for a whole drain
    :param share: the limit as a share of each batch, 0 to 1
    """

    count: int | None = None
    share: Fraction | None = None

    @classmethod
    def parse(cls, given: int | str | None) -> DeadLetterLimit:
        """Parse a setting: a number such as ``100``, or a share of each batch such as ``"5%"``.

        :raises ValueError: it is neither, or a share above 100%
        """
        text = "" if given is None else str(given).strip()
        if text in ("", "None"):
            return cls()
        if text.isdecimal():
            return cls(count=int(text))
        match = _SHARE.fullmatch(text)
        percent = Fraction(match[1]) if match else Fraction(101)
        if percent > 100:
            raise ValueError(f"neither a number nor a share: {given!r}")
        return cls(share=percent / 100)

    def allowed(self, records: int, *, before: int) -> int | None:
        """How many dead letters a batch may have; ``None``: any number.

        :param records: of the batch, dead letters included
        :param before: dead letters that earlier batches of the drain had
        """
        if self.count is not None:
            return max(0, self.count - before)
        if self.share is not None:
            return math.floor(self.share * records)
        return None

    def __str__(self) -> str:
        if self.count is None and self.share is None:
            return "not set"
        if self.share is not None:
            return f"{float(self.share * 100):g}%"
        return str(self.count)


ANY_NUMBER = DeadLetterLimit()
