"""What the contract suites run on."""

from tests.faults.fixtures import detour, fan_out, kinesis_proxy

__all__ = ["detour", "fan_out", "kinesis_proxy"]
