"""Thresholds that a Variable sets."""

from __future__ import annotations

import pytest

from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT, Thresholds, thresholds_of
from airflow_kinesis_snowflake.exceptions import InvalidSettingError


@pytest.mark.parametrize("said", [None, "", " ", "{}"])
def test_without_a_word_the_defaults_hold(said: str | None) -> None:
    assert thresholds_of(said, "a") == DEFAULT


def test_an_application_may_have_its_own() -> None:
    said = '{"lag_seconds": 1800, "applications": {"a": {"lag_seconds": 60, "unread_seconds": 120}}}'
    assert thresholds_of(said, "a") == Thresholds(lag_seconds=60, unread_seconds=120)
    assert thresholds_of(said, "b") == Thresholds(lag_seconds=1800)


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        "7",
        '{"lag": 1}',
        '{"lag_seconds": "long"}',
        '{"lag_seconds": -1}',
        '{"idle_drains": 0}',
        '{"retention_percent": 101}',
        '{"applications": {"a": 7}}',
    ],
)
def test_what_cant_be_meant_is_refused_with_the_name_of_the_variable(said: str) -> None:
    with pytest.raises(
        InvalidSettingError, match=r"^Correct the Airflow Variable kinesis_snowflake_thresholds: "
    ):
        thresholds_of(said, "a")
