"""Enhanced fan-out, by a stand-in that does what a test wants."""

from tests.faults.fixtures import detour, fan_out

__all__ = ["detour", "fan_out"]
