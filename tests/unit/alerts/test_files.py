"""The files that people copy: rules of Prometheus, alarms of CloudWatch, and DAGs.

Neither Prometheus nor CloudWatch runs here. The names in the files are held against what the package sends,
and each rule is worked out on samples that call for it, and on others that don't.
"""

from __future__ import annotations

import json
import operator
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import promql_parser as promql
import pytest
import yaml
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from botocore.validate import ParamValidator

from airflow_kinesis_snowflake.alerts.rules import Gauges
from airflow_kinesis_snowflake.engine.report import DrainReport, ShardReport
from airflow_kinesis_snowflake.exceptions import DataLossError
from airflow_kinesis_snowflake.operators import compat
from airflow_kinesis_snowflake.operators.metrics import send_gauges, send_metrics

DOCS = Path(__file__).resolve().parents[3] / "docs"
FOLDER = DOCS / "alerts"
MINUTE = 60
NOW = 100 * MINUTE

Labels = frozenset[tuple[str, str]]


# --- what the package sends --------------------------------------------------------------------------------


@dataclass
class Sent:
    """What Airflow sends for the package: kind, name and tags of each metric."""

    metrics: set[tuple[str, str, Labels]] = field(default_factory=set)

    def incr(self, name: str, value: int, *, tags: dict[str, str] | None = None) -> None:
        self.metrics.add(("counter", f"airflow.{name}", frozenset((tags or {}).items())))

    def gauge(self, name: str, value: float, *, tags: dict[str, str] | None = None) -> None:
        self.metrics.add(("gauge", f"airflow.{name}", frozenset((tags or {}).items())))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Everything that the package can send, for one application."""
    sent = Sent()
    monkeypatch.setattr(compat.Stats, "incr", sent.incr)
    monkeypatch.setattr(compat.Stats, "gauge", sent.gauge)
    report = DrainReport(
        "clicks", "app", "T", "w", records=1, bytes=1, batches=1, dead_letters=1, fenced=1, lost_leases=1,
        shards={"s": ShardReport(millis_behind_latest=1)},
    )  # fmt: skip
    send_metrics(report, tags={}, error=DataLossError("gone"))
    gauges = Gauges(behind_millis=1, retention_percent=1, stale_leases=1, stale_millis=1, unread_millis=1)
    send_gauges(gauges, application="app", stream="clicks", tags={})
    return sent


def mapped(kind: str, name: str, mappings: list[dict[str, Any]]) -> tuple[str, Labels] | None:
    """What statsd_exporter makes of a metric without tags: the first mapping that matches decides."""
    for mapping in mappings:
        pattern = re.escape(mapping["match"]).replace(r"\*", r"([^.]+)")
        match = re.fullmatch(pattern, name)
        if match is None or mapping.get("match_metric_type", kind) != kind:
            continue
        if mapping.get("action") == "drop":
            return None
        labels = {label: filled(text, match) for label, text in mapping.get("labels", {}).items()}
        return filled(mapping["name"], match), frozenset(labels.items())
    return re.sub(r"[^a-zA-Z0-9_]", "_", name), frozenset()


def filled(text: str, match: re.Match[str]) -> str:
    return re.sub(r"\$\{?(\d)\}?", lambda found: match[int(found[1])], text)


@pytest.fixture
def exported(sent: Sent) -> set[tuple[str, Labels]]:
    """What Prometheus finds."""
    mappings = yaml.safe_load((FOLDER / "statsd-mapping.yml").read_text())["mappings"]
    found = (mapped(kind, name, mappings) for kind, name, tags in sent.metrics)
    return {each for each in found if each is not None}


# --- Prometheus --------------------------------------------------------------------------------------------

RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "prometheus-rules.yml").read_text())["groups"]
    for rule in group["rules"]
}
LABELS: Labels = frozenset({("application", "app"), ("stream", "clicks")})


def selectors(expression: Any) -> list[Any]:
    """All selectors of metrics in an expression."""
    if isinstance(expression, promql.VectorSelector):
        return [expression]
    if isinstance(expression, promql.MatrixSelector):
        return [expression.vector_selector]
    children = [getattr(expression, name) for name in ("lhs", "rhs", "expr") if hasattr(expression, name)]
    return [found for child in (*children, *getattr(expression, "args", ())) for found in selectors(child)]


def test_mapped_metrics_have_the_labels_of_application_and_stream(exported: set[tuple[str, Labels]]) -> None:
    assert {labels for _, labels in exported} == {LABELS}
    assert "airflow_kinesis_snowflake_dead_letters_total" in {name for name, _ in exported}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_asks_for_what_is_sent(name: str, exported: set[tuple[str, Labels]]) -> None:
    asked = {selector.name for selector in selectors(promql.parse(RULES[name]["expr"]))}
    assert asked
    assert asked <= {each for each, _ in exported}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


Samples = dict[int, float]
"""Values of a metric by their moments, in seconds."""


@dataclass
class Evaluation:
    """As much of PromQL as the rules need."""

    series: dict[str, Samples]

    def at(self, name: str, moment: float) -> dict[Labels, float]:
        past = {
            when: value for when, value in self.series.get(name, {}).items() if moment - 300 < when <= moment
        }
        return {LABELS: past[max(past)]} if past else {}

    def increase(self, name: str, seconds: float) -> dict[Labels, float]:
        values = [v for when, v in sorted(self.series.get(name, {}).items()) if NOW - seconds < when <= NOW]
        return {LABELS: values[-1] - values[0]} if len(values) > 1 else {}

    def value(self, each: Any) -> Any:
        match each:
            case promql.NumberLiteral():
                return each.val
            case promql.ParenExpr() | promql.AggregateExpr():
                return self.value(each.expr)
            case promql.VectorSelector():
                assert each.name is not None
                return self.at(each.name, NOW - (each.offset.total_seconds() if each.offset else 0))
            case promql.Call() if each.func.name == "absent":
                return {} if self.value(each.args[0]) else {frozenset(): 1.0}
            case promql.Call() if each.func.name == "increase":
                [matrix] = each.args
                return self.increase(matrix.vector_selector.name, matrix.range.total_seconds())
            case promql.BinaryExpr():
                return self.binary(str(each.op), self.value(each.lhs), self.value(each.rhs))
        raise AssertionError(f"not in the rules so far: {each}")

    def binary(self, operator: str, left: Any, right: Any) -> Any:
        match operator:
            case ">":
                return {labels: value for labels, value in left.items() if value > right}
            case "or":
                return right | left
            case "unless":
                return {labels: value for labels, value in left.items() if labels not in right}
        raise AssertionError(operator)


def fires(name: str, **series: Samples) -> bool:
    named = {f"airflow_kinesis_snowflake_{metric}": samples for metric, samples in series.items()}
    return bool(Evaluation(named).value(promql.parse(RULES[name]["expr"])))


def flat(value: float, *, since: int = 0) -> Samples:
    return dict.fromkeys(range(since, NOW + 1, MINUTE), value)


@pytest.mark.parametrize(
    ("name", "metric", "calls_for_it", "doesnt"),
    [
        ("KinesisSnowflakeLag", "behind_millis", [900_001], [900_000, 0]),
        ("KinesisSnowflakeNearRetention", "retention_percent", [51, 100], [50]),
        ("KinesisSnowflakeLeaseStuck", "stale_leases", [1], [0]),
        ("KinesisSnowflakeUnread", "unread_millis", [3_600_001], [0, 3_600_000]),
    ],
)
def test_a_rule_over_a_gauge_has_its_threshold(
    name: str, metric: str, calls_for_it: list[float], doesnt: list[float]
) -> None:
    assert all(fires(name, **{metric: flat(value)}) for value in calls_for_it)
    assert not any(fires(name, **{metric: flat(value)}) for value in doesnt)
    assert not fires(name)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("KinesisSnowflakeDeadLetters", "dead_letters_total"),
        ("KinesisSnowflakeDataLoss", "data_losses_total"),
    ],
)
def test_a_rule_over_a_counter_sees_the_first_increment_too(name: str, metric: str) -> None:
    before = NOW - 10 * MINUTE
    assert fires(name, **{metric: flat(3, since=before)})
    assert fires(name, **{metric: flat(3) | flat(4, since=before)})
    assert not fires(name, **{metric: flat(3)})
    assert not fires(name)


def test_nobody_looking_is_noticed() -> None:
    assert fires("KinesisSnowflakeNotWatched")
    assert not fires("KinesisSnowflakeNotWatched", unread_millis=flat(0))


def test_every_rule_is_worked_out() -> None:
    assert len(RULES) == 7


# --- CloudWatch --------------------------------------------------------------------------------------------


PARAMETERS = {
    "Application": "app", "Stream": "clicks", "Topic": "arn:aws:sns:eu-west-1:1:t", "UnreadMillis": 120_000,
}  # fmt: skip


def resolved(value: Any) -> Any:
    """A part of the template with its parameters filled in."""
    match value:
        case {"Ref": name}:
            return PARAMETERS[name]
        case {"Fn::Sub": text}:
            return re.sub(r"\$\{(\w+)\}", lambda match: str(PARAMETERS[match[1]]), text)
        case dict():
            return {name: resolved(each) for name, each in value.items()}
        case list():
            return [resolved(each) for each in value]
    return value


TEMPLATE = yaml.safe_load((FOLDER / "cloudwatch-alarms.yaml").read_text())
ALARMS: dict[str, dict[str, Any]] = {
    name: resolved(resource["Properties"]) for name, resource in TEMPLATE["Resources"].items()
}
COMPARED = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


def test_the_template_has_the_parameters_that_it_uses() -> None:
    assert set(TEMPLATE["Parameters"]) == set(PARAMETERS)
    assert {resource["Type"] for resource in TEMPLATE["Resources"].values()} == {"AWS::CloudWatch::Alarm"}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_one_that_cloudwatch_takes(name: str) -> None:
    shape = (
        botocore.session.get_session()
        .get_service_model("cloudwatch")
        .operation_model("PutMetricAlarm")
        .input_shape
    )
    assert shape is not None
    report = ParamValidator().validate({"AlarmName": name, **ALARMS[name]}, shape)
    assert not report.has_errors(), report.generate_report()
    for choice in ("Statistic", "ComparisonOperator"):
        assert ALARMS[name][choice] in shape.members[choice].metadata["enum"]
    assert ALARMS[name]["TreatMissingData"] in {"breaching", "notBreaching", "ignore", "missing"}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_asks_for_what_is_sent(name: str, sent: Sent) -> None:
    agent = json.loads((FOLDER / "cloudwatch-agent.json").read_text())["metrics"]
    assert agent["metrics_collected"]["statsd"]["metric_separator"] == "."
    dimensions = {each["Name"]: each["Value"] for each in ALARMS[name]["Dimensions"]}
    assert list(dimensions) in agent["aggregation_dimensions"]
    assert ALARMS[name]["Namespace"] == agent["namespace"]
    tagged = {metric: dict(tags) for _, metric, tags in sent.metrics if tags}
    assert tagged[ALARMS[name]["MetricName"]].items() >= dimensions.items()


@pytest.mark.parametrize(
    ("name", "calls_for_it", "doesnt"),
    [
        ("Lag", 900_001, 900_000),
        ("NearRetention", 51, 50),
        ("DeadLetters", 1, 0),
        ("DataLoss", 1, 0),
        ("LeaseStuck", 1, 0),
        ("Unread", 120_001, 120_000),
        ("NotWatched", 0, 1),
    ],
)
def test_an_alarm_has_its_threshold(name: str, calls_for_it: float, doesnt: float) -> None:
    alarm = ALARMS[name]
    compared = COMPARED[alarm["ComparisonOperator"]]
    assert compared(calls_for_it, alarm["Threshold"])
    assert not compared(doesnt, alarm["Threshold"])
    assert alarm["TreatMissingData"] == ("breaching" if name == "NotWatched" else "notBreaching")


def test_every_alarm_is_worked_out() -> None:
    assert len(ALARMS) == 7


# --- DAGs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["drain", "watch", "deadline"])
def test_a_dag_of_the_page_can_be_stored(name: str) -> None:
    namespace: dict[str, Any] = {}
    exec((FOLDER / f"{name}.py").read_text(), namespace)
    dag = namespace["dag"]
    assert isinstance(dag, DAG)
    LazyDeserializedDAG.from_dag(dag)
    if name == "deadline":
        assert dag.deadline
    if name == "drain":
        assert dag.get_task("drain").has_on_failure_callback


@pytest.mark.parametrize("file", sorted(FOLDER.iterdir()), ids=lambda file: str(file.name))
def test_every_file_stands_on_the_page_as_it_is(file: Path) -> None:
    text = file.read_text().rpartition("from __future__ import annotations\n\n")[2]
    language = {".py": "python", ".json": "json"}.get(file.suffix, "yaml")
    assert f"```{language}\n{text}```" in (DOCS / "alerts.md").read_text()
