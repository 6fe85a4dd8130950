"""One run of the torture: everything at once, then the truth."""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import snowflake.connector

from airflow_kinesis_snowflake.hooks.checkpoint import CheckpointStoreHook
from airflow_kinesis_snowflake.identifiers import TableName
from airflow_kinesis_snowflake.sinks.snowflake.factories import COPY, STREAMING
from airflow_kinesis_snowflake.stream.positions import Position, decode_position, encode_position
from local.fan_out import FanOut
from local.services import wait_until_active
from tests.faults.detours import through
from tests.faults.proxy import FaultProxy
from tests.faults.snowflake import NastySnowflake
from tests.faults.streaming import NastyStreaming
from tests.helpers import fetch
from tests.torture.crew import Crew, Preparation
from tests.torture.journal import Journal
from tests.torture.stream import Producer, Resharder
from tests.torture.verdicts import Landed, Verdict, judge
from tests.torture.weather import FAULTS, Weather
from tests.workers import Job, WorkerProcess, warm_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.services import LocalServices

    Offsets = dict[tuple[str | None, ...], str]
    """Encoded positions, by shard and incarnation."""

SHARDS = 3
FINISHING_SECONDS = 60
LAST_DRAIN_SECONDS = 300
LAST_DRAINS = 2


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do.

    :param seconds: it goes on for at least so long
    :param kills: and until there were so many
    :param pauses: and until there were so many
    :param longest_seconds: but not for longer than this
    :param mutant: a defect to put into every worker: ``module:function``
    :param fan_out: have records pushed; faults meet the GetRecords behind a subscription, which breaks off
    :param sink: ``copy`` or ``streaming``
    """

    seed: int
    seconds: float
    workers: int = 3
    kills: int = 0
    pauses: int = 0
    longest_seconds: float = 7200.0
    mutant: str | None = None
    fan_out: bool = False
    sink: str = COPY


@dataclass
class Outcome:
    """What a run brought.

    :param figures: counted, by name
    :param faults: requests that met a fault, by kind
    :param unexpected: drains that failed with what another try doesn't mend, and promises found broken on the
        way
    """

    verdict: Verdict
    figures: dict[str, float]
    faults: Counter[str] = field(default_factory=Counter)
    unexpected: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether all promises were kept."""
        return self.verdict.good and not self.unexpected


class Auditor:
    """Looks, while all else goes on, whether a checkpoint is ahead of what Snowflake has committed.

    :param offsets: reads how far Snowflake has committed, by shard and incarnation
    """

    def __init__(self, *, store: CheckpointStoreHook, stream: str, offsets: Callable[[], Offsets]) -> None:
        self._store = store
        self._stream = stream
        self._offsets = offsets
        self.audits = 0
        self.objections: dict[str, None] = {}

    def act(self) -> float:
        """Look once. The checkpoints come first: offsets read later can only be further."""
        if not self._store.exists():
            return 0.5
        shards = self._store.read_state(self._stream).shards.values()
        checkpoints = {shard.shard_id: shard for shard in shards if shard.checkpoint is not None}
        if not checkpoints:
            return 0.5
        offsets = self._offsets()
        for shard in checkpoints.values():
            committed = offsets.get((shard.shard_id, shard.incarnation), "")
            if encode_position(shard.checkpoint) > committed:
                objection = (
                    f"{shard.shard_id} is checkpointed at {shard.checkpoint}, committed at {committed!r}"
                )
                self.objections[objection] = None
        self.audits += 1
        return 0.5


class Torture:
    """Sets up a stream, an application and a table of its own on the local services."""

    def __init__(self, plan: Plan, services: LocalServices, journal: Journal) -> None:
        self._plan = plan
        self._services = services
        self._journal = journal
        unique = f"torture-{plan.seed}-{os.getpid()}-{random.SystemRandom().getrandbits(24):06x}"
        self._stream = self._application = unique
        database = unique.upper().replace("-", "_")
        self._table = TableName(database, "PUBLIC", "RECORDS")
        self._dead_letters = self._table.beside("KINESIS_DEAD_LETTERS")
        self._snowflake = snowflake.connector.connect(**services.snowflake_parameters())
        with self._snowflake.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {database}")
            cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {database}.PUBLIC")
        self._kinesis = services.kinesis_client()
        self._kinesis.create_stream(StreamName=self._stream, ShardCount=SHARDS)
        wait_until_active(self._kinesis, self._stream)

    def run(self) -> Outcome:
        """Torture, let the workers finish in peace, and judge."""
        warm_up()
        began = time.monotonic()
        plan, services = self._plan, self._services
        with (
            ExitStack() as calm,
            FaultProxy(services.kinesis_url) as kinesis,
            FaultProxy(services.dynamodb_url) as dynamodb,
            FaultProxy(f"http://{services.snowflake_host}:{services.snowflake_port}") as snowflake_proxy,
        ):
            proxies = {"kinesis": kinesis, "dynamodb": dynamodb, "snowflake": snowflake_proxy}
            urls = {name: proxy.url for name, proxy in proxies.items()}
            if plan.fan_out:
                urls["kinesis"] = calm.enter_context(FanOut(kinesis.url)).url
            detour = through(services, **urls)
            weather = Weather(
                FAULTS[plan.sink],
                proxies,
                self._nasty(),
                random=self._random("weather"),
                journal=self._journal,
            )
            producer = Producer(self._kinesis, self._stream, self._random("producer"))
            resharder = Resharder(self._kinesis, self._stream, self._random("resharder"), self._journal)
            auditor = Auditor(
                store=CheckpointStoreHook(self._application), stream=self._stream, offsets=self._offsets
            )
            crew = Crew(
                self._job(detour),
                workers=plan.workers,
                random=self._random("crew"),
                journal=self._journal,
                mutant=plan.mutant,
            )
            try:
                self._go_on(crew, [producer, resharder, weather, auditor, crew], began=began)
                weather.clear()
                crew.finish(timeout=FINISHING_SECONDS)
            finally:
                crew.kill()
            reports = self._drain_the_rest()
            auditor.act()
        verdict = judge(producer.produced, landed=self._landed(), dead=self._dead())
        noted = Counter(self._noted())
        unexpected = (*crew.unexpected, *auditor.objections)
        if reports[-1]["records"]:
            unexpected += (f"the last drain still found {reports[-1]['records']} records",)
        figures: dict[str, float] = {
            "seconds": round(time.monotonic() - began),
            **{name: crew.counts[name] for name in ("rounds", "killed", "pauses", "doubled")},
            **{name: noted[name] for name in ("takeovers", "batches", "fenced", "leases lost")},
            "audits": auditor.audits,
            "reshards": resharder.reshards,
            "records": producer.produced,
            "dead letters": len(self._dead()),
            "missing": len(verdict.missing),
            "duplicates": len(verdict.duplicates),
            "out of order": len(verdict.disorder),
            **{name: count for name, count in sorted(crew.counts.items()) if name.startswith(("f", "s"))},
        }
        self._snowflake.close()
        return Outcome(verdict, figures, weather.faults, unexpected)

    def _random(self, what: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {what}")

    def _go_on(self, crew: Crew, actors: list[Any], *, began: float) -> None:
        due = dict.fromkeys(actors, began)
        while not self._enough(crew, time.monotonic() - began):
            actor = min(due, key=lambda actor: due[actor])
            time.sleep(max(0.0, due[actor] - time.monotonic()))
            due[actor] = time.monotonic() + actor.act()

    def _enough(self, crew: Crew, seconds: float) -> bool:
        plan = self._plan
        reached = crew.counts["killed"] >= plan.kills and crew.counts["pauses"] >= plan.pauses
        return (seconds >= plan.seconds and reached) or seconds >= plan.longest_seconds

    def _nasty(self) -> NastySnowflake | NastyStreaming:
        if self._plan.sink == STREAMING:
            table = ".".join((self._table.database, self._table.schema, self._table.name))
            return NastyStreaming(self._services, table, self._dead_letters.name)
        return NastySnowflake(self._services, session={"query_tag": "airflow-kinesis-snowflake"})

    def _job(self, services: LocalServices) -> Job:
        return Job(
            stream=self._stream,
            application=self._application,
            table=str(self._table),
            task="",
            connections=services.airflow_connections(),
            fan_out=self._plan.fan_out,
            sink=self._plan.sink,
        )

    def _drain_the_rest(self) -> list[dict[str, Any]]:
        """Drain without faults until there should be nothing left; a mutant keeps its defect."""
        reports = []
        for number in range(LAST_DRAINS):
            journal = Journal(self._journal.path, f"last {number}")
            job = replace(
                self._job(self._services),
                task=journal.who,
                settings={"stop_at": datetime.now(UTC)},
                fan_out=False,
                prepare=Preparation(journal, mutant=self._plan.mutant),
            )
            reports.append(WorkerProcess(job).result(timeout=LAST_DRAIN_SECONDS))
        return reports

    # --- what is there -------------------------------------------------------------------------------------

    def _offsets(self) -> Offsets:
        if self._plan.sink == STREAMING:
            return committed_by(self._tokens("{table}"), self._tokens("{dead_letters}"))
        rows = self._query('SELECT "SHARD_ID", "INCARNATION", "POSITION" FROM {offsets}')
        return {(shard, incarnation): position for shard, incarnation, position in rows}

    def _tokens(self, table: str) -> Offsets:
        rows = self._query(f"SHOW CHANNELS IN TABLE {table}")
        names = {name: token for _, name, *_, token in rows if token}
        return {tuple(name.split(":")[2:]): token for name, token in names.items()}

    def _query(self, sql: str) -> list[Any]:
        names = {
            "table": self._table.sql,
            "offsets": self._table.beside("KINESIS_OFFSETS").sql,
            "dead_letters": self._dead_letters.sql,
        }
        with self._snowflake.cursor() as cursor:
            return fetch(cursor, sql.format(**names))

    def _landed(self) -> list[Landed]:
        """Rows in the order of their commits, which is that of fakesnow's row ids."""
        rows = self._query(
            'SELECT "RECORD_CONTENT":n::NUMBER, "KINESISMETADATA":partitionKey::VARCHAR, '
            '"KINESISMETADATA":shardId::VARCHAR, "KINESISMETADATA":sequenceNumber::VARCHAR, '
            '"KINESISMETADATA":subSequenceNumber::NUMBER FROM {table} ORDER BY rowid'
        )
        return [
            Landed(int(number), key, shard, (int(sequence), int(sub)))
            for number, key, shard, sequence, sub in rows
        ]

    def _dead(self) -> list[Landed]:
        rows = self._query(
            'SELECT "PAYLOAD", "PARTITION_KEY", "SHARD_ID", "SEQUENCE_NUMBER", "SUB_SEQUENCE_NUMBER" '
            "FROM {dead_letters} ORDER BY rowid"
        )
        return [
            Landed(int(re.findall(r"\d+", payload)[0]), key, shard, (int(sequence), sub or 0))
            for payload, key, shard, sequence, sub in rows
        ]

    def _noted(self) -> Iterator[str]:
        for entry in self._journal.entries():
            if entry["what"] == "took":
                yield from ["takeovers"] * entry["takeovers"]
            if entry["what"] == "loaded":
                yield from ["batches"] * entry["committed"]
                yield from ["fenced"] * bool(entry["fenced"])
                yield from ["leases lost"] * bool(entry["lost"])


def committed_by(rows: Offsets, letters: Offsets) -> Offsets:
    """How far shards are committed, by the tokens of their channels.

    A batch that holds nothing but dead letters moves no token of the landing table. The token of a dead
    letter names a user record, and the checkpoint all of its Kinesis record.
    """
    whole = {key: encode_position(Position(_sequence_number(token))) for key, token in letters.items()}
    return {key: max(rows.get(key, ""), whole.get(key, "")) for key in rows.keys() | whole.keys()}


def _sequence_number(token: str) -> str:
    position = decode_position(token)
    assert position is not None
    return position.sequence_number


def report(plan: Plan, outcome: Outcome) -> str:
    """The figures of a run, for a person to read."""
    faults = [f"  {count:6} {fault}" for fault, count in sorted(outcome.faults.items()) if count]
    return "\n".join(
        [
            f"seed: {plan.seed}",
            *(f"{name}: {number:,}" for name, number in outcome.figures.items()),
            f"faults: {sum(outcome.faults.values()):,}",
            *faults,
            *(f"unexpected: {text}" for text in outcome.unexpected[:20]),
            f"verdict: {outcome.verdict}",
        ]
    )
