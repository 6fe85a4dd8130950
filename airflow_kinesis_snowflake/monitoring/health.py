"""The health of an application: one sentence, and what to do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.alerts.rules import RETENTION, UNREAD, alerts_of_state
from airflow_kinesis_snowflake.alerts.thresholds import DEFAULT
from airflow_kinesis_snowflake.monitoring.drains import trend_of
from airflow_kinesis_snowflake.monitoring.owners import short_name
from airflow_kinesis_snowflake.monitoring.shard_status import of_status
from airflow_kinesis_snowflake.words import ago, counted, duration, named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_kinesis_snowflake.alerts.thresholds import Thresholds
    from airflow_kinesis_snowflake.maintenance.inspection import Inspection, StateFinding
    from airflow_kinesis_snowflake.monitoring.drains import Run
    from airflow_kinesis_snowflake.monitoring.shard_status import ShardLine


@dataclass(frozen=True)
class Schedule:
    """The schedule of the application's DAG. Times are milliseconds since the epoch.

    :param text: as Airflow shows it; empty: manual runs only
    :param due: when the next run is due; None: not known
    :param gone: Airflow no longer has the DAG
    """

    dag_id: str
    text: str = ""
    paused: bool = False
    due: int | None = None
    gone: bool = False


@dataclass(frozen=True)
class Health:
    """The health of an application.

    :param kind: a word for programs
    :param tone: ``good``, ``busy``, ``warning`` or ``bad``
    :param sentence: its condition
    :param advice: what to do now
    :param reason: why a drain failed, in its own words; empty: it didn't, or left none
    :param log: the task instance whose log has the details: DAG, run, task and map index
    :param until: when the state named first in the sentence ends, milliseconds since the epoch; the page
        inserts it, in the user's time zone
    """

    kind: str
    tone: str
    sentence: str
    advice: str
    reason: str = ""
    log: tuple[str, str, str, int] | None = None
    until: int | None = None


@dataclass(frozen=True)
class Notice:
    """Something worth knowing besides the sentence about the state.

    :param tone: ``warning`` or ``bad``
    :param advice: what to do about it
    """

    tone: str
    text: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class HealthInputs:
    """What is known about an application. Times are milliseconds since the epoch.

    :param runs: newest first; never empty
    :param lines: its shards; empty when the table couldn't be read
    :param unreadable: why it couldn't; empty if it was read
    :param thresholds: thresholds beyond which something is mentioned
    """

    now: int
    runs: Sequence[Run]
    lines: Sequence[ShardLine]
    schedule: Schedule
    unreadable: str = ""
    thresholds: Thresholds = DEFAULT

    @property
    def last(self) -> Run:
        """The newest run that has started, or otherwise the newest."""
        return next((run for run in self.runs if run.started is not None), self.runs[0])

    @property
    def lag(self) -> int | None:
        """The newest lag that any run reports."""
        return next((run.lag for run in self.runs if run.lag is not None), None)

    def late(self, lag: int | None) -> bool:
        """Whether a lag is more than what counts as caught up."""
        return lag is not None and lag > self.thresholds.caught_up_seconds * 1000


def health_of(inputs: HealthInputs) -> Health:
    """The health of the application: the first of these that holds.

    A drain runs; its DAG is gone; a worker is gone; the last drain failed; a shard is stuck; somebody else
    reads it; its DAG is paused; a run is late; it is behind; others held shards; it is caught up.
    """
    for judge in (_draining, _retired, _gone, _failed, _stuck, _elsewhere, _paused, _late, _behind, _held):
        health = judge(inputs)
        if health is not None:
            return health
    return _caught_up(inputs) if not inputs.unreadable else _half_known(_caught_up(inputs))


def _half_known(health: Health) -> Health:
    return Health(
        "half_known",
        "warning",
        f"{health.sentence}, according to its drains; its state in DynamoDB can't be read",
        "Drains can't run either while DynamoDB is unreachable or refuses access. Its message is below.",
    )


def _draining(e: HealthInputs) -> Health | None:
    run = e.last
    if run.state != "running":
        return None
    doing = "Draining" if run.following_until is None else "Following"
    if run.spoke is not None and e.now - run.spoke > e.thresholds.silent_seconds * 1000:
        return Health(
            "silent",
            "warning",
            f"{doing}, but the drain hasn't reported anything for {duration(e.now - run.spoke)}",
            "Check the log of the run. If its worker is gone, Airflow notices and retries by itself; "
            "nothing is lost or loaded twice.",
        )
    if run.following_until is not None:
        return _following(e, run)
    since = f"for {duration(e.now - (run.started or e.now))}"
    if run.lag is None or not e.late(run.lag):
        return Health(
            "draining", "busy", f"Draining {since}{_so_far(run)}", "Nothing to do: it ends by itself."
        )
    if trend_of(e.runs) == "growing":
        return Health(
            "draining",
            "warning",
            f"Draining {since}, behind by {duration(run.lag)} and growing",
            _MORE_WORKERS,
        )
    wait = run.seconds_to_catch_up
    estimate = f", about {duration(wait * 1000)} to go" if wait else ""
    return Health(
        "draining",
        "busy",
        f"Draining {since}, behind by {duration(run.lag)}{estimate}",
        "Nothing to do: it is catching up.",
    )


_MORE_WORKERS = (
    "More arrives than is loaded. Add workers (up to one per shard), or run the drain more often; if "
    "every shard already has its own worker, split the shards."
)


def _following(e: HealthInputs, run: Run) -> Health:
    behind, growing = "", False
    if run.lag is not None and e.late(run.lag):
        growing = trend_of(e.runs) == "growing"
        behind = f", behind by {duration(run.lag)}{' and growing' if growing else ''}"
    return Health(
        "following",
        "warning" if growing else "busy",
        f"Following{behind}{_so_far(run)}",
        _MORE_WORKERS if growing else "Nothing to do: it loads what arrives, and ends by itself.",
        until=run.following_until,
    )


def _so_far(run: Run) -> str:
    return f", {counted(run.records, 'record')} so far" if run.records else ""


def _retired(e: HealthInputs) -> Health | None:
    if not e.schedule.gone:
        return None
    return Health(
        "retired",
        "warning",
        f"Airflow has no DAG {e.schedule.dag_id} any more; the last drain ended {_ended(e)}",
        "To drain the stream again, restore the DAG's file. Otherwise dismiss this application; a cleanup "
        "removes its table.",
    )


def _gone(e: HealthInputs) -> Health | None:
    abandoned = of_status(e.lines, "abandoned")
    if not abandoned or e.last.state == "running":
        return None
    expired = min(-(line.lease_left or 0) for line in abandoned)
    owners = {line.owner or "" for line in abandoned}
    who = (
        f"worker {short_name(owners.pop())}'s lease"
        if len(owners) == 1
        else f"leases of {len(owners)} workers"
    )
    return Health(
        "gone",
        "warning",
        f"Stopped: {who} on {counted(len(abandoned), 'shard')} expired {duration(expired)} ago; "
        f"{_who_takes_over(e)}",
        f"{_how_to_go_on(e)} It reads Snowflake's offsets first, so nothing is lost or loaded twice.",
    )


def _who_takes_over(e: HealthInputs) -> str:
    return "its retry takes over" if e.last.state == "retrying" else "the next run takes over"


def _how_to_go_on(e: HealthInputs) -> str:
    if e.last.state == "retrying":
        return "Wait for the retry."
    if e.schedule.paused:
        return f"Unpause the DAG {e.schedule.dag_id}, or trigger it."
    if not e.schedule.text:
        return f"Trigger the DAG {e.schedule.dag_id}: it has no schedule."
    if e.schedule.due is not None and e.schedule.due > e.now:
        return f"Wait for the next run in {duration(e.schedule.due - e.now)}, or trigger it now."
    return "Wait for the next run, or trigger it now."


def _failed(e: HealthInputs) -> Health | None:
    run = e.last
    if run.state not in {"failed", "retrying"}:
        return None
    when = ago(run.ended, e.now) if run.ended is not None else "just now"
    behind = f", {duration(e.lag)} behind" if e.lag is not None and e.late(e.lag) else ""
    log = None if run.trouble is None else (run.dag_id, run.run_id, *run.trouble)
    if run.state == "retrying":
        return Health(
            "retrying",
            "warning",
            f"A worker failed {when} and is about to be retried{behind}",
            "Wait for the retry. What was committed stays; the rest is read again.",
            run.reason,
            log,
        )
    if log is None:
        look = (
            "A task before the drain failed, so the drain didn't start: open the run, and read that "
            "task's log."
        )
    elif run.reason:
        look = "Do what the message says."
    else:
        look = "It left no message, so it may have been killed: read the end of its log."
    return Health(
        "failed",
        "bad",
        f"The last drain failed {when}{behind}",
        f"{look} {_how_to_go_on(e)} What was committed stays; the rest is read again.",
        run.reason,
        log,
    )


def _stuck(e: HealthInputs) -> Health | None:
    stuck = of_status(e.lines, "stuck", "damaged")
    if not stuck:
        return None
    names = named(tuple(line.shard_id for line in stuck))
    lag = max((line.lag for line in stuck if line.lag is not None), default=0)
    late = f", {duration(lag)} behind" if e.late(lag) else ""
    return Health(
        "stuck",
        "bad",
        f"{counted(len(stuck), 'shard')} stuck{late}: {names}",
        f"{stuck[0].why}. Search the log of the last run for the shard's name; if its state is wrong, "
        "reset the shard.",
    )


def _elsewhere(e: HealthInputs) -> Health | None:
    reading = of_status(e.lines, "reading")
    if not reading or e.last.state == "running":
        return None
    owners = tuple(sorted({short_name(line.owner or "") for line in reading}))
    return Health(
        "elsewhere",
        "busy",
        f"Being read by {named(owners, most=2)}, which isn't a drain running here now",
        "Another Airflow, the Openflow connector, or a worker that has just ended. If nobody should be "
        "reading, stop it; a dead worker's lease expires within 30 s.",
    )


def _paused(e: HealthInputs) -> Health | None:
    if not e.schedule.paused:
        return None
    return Health(
        "paused",
        "warning",
        f"Paused: the last drain ended {_ended(e)}",
        f"Unpause the DAG {e.schedule.dag_id}. Records that exceed the stream's retention by then are lost.",
    )


def _late(e: HealthInputs) -> Health | None:
    due = e.schedule.due
    if due is None or e.now - due <= e.thresholds.late_seconds * 1000 or e.runs[0].state == "waiting":
        return None
    return Health(
        "late",
        "bad",
        f"Late: a run was due {ago(due, e.now)} and hasn't started",
        "Check whether Airflow's scheduler is healthy, and whether the DAG's limit of active runs or its "
        "pool is exhausted.",
    )


def _behind(e: HealthInputs) -> Health | None:
    if e.lag is None or not e.late(e.lag):
        return None
    trend = trend_of(e.runs)
    how = {
        "growing": " and growing",
        "shrinking": ", but catching up",
        "steady": ", neither growing nor shrinking",
    }
    advice = {"growing": _MORE_WORKERS, "steady": _MORE_WORKERS}.get(
        trend, f"{_how_to_go_on(e)} It continues where the last one stopped."
    )
    return Health(
        "behind",
        "bad" if trend == "growing" or e.lag > e.thresholds.lag_seconds * 1000 else "warning",
        f"Behind by {duration(e.lag)}{how.get(trend, '')}; the last drain ended {_ended(e)}",
        advice,
    )


def _held(e: HealthInputs) -> Health | None:
    run = next((run for run in e.runs if run.state == "success"), None)
    if run is None or not run.held_by_others:
        return None
    found = "found nothing new" if run.records == 0 else f"loaded {counted(run.records, 'record')}"
    owners = tuple(sorted({short_name(owner) for owner in run.held_by_others}))
    shards = counted(sum(run.held_by_others.values()), "shard")
    return Health(
        "held",
        "warning",
        f"The last drain {found} in the free shards; {shards} {_were(run.held_by_others)} held by "
        f"{named(owners, most=2)}",
        "Another Airflow, the Openflow connector or another DAG reads under this application's name. Stop "
        "it, or rename one of the two, unless they are meant to share the shards.",
    )


def _were(held: Mapping[str, int]) -> str:
    return "was" if sum(held.values()) == 1 else "were"


def _caught_up(e: HealthInputs) -> Health:
    if e.last.state == "waiting" and not any(run.over for run in e.runs):
        return Health("new", "busy", "The first drain is about to start", "Wait until a worker is free.")
    ended = next((run.ended for run in e.runs if run.state == "success" and run.ended is not None), None)
    if ended is None:
        return Health("new", "warning", "No drain has succeeded yet", _how_to_go_on(e))
    advice = "Nothing to do."
    if e.schedule.due is not None and e.schedule.due > e.now:
        advice += f" The next run starts in {duration(e.schedule.due - e.now)}."
    elif not e.schedule.text:
        advice += f" The DAG {e.schedule.dag_id} has no schedule: trigger it to load new records."
    return Health("caught_up", "good", f"Caught up {ago(ended, e.now)}", advice)


def _ended(e: HealthInputs) -> str:
    ended = next((run.ended for run in e.runs if run.ended is not None), None)
    return "at an unknown time" if ended is None else ago(ended, e.now)


def notices_of(
    inputs: HealthInputs, findings: Sequence[StateFinding], inspection: Inspection | None = None
) -> tuple[Notice, ...]:
    """What else is worth knowing, the worst first.

    :param findings: of the state check
    :param inspection: for the alerts that need the state; None: it couldn't be read
    """
    notices = []
    if inputs.unreadable:
        notices.append(
            Notice(
                "bad",
                f"The state in DynamoDB can't be read: {inputs.unreadable}",
                "Leases, checkpoints and shards are missing below; only what the drains reported is shown.",
            )
        )
    if inspection is not None:
        notices += alarms_of(inspection, inputs.thresholds)
    notices += [Notice("warning", f"{found.where}: {found.what}", f"{found.remedy}.") for found in findings]
    gaps = sum(len(run.gaps) for run in inputs.runs)
    if gaps:
        notices.append(
            Notice(
                "bad",
                f"Records were lost before they were read: {counted(gaps, 'gap')} in the drains below",
                "Drain more often, or extend the stream's retention. The dead-letter table shows which "
                "records.",
            )
        )
    rejected = sum(run.rejected_rows for run in inputs.runs)
    if rejected:
        notices.append(
            Notice(
                "bad",
                f"Snowflake rejected {counted(rejected, 'row')} that the drains below streamed",
                "Their logs name the shards and give Snowflake's reasons.",
            )
        )
    letters = sum(run.dead_letters for run in inputs.runs)
    if letters > inputs.thresholds.dead_letters:
        notices.append(
            Notice(
                "warning",
                f"{counted(letters, 'dead letter')} in the drains below",
                "See below for what is wrong with them, and how to replay them.",
            )
        )
    return tuple(notices)


def alarms_of(inspection: Inspection, thresholds: Thresholds) -> list[Notice]:
    """The alerts that the sentence at the top doesn't already cover."""
    return [
        Notice("bad", f"{alert.what[0].upper()}{alert.what[1:]}", alert.advice)
        for alert in alerts_of_state(inspection, thresholds)
        if alert.rule in {RETENTION, UNREAD}
    ]
