"""What plans of resets decide, and that they survive a trip through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, MaintenanceRefusedError
from airflow_kinesis_snowflake.maintenance.inspection import Inspection, ShardView
from airflow_kinesis_snowflake.maintenance.reset.changes import Action, ShardChange
from airflow_kinesis_snowflake.maintenance.reset.committed import CommittedOffset
from airflow_kinesis_snowflake.maintenance.reset.due import due_shards
from airflow_kinesis_snowflake.maintenance.reset.forecast import Outlook, with_effect, without_outlook
from airflow_kinesis_snowflake.maintenance.reset.peek import NextRecord
from airflow_kinesis_snowflake.maintenance.reset.plan import ResetPlan, plan_text, refusals
from airflow_kinesis_snowflake.maintenance.reset.positions import parse_position
from airflow_kinesis_snowflake.maintenance.reset.recover import committed_by_shard, notes_of_return
from airflow_kinesis_snowflake.maintenance.reset.registry import METHODS, find_method
from airflow_kinesis_snowflake.maintenance.reset.request import ResetRequest
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.stream.positions import Position, sequence_facts
from airflow_kinesis_snowflake.stream.times import millis

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_800_000_000_000
DAY = 86_400_000
FIRST, SECOND, CHILD = (f"shardId-00000000000{number}" for number in range(3))


ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
ELSEWHERE = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"


def request(method: str = "rewind", **asked: Any) -> ResetRequest:
    settings = {"position": "TRIM_HORIZON"} if method == "rewind" else {}
    if method == "rename":
        settings["new_application_name"] = "app-2"
    return ResetRequest(application="app", stream="orders", method=method, **settings | asked)


def view(shard_id: str = FIRST, **facts: Any) -> ShardView:
    known: dict[str, Any] = {
        "row": True,
        "listed": True,
        "checkpoint": Position("100"),
        "incarnation": f"old-{shard_id}",
        "stream_created": 1,
    }
    return ShardView(shard_id=shard_id, **known | facts)


def inspection(*shards: ShardView, **facts: Any) -> Inspection:
    known: dict[str, Any] = {
        "application": "app",
        "stream": "orders",
        "at": NOW,
        "table_created": 5,
        "table_status": "ACTIVE",
        "protected": False,
        "stream_created": 1,
        "retention_seconds": 86_400,
        "workers": {},
        "findings": (),
    }
    return Inspection(shards=shards, **known | facts)


def changes(
    asked: ResetRequest, *shards: ShardView, offsets: Sequence[CommittedOffset] = ()
) -> dict[str, ShardChange]:
    decision = find_method(asked.method).decide(
        asked, inspection(*shards), offsets=offsets, new_incarnation=lambda: "new"
    )
    return {change.shard_id: change for change in decision.changes}


def offset(shard_id: str = FIRST, number: str | None = "200", **facts: Any) -> CommittedOffset:
    position = None if number is None else Position(number)
    return CommittedOffset(
        **{"shard_id": shard_id, "incarnation": f"old-{shard_id}", "position": position} | facts
    )


def test_a_rewind_gives_every_shard_a_new_incarnation_and_forgets_its_checkpoint() -> None:
    change = changes(request(), view())[FIRST]
    assert (change.action, change.new_incarnation) == (Action.SET, "new")
    assert (change.new_checkpoint, change.new_start_at) == (None, "TRIM_HORIZON")


def test_a_rewind_of_some_shards_leaves_the_others_alone() -> None:
    assert set(changes(request(shards=(SECOND,)), view(FIRST), view(SECOND))) == {SECOND}


def test_a_rewind_makes_rows_for_shards_that_were_before_the_start() -> None:
    made = changes(request(), view(FIRST, row=False, checkpoint=None, incarnation=None), view(CHILD))
    assert made[FIRST].action is Action.CREATE


def missing(shard_id: str, *parents: str) -> ShardView:
    return view(shard_id, row=False, checkpoint=None, incarnation=None, stream_created=None, parents=parents)


def test_a_row_that_would_keep_ancestors_from_being_read_is_refused() -> None:
    shards = (view(FIRST), missing(SECOND), missing(CHILD, SECOND))
    (reason,) = refusals(request(shards=(CHILD,)), inspection(*shards))
    assert SECOND in reason
    assert refusals(request(shards=(SECOND, CHILD)), inspection(*shards)) == []
    assert refusals(request(), inspection(*shards)) == []


def test_ancestors_that_nobody_would_read_anyway_keep_no_row_from_being_made() -> None:
    shards = (missing(FIRST), view(SECOND, parents=(FIRST,)), missing(CHILD, SECOND))
    assert refusals(request(shards=(CHILD,)), inspection(*shards)) == []


def test_shards_without_a_row_are_due_unless_a_shard_with_one_descends_from_them() -> None:
    shards = (missing(FIRST), view(SECOND, parents=(FIRST,)), missing(CHILD, SECOND))
    assert due_shards(inspection(*shards)) == {CHILD}


def test_a_shard_that_has_left_the_stream_stays_as_it_is() -> None:
    assert changes(request(), view(listed=False))[FIRST].action is Action.KEEP


@pytest.mark.parametrize("facts", [{"stream_created": 77}, {"readable": False}])
def test_a_row_that_no_stream_and_nobody_can_use_is_removed(facts: dict[str, Any]) -> None:
    assert changes(request(), view(listed=False, **facts))[FIRST].action is Action.REMOVE


def test_a_sequence_number_becomes_the_checkpoint() -> None:
    change = changes(request(position="150", shards=(FIRST,)), view())[FIRST]
    assert change.new_checkpoint == Position("150")


def test_a_recovery_goes_on_behind_what_snowflake_has_under_the_same_incarnation() -> None:
    change = changes(request("recover"), view(), offsets=[offset()])[FIRST]
    assert (change.action, change.new_checkpoint) == (Action.SET, Position("200"))
    assert change.new_incarnation == f"old-{FIRST}"


def test_a_recovery_leaves_rows_alone_that_agree() -> None:
    row = view(checkpoint=Position("200"))
    assert changes(request("recover"), row, offsets=[offset()])[FIRST].action is Action.KEEP


def test_a_recovery_of_a_lost_table_starts_what_snowflake_never_saw() -> None:
    gone = {"row": False, "checkpoint": None, "incarnation": None}
    made = changes(request("recover"), view(FIRST, **gone), view(SECOND, **gone), offsets=[offset()])
    assert made[FIRST].new_checkpoint == Position("200")
    assert (made[SECOND].action, made[SECOND].new_start_at) == (Action.CREATE, "TRIM_HORIZON")


def test_a_recovery_leaves_parents_alone_whose_children_were_loaded() -> None:
    gone = {"row": False, "checkpoint": None, "incarnation": None}
    parent, child = view(FIRST, **gone), view(CHILD, parents=(FIRST,), **gone)
    made = changes(request("recover"), parent, child, offsets=[offset(CHILD)])
    assert made[FIRST].action is Action.KEEP


def test_a_recovered_shard_that_left_the_stream_counts_as_ended() -> None:
    assert changes(request("recover"), offsets=[offset()])[FIRST].new_ended


def test_the_row_says_which_incarnation_is_recovered() -> None:
    offsets = [
        offset(incarnation="stranger", number="900", updated=9.0),
        offset(number="300", updated=1.0),
    ]
    chosen, _ = committed_by_shard(offsets, inspection(view()))
    assert chosen[FIRST].position == Position("300")


def test_without_a_row_the_incarnation_that_moved_last_is_recovered_unless_closed() -> None:
    offsets = [
        offset(incarnation="older", number="900", updated=1.0),
        offset(incarnation="newer", number="300", updated=2.0),
        offset(incarnation="ended", number="999", updated=3.0, closed=True),
    ]
    chosen, _ = committed_by_shard(offsets, inspection())
    assert chosen[FIRST].incarnation == "newer"


def test_without_a_row_an_incarnation_that_is_closed_for_one_sink_is_closed_for_all() -> None:
    offsets = [offset(closed=True), offset(sink=STREAMING, number=None)]
    chosen, _ = committed_by_shard(offsets, inspection())
    assert chosen == {}


@pytest.mark.parametrize("facts", [{"row": False}, {"readable": False}])
def test_a_recovery_ends_an_incarnation_of_which_only_an_empty_channel_is_left(facts: dict[str, Any]) -> None:
    """Where it began was in its row, and dead letters ahead of that would count as committed."""
    lost = view(checkpoint=None, incarnation=None, **facts)
    change = recovered(lost, offset(sink=STREAMING, number=None))
    assert (change.new_incarnation, change.new_checkpoint, change.new_sinks) == ("new", None, ())
    assert (change.incarnation, change.new_sink) == (f"old-{FIRST}", STREAMING)


def test_a_recovery_keeps_the_incarnation_of_an_empty_channel_that_a_row_names() -> None:
    row = view(checkpoint=None, sinks=(STREAMING,), unsettled=True)
    assert recovered(row, offset(sink=STREAMING, number=None)).action is Action.KEEP


def test_a_recovery_begins_anew_what_a_reset_closed_before_that_sink_had_committed_anything() -> None:
    row = view(checkpoint=Position("200"), offset=None, offsets={STREAMING: Position("200")}, sinks=(COPY,))
    change = recovered(row, offset(number=None, closed=True))
    assert (change.action, change.new_incarnation) == (Action.SET, "new")
    assert change.new_checkpoint == Position("200")


@pytest.mark.parametrize("sinks", [(STREAMING,), (COPY, STREAMING)])
@pytest.mark.parametrize("streamed", ["100", "200", "300", None])
def test_a_recovery_begins_anew_what_is_closed_for_one_sink_whatever_another_has_committed_since(
    sinks: tuple[str, ...], streamed: str | None
) -> None:
    row = view(checkpoint=Position("200"), offset=Position("150"), sinks=sinks)
    channels = [offset(sink=STREAMING, number=streamed)] if streamed else []
    change = recovered(row, offset(number="150", closed=True), *channels)
    assert (change.action, change.new_incarnation) == (Action.SET, "new")
    assert change.new_checkpoint == Position("300" if streamed == "300" else "200")


@pytest.mark.parametrize(
    ("copied", "streamed", "checkpoint"),
    [
        ("150", "300", "300"),
        ("300", "150", "300"),
        ("150", "150", "200"),
        (None, "300", "300"),
        (None, None, "200"),
    ],
)
def test_a_recovery_begins_anew_what_two_sinks_have_in_doubt(
    copied: str | None, streamed: str | None, checkpoint: str
) -> None:
    """Under the old incarnation a drain with either would wait for the other one."""
    row = view(checkpoint=Position("200"), offset=None, sinks=(COPY, STREAMING), unsettled=True)
    offsets = [
        offset(sink=sink, number=number) for sink, number in ((COPY, copied), (STREAMING, streamed)) if number
    ]
    change = recovered(row, *offsets)
    assert (change.action, change.new_incarnation, change.new_sinks) == (Action.SET, "new", ())
    assert change.new_checkpoint == Position(checkpoint)


def test_without_a_row_an_offset_of_a_deleted_stream_doesnt_count() -> None:
    number = "49678550650194360514240687840140960923978025014294216706"
    facts = sequence_facts(number)
    assert facts is not None
    made = millis(facts.shard_created)
    nothing: dict[str, Any] = {"row": False, "checkpoint": None, "incarnation": None}

    of_another, _ = committed_by_shard([offset(number=number)], inspection(view(made=made + 1000, **nothing)))
    of_this, _ = committed_by_shard([offset(number=number)], inspection(view(made=made, **nothing)))

    assert (of_another, of_this[FIRST].position) == ({}, Position(number))


def test_there_is_no_recovery_of_the_state_of_a_deleted_stream() -> None:
    with pytest.raises(MaintenanceRefusedError, match="use delete_table or rewind"):
        changes(request("recover"), view(stream_created=0), offsets=[offset()])


def test_under_an_incarnation_that_a_reset_begins_no_sink_has_loaded() -> None:
    row = view(checkpoint=None, sinks=(COPY, STREAMING))
    assert changes(request(), row)[FIRST].new_sinks == ()
    assert recovered(row, offset(number=None, closed=True)).new_sinks == ()


def test_a_checkpoint_never_goes_back_in_a_recovery_unless_snowflake_is_trusted() -> None:
    chosen, notes = committed_by_shard([offset(number="50")], inspection(view()))
    assert chosen == {}
    assert FIRST in notes[0]
    chosen, notes = committed_by_shard([offset(number="50")], inspection(view()), backwards=True)
    assert chosen[FIRST].position == Position("50")
    assert notes == []


TRUSTING = {"trust_snowflake": True}


def recovered(row: ShardView, *offsets: CommittedOffset, **asked: Any) -> ShardChange:
    wanted = request("recover", **asked)
    return changes(wanted, row, offsets=offsets)[FIRST]


def test_a_plain_recovery_says_that_snowflake_went_back_and_changes_nothing() -> None:
    row = view(offset=Position("100"))
    chosen, notes = committed_by_shard([offset(number="50")], inspection(row))
    assert chosen == {}
    assert "trust_snowflake" in notes[0]
    chosen, notes = committed_by_shard([], inspection(row))
    assert chosen == {}
    assert "trust_snowflake" in notes[0]


def test_a_checkpoint_follows_snowflake_back_under_the_same_incarnation() -> None:
    change = recovered(view(offset=Position("100")), offset(number="50"), **TRUSTING)
    assert (change.action, change.new_checkpoint, change.new_offset) == (
        Action.SET,
        Position("50"),
        Position("50"),
    )
    assert change.new_incarnation == f"old-{FIRST}"


def test_a_shard_that_snowflake_forgot_starts_where_it_did_and_its_age_is_looked_at() -> None:
    row = view(offset=Position("100"), start_at="TRIM_HORIZON", made=NOW - 9 * DAY)
    change = recovered(row, **TRUSTING)
    assert (change.action, change.new_checkpoint, change.new_start_at) == (Action.SET, None, "TRIM_HORIZON")
    assert change.new_caught_up_at == NOW - 9 * DAY
    later = recovered(row, position="2027-01-15T07:00:00Z", **TRUSTING)
    assert later.new_start_at == "2027-01-15T07:00:00.000+00:00"
    assert later.new_caught_up_at == 1_799_996_400_000


def test_an_imported_checkpoint_of_which_nothing_was_loaded_stays() -> None:
    row = view(offset=None)
    assert recovered(row, offset(number=None), **TRUSTING).action is Action.KEEP
    assert recovered(row, **TRUSTING).action is Action.KEEP


def test_a_checkpoint_that_other_software_moved_stays() -> None:
    """The Openflow connector leaves rows without an incarnation."""
    row = view(incarnation=None)
    assert recovered(row, offset(number="50"), **TRUSTING).action is Action.KEEP


def test_a_checkpoint_behind_records_that_brought_nothing_stays() -> None:
    row = view(checkpoint=Position("120"), offset=Position("100"), ended=True)
    assert recovered(row, offset(number="100"), **TRUSTING).action is Action.KEEP


def test_an_ended_shard_that_went_back_is_read_again() -> None:
    row = view(offset=Position("100"), ended=True)
    assert not recovered(row, offset(number="50"), **TRUSTING).new_ended


def test_what_is_lost_of_a_shard_that_left_the_stream_is_left_to_the_drain_to_say() -> None:
    row = view(offset=Position("100"), ended=True, listed=False)
    change = recovered(row, offset(number="50"), **TRUSTING)
    assert (change.action, change.new_ended) == (Action.SET, False)
    assert "reports the loss" in without_outlook(change).effect


@pytest.mark.parametrize("asked", [{}, TRUSTING])
def test_a_shard_whose_reset_died_half_way_goes_on_under_a_new_incarnation(asked: dict[str, Any]) -> None:
    row = view(offset=Position("100"))
    change = recovered(row, offset(number="100", closed=True), **asked)
    assert (change.action, change.new_checkpoint) == (Action.SET, Position("100"))
    assert (change.new_incarnation, change.new_offset) == ("new", None)


def test_trust_belongs_to_recover() -> None:
    with pytest.raises(InvalidSettingError, match="recover"):
        request("rewind", **TRUSTING)


def test_the_plan_says_what_is_not_known_of_shards_that_go_back() -> None:
    part = recovered(view(offset=Position("100")), offset(number="50"), **TRUSTING)
    whole = recovered(view(offset=Position("100")), **TRUSTING)
    notes = " ".join(notes_of_return([replace(part, retained=False), whole], 86_400))
    for words in ("2 shards go back", "24 hours", "has left the stream", "Snowflake has nothing of them"):
        assert words in notes
    assert notes_of_return([recovered(view(), offset(number="100"), **TRUSTING)], 86_400) == []


@pytest.mark.parametrize(
    ("asked", "facts", "reason"),
    [
        (request(), {"table_created": None, "table_status": None}, "there is no table"),
        (request(), {"table_status": "DELETING"}, "DELETING"),
        (request(), {"stream_created": None}, "there is no orders here"),
        (request("delete_table"), {"protected": True}, "protected"),
        (request(shards=("nobody",)), {}, "no shard nobody"),
        (request(), {"stream_arn": ELSEWHERE}, f"has the checkpoints of {ARN}, and not of {ELSEWHERE}"),
        (request(position="2100-01-01T00:00:00Z"), {}, "in the future"),
        (request(position="2020-01-01T00:00:00Z"), {}, "older than the stream keeps"),
    ],
)
def test_what_cannot_be_done_is_refused(asked: ResetRequest, facts: dict[str, Any], reason: str) -> None:
    assert any(reason in refusal for refusal in refusals(asked, inspection(view(stream_arn=ARN), **facts)))


@pytest.mark.parametrize("method", list(METHODS))
def test_what_can_be_done_is_not_refused(method: str) -> None:
    for shard in (view(), view(stream_arn=ARN)):
        assert refusals(request(method), inspection(shard, stream_arn=ARN)) == []


@pytest.mark.parametrize(
    ("method", "refused"), [("rewind", False), ("recover", False), ("delete_table", True)]
)
def test_an_initial_position_is_looked_at_by_methods_that_start_there(method: str, refused: bool) -> None:
    asked = request(method, initial_position="2020-01-01T00:00:00Z")
    assert any("older than" in reason for reason in refusals(asked, inspection(view()))) == refused


@pytest.mark.parametrize("text", ["TRIM_HORIZON", "LATEST", "2027-01-15T08:00:00.000+00:00"])
def test_a_start_is_read_as_it_is_written(text: str) -> None:
    assert parse_position(text) == (None, text)


@pytest.mark.parametrize("text", ["", "yesterday", "2027-01-15T08:00:00", "-1", "0123", "²"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettingError):
        parse_position(text)


seen = st.none() | st.builds(
    NextRecord, st.integers(1, 10**60).map(lambda number: Position(str(number))), st.integers(0, NOW)
)


@given(seen, seen, st.none() | st.integers(0, 10**9))
def test_what_snowflake_has_is_loaded_again_wherever_something_is_read(
    now: NextRecord | None, then: NextRecord | None, again: int | None
) -> None:
    change = ShardChange(shard_id=FIRST, action=Action.SET)
    done = with_effect(change, Outlook(now, then), again=again)
    assert done.loaded_again == (0 if then is None else again)
    assert done.effect


@given(
    st.builds(
        ShardChange,
        shard_id=st.text(min_size=1),
        action=st.sampled_from(Action),
        checkpoint=st.none() | st.builds(Position, st.just("9" * 56), st.none() | st.integers(0, 9)),
        new_start_at=st.none() | st.sampled_from(["TRIM_HORIZON", "LATEST"]),
        parents=st.lists(st.text()).map(tuple),
        loaded_again=st.none() | st.integers(0, 10**12),
        retained=st.none() | st.booleans(),
    )
)
def test_a_plan_is_the_same_after_json(change: ShardChange) -> None:
    plan = ResetPlan(
        id="a", request=request(), made_at=NOW, table_created=1, stream_created=None, changes=(change,)
    )
    plain = plan.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert ResetPlan.from_dict(plain) == plan


@pytest.mark.parametrize("plain", [{}, {"id": 1}, {"id": "a", "request": None}])
def test_what_is_no_plan_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError, match="isn't the plan of a reset"):
        ResetPlan.from_dict(plain)


def test_the_text_says_per_shard_what_is_and_what_will_be() -> None:
    change = with_effect(
        ShardChange(
            shard_id=FIRST,
            action=Action.SET,
            checkpoint=Position("100"),
            new_start_at="TRIM_HORIZON",
            lease="held: worker-7",
            updated=NOW - DAY * 3,
        ),
        Outlook(NextRecord(Position("101"), NOW), NextRecord(Position("3"), NOW - DAY)),
        again=1234,
    )
    plan = ResetPlan(
        id="a", request=request(), made_at=NOW, table_created=1, stream_created=1, changes=(change,)
    )
    text = plan_text(plan)
    for part in (FIRST, "100", "TRIM_HORIZON", "held: worker-7", "3 d ago", "1,234 records", "orders"):
        assert part in text
