"""Checks of transactions, locks and the compare-and-set, with the statements of a load."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, failed, found, held, not_shown
from airflow_kinesis_snowflake.engine.offsets import OffsetKey, OffsetMove
from airflow_kinesis_snowflake.exceptions import (
    ServiceRefusedError,
    SnowflakeObjectNotFoundError,
    TransientError,
)
from airflow_kinesis_snowflake.sinks.snowflake import statements
from airflow_kinesis_snowflake.sinks.snowflake.statements import LOCK
from airflow_kinesis_snowflake.stream.positions import Position, encode_position

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.check.bench import Bench, Names
    from airflow_kinesis_snowflake.check.sessions import CheckSession
    from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement
    from airflow_kinesis_snowflake.sinks.snowflake.target import LandingTarget

KEY = OffsetKey("shardId-000000000000", "check")
_MOVE = OffsetMove(KEY.shard_id, KEY.incarnation, expected=None, through=Position("1"), records=1)


class Contest:
    """Two sessions that load the same shard from the same position."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self.target: LandingTarget = bench.target
        self.names: Names = bench.offset_names()
        self.first: CheckSession = stack.enter_context(bench.session())
        self.second: CheckSession = stack.enter_context(bench.session())
        self._bench = bench
        self.first.ensure_offsets(self.target, **self.names, keys=[OffsetKey(*LOCK), KEY])

    def move(self, batch: str, transaction: str) -> Statement:
        """The compare-and-set of a load."""
        return statements.move_offsets(
            self.target.offsets,
            **self.names,
            batch_id=batch,
            transaction=transaction,
            moves=[
                (
                    KEY.shard_id,
                    KEY.incarnation,
                    encode_position(_MOVE.expected),
                    encode_position(_MOVE.through),
                    _MOVE.records,
                )
            ],
        )

    def lock(self) -> Statement:
        """The lock of a load."""
        return statements.lock_offsets(self.target.offsets, **self.names)

    def winner(self, session: CheckSession | None = None) -> str | None:
        """Which batch the offset names; by default as a new session sees it."""
        if session is None:
            # A session that was already open may not see yet what another has committed.
            with self._bench.new_session() as reader:
                return self.winner(reader)
        offsets = session.read_offsets(self.target, **self.names, keys=[KEY])
        if offsets.refused:
            raise offsets.refused[KEY]
        return offsets.found[KEY].batch_id


def race(bench: Bench, *, first_commits: bool, locks: bool) -> Observation:
    """Make a second transaction wait for a first, and see which one moves the offset.

    :param locks: wait at the lock, as loads do; else at the compare-and-set itself
    """
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        one, two = contest.first.begin(), contest.second.begin()
        if locks:
            contest.first.rows(contest.lock())
        contest.first.rows(contest.move("first", one))
        query = contest.second.start(contest.lock() if locks else contest.move("second", two))
        wait = contest.second.wait_of(query)
        if first_commits:
            contest.first.commit()
        else:
            contest.first.roll_back()
        contest.second.finish(query)
        if locks:
            contest.second.rows(contest.move("second", two))
        contest.second.commit()
        winner = contest.winner()
    expected, ended = ("first", "COMMIT") if first_commits else ("second", "ROLLBACK")
    if not wait.waits:
        return failed(f"the second didn't wait for the first; the offset is the {winner or 'nobody'}'s")
    shown = "showed as BLOCKED" if wait.blocked else "waited, without showing as BLOCKED"
    moved = "1 row" if winner == "second" else "0 rows"
    text = f"the second {shown}, and after the first's {ended} moved {moved}"
    return found(winner == expected, text if winner else f"{text}; the first's move is lost")


def merge_twice(bench: Bench) -> Observation:
    """Two sessions add the row of one shard at the same time."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        key = OffsetKey("shardId-000000000001", "check")
        merge = statements.ensure_offsets(
            contest.target.offsets, **contest.names, keys=[(key.shard_id, key.incarnation)]
        )
        contest.first.begin()
        contest.second.begin()
        contest.first.rows(merge)
        query = contest.second.start(merge)
        wait = contest.second.wait_of(query)
        contest.first.commit()
        contest.second.finish(query)
        contest.second.commit()
        with bench.new_session() as reader:
            read = statements.read_offsets(
                contest.target.offsets, **contest.names, keys=[(key.shard_id, key.incarnation)]
            )
            rows = len(reader.rows(read))
    times = "once" if rows == 1 else f"{rows} times"
    return found(rows == 1, f"it is there {times}; the second {'waited' if wait.waits else 'did not wait'}")


def ended_transaction(bench: Bench) -> Observation:
    """A transaction is ended from elsewhere, and its session continues."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        transaction = contest.first.begin()
        contest.first.rows(contest.lock())
        contest.second.rows(f"SELECT SYSTEM$ABORT_TRANSACTION({int(transaction)})")
        try:
            contest.first.rows(contest.move("first", transaction))
            contest.first.commit()
        except (TransientError, ServiceRefusedError) as error:
            said = f"the session got an error ({type(error).__name__})"
        else:
            said = "the session got no error"
        winner = contest.winner()
    return found(
        winner is None, f"{said}; the compare-and-set moved {'0 rows' if winner is None else '1 row'}"
    )


def unguarded_update(bench: Bench) -> Observation:
    """The same with an UPDATE that doesn't name its transaction, in a session with AUTOCOMMIT off."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        transaction = contest.first.begin()
        contest.first.rows(contest.lock())
        contest.second.rows(f"SELECT SYSTEM$ABORT_TRANSACTION({int(transaction)})")
        update = f"""UPDATE {contest.target.offsets.sql} SET "BATCH_ID" = 'late' WHERE "APPLICATION" = %s"""
        try:
            contest.first.rows(statements.Statement(update, (contest.names["application"],)))
        except (TransientError, ServiceRefusedError) as error:
            return held(f"it was refused ({type(error).__name__})")
        contest.first.close()
        winner = contest.winner()
    return found(winner is None, f"it ran, and is {'not committed' if winner is None else 'committed'}")


def settled_doubt(bench: Bench) -> Observation:
    """After a COMMIT whose answer was lost, a new session must see its outcome."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        before = contest.winner(contest.second)
        transaction = contest.first.begin()
        contest.first.rows(contest.move("first", transaction))
        contest.first.commit()
        new, old = contest.winner(), contest.winner(contest.second)
        try:
            # The columns of DESCRIBE TRANSACTION: the sixth is the state.
            state = contest.second.rows(f"DESCRIBE TRANSACTION {int(transaction)}")[0][5]
        except (SnowflakeObjectNotFoundError, ServiceRefusedError):
            state = "unknown"
    text = f"a new session sees {'it' if new == 'first' else 'nothing'}, one that was open sees "
    text += f"{'it' if old == 'first' else 'nothing'}; DESCRIBE TRANSACTION says {state}"
    return found(before is None and new == "first", text)


def counted_rows(bench: Bench) -> Observation:
    """How many rows statements report as changed, where loads rely on it."""
    with ExitStack() as stack:
        contest = Contest(bench, stack)
        session = contest.first
        transaction = session.begin()
        nobody = statements.lock_offsets(contest.target.offsets, application="nobody", stream="nothing")
        counts = {
            "a lock": (session.changed(contest.lock()), 1),
            "a lock of nothing": (session.changed(nobody), 0),
            "a compare-and-set of another transaction": (session.changed(contest.move("first", "1")), 0),
            "a compare-and-set": (session.changed(contest.move("first", transaction)), 1),
            "the same again": (session.changed(contest.move("first", transaction)), 0),
        }
        session.roll_back()
    wrong = [
        f"{what} counts {count}, not {right}" for what, (count, right) in counts.items() if count != right
    ]
    return found(not wrong, "; ".join(wrong) or "all as expected")


def same_request(bench: Bench) -> Observation:
    """One statement is sent twice under one request id."""
    name = bench.scratch("SENT_TWICE")
    with bench.session() as session:
        if not session.can_run_twice:
            return not_shown("this version of the connector can't send a statement twice on request")
        session.rows(f"CREATE TABLE {name.sql} (N NUMBER(38, 0))")
        session.run_twice(f"INSERT INTO {name.sql} VALUES (1)")
        session.commit()
        count = session.value(f"SELECT COUNT(*) FROM {name.sql}")
    return found(count == 1, "it ran once" if count == 1 else f"it ran {count} times")


_FENCE = "Stop all drains and report it: two workers could load the same records."
CHECKS = (
    Check(
        name="compare-and-set-after-commit",
        tries="A compare-and-set waits for another, which commits: it moves 0 rows",
        promises=(),
        advice="Nothing to do: loads lock first (see fence-after-commit), so nothing rests on it.",
        needs=Needs.DATABASE,
        run=partial(race, first_commits=True, locks=False),
    ),
    Check(
        name="compare-and-set-after-rollback",
        tries="A compare-and-set waits for another, which rolls back: it moves 1 row",
        promises=(),
        advice="Nothing to do: loads lock first (see fence-after-rollback), so nothing rests on it.",
        needs=Needs.DATABASE,
        run=partial(race, first_commits=False, locks=False),
    ),
    Check(
        name="fence-after-commit",
        tries="A load waits for the lock of another, which commits: it moves 0 rows",
        promises=(1, 3),
        advice=_FENCE,
        needs=Needs.DATABASE,
        run=partial(race, first_commits=True, locks=True),
    ),
    Check(
        name="fence-after-rollback",
        tries="A load waits for the lock of another, which rolls back: it moves 1 row",
        promises=(1, 3),
        advice="Report it: a load that waits for one that fails would never get through.",
        needs=Needs.DATABASE,
        run=partial(race, first_commits=False, locks=True),
    ),
    Check(
        name="merge-twice",
        tries="Two MERGEs add the same offsets row at the same time: it exists once",
        promises=(10,),
        advice="A key that exists twice is refused, and its shard waits: delete one of the two rows then.",
        needs=Needs.DATABASE,
        run=merge_twice,
    ),
    Check(
        name="ended-transaction",
        tries="After SYSTEM$ABORT_TRANSACTION the compare-and-set moves 0 rows",
        promises=(1, 2),
        advice="Stop all drains and report it: offsets could move without their records.",
        needs=Needs.DATABASE,
        run=ended_transaction,
    ),
    Check(
        name="unguarded-update",
        tries="After SYSTEM$ABORT_TRANSACTION an UPDATE that names no transaction isn't committed",
        promises=(1, 2),
        advice="Report it: a late statement could commit by itself although AUTOCOMMIT is off.",
        needs=Needs.DATABASE,
        run=unguarded_update,
    ),
    Check(
        name="settled-doubt",
        tries="A new session sees what another has just committed",
        promises=(1, 2),
        advice="Report it: batches in doubt would be loaded twice or not at all.",
        needs=Needs.DATABASE,
        run=settled_doubt,
    ),
    Check(
        name="counted-rows",
        tries="UPDATEs report how many rows they changed",
        promises=(3,),
        advice="Report it: loads would refuse correct results, or wait for a row that exists.",
        needs=Needs.DATABASE,
        run=counted_rows,
    ),
)
SAME_REQUEST = Check(
    name="same-request",
    tries="A statement that is sent twice under one request id runs once",
    promises=(),
    advice="Nothing to do: a load does no harm when it runs twice.",
    needs=Needs.DATABASE,
    run=same_request,
)
