"""What people and programs are told."""

from __future__ import annotations

import json

from airflow_kinesis_snowflake.check.checks import Check, CheckResult, CheckVerdict, Needs, held
from airflow_kinesis_snowflake.check.results import CheckReport


def result(verdict: CheckVerdict, *, name: str = "fence", text: str = "it came") -> CheckResult:
    check = Check(
        name=name,
        tries="It is so",
        promises=(1, 3),
        advice="Stop all drains.",
        needs=Needs.STREAM,
        run=lambda _: held(""),
    )
    return CheckResult(check, verdict, text, 1.26)


def test_programs_get_all_of_it() -> None:
    shown = CheckReport([result(CheckVerdict.FAILED)], left=("schema A.B",)).as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["status"] == 1
    assert shown["counts"] == {"failed": 1}
    assert shown["left"] == ["schema A.B"]
    assert shown["checks"] == [
        {
            "name": "fence",
            "verdict": "failed",
            "tries": "It is so",
            "found": "it came",
            "promises": [1, 3],
            "advice": "Stop all drains.",
            "seconds": 1.3,
        }
    ]


def test_people_get_the_advice_for_what_failed_only() -> None:
    report = CheckReport(
        [result(CheckVerdict.HELD, name="held-one"), result(CheckVerdict.FAILED, name="bad-one")]
    )
    assert "bad-one (failed): Stop all drains." in report.text()
    assert "held-one (" not in report.text()


def test_an_outage_is_no_reason_to_do_what_a_failure_asks_for() -> None:
    assert "Stop all drains" not in CheckReport([result(CheckVerdict.BROKEN)]).text()


def test_text_of_a_service_stays_in_its_cell() -> None:
    text = CheckReport([result(CheckVerdict.HELD, text="one\ntwo | three")]).text()
    assert "| one\\ntwo \\| three |" in text


def test_what_is_left_is_no_success() -> None:
    assert CheckReport([result(CheckVerdict.HELD)], left=("schema A.B",)).status == 3


def test_a_stand_in_is_named() -> None:
    assert "stand-in for Snowflake" in CheckReport([], stand_ins=("Snowflake",)).text()
