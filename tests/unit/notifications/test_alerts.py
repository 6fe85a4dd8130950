"""What notifiers are told of, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseNotifier

from airflow_kinesis_snowflake.alerts.rules import Alert
from airflow_kinesis_snowflake.dag_factories.alerts import build_alerts_dag
from airflow_kinesis_snowflake.dag_factories.drain import build_drain_dag
from airflow_kinesis_snowflake.engine.report import DrainReport
from airflow_kinesis_snowflake.exceptions import InvalidSettingError, ThrottledError
from airflow_kinesis_snowflake.notifications.alerts import DrainAlertNotifier, deliver, subject
from airflow_kinesis_snowflake.operators.compat import AirflowFailException

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLD: list[str] = []


class Notifier(BaseNotifier):
    """Tells a list, with a template as people write them."""

    template_fields: Sequence[str] = ("text",)

    def __init__(self, text: str = "{{ alert_subject }} | {{ alert_text }}") -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        TOLD.append(self.text)


class Broken(BaseNotifier):
    def notify(self, context: Any) -> None:
        raise RuntimeError("no network")


class Task:
    """A drain's task instance, with its report."""

    dag_id, task_id, map_index = "dag", "drain", 2

    def __init__(self, xcoms: dict[str, Any]) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, *, task_ids: str, map_indexes: int, key: str) -> Any:
        assert (task_ids, map_indexes) == ("drain", 2)
        return self.xcoms.get(key)


class Operator:
    application_name, stream_name = "app", "clicks"


@pytest.fixture(autouse=True)
def told() -> list[str]:
    TOLD.clear()
    return TOLD


def context(report: Any = None, *, xcoms: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"ti": Task({"return_value": report, **(xcoms or {})}), "task": Operator(), **more}


def report(**values: Any) -> dict[str, Any]:
    return DrainReport("clicks", "app", "T", "w").as_dict() | values


def end(context: dict[str, Any], thresholds: str = "") -> None:
    DrainAlertNotifier([Notifier()], thresholds=thresholds)(context)


def test_a_drain_that_ended_well_tells_nobody(told: list[str]) -> None:
    end(context(report(records=5)))
    end(context())
    assert told == []


def test_dead_letters_are_told_with_what_to_do(told: list[str]) -> None:
    end(context(report(dead_letters=2, reasons={"not JSON": 2})))
    assert told == [
        "warning: app on clicks: dead_letters | app on clicks: 2 records became dead letters, 2 of them: "
        "not JSON. Fix what is wrong with them, then replay them."
    ]


def test_thresholds_of_the_application_count(told: list[str]) -> None:
    end(context(report(dead_letters=2)), '{"applications": {"app": {"dead_letters": 2}}}')
    assert told == []
    with pytest.raises(InvalidSettingError):
        end(context(report(dead_letters=2)), "{")


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (
            AirflowFailException("DataLossError: It is gone."),
            "critical: app on clicks: data_loss | app on clicks: a drain failed: DataLossError: It is gone. ",
        ),
        (
            ThrottledError("Slow down."),
            "warning: app on clicks: failed | app on clicks: a drain failed: ThrottledError: Slow down. ",
        ),
        (KeyError("payload"), "warning: app on clicks: failed | app on clicks: a drain failed: KeyError. "),
        (
            "Task received SIGTERM",
            "warning: app on clicks: failed | app on clicks: a drain failed: Task received SIGTERM. ",
        ),
    ],
)
def test_a_failure_is_told(told: list[str], error: Any, first: str) -> None:
    end(context(exception=error))
    [text] = told
    assert text.startswith(first)


def test_each_of_many_streams_is_told_of(told: list[str]) -> None:
    end(context({"streams": {"clicks": report(dead_letters=2), "views": report()}, "idle": ["orders"]}))
    [text] = told
    assert text.startswith("warning: app on clicks: dead_letters | app on clicks: 2 records")


def test_streams_that_failed_and_those_that_were_drained_are_told_of(told: list[str]) -> None:
    xcoms = {
        "failure": {"reason": "all in all", "streams": {"orders": "ThrottledError: Slow down."}},
        "drained": {"streams": {"clicks": report(dead_letters=2)}, "idle": []},
    }
    end(context(xcoms=xcoms, exception=ThrottledError("Slow down.")))
    first, second = told[0].splitlines()
    assert first.startswith(
        "warning: app on orders and 1 more: failed, dead_letters | app on orders: a drain failed: "
        "ThrottledError: Slow down. "
    )
    assert second.startswith("app on clicks: 2 records became dead letters")


def test_a_killed_task_that_left_templates_is_named_by_its_dag(told: list[str]) -> None:
    killed = context(exception="killed")
    killed["task"].application_name = "{{ params.application_name }}"
    end(killed)
    Operator.application_name = "app"
    assert told[0].startswith("warning: dag on clicks: failed")


def alert(rule: str, severity: str = "warning") -> Alert:
    return Alert(rule=rule, severity=severity, application="a", stream="s", what="x", advice="y.")


def test_a_notifier_that_fails_keeps_no_other_from_being_told(
    told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="no network"):
        deliver([alert("lag")], [Broken(), Notifier()], {})
    assert told == ["warning: a on s: lag | a on s: x. y."]
    assert "The notifier Broken failed" in caplog.text


def test_a_notifier_can_be_told_twice(told: list[str]) -> None:
    notifier = Notifier("{{ alerts | map(attribute='rule') | join('+') }}")
    deliver([alert("lag"), alert("lease")], [notifier], {})
    deliver([alert("retention")], [notifier], {})
    assert told == ["lag+lease", "retention"]


def test_a_subject_begins_with_the_worst() -> None:
    assert subject([alert("lag"), alert("retention", "critical")]) == "critical: a on s: lag, retention"
    assert subject([alert("lag", "resolved")]) == "resolved: a on s: lag"


def test_dags_with_notifiers_can_be_stored() -> None:
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    drain = build_drain_dag(notifiers=[Notifier()])
    for dag in (drain, build_alerts_dag(notifiers=[Notifier()])):
        LazyDeserializedDAG.from_dag(dag)
    assert not build_drain_dag().get_task("drain").has_on_failure_callback
    assert drain.get_task("drain").has_on_failure_callback
    assert drain.get_task("drain").has_on_success_callback
