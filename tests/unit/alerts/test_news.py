"""Who is told of an alert when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.alerts.news import News, news_of
from airflow_kinesis_snowflake.alerts.rules import Alert

HOUR = 3_600_000
RULES = ("lag", "lease", "retention")


def alert(rule: str) -> Alert:
    return Alert(rule=rule, severity="warning", application="a", stream="s", what="x", advice="y.")


def news(*rules: str, told: dict[str, int], now: int = 10 * HOUR) -> News:
    alerts = [alert(rule) for rule in rules]
    return news_of(alerts, told, application="a", stream="s", now=now, repeat_millis=6 * HOUR)


def test_a_new_alert_is_told_at_once() -> None:
    found = news("lag", told={})
    assert [each.rule for each in found.alerts] == ["lag"]
    assert found.told == {"lag": 10 * HOUR}


def test_one_that_stays_is_told_again_after_a_while() -> None:
    assert news("lag", told={"lag": 5 * HOUR}) == News((), {"lag": 5 * HOUR})
    assert [each.rule for each in news("lag", told={"lag": 4 * HOUR}).alerts] == ["lag"]


def test_one_that_is_over_is_told_once() -> None:
    found = news(told={"lag": 9 * HOUR})
    assert [(each.severity, each.what) for each in found.alerts] == [("resolved", "the alert lag is over")]
    assert found.told == {}
    assert news(told={}) == News((), {})


@given(st.lists(st.sets(st.sampled_from(RULES)), max_size=40))
def test_each_beginning_and_each_end_is_told_once(history: list[set[str]]) -> None:
    told: dict[str, int] = {}
    before: set[str] = set()
    for number, rules in enumerate(history):
        found = news_of(
            [alert(rule) for rule in sorted(rules)], told, application="a", stream="s", now=number,
            repeat_millis=HOUR,
        )  # fmt: skip
        begun = {each.rule for each in found.alerts if each.severity != "resolved"}
        over = {each.rule for each in found.alerts if each.severity == "resolved"}
        assert (begun, over) == (rules - before, before - rules)
        assert found.told.keys() == rules
        told, before = dict(found.told), rules
