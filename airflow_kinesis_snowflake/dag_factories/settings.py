"""How a DAG gets its settings: from the form of a run, else from an Airflow Variable, else from the code.

Nothing is looked up while a DAG file is parsed; the templates are rendered when a task starts.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param


def setting(dag_id: str, name: str, default: str = "") -> str:
    """A template: the run's Param ``name``, else the Variable ``<dag_id>_<name>``, else the default.

    A Variable's name has an underscore so that ``AIRFLOW_VAR_...`` in the environment can set it.

    :param default: what to use when neither says anything
    """
    return f"{{{{ params.{name} or var.value.get({variable(dag_id, name)!r}, {default!r}) }}}}"


def variable(dag_id: str, name: str) -> str:
    """The name of the Airflow Variable that holds a setting of a DAG."""
    return f"{dag_id}_{name}"


def text(title: str, description: str, *, default: str | None = None, **schema: Any) -> Param:
    """A field that may be left empty.

    :param schema: further JSON schema of the field
    """
    return Param(default, type=["null", "string"], title=title, description_md=description, **schema)


def choice(title: str, description: str, options: tuple[str, ...]) -> Param:
    """A choice that may be left open."""
    return text(title, description, enum=[None, *options])


def number(title: str, description: str, *, default: int | None = None, minimum: int = 1) -> Param:
    """A whole number that may be left out."""
    return Param(default, type=["null", "integer"], title=title, description_md=description, minimum=minimum)
