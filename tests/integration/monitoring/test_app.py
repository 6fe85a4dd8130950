"""The routes of the page: who may call them, and what they tell."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from airflow.utils.session import create_session

from airflow_kinesis_snowflake.engine.report import ShardReport
from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.hooks.kinesis import KinesisStreamHook
from airflow_kinesis_snowflake.links.kinesis_to_snowflake import LandingTableLink, StreamLink
from airflow_kinesis_snowflake.monitoring import app, history
from airflow_kinesis_snowflake.monitoring.backlog_status import Watches
from airflow_kinesis_snowflake.stream.positions import StartAt
from airflow_kinesis_snowflake.stream.times import now_millis
from tests.integration.monitoring.conftest import DrainDag

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.testclient import TestClient
    from mypy_boto3_kinesis import KinesisClient

    from local.services import LocalServices

    Clients = Callable[..., TestClient]
    Dags = Callable[..., DrainDag]

ROUTES = (
    "",
    "static/page.js",
    "api/applications",
    "api/application?name=a&stream=s",
    "api/check?name=a&stream=s",
    "api/look?name=a&stream=s",
    "api/history?name=a&stream=s&since=2026-01-01&until=2026-01-02",
)
NOW = now_millis()


@pytest.fixture
def store(services: LocalServices, application_name: str) -> CheckpointStoreHook:
    """The table of an application, with a split shard, one child of which is leased."""
    store = CheckpointStoreHook(application_name)
    store.create_table()
    start = StartAt.parse("TRIM_HORIZON")
    for shard_id, parents in (
        ("shardId-0", ()),
        ("shardId-1", ("shardId-0",)),
        ("shardId-2", ("shardId-0",)),
    ):
        store.create_shard(
            "stream", shard_id, start_at=start, parents=parents, incarnation="i", stream_created=1
        )
    return store


def lease(store: CheckpointStoreHook, shard_id: str, *, expiry: int, owner: str = "w") -> None:
    shard = store.read_state("stream").shards[shard_id]
    taken = store.take_lease("stream", shard, owner=owner, expiry=expiry, now=NOW, incarnation="i")
    assert taken is not None


def line_of(client: TestClient, application: str) -> dict[str, Any]:
    lines = client.get("api/applications").raise_for_status().json()["applications"]
    return next(line for line in lines if line["application"] == application)


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_login_nothing_is_shown(client: Clients, route: str) -> None:
    assert client(user=False).get(route).status_code == 401


@pytest.mark.parametrize("route", ROUTES)
def test_a_user_without_rights_sees_nothing(client: Clients, route: str) -> None:
    assert client(role=None).get(route).status_code == 403


@pytest.mark.parametrize(
    "route", ["docs", "redoc", "openapi.json", "static/app.py", "static/%2e%2e%2fapp.py"]
)
def test_nothing_but_the_page_is_served(client: Clients, route: str) -> None:
    assert client().get(route).status_code == 404


def test_the_page_may_run_only_its_own_scripts(client: Clients) -> None:
    answer = client().get("")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert client().get("static/page.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_a_drain_makes_a_line_with_its_figures(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run(minutes_ago=20, records=600, bytes=6_000)
    dag.run(minutes_ago=10, records=0)
    line = line_of(client(), dag.application)
    assert (line["stream"], line["table"], line["dag_id"]) == ("stream", "DB.PUBLIC.RECORDS", dag.dag_id)
    assert line["health"]["kind"] == "caught_up"
    assert line["health"]["sentence"] == "Caught up 9 min ago"
    assert line["records_per_minute"] == pytest.approx(30, abs=0.5)
    assert (line["shards"], line["live_leases"], line["state_read"]) == (3, 0, True)


def test_streams_of_one_name_are_two_lines_that_say_where_they_are(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    here, there = (
        f"arn:aws:kinesis:{region}:123456789012:stream/stream" for region in ("us-east-1", "eu-west-1")
    )
    dag.run(minutes_ago=20, records=3, stream_arn=here)
    assert line_of(client(), dag.application)["place"] == ""

    dag.run(minutes_ago=10, records=5, stream_arn=there)
    lines = client().get("api/applications").raise_for_status().json()["applications"]
    assert sorted(
        (line["place"], line["arn"]) for line in lines if line["application"] == dag.application
    ) == [
        ("eu-west-1, account 123456789012", there),
        ("us-east-1, account 123456789012", here),
    ]
    for arn, records in ((here, 3), (there, 5)):
        asked = {"name": dag.application, "stream": "stream", "arn": arn}
        page = client().get("api/application", params=asked).raise_for_status().json()
        assert (page["line"]["arn"], [run["records"] for run in page["runs"]]) == (arn, [records])


def test_a_task_of_many_streams_makes_a_line_for_each(client: Clients, drain_dag: Dags) -> None:
    dag = drain_dag("stream")
    many: dict[str, Any] = {"operator": "KinesisStreamsToSnowflakeOperator"}
    returned = {"application_name": dag.application, "idle": ["views"], "totals": {}}
    dag.run(
        minutes_ago=20,
        left={"return_value": {**returned, "streams": {"clicks": dag.report("clicks", records=3)}}},
        **many,
    )
    dag.run(
        state="failed",
        minutes_ago=10,
        left={
            "drained": {**returned, "streams": {}},
            "failure": {"reason": "ThrottledError: slower", "streams": {"clicks": "ThrottledError: slower"}},
        },
        **many,
    )

    lines = client().get("api/applications").raise_for_status().json()["applications"]
    of_dag = {line["stream"]: line for line in lines if line["application"] == dag.application}
    assert {stream: line["last_state"] for stream, line in of_dag.items()} == {
        "clicks": "failed",
        "views": "success",
    }
    asked = {"name": dag.application, "stream": "clicks"}
    page = client().get("api/application", params=asked).raise_for_status().json()
    assert [(run["state"], run["records"], run["reason"]) for run in page["runs"]] == [
        ("failed", 0, "ThrottledError: slower"),
        ("success", 3, ""),
    ]
    today = datetime.now(UTC).date()
    span = {"since": str(today - timedelta(days=1)), "until": str(today), **asked}
    past = client().get("api/history", params=span).raise_for_status().json()
    assert [(run["state"], run["records"]) for run in past["runs"]] == [("failed", 0), ("success", 3)]


def test_the_page_of_an_application_tells_who_holds_which_shard(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    run_id = dag.run(state="running", minutes_ago=1)
    lease(store, "shardId-0", expiry=NOW + 86_400_000, owner=f"{dag.dag_id}/{run_id}/drain/0#1-ab")
    page = client().get("api/application", params={"name": dag.application, "stream": "stream"}).json()
    first, *children = page["shards"]
    assert first["status"] == "reading"
    assert first["holder"] == {
        "dag_id": dag.dag_id, "run_id": run_id, "task_id": "drain", "map_index": 0, "name": "drain[0]",
    }  # fmt: skip
    assert [child["status"] for child in children] == ["waiting", "waiting"]
    assert page["drawing"]["lines"] == [["shardId-0", "shardId-1"], ["shardId-0", "shardId-2"]]


def test_a_running_drain_tells_its_progress(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    progress = {
        "records": 5, "bytes": 50, "records_per_second": 2.5, "millis_behind_latest": 7_800_000, "shards": 3,
        "seconds_to_catch_up": 600, "at": "2999-01-01T00:00:00+00:00",
    }  # fmt: skip
    dag.run(state="running", minutes_ago=2, progress=progress)
    health = line_of(client(), dag.application)["health"]
    assert health["kind"] == "draining"
    assert "behind by 2 h 10 min, about 10 min to go" in health["sentence"]


def test_a_drain_that_follows_tells_until_when(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    progress = {"at": "2999-01-01T00:00:00+00:00", "following_until": "2999-01-01T01:00:00+00:00"}
    dag.run(state="running", minutes_ago=2, progress=progress)
    health = line_of(client(), dag.application)["health"]
    assert (health["kind"], health["until"]) == ("following", 32_472_147_600_000)


def test_a_worker_that_is_gone_is_named(client: Clients, drain_dag: Dags, store: CheckpointStoreHook) -> None:
    dag = drain_dag("stream")
    run_id = dag.run(state="failed", minutes_ago=10)
    lease(store, "shardId-0", expiry=NOW - 240_000, owner=f"{dag.dag_id}/{run_id}/drain/0#1-ab")
    line = line_of(client(), dag.application)
    assert line["health"]["kind"] == "gone"
    assert line["health"]["sentence"].startswith("Stopped: worker drain[0]'s lease on 1 shard expired ")
    assert (line["live_leases"], line["stale_leases"]) == (0, 1)


def test_an_application_that_cant_be_read_leaves_the_others_alone(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = {"conn_type": "aws", "login": "t", "password": "t", "extra": {
        "region_name": "us-east-1", "endpoint_url": "http://127.0.0.1:1",
    }}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DOWN", json.dumps(down))
    good = drain_dag("stream")
    good.run()
    dead = drain_dag("stream", application=f"{good.application}-dead", aws_conn_id="aws_down")
    dead.run()
    lost = drain_dag("stream", application=f"{good.application}-lost", aws_conn_id="no_such_connection")
    lost.run()
    assert line_of(client(), good.application)["state_read"]
    for dag, why in (
        (dead, "http://127.0.0.1:1"),
        (lost, "Create the Airflow connection 'no_such_connection'"),
    ):
        line = line_of(client(), dag.application)
        assert not line["state_read"]
        assert line["notices"][0]["text"].startswith("The state in DynamoDB can't be read: ")
        assert why in line["notices"][0]["text"]
        assert line["health"]["sentence"].startswith("Caught up")


def test_the_state_check_asks_kinesis_only_when_told(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run()
    query = {"name": dag.application, "stream": "stream"}
    page = client().get("api/application", params=query).json()
    assert page["line"]["findings"] == 0
    checked = client().get("api/check", params=query).json()
    assert "stream: stream doesn't exist" in [notice["text"] for notice in checked["line"]["notices"]]


def test_applications_of_dags_that_the_user_cant_read_dont_exist(
    client: Clients, auth_manager: Any, drain_dag: Dags, store: CheckpointStoreHook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    dag = drain_dag("stream")
    dag.run()
    monkeypatch.setattr(type(auth_manager), "get_authorized_dag_ids", lambda *_, **__: {"another"})
    lines = client().get("api/applications").json()["applications"]
    assert dag.application not in [line["application"] for line in lines]
    query = {"name": dag.application, "stream": "stream"}
    for route in ("api/application", "api/check", "api/look"):
        assert client().get(route, params=query).status_code == 404


def test_applications_of_dags_whose_xcoms_the_user_cant_read_dont_exist(
    client: Clients, auth_manager: Any, drain_dag: Dags, store: CheckpointStoreHook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hidden, shown = drain_dag("stream"), drain_dag("stream", application=f"{store.application_name}-shown")
    for dag in (hidden, shown):
        dag.run()
    is_authorized = type(auth_manager).is_authorized_dag

    def no_xcoms_of_one(
        self: Any, *, details: DagDetails | None = None, access_entity: Any = None, **rest: Any
    ) -> bool:
        if access_entity is DagAccessEntity.XCOM and details is not None and details.id == hidden.dag_id:
            return False
        return bool(is_authorized(self, details=details, access_entity=access_entity, **rest))

    monkeypatch.setattr(type(auth_manager), "is_authorized_dag", no_xcoms_of_one)

    lines = client().get("api/applications").json()["applications"]
    names = {line["application"] for line in lines}
    assert {hidden.application, shown.application} & names == {shown.application}
    for dag, status in ((hidden, 404), (shown, 200)):
        query = {"name": dag.application, "stream": "stream"}
        assert client().get("api/application", params=query).status_code == status


def test_drains_that_others_may_read_take_no_room_from_those_of_the_user(
    client: Clients, auth_manager: Any, drain_dag: Dags, store: CheckpointStoreHook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = drain_dag("stream", application="a-before-all-others")
    dag = drain_dag("stream")
    for each in (before, dag):
        each.run()
    monkeypatch.setattr(type(auth_manager), "get_authorized_dag_ids", lambda *_, **__: {dag.dag_id})
    monkeypatch.setattr(history, "MAX_TASKS", 1)
    assert line_of(client(), dag.application)["dag_id"] == dag.dag_id


def test_an_application_that_no_drain_names_isnt_looked_up(
    client: Clients, store: CheckpointStoreHook
) -> None:
    query = {"name": store.application_name, "stream": "stream"}
    assert client().get("api/application", params=query).status_code == 404


def test_links_to_consoles_are_those_of_the_drain_and_lead_nowhere_else(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    bad, good = (StreamLink().xcom_key, LandingTableLink().xcom_key)
    dag.run(links={bad: "javascript:alert(1)", good: "https://app.snowflake.com/a/b"})
    query = {"name": dag.application, "stream": "stream"}
    page = client().get("api/application", params=query).json()
    assert page["links"] == {LandingTableLink.name: "https://app.snowflake.com/a/b"}


def test_tasks_of_other_operators_and_broken_xcoms_are_left_out(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    other = drain_dag("stream", application="of-another-operator")
    other.run(operator="PythonOperator")
    dag = drain_dag("stream")
    dag.run(state="running", progress={"at": 7, "records": "many"})
    lines = {line["application"]: line for line in client().get("api/applications").json()["applications"]}
    assert other.application not in lines
    assert lines[dag.application]["health"]["kind"] == "draining"


def test_no_more_runs_are_read_than_are_shown(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = drain_dag("stream")
    for number in range(4):
        dag.run(minutes_ago=10 - number, records=number)
    monkeypatch.setattr("airflow_kinesis_snowflake.monitoring.app.RUNS_ON_PAGE", 2)
    monkeypatch.setattr(history, "MAX_INSTANCES", 50)
    query = {"name": dag.application, "stream": "stream"}
    page = client().get("api/application", params=query).json()
    assert [run["records"] for run in page["runs"]] == [3, 2]


def page_of(client: TestClient, dag: DrainDag) -> dict[str, Any]:
    query = {"name": dag.application, "stream": dag.stream}
    page: dict[str, Any] = client.get("api/application", params=query).raise_for_status().json()
    return page


def test_a_failure_tells_its_reason_and_where_its_log_is(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    run_id = dag.run(state="failed", failure="AccessDeniedError: Grant INSERT.")
    health = line_of(client(), dag.application)["health"]
    assert health["reason"] == "AccessDeniedError: Grant INSERT."
    assert health["log"] == [dag.dag_id, run_id, "drain", 0]


def test_an_application_whose_dag_is_gone_says_so(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run()
    with create_session() as session:
        session.get_one(DagModel, dag.dag_id).is_stale = True
    line = line_of(client(), dag.application)
    assert (line["health"]["kind"], line["gone"]) == ("retired", True)
    assert page_of(client("admin"), dag)["control"] == {"trigger": False, "pause": False, "conf": {}}


def test_an_application_that_its_dag_no_longer_drains_can_be_dismissed(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run(minutes_ago=20)
    assert not line_of(client(), dag.application)["gone"]
    renamed = DrainDag(dag.dag_id, f"{dag.application}-2", "stream")
    renamed.run(minutes_ago=10)
    lines = {line["application"]: line for line in client().get("api/applications").json()["applications"]}
    assert (lines[dag.application]["gone"], lines[renamed.application]["gone"]) == (True, False)


def test_only_who_may_start_the_dag_is_offered_to_and_sees_its_settings(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run(conf={"workers": 3})
    assert page_of(client("viewer"), dag)["control"] == {"trigger": False, "pause": False, "conf": {}}
    assert page_of(client("op"), dag)["control"] == {"trigger": True, "pause": True, "conf": {"workers": 3}}


def test_thresholds_come_from_the_variable(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = drain_dag("stream")
    dag.run(shards={"shardId-0": ShardReport(millis_behind_latest=90_000)})
    assert line_of(client(), dag.application)["health"]["kind"] == "behind"
    said = {"applications": {dag.application: {"caught_up_seconds": 120}}}
    monkeypatch.setenv("AIRFLOW_VAR_KINESIS_SNOWFLAKE_THRESHOLDS", json.dumps(said))
    assert line_of(client(), dag.application)["health"]["kind"] == "caught_up"
    monkeypatch.setenv("AIRFLOW_VAR_KINESIS_SNOWFLAKE_THRESHOLDS", "{")
    answer = client().get("api/applications").json()
    assert [notice["text"] for notice in answer["notices"]] == ["The thresholds in the Variable aren't used"]
    assert line_of(client(), dag.application)["health"]["kind"] == "behind"


def test_dead_letters_come_with_reasons_and_sql(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream")
    dag.run(dead_letters=3, reasons={"not JSON": 3})
    letters = page_of(client(), dag)["letters"]
    assert (letters["count"], letters["reasons"]) == (3, [["not JSON", 3]])
    assert '"DB"."PUBLIC"."KINESIS_DEAD_LETTERS"' in letters["reasons_sql"]


def test_a_look_tells_whether_records_came_since_and_asks_once_a_minute(
    client: Clients, drain_dag: Dags, kinesis: KinesisClient, make_stream: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source = make_stream()
    clock = [0.0]
    monkeypatch.setattr(app, "_WATCHES", Watches(clock=lambda: clock[0]))
    dag = drain_dag(source)
    dag.run()
    found = CheckpointStoreHook(dag.application)
    found.create_table()
    [listed] = KinesisStreamHook(source).list_shards()
    found.create_shard(
        source, listed.shard_id, start_at=StartAt.parse("TRIM_HORIZON"), parents=(), incarnation="i",
        stream_created=1,
    )  # fmt: skip
    query = {"name": dag.application, "stream": source}

    def came() -> str:
        return str(client().get("api/look", params=query).raise_for_status().json()["came"])

    assert came() == "no"
    kinesis.put_record(StreamName=source, Data=b"{}", PartitionKey="k")
    assert came() == "no"
    clock[0] = 60.0
    assert came() == "yes"
    row = found.read_state(source).shards[listed.shard_id]
    now = now_millis()
    found.take_lease(source, row, owner="w", expiry=now + 30_000, now=now, incarnation="i")
    clock[0] = 120.0
    assert came() == "drained"


def test_where_nothing_can_be_seen_a_look_says_so(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook
) -> None:
    dag = drain_dag("stream", aws_conn_id="no_such_connection")
    dag.run()
    query = {"name": dag.application, "stream": "stream"}
    look = client().get("api/look", params=query).raise_for_status().json()
    assert look["came"] == "unknown"
    assert "Create the Airflow connection 'no_such_connection'" in look["text"]


def history_of(client: TestClient, dag: DrainDag, **query: str) -> dict[str, Any]:
    asked = {"name": dag.application, "stream": dag.stream, **query}
    found: dict[str, Any] = client.get("api/history", params=asked).raise_for_status().json()
    return found


def test_the_runs_of_some_days_are_shown_however_many_came_after(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = drain_dag("stream")
    for days_ago in (9, 8, 8, 2, 0):
        dag.run(minutes_ago=days_ago * 1440 + 1 + len(dag.runs), records=days_ago)
    dag.run(state="failed", minutes_ago=8 * 1440 + 30)
    monkeypatch.setattr(app, "RUNS_IN_TABLE", 2)
    today = datetime.now(UTC).date()
    days = {"since": str(today - timedelta(days=9)), "until": str(today - timedelta(days=7))}
    found = history_of(client(), dag, **days)
    assert found["runs_in_all"] == 4
    assert sorted(each["records"] for each in found["columns"]) == [0, 8, 8, 9]
    assert [each["state"] for each in found["columns"]].count("failed") == 1
    assert len(found["runs"]) == 2
    assert history_of(client(), dag, since=str(today), until=str(today))["runs_in_all"] <= 1


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2026-01-02", "until": "2026-01-01"},
        {"since": "2024-01-01", "until": "2026-01-01"},
        {"since": "2026-01-01", "until": "9999-12-31"},
        {"since": "2026-01-01", "until": "2026-01-01", "zone": "../etc/passwd"},
        {"since": "2026-01-01", "until": "2026-01-01", "zone": "No/Where"},
        {"since": "yesterday", "until": "2026-01-01"},
    ],
)
def test_days_that_cant_be_shown_are_refused(
    client: Clients, drain_dag: Dags, store: CheckpointStoreHook, query: dict[str, str]
) -> None:
    dag = drain_dag("stream")
    dag.run()
    asked = {"name": dag.application, "stream": "stream", **query}
    assert client().get("api/history", params=asked).status_code == 422


def test_a_day_is_one_of_the_users_time_zone() -> None:
    begin, end = app._span(date(2026, 3, 29), date(2026, 3, 29), "Europe/Berlin")
    assert (end - begin) / 3_600_000 == 23
    assert datetime.fromtimestamp(begin / 1000, UTC).isoformat() == "2026-03-28T23:00:00+00:00"
