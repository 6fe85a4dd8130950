"""Checks of AWS: the caller, the stream, and the state in DynamoDB, with the hooks of a drain."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.config import Config

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, failed, found, held, not_shown
from airflow_kinesis_snowflake.exceptions import FencedError
from airflow_kinesis_snowflake.hooks.aws import AwsHook, translated
from airflow_kinesis_snowflake.state.shards import ShardState
from airflow_kinesis_snowflake.stream.positions import Position, StartAt
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    from airflow_kinesis_snowflake.check.bench import Bench

_STREAM = "check"
_LEASE_MILLIS = 30_000
_MAX_CLOCK_SKEW_MILLIS = 30_000
_FEW_RECORDS = 10


def identity(bench: Bench) -> Observation:
    """Who the credentials belong to, and whether the stream is in the same account."""
    hook = AwsHook(
        client_type="sts",
        config=Config(connect_timeout=5, read_timeout=15),
        **{name: value for name, value in bench.settings.aws.items() if name != "config"},
    )
    with translated(doing="sts:GetCallerIdentity", resource="the credentials"):
        client: Any = hook.get_conn()
        caller = client.get_caller_identity()
    account = bench.stream.arn.split(":")[4]
    text = f"{caller['Arn']} reads a stream of account {account}"
    return held(text)


def stream(bench: Bench) -> Observation:
    """What DescribeStreamSummary reports."""
    facts = bench.stream
    hours = facts.retention.total_seconds() / 3600
    encryption = "encrypted with a KMS key" if facts.encryption else "not encrypted with a KMS key"
    text = f"{facts.arn} is {facts.status}, keeps records for {hours:.0f} hours, {encryption}"
    return found(facts.status in {"ACTIVE", "UPDATING"}, text)


def shards(bench: Bench) -> Observation:
    """What ListShards reports."""
    listed = bench.kinesis.list_shards()
    return held(f"{len(listed)} shards, {sum(not shard.closed for shard in listed)} of them open")


def records(bench: Bench) -> Observation:
    """Some records from the horizon of one shard, which reading doesn't change."""
    page, shard_id = _page(bench)
    return held(f"{len(page)} records from the horizon of {shard_id}")


def decrypt(bench: Bench) -> Observation:
    """Records of an encrypted stream can be read."""
    if not bench.stream.encryption:
        return not_shown("the stream isn't encrypted with a KMS key")
    page, shard_id = _page(bench)
    if not page:
        return not_shown(f"{shard_id} holds no record at its horizon")
    return held(f"{len(page)} encrypted records of {shard_id} were read")


def _page(bench: Bench) -> tuple[tuple[object, ...], str]:
    shard_id = bench.kinesis.list_shards()[0].shard_id
    iterator = bench.kinesis.get_iterator(shard_id, StartAt())
    return bench.kinesis.get_page(iterator, limit=_FEW_RECORDS).records, shard_id


def clock(bench: Bench) -> Observation:
    """This machine's clock beside that of Kinesis."""
    facts = bench.kinesis.describe()
    own, at = now_millis(), time.monotonic()
    off = millis_off(own, facts.clock.earliest(at), facts.clock.latest(at))
    return found(
        abs(off) <= _MAX_CLOCK_SKEW_MILLIS,
        f"off by {off / 1000:.0f} s, within the precision of whole seconds",
    )


def millis_off(own: int, earliest: int, latest: int) -> int:
    """By how much a clock certainly differs from another, of which only bounds are known (ms)."""
    return min(0, own - earliest) + max(0, own - latest)


def scratch_table(bench: Bench) -> Observation:
    """A table is created, and created again, as the first drain of an application does."""
    store = bench.scratch_store
    store.create_table()
    facts = store.describe_table()
    return found(facts.exists, f"{facts.arn} is {facts.status}")


def conditional_write(bench: Bench) -> Observation:
    """Of two workers that create the row of a shard, one does."""
    first, second = (_create(bench, "conditional-write", incarnation) for incarnation in ("first", "second"))
    there = bench.scratch_store.read_state(_STREAM).shards["conditional-write"].incarnation
    text = f"created by the {there}; the second was {'refused' if not second else 'not refused'}"
    return found((first, second, there) == (True, False, "first"), text)


def lease(bench: Bench) -> Observation:
    """Of two workers that take the lease of a shard, one gets it, and only it may write."""
    store, now = bench.scratch_store, now_millis()
    _create(bench, "lease", "lease")
    seen = ShardState("lease")
    taking = partial(
        store.take_lease, _STREAM, seen, expiry=now + _LEASE_MILLIS, now=now, incarnation="lease"
    )
    saving = partial(
        store.save_checkpoint,
        _STREAM,
        "lease",
        expiry=now + _LEASE_MILLIS,
        now=now,
    )
    got = [taking(owner=owner) is not None for owner in ("first", "second")]
    saved = [saving(owner=owner, checkpoint=Position("2")) for owner in ("second", "first")]
    try:
        went_back = saving(owner="first", checkpoint=Position("1"))
    except FencedError:
        went_back = False
    text = f"lease: first {_done(got[0])}, second {_done(got[1])}; checkpoint: second {_done(saved[0])}, "
    text += f"first {_done(saved[1])}, going back {_done(went_back)}"
    return found((got, saved, went_back) == ([True, False], [False, True], False), text)


def _done(granted: bool) -> str:
    return "yes" if granted else "no"


def _create(bench: Bench, shard_id: str, incarnation: str) -> bool:
    return bench.scratch_store.create_shard(
        _STREAM, shard_id, start_at=StartAt(), parents=(), incarnation=incarnation, stream_created=0
    )


def delete_row(bench: Bench) -> Observation:
    """A row is deleted on condition that it hasn't changed since it was read."""
    store = bench.scratch_store
    store.heartbeat(_STREAM, "worker", now=1)
    kept = not store.forget_worker(_STREAM, "worker", heartbeat=2)
    gone = store.forget_worker(_STREAM, "worker", heartbeat=1)
    text = f"deleted while it was another: {_done(not kept)}; as it was read: {_done(gone)}"
    return found(kept and gone, text)


def application_table(bench: Bench) -> Observation:
    """The user's own table, read only."""
    facts = bench.store.describe_table()
    if not facts.exists:
        return not_shown("it doesn't exist yet; the first drain creates it")
    if not bench.settings.stream:
        return held(f"{facts.arn} is {facts.status}")
    state = bench.store.read_state(bench.kinesis.stream_name)
    text = f"{facts.arn} is {facts.status}, with {len(state.shards)} shards of the stream"
    return held(text) if facts.status == "ACTIVE" else failed(text)


_PERMISSIONS = (
    "Allow the actions it names (docs/check.md has the policy), or check the stream's name and region."
)
_WRITES = "Stop all drains and report it: two workers could read one shard."
CHECKS = (
    Check(
        name="aws-identity",
        tries="GetCallerIdentity says whose credentials these are",
        promises=(),
        advice="Check the AWS connection.",
        needs=Needs.STREAM,
        run=identity,
        beyond_stand_ins="a stand-in has no accounts",
    ),
    Check(
        name="stream",
        tries="DescribeStreamSummary is allowed, and the stream can be read",
        promises=(1, 8),
        advice=_PERMISSIONS,
        needs=Needs.STREAM,
        run=stream,
    ),
    Check(
        name="shards",
        tries="ListShards is allowed",
        promises=(1, 4),
        advice=_PERMISSIONS,
        needs=Needs.STREAM,
        run=shards,
    ),
    Check(
        name="records",
        tries="GetShardIterator and GetRecords are allowed",
        promises=(1,),
        advice=_PERMISSIONS,
        needs=Needs.STREAM,
        run=records,
    ),
    Check(
        name="decrypt",
        tries="kms:Decrypt is allowed: GetRecords gives records of an encrypted stream",
        promises=(1,),
        advice="Allow kms:Decrypt on the stream's key, in its key policy too.",
        needs=Needs.STREAM,
        run=decrypt,
    ),
    Check(
        name="clock",
        tries="This machine's clock is within 30 s of that of Kinesis",
        promises=(8,),
        advice="Set the clock (NTP): AWS refuses requests that are minutes off.",
        needs=Needs.STREAM,
        run=clock,
    ),
    Check(
        name="scratch-table",
        tries="A DynamoDB table can be created and described",
        promises=(2,),
        advice=_PERMISSIONS,
        needs=Needs.SCRATCH_TABLE,
        run=scratch_table,
    ),
    Check(
        name="conditional-write",
        tries="Of two conditional writes of one row, one is refused",
        promises=(2, 3),
        advice=_WRITES,
        needs=Needs.SCRATCH_TABLE,
        run=conditional_write,
    ),
    Check(
        name="lease",
        tries="Of two workers, one gets the lease, and only it saves a checkpoint, which never goes back",
        promises=(2, 3),
        advice=_WRITES,
        needs=Needs.SCRATCH_TABLE,
        run=lease,
    ),
    Check(
        name="delete-row",
        tries="A row that has changed isn't deleted; one that hasn't is",
        promises=(3,),
        advice=_PERMISSIONS,
        needs=Needs.SCRATCH_TABLE,
        run=delete_row,
    ),
    Check(
        name="application-table",
        tries="Your application's table can be read",
        promises=(2,),
        advice=_PERMISSIONS,
        needs=Needs.APPLICATION,
        run=application_table,
    ),
)
