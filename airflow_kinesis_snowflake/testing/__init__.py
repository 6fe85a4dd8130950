"""Fakes of the engine's ports, for tests without services."""
