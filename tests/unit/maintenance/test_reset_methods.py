"""The methods of a reset: each has a module, the registry lists them, and all that offers them reads it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_kinesis_snowflake import monitoring
from airflow_kinesis_snowflake.cli import program, reset
from airflow_kinesis_snowflake.cli.program import parser
from airflow_kinesis_snowflake.dag_factories.state_reset import reset_params
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
from airflow_kinesis_snowflake.maintenance.reset.changes import Action
from airflow_kinesis_snowflake.maintenance.reset.fields import FIELDS
from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan, plan_text, refusals
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, default_method, find_method, help_of
from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
from airflow_kinesis_snowflake.monitoring.forms import reset_fields
from airflow_kinesis_snowflake.operators.maintenance import PlanStateResetOperator
from tests.toy_reset import Nudge

DOCS = Path(__file__).resolve().parents[3] / "docs"
STATIC = Path(monitoring.__file__).parent / "static"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a method that is in the registry, and nowhere else."""
    monkeypatch.setitem(METHODS, Nudge.name, Nudge())
    return Nudge.name


def test_the_command_offers_a_method_that_is_registered(
    toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "COMMANDS", (reset.make_command(),))
    with pytest.raises(SystemExit):
        parser().parse_args(["reset", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "nudge: give shards a push" in shown
    assert "For nudge: how hard to push." in shown
    options = parser().parse_args(["reset", "--application", "a", "--stream", "s", "--method", toy])
    assert options.method == toy


def test_the_form_of_the_dag_offers_a_method_that_is_registered(toy: str) -> None:
    params = reset_params("kinesis_state_reset", "kinesis_to_snowflake")
    assert params["method"].schema["enum"] == list(METHODS)
    assert params["method"].schema["values_display"][toy] == "nudge: give shards a push"
    assert "For nudge: how hard to push." in params["position"].schema["description_md"]


def test_the_operator_takes_a_method_that_is_registered(toy: str) -> None:
    task = PlanStateResetOperator(
        task_id="plan", application_name="app", stream_name="orders", method=toy, position="LATEST"
    )
    assert task.setting("method") == toy


def test_the_page_is_told_of_a_method_that_is_registered(toy: str) -> None:
    fields = {field.name: field for field in reset_fields()}
    assert fields["method"].options == tuple(METHODS)
    assert "nudge: give shards a push." in fields["method"].help
    assert toy in fields["position"].when
    assert toy not in fields["shards"].when


def test_a_plan_is_what_the_method_decides(toy: str) -> None:
    request = ResetRequest(application="app", stream="orders", method=toy, position="LATEST")
    state = Inspection(
        application="app",
        stream="orders",
        at=0,
        table_created=1,
        table_status="ACTIVE",
        protected=False,
        stream_created=1,
        retention_seconds=86_400,
        shards=(ShardView(shard_id="shardId-000000000000", row=True, listed=True),),
        workers={},
        findings=(),
    )
    assert refusals(request, state) == []
    decision = find_method(toy).decide(request, state, offsets=(), new_incarnation=lambda: "new")
    plan = ResetPlan(
        id="a",
        request=request,
        made_at=0,
        table_created=1,
        stream_created=1,
        changes=decision.changes,
        notes=decision.notes,
    )
    text = plan_text(plan)
    assert "shards are pushed to LATEST." in text
    assert "0 offsets were pushed over." in text
    assert [change.action for change in plan.changes] == [Action.SET]
    assert ResetPlan.from_dict(plan.as_dict()) == plan


def test_a_method_gets_the_fields_it_takes_and_needs(toy: str) -> None:
    with pytest.raises(InvalidSettingError, match="give position, which the method nudge needs"):
        ResetRequest(application="app", stream="orders", method=toy)
    with pytest.raises(InvalidSettingError, match="leave out shards: it is for rewind, not for nudge"):
        ResetRequest(application="app", stream="orders", method=toy, position="LATEST", shards=("s",))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_does_and_takes_fields_that_there_are(name: str) -> None:
    method = find_method(name)
    assert method.name == name
    assert {field.name for field in method.fields} <= {field.name for field in FIELDS}
    for text in (method.summary, *(field.help for field in method.fields)):
        assert text
        assert not text.endswith(".")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_the_module_of_its_name(name: str) -> None:
    assert type(find_method(name)).__module__.rpartition(".")[2] == name


def test_forms_begin_with_the_first_method() -> None:
    assert default_method() == next(iter(METHODS)) == "rewind"


def test_what_is_no_method_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidSettingError, match="rewind, delete_table, rename, recover"):
        ResetRequest(application="app", stream="orders", method="reset")


def test_methods_that_mean_the_same_by_a_field_are_named_together() -> None:
    assert help_of("initial_position").startswith("For delete_table and rename: ")
    assert help_of("position").count("For ") == 2


def test_every_field_is_of_the_request_and_of_the_operator() -> None:
    parameters = inspect.signature(PlanStateResetOperator.__init__).parameters
    for field in FIELDS:
        assert field.name in parameters
        assert field.name in inspect.signature(ResetRequest).parameters


def test_the_reference_of_the_operator_names_each_method() -> None:
    assert [name for name in METHODS if f"``{name}``" not in str(PlanStateResetOperator.__doc__)] == []


def test_the_page_names_no_method_by_itself() -> None:
    form = (STATIC / "form.js").read_text()
    assert [name for name in METHODS if re.search(rf"\b{name}\b", form)] == []


def test_the_docs_say_what_each_method_does() -> None:
    _, section = (DOCS / "state-and-reset.md").read_text().split("### Methods")
    rows = re.findall(r"^\| `(\w+)`", section.split("\n### ")[0], re.MULTILINE)
    assert set(rows) == set(METHODS)


def test_what_the_first_method_needs_stands_before_the_sections_of_the_form() -> None:
    params = reset_params("kinesis_state_reset", "kinesis_to_snowflake")
    assert "section" not in params["position"].schema
    assert params["shards"].schema["section"] == "What some methods need"
