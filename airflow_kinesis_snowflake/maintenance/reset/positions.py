"""Where a shard is told to go on, as people write it."""

from __future__ import annotations

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.positions import Position, StartAt

LATEST = "LATEST"


def parse_position(text: str) -> tuple[Position | None, str | None]:
    """Read a position: a checkpoint, or where a shard starts without one.

    :return: one of the two; the second as ``StartAt`` writes it, or ``LATEST``
    :raises InvalidSettingError: it is neither a sequence number nor ``TRIM_HORIZON``, ``LATEST`` or a
        timestamp
    """
    try:
        if text.isdigit():
            return Position(text), None
        return None, text if text == LATEST else str(StartAt.parse(text))
    except ValueError as error:
        raise InvalidSettingError(
            f"give TRIM_HORIZON, LATEST, a timestamp with a time zone or a sequence number as the position, "
            f"not {text!r}: {error}"
        ) from error


def parse_start(text: str) -> str:
    """Read a position that any shard can start at.

    :return: as ``StartAt`` writes it, or ``LATEST``
    :raises InvalidSettingError: it is a sequence number, or no position at all
    """
    _, start_at = parse_position(text)
    if start_at is None:
        raise InvalidSettingError(
            f"give TRIM_HORIZON, LATEST or a timestamp: the sequence number {text} belongs to a single shard"
        )
    return start_at
