"""What the contract suites run on."""

pytest_plugins = ["tests.faults.fixtures"]
