"""What was sent, what has landed and under which incarnation, and whether that is what was promised.

The ledger is told by the models what happens, when it happens, and knows nothing of the package's state but
what the rows of DynamoDB said at that moment.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_kinesis_snowflake.stream.positions import StartAt
from airflow_kinesis_snowflake.stream.times import millis
from tests.simulation.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.simulation.kinesis import ShardModel, Stream, User
    from tests.simulation.losses import Span
    from tests.simulation.snowflake import Loaded

    Item = Mapping[str, Any]


class BrokenPromiseError(AssertionError):
    """A promise of the package doesn't hold in a history."""


class Place(NamedTuple):
    """Of a user record among those of a shard; compares as positions do.

    :param sub: index inside the aggregate; 0 where there is none, infinite behind all of a Kinesis record
    """

    number: int
    sub: float = 0


@dataclass(frozen=True)
class Begin:
    """Where an incarnation begins.

    :param after: the last record that counts as loaded
    :param since: arrival of the first one that counts, in seconds since the epoch, where there is none such
    """

    after: Place | None
    since: float = -inf

    @classmethod
    def of(cls, after: Place | None, since: float | None) -> Begin:
        """The beginning that a row or a plan names."""
        return cls(after, -inf if since is None else since)

    def covers(self, user: User) -> bool:
        """Whether a user record is to be loaded under it."""
        return user.place > self.after if self.after is not None else user.arrival >= self.since


@dataclass(eq=False)
class Incarnation:
    """What came of a shard between two resets.

    :param id: as rows and offsets name it
    :param stream_created: of the stream that its row names (ms)
    :param begin: as the row says that began it
    :param order: of all incarnations
    :param ended: what ended it, if that keeps out whoever still works under it
    :param as_said: it begins where a plan said that records would be skipped, or where its parents began
    :param founding: the application begins with it
    :param first: the first record that landed as a row
    """

    id: str
    stream_created: int
    begin: Begin
    order: int
    ended: str | None = None
    as_said: bool = False
    founding: bool = False
    landed: set[Place] = field(default_factory=set)
    first: Place | None = None
    last: dict[bool, Place] = field(default_factory=dict)


@dataclass(frozen=True)
class Forecast:
    """What the plan of a reset says of a shard.

    :param begin: where it will begin; ``None``: with what arrives later, or it stays as it is
    :param again: how many records will be loaded again; ``None``: it doesn't say
    :param skips: it says that records will be skipped
    """

    shard_id: str
    begin: Begin | None
    again: int | None
    skips: bool


class Ledger:
    """Watches the tables.

    :param stream: what is sent
    :ivar checks: how often each promise was checked
    :ivar broken: what was found, in order
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.checks: Counter[str] = Counter()
        self.broken: list[str] = []
        self.landings = 0
        self.landed_by_replays = 0
        self._losses = Losses(stream)
        self._forgotten: dict[tuple[str, str], Incarnation] = {}
        self._founding: set[str] = set()
        self._began: dict[str, float] = {}
        self._skipped: set[Place] = set()
        self._plans: dict[str, tuple[float, Mapping[str, Forecast]]] = {}
        self._incarnations: dict[str, Incarnation] = {}
        self._current: dict[tuple[str, str], Incarnation] = {}
        self._rows: Counter[Place] = Counter()
        self._letters: Counter[tuple[Place, str]] = Counter()

    # --- what lands ----------------------------------------------------------------------------------------

    def current(self, application: str, shard_id: str) -> Incarnation | None:
        """The incarnation that the row of a shard names."""
        return self._current.get((application, shard_id))

    def named(self, application: str, shard_id: str) -> str:
        """The id of that incarnation; nothing if there is none."""
        current = self.current(application, shard_id)
        return "" if current is None else current.id

    def count_after(self, application: str, shard_id: str, place: Place) -> int:
        """How many records of a shard behind a place have landed, or are dead letters of an application.

        Each counts once.
        """
        letters = (each for each, of_application in +self._letters if of_application == application)
        places = {each for each in (*(+self._rows), *letters) if each > place}
        return sum(1 for each in places if self._stream.shard_of[each].shard_id == shard_id)

    def land(self, rows: Iterable[Loaded]) -> None:
        """Rows and dead letters of loads are committed."""
        for row in rows:
            if row.letter is not None and row.letter.gap is not None:
                self._losses.tell(row.shard_id, row.incarnation, row.letter.gap)
                continue
            self.landings += 1
            place = row.place
            if row.dead:
                self._letters[place, row.application] += 1
            else:
                self._rows[place] += 1
            incarnation = self._incarnations.get(row.incarnation)
            if incarnation is None:
                self._break(f"{row.shard_id} was loaded under an incarnation that no row had (promise 3)")
                return
            self._check_landing(row, incarnation)
            incarnation.landed.add(place)
            if incarnation.first is None and not row.dead:
                incarnation.first = place
            incarnation.last[row.dead] = place

    def gap_reported(self, application: str, shard_id: str, span: Span) -> None:
        """A drain warns of a gap, which has no dead letter where nothing of the shard was ever loaded."""
        incarnation = self.current(application, shard_id)
        if incarnation is None or incarnation.first is None:
            self._losses.tell(shard_id, "" if incarnation is None else incarnation.id, span)

    def replay(self, letters: Iterable[tuple[Loaded, bool]], again: Iterable[Loaded]) -> None:
        """Dead letters of a replay are gone, and what came of them is there, in one.

        :param letters: each with whether it was there yet
        """
        came = Counter((row.incarnation, row.place) for row in again)
        for letter, was_there in letters:
            self.landings += 1
            self.expect(
                was_there, "1: no dead letter is replayed twice", f"{letter.place} was replayed twice"
            )
            self.expect(
                came[letter.incarnation, letter.place] == 1,
                "1: of a dead letter comes a row or a dead letter",
                f"the dead letter {letter.place} is gone, and nothing came of it",
            )
            self._letters[letter.place, letter.application] -= 1
        for row in again:
            if row.dead:
                self._letters[row.place, row.application] += 1
            else:
                self.landed_by_replays += 1
                self._rows[row.place] += 1

    def _check_landing(self, row: Loaded, incarnation: Incarnation) -> None:
        place, shard_id = row.place, row.shard_id
        user = self._stream.users[place]
        self.expect(place not in incarnation.landed, "1: once", f"a record of {shard_id} landed twice")
        self.expect(
            incarnation.ended is None,
            "3: nothing lands under an incarnation that has ended",
            f"a record of {shard_id} landed under an incarnation that {incarnation.ended} had ended",
        )
        self.expect(
            incarnation.begin.covers(user),
            "1: nothing lands that comes before an incarnation",
            f"a record of {shard_id} landed that is before the beginning of its incarnation",
        )
        last = incarnation.last.get(row.dead)
        self.expect(last is None or last < place, "4: in order", f"{shard_id} was loaded out of order")
        if not incarnation.landed:
            self._check_parents(row.application, self._stream.shard_of[place], incarnation)

    def _check_parents(self, application: str, shard: ShardModel, incarnation: Incarnation) -> None:
        """A child that was begun after its parents is loaded after them.

        Who began to read a stream that was made anew since knows nothing of its lineage.
        """
        if self._stream.shard_made(incarnation.stream_created, shard.shard_id) is not shard:
            return
        for parent_id in shard.parents:
            of_parent = self._current.get((application, parent_id))
            if (
                of_parent is not None
                and of_parent.order < incarnation.order
                and of_parent.stream_created == incarnation.stream_created
            ):
                self.expect(
                    not self._unread(shard.family[parent_id], of_parent),
                    "4: after its parents",
                    f"{shard.shard_id} was loaded before its parent {parent_id} was finished",
                )

    def _unread(self, shard: ShardModel, incarnation: Incarnation) -> list[User]:
        """What is to be loaded under an incarnation, and neither was nor is said to have aged out."""
        unread = [
            user
            for user in shard.users
            if incarnation.begin.covers(user) and user.place not in incarnation.landed
        ]
        if incarnation.founding:
            # Of what aged out before the first record is loaded, nobody knows.
            first = incarnation.first
            horizon = self._stream.horizon
            unread = [
                user
                for user in unread
                if user.arrival >= horizon or (first is not None and user.place > first)
            ]
        return self._losses.untold(shard, unread, incarnation=incarnation.id)

    # --- what rows say -------------------------------------------------------------------------------------

    def row_written(self, application: str, writer: str, before: Item, after: Item) -> None:
        """A row of DynamoDB was written, or deleted if there is nothing after.

        No checkpoint is ahead of what Snowflake has committed, or goes back (promise 2). And nobody writes to
        the row of a shard that is another's, but to take the lease (promise 3).
        """
        shard_id = (after or before)["shardId"]["S"]
        if shard_id.startswith("__"):
            return
        owners = {row["leaseOwner"]["S"] for row in (before, after) if "leaseOwner" in row}
        self.expect(
            not owners or writer in owners,
            "3: only who has the lease writes a row",
            f"{writer} wrote to the row of {shard_id}, which is leased by {owners}",
        )
        if after.get("leaseOwner", {}).get("S") == writer != before.get("leaseOwner", {}).get("S"):
            self._check_stream(writer, after)
        if _incarnation(before) != _incarnation(after):
            self._change_incarnation(application, writer, before, after)
        elif before.get("startAt") != after.get("startAt"):
            self._move_begin(application, writer, after, self._current[application, shard_id])
        if after:
            self._check_checkpoint(application, before, after)

    def drain_begins(self, worker: str, at: float) -> None:
        """A worker begins.

        :param at: seconds since the epoch
        """
        self._began[worker] = at

    def _check_stream(self, worker: str, row: Item) -> None:
        """Who begins after a stream was made anew doesn't read by the checkpoints of the deleted one."""
        created = self._stream.created
        self.expect(
            self._began.get(worker, -inf) <= created.timestamp()
            or row["streamCreated"]["N"] == str(millis(created)),
            "8: nobody reads by the state of a deleted stream",
            f"{worker} reads by the checkpoint of a stream that was deleted",
        )

    def _check_checkpoint(self, application: str, before: Item, after: Item) -> None:
        shard_id = after["shardId"]["S"]
        checkpoint, previous = checkpoint_of(after), checkpoint_of(before)
        same = _incarnation(before) == _incarnation(after)
        if same and checkpoint == previous:
            return
        self.expect(
            not same or previous is None or (checkpoint is not None and checkpoint > previous),
            "2: no checkpoint goes back",
            f"the checkpoint of {shard_id} went back",
        )
        incarnation = self._current[application, shard_id]
        if checkpoint is None or checkpoint == incarnation.begin.after:
            return
        shard = self._stream.shard_at(checkpoint)
        self.expect(
            not any(user.place <= checkpoint for user in self._unread(shard, incarnation)),
            "2: no checkpoint is ahead",
            f"the checkpoint of {shard_id} is ahead of what landed",
        )

    def _change_incarnation(self, application: str, writer: str, before: Item, after: Item) -> None:
        shard_id = (after or before)["shardId"]["S"]
        old = self._end(application, shard_id, writer)
        if (named := _incarnation(after)) is None:
            if old is not None and "shardEnded" in before:
                self._forgotten[application, shard_id] = old
            return
        known = self._incarnations.get(named)
        if known is None:
            created = int(after["streamCreated"]["N"])
            known = Incarnation(named, created, _begin(after), order=len(self._incarnations))
            known.as_said = self._begins_as_said(application, writer, after)
            if "initialShardIds" in after:
                self._founding |= self._stream.shards.keys()
            known.founding = shard_id in self._founding
            self._incarnations[named] = known
            self._note_skipped(shard_id, writer, old, known)
        else:
            self.expect(
                bool(known.landed) or known.begin == _begin(after),
                "2: an incarnation begins where it began",
                f"{writer} gave {shard_id} an incarnation that had begun elsewhere",
            )
        # A recovery goes on under an incarnation that nobody could tell from one that goes on.
        known.ended = None
        self._current[application, shard_id] = known

    def _move_begin(self, application: str, writer: str, row: Item, incarnation: Incarnation) -> None:
        """A run of a reset writes what another run of it, which died since, had written before.

        Both begin with what arrives later, and this one is the later one.
        """
        shard_id = row["shardId"]["S"]
        self.expect(
            writer.startswith("reset#") and not incarnation.landed,
            "2: an incarnation begins where it began",
            f"{writer} moved the beginning of {shard_id}, under which something was loaded",
        )
        before = replace(incarnation)
        incarnation.begin = _begin(row)
        incarnation.as_said = self._begins_as_said(application, writer, row)
        self._note_skipped(shard_id, writer, before, incarnation)

    def _end(self, application: str, shard_id: str, writer: str) -> Incarnation | None:
        old = self._current.pop((application, shard_id), None)
        if old is not None:
            old.ended = writer
        return old

    def table_dropped(self, application: str, writer: str, keys: Iterable[str]) -> None:
        """A table of DynamoDB was deleted with its rows."""
        for shard_id in keys:
            self._end(application, shard_id, writer)

    # --- what resets say -----------------------------------------------------------------------------------

    def planned(self, writer: str, *, made_at: float, forecasts: Mapping[str, Forecast]) -> None:
        """The plan of a reset is made.

        :param writer: as who it will be carried out
        """
        self._plans[writer] = made_at, forecasts

    def check_forecast(self, application: str, forecast: Forecast) -> None:
        """What a plan says will be loaded again is what there is now, if nothing has landed meanwhile."""
        if forecast.begin is None or forecast.again is None:
            return
        shard = self._stream.shards.get(forecast.shard_id)
        if shard is None:
            return
        there = [
            user
            for user in shard.users
            if forecast.begin.covers(user)
            and (self._rows[user.place] or self._letters[user.place, application])
        ]
        self.expect(
            len(there) == forecast.again,
            "8: what is loaded again is said, with a number",
            f"{len(there)} records of {shard.shard_id} will be loaded again, and the plan says "
            f"{forecast.again}",
        )

    def _note_skipped(self, shard_id: str, writer: str, old: Incarnation | None, new: Incarnation) -> None:
        """What won't be read any more under the new incarnation, and wasn't under the old one.

        Only a reset may skip anything, and says so in its plan where it was there to be seen.
        """
        shard = self._stream.shard_made(new.stream_created, shard_id)
        if shard is None:
            return
        # Nobody can read a stream that was deleted, and drains refuse the row.
        gone = new.stream_created != millis(self._stream.created)
        # Nothing of the new stream is read under the checkpoints of a stream that was deleted.
        of_it = old is not None and old.stream_created == new.stream_created
        pending = self._unread(shard, old) if old is not None and of_it else shard.users
        skipped = [user for user in pending if not new.begin.covers(user)]
        made_at, _ = self._plans.get(writer, (inf, {}))
        self.expect(
            new.as_said
            or gone
            or (old is not None and not of_it)
            or not any(self._is_news(user, made_at) for user in skipped),
            "8: nothing is skipped that no reset says it skips",
            f"{writer} skips records of {shard_id} and didn't say so",
        )
        self._skipped |= {user.place for user in skipped}

    def _begins_as_said(self, application: str, writer: str, row: Item) -> bool:
        """Whether a plan said that a shard skips records, or it begins where its parents did."""
        _, forecasts = self._plans.get(writer, (inf, {}))
        forecast = forecasts.get(row["shardId"]["S"])
        parents = row.get("parentShardIds", {}).get("SS", ())
        of_parents = [self._current.get((application, parent)) for parent in parents]
        return (forecast is not None and forecast.skips) or any(
            each is not None and each.begin == _begin(row) for each in of_parents
        )

    def _is_news(self, user: User, made_at: float) -> bool:
        """Whether a record that is skipped was never loaded, and was there when the plan was made."""
        return user.arrival <= made_at and not self._has_landed(user.place)

    def _has_landed(self, place: Place) -> bool:
        return bool(self._rows[place]) or any(each == place for each, _ in +self._letters)

    # --- the end -------------------------------------------------------------------------------------------

    def check_end(self, application: str, *, recovered: bool) -> None:
        """Everything is there under the last incarnation of each shard (promise 1).

        What is before it was loaded before, or a reset has said that it is skipped.

        :param recovered: children may go on where channels say, of which their plan says that nobody knows
            whether an earlier reset had ended them, or a stream that was deleted; their parents have no rows
            then
        """
        for shard in self._stream.shards.values():
            key = application, shard.shard_id
            incarnation = self._current.get(key) or self._forgotten.get(key)
            missing = self._missed(shard) if incarnation is None else self._unread(shard, incarnation)
            if incarnation is None and recovered:
                missing = []
                if self._stream.remade:
                    continue
            skipped = [
                user
                for user in shard.users
                if not self._has_landed(user.place)
                and user.place not in self._skipped
                and user.arrival >= self._stream.horizon
            ]
            self.expect(
                not missing, "1: nothing is lost", f"{len(missing)} records of {shard.shard_id} are lost"
            )
            self.expect(
                not skipped,
                "1: nothing is skipped that no reset skipped",
                f"{len(skipped)} records of {shard.shard_id} have never landed",
            )
        self._check_without_gaps()

    def _missed(self, shard: ShardModel) -> list[User]:
        """The records of a shard without a row of which nobody was told.

        Nobody knows of what aged out before anybody began with it; and of several generations that came and
        went, only the last is named.
        """
        nobody_knows = shard.shard_id in self._founding or self._has_named_descendant(shard)
        horizon = self._stream.horizon if nobody_knows else -inf
        users = [user for user in shard.users if user.arrival >= horizon]
        return self._losses.untold(shard, users, incarnation="")

    def _has_named_descendant(self, shard: ShardModel) -> bool:
        children = [each for each in shard.family.values() if shard.shard_id in each.parents]
        return any(self._losses.of_whole(child) or self._has_named_descendant(child) for child in children)

    def _check_without_gaps(self) -> None:
        """Under every incarnation that was loaded is all from its beginning to where it ended."""
        reached: dict[Incarnation, Place] = {
            each: each.last[False] for each in self._incarnations.values() if False in each.last
        }
        for incarnation, place in reached.items():
            shard = self._stream.shard_of[place]
            gaps = [user for user in self._unread(shard, incarnation) if user.place < place]
            self.expect(
                not gaps,
                "1: no incarnation has gaps",
                f"{len(gaps)} records of {shard.shard_id} are missing amid those of an incarnation",
            )

    def expect(self, holds: bool, promise: str, what: str) -> None:
        """Check a promise once.

        :param promise: its number, and what it says, to count by
        :param what: is said if it doesn't hold
        """
        self.checks[promise] += 1
        if not holds:
            self._break(f"{what} (promise {promise})")

    def _break(self, what: str) -> None:
        self.broken.append(what)


def checkpoint_of(row: Item) -> Place | None:
    """The checkpoint that a row has."""
    if "sequenceNumber" not in row:
        return None
    number = row["sequenceNumber"]["S"]
    sub = row.get("subSequenceNumber") if row.get("subSequenceOf", {}).get("S") == number else None
    return Place(int(number), inf if sub is None else int(sub["N"]))


def _incarnation(row: Item) -> str | None:
    named: str | None = row.get("incarnation", {}).get("S")
    return named


def _begin(row: Item) -> Begin:
    since = StartAt.parse(row["startAt"]["S"]).timestamp
    return Begin.of(checkpoint_of(row), None if since is None else since.timestamp())
