"""The methods of a reset are named once."""

from __future__ import annotations

import json
import re
from pathlib import Path

from airflow_kinesis_snowflake import monitoring
from airflow_kinesis_snowflake.maintenance.reset.registry import Method


def test_a_method_is_its_name() -> None:
    assert [Method(name) for name in ("rewind", "recover")] == [Method.REWIND, Method.RECOVER]
    assert json.dumps(Method.REWIND) == '"rewind"'


def test_the_page_offers_every_method_with_what_it_does() -> None:
    form = (Path(monitoring.__file__).parent / "static" / "form.js").read_text()
    found = re.search(r'name: "method".*?options: (\[.*?\]), help: "(.*?)"', form)
    assert found is not None
    assert json.loads(found[1]) == list(Method)
    assert found[2] == " ".join(f"{method}: {method.does}." for method in Method)
