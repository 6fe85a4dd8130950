"""What a process used between two moments."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field


@dataclass
class Meter:
    """CPU and wall time since it was made; the CPU time is that of all threads.

    :param wall: moment of its making, on the monotonic clock
    :param cpu: CPU seconds of the process at that moment
    """

    wall: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=time.process_time)

    def read(self) -> dict[str, float]:
        """Seconds since then, and the process's peak memory in MB."""
        return {
            "cpu_seconds": time.process_time() - self.cpu,
            "wall_seconds": time.monotonic() - self.wall,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        }
