"""How a DAG gets its settings: from the form of a run, from an Airflow Variable, or from the code.

Nothing is looked up while a DAG file is parsed; the templates are rendered when a task starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow.sdk import Param

from airflow_kinesis_snowflake.operators.maintenance import StateOperator
from airflow_kinesis_snowflake.operators.settings import CheckedSettings, SettingGroup, defaults

YES_OR_NO: Mapping[str, str] = {"true": "Yes", "false": "No"}
LEFT_OPEN = "Default"
"""What a drop-down shows when nothing is chosen."""


def setting(dag_id: str, name: str, default: str = "") -> str:
    """A template: the run's Param ``name``, or the Variable ``<dag_id>_<name>``, or the default.

    A Variable's name has an underscore so that ``AIRFLOW_VAR_...`` in the environment can set it.

    :param default: what to use when neither is set
    """
    return f"{{{{ params.{name} or var.value.get({variable(dag_id, name)!r}, {default!r}) }}}}"


def default_texts(owner: type[CheckedSettings | SettingGroup]) -> dict[str, str]:
    """The defaults of settings as they would be written in a Variable; empty: left out, or none."""
    return {name: _as_text(default) for name, default in defaults(owner).items()}


def _as_text(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None or default == () else str(default)


def variable(dag_id: str, name: str) -> str:
    """The name of the Airflow Variable that holds a setting of a DAG."""
    return f"{dag_id}_{name}"


@dataclass(frozen=True, kw_only=True)
class FormField:
    """A field of a form.

    :param title: its label
    :param description: what it is for, as Markdown; without code, which Airflow renders over the line above
    :param schema: JSON schema of its values
    :param value: its initial value
    :param otherwise: what is used when neither it nor its Variable is set; None: it must be given
    :param of_dag: the DAG whose Variable it has, if not that of the form
    :param has_variable: False: only the form can set it
    """

    title: str
    description: str
    schema: Mapping[str, Any]
    value: Any = None
    otherwise: str | None = None
    of_dag: str | None = None
    has_variable: bool = True

    def param(self, dag_id: str, name: str, section: str) -> Param:
        """The field as a Param of a DAG.

        :param section: the section it is in; empty: before all sections
        """
        parts = (self.description, self._default(variable(self.of_dag or dag_id, name)))
        schema: dict[str, Any] = {**self.schema, **({"section": section} if section else {})}
        return Param(
            self.value,
            title=self.title,
            description_md=" ".join(part for part in parts if part),
            **schema,
        )

    def _default(self, name: str) -> str:
        if not self.has_variable:
            return "**Required.**" if self.value is None and "null" not in self.schema["type"] else ""
        if self.otherwise is None:
            return f"**Required**, here or in the Variable {name}."
        return f"Default: the Variable {name}, else {self.otherwise}."


def form(dag_id: str, sections: Mapping[str, Mapping[str, FormField]]) -> dict[str, Param]:
    """The form of a DAG.

    :param dag_id: whose Variables its fields have
    :param sections: fields by title of the section, then by name of the Param; the section without a title
        comes first
    """
    return {
        name: each.param(dag_id, name, section)
        for section, fields in sections.items()
        for name, each in fields.items()
    }


def text(title: str, description: str, *, otherwise: str | None, **more: Any) -> FormField:
    """A text field, which may be left empty.

    :param more: further parameters of :class:`FormField`, and JSON schema
    """
    of_field = {name: more.pop(name) for name in ("of_dag", "has_variable") if name in more}
    return FormField(
        title=title,
        description=description,
        schema={"type": ["null", "string"], **more},
        otherwise=otherwise,
        **of_field,
    )


def required(title: str, description: str, **schema: Any) -> FormField:
    """A text field that must be filled in."""
    return FormField(
        title=title, description=description, schema={"type": "string", **schema}, has_variable=False
    )


def choice(
    title: str,
    description: str,
    options: Mapping[str, str] | tuple[str, ...],
    *,
    otherwise: str | None,
    **more: Any,
) -> FormField:
    """A choice of words, which may be left open.

    :param options: the words, or what is shown for each of them
    :param more: further parameters of :class:`FormField`
    """
    shown = options if isinstance(options, Mapping) else {option: option for option in options}
    displayed = {"None": LEFT_OPEN, **shown}
    return text(
        title,
        description,
        otherwise=otherwise,
        enum=[None, *shown],
        values_display=displayed,
        **more,
    )


def number(title: str, description: str, *, otherwise: str, minimum: int = 1) -> FormField:
    """An integer, which may be left out."""
    return FormField(
        title=title,
        description=description,
        schema={"type": ["null", "integer"], "minimum": minimum},
        otherwise=otherwise,
    )


def switch(title: str, description: str, *, on: bool) -> FormField:
    """A switch."""
    return FormField(
        title=title, description=description, schema={"type": "boolean"}, value=on, has_variable=False
    )


def names(title: str, description: str) -> FormField:
    """A list of names, one per line; it may be empty."""
    return FormField(
        title=title,
        description=description,
        schema={"type": "array", "items": {"type": "string"}},
        value=[],
        has_variable=False,
    )


CONNECTIONS = {
    name: text
    for name, text in default_texts(StateOperator).items()
    if name in ("aws_conn_id", "dynamodb_conn_id", "region_name", "snowflake_conn_id")
}
"""The connections in a form, with their defaults."""


def connections(drain_dag_id: str) -> dict[str, FormField]:
    """The connections of a DAG that accompanies a drain, as named by the drain's Variables."""
    return {
        "aws_conn_id": text(
            "AWS connection ID",
            "Airflow connection of type aws.",
            otherwise=CONNECTIONS["aws_conn_id"],
            of_dag=drain_dag_id,
        ),
        "dynamodb_conn_id": text(
            "AWS connection ID of the state",
            "Airflow connection of type aws for the DynamoDB table, if it isn't where the stream is.",
            otherwise="the AWS connection",
            of_dag=drain_dag_id,
        ),
        "region_name": text(
            "AWS region",
            "Of the stream.",
            otherwise="that of its ARN, or the connection's",
            of_dag=drain_dag_id,
        ),
        "snowflake_conn_id": text(
            "Snowflake connection ID",
            "Airflow connection of type snowflake.",
            otherwise=CONNECTIONS["snowflake_conn_id"],
            of_dag=drain_dag_id,
        ),
    }


def connection_settings(drain_dag_id: str) -> dict[str, str]:
    """Templates for the fields of :func:`connections`."""
    return {name: setting(drain_dag_id, name, default) for name, default in CONNECTIONS.items()}
