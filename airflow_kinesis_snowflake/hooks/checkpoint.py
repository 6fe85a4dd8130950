"""One application's state: a DynamoDB table with a row per shard and per live worker."""

from __future__ import annotations

import re
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_kinesis_snowflake import __version__
from airflow_kinesis_snowflake.exceptions import (
    FencedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    NotACheckpointTableError,
)
from airflow_kinesis_snowflake.hooks.aws import AwsHook, error_code, translated
from airflow_kinesis_snowflake.hooks.tables import begin_deletion, describe_table, make_backup, read_items
from airflow_kinesis_snowflake.state.attributes import (
    KEYS,
    NODE,
    Row,
    checkpoint_attributes,
    in_doubt_for_none_but,
    is_as_wanted,
    is_note,
    key_of,
    key_of_row,
    known_facts,
    lease,
    moment_attribute,
    not_beyond,
    number_value,
    offset_attribute,
    released,
    renewed,
    restored,
    text_value,
    texts_value,
    update_expression,
    updated,
    worker_of,
    written,
)
from airflow_kinesis_snowflake.state.items import number_of, text_of
from airflow_kinesis_snowflake.state.shards import ShardState, StreamState, TableFacts
from airflow_kinesis_snowflake.stream.positions import Position, StartAt, encode_position

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from airflow_kinesis_snowflake.state.attributes import Value

_TABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_NEW = "attribute_not_exists(shardId)"
_AS_OWNER = "leaseOwner = :owner"
_FREE = "attribute_not_exists(leaseOwner) OR leaseOwner = :owner"

# A later response is of no use to a lease of 30 seconds.
_DEFAULTS = Config(
    connect_timeout=5,
    read_timeout=10,
    max_pool_connections=16,
    retries={"mode": "standard", "total_max_attempts": 5},
)
_PATIENCE = {"Delay": 1, "MaxAttempts": 120}

_T = TypeVar("_T")


class CheckpointStoreHook(AwsHook):
    """Reads and writes the state of one application.

    Every write is one conditional UpdateItem, or DeleteItem for a worker's own row, so that attributes of
    other software survive and a worker that has lost its lease changes nothing. No write depends on a read
    made before it. All times are milliseconds since the epoch, and given by the caller.

    Safe to use from several threads at once. Calls are tried up to five times, each for at most ten seconds.
    A try whose response was lost may have been carried out, and then the next one finds its condition unmet:
    a write counts as done if the row is as intended. Every method raises the errors of
    :mod:`airflow_kinesis_snowflake.exceptions` only: ``AccessDeniedError``, ``ThrottledError``,
    ``ServiceUnavailableError`` and ``ServiceRefusedError`` (the table is gone, among others).

    :param application_name: also the table's name: 3 to 255 characters of ``a-z A-Z 0-9 _ . -``
    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`:
        ``aws_conn_id``, ``region_name``, ``verify`` and ``config``. Settings in ``config`` win.
    :raises InvalidSettingError: not a legal table name
    """

    def __init__(self, application_name: str, **aws: Any) -> None:
        if not _TABLE_NAME.fullmatch(application_name):
            raise InvalidSettingError(
                "Give the application a name that a DynamoDB table can have, 3 to 255 letters, digits, '_', "
                f"'.' or '-': {application_name!r} isn't one"
            )
        super().__init__(client_type="dynamodb", **aws)
        self.application_name = application_name
        self._opening = Lock()

    @property
    def config(self) -> Config:
        """The botocore settings: those of the connection and the caller over the defaults of this hook."""
        return _DEFAULTS.merge(super().config)

    def place(self) -> tuple[str, str]:
        """Return the region and the partition (``aws``, ``aws-cn`` ...) of the table. Calls no service.

        :raises InvalidSettingError: neither connection nor settings name a region
        """
        with self._call("DescribeTable") as client:
            return client.meta.region_name, client.meta.partition

    # --- the table -----------------------------------------------------------------------------------------

    def describe_table(self) -> TableFacts:
        """Return the facts of the table, whatever its status. Needs ``dynamodb:DescribeTable``.

        :raises NotACheckpointTableError: its key isn't that of a checkpoint table
        """
        with self._call("DescribeTable") as client:
            table = describe_table(client, self.application_name)
        if table is None:
            return TableFacts(exists=False)
        if table.keys != KEYS or {table.types[name] for name in table.keys.values()} != {"S"}:
            raise NotACheckpointTableError(
                "Choose another application name, or import its checkpoints: other software, such as the "
                f"Kinesis Client Library, made {self._table}. Its key is {', '.join(table.keys.values())}, "
                f"not {' and '.join(KEYS.values())} as text."
            )
        return TableFacts(
            exists=True,
            arn=table.arn,
            created=table.created,
            status=table.status,
            protected=table.protected,
        )

    def exists(self) -> bool:
        """Return whether the table exists and can be used; waits while it is being created or deleted.

        Needs ``dynamodb:DescribeTable``.

        :raises NotACheckpointTableError: its key isn't that of a checkpoint table
        """
        facts = self.describe_table()
        if facts.status == "CREATING":
            self._wait_until("table_exists")
        if facts.status == "DELETING":
            self._wait_until("table_not_exists")
            return False
        return facts.exists

    def create_table(self) -> None:
        """Create the table unless it exists, and wait until it can be used.

        Several workers may do so at once: one creates it, the others wait for it. Needs
        ``dynamodb:CreateTable``, ``dynamodb:TagResource`` and ``dynamodb:DescribeTable``.

        :raises NotACheckpointTableError: a table of that name has the key of other software
        """
        if self.exists():
            return
        with self._call("CreateTable") as client:
            try:
                client.create_table(
                    TableName=self.application_name,
                    BillingMode="PAY_PER_REQUEST",
                    KeySchema=[{"AttributeName": name, "KeyType": kind} for kind, name in KEYS.items()],
                    AttributeDefinitions=[
                        {"AttributeName": name, "AttributeType": "S"} for name in KEYS.values()
                    ],
                    Tags=[
                        {"Key": "created-by", "Value": "airflow-kinesis-snowflake"},
                        {"Key": "application", "Value": self.application_name},
                        {"Key": "version", "Value": __version__},
                    ],
                )
            except ClientError as error:
                if error_code(error) != "ResourceInUseException":
                    raise
        self._wait_until("table_exists")
        self.describe_table()

    def delete_table(self) -> None:
        """Delete the table with all state of the application, and wait until it is gone.

        A missing table is no error. Needs ``dynamodb:DeleteTable`` and ``dynamodb:DescribeTable``.

        :raises NotACheckpointTableError: the table belongs to other software, and is left alone
        """
        if not self.exists():
            return
        with self._call("DeleteTable") as client:
            begin_deletion(client, self.application_name)
        self._wait_until("table_not_exists")

    # --- rows ----------------------------------------------------------------------------------------------

    def read_state(self, stream_name: str) -> StreamState:
        """Return all rows of a stream, strongly consistent, whoever wrote them. Needs ``dynamodb:Query``.

        Each page is consistent, but rows may change between two pages: conditions protect the writes that
        follow, not this reading. Rows of shards are read before those of their parents, whose ids are lower:
        a reset frees none before it has written all, so who sees the row of a child as a reset left it sees
        those of its parents so too.

        :raises CorruptStateError: an attribute holds what neither a drain nor the Openflow connector writes
        """
        shards: dict[str, ShardState] = {}
        workers: dict[str, int] = {}
        for item in self.read_items(stream_name):
            row = Row(self._table, item)
            if (worker := worker_of(item)) is not None:
                heartbeat = number_of(item, "nodeHeartbeat") if "nodeHeartbeat" in item else 0
                if heartbeat is not None:
                    workers[worker] = heartbeat
            elif not is_note(row.key):
                shards[row.key] = row.shard_state()
        return StreamState(shards, workers)

    def create_shard(  # noqa: PLR0913 -- all that a row says is written at once
        self,
        stream_name: str,
        shard_id: str,
        *,
        start_at: StartAt,
        parents: Iterable[str],
        incarnation: str,
        stream_created: int,
        stream_arn: str | None = None,
        initial_shards: Iterable[str] = (),
        caught_up_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Create the row of a shard. Needs ``dynamodb:UpdateItem``.

        Condition: there is no such row, so that of several workers one creates it and an existing checkpoint
        is safe.

        :param caught_up_at: nothing of the shard is before this moment (ms), if that is known
        :param sink: how the drain that creates it commits
        :return: False: the row was there and is unchanged
        """
        founded = texts_value(initial_shards)
        row = self._update(
            stream_name,
            shard_id,
            {
                "startAt": text_value(str(start_at)),
                "initialStartAt": text_value(str(start_at)) if founded else None,
                "incarnation": text_value(incarnation),
                "streamCreated": number_value(stream_created),
                "streamArn": None if stream_arn is None else text_value(stream_arn),
                "parentShardIds": texts_value(parents),
                "initialShardIds": founded,
                "sinks": texts_value(() if sink is None else (sink,)),
                **known_facts(caught_up_at=caught_up_at),
            },
            condition=_NEW,
        )
        return row is not None

    def forget_shard(self, stream_name: str, shard_id: str) -> bool:
        """Delete the row of a shard that is read to its end. Needs ``dynamodb:DeleteItem``.

        Condition: the row says so, and nobody holds its lease.

        :return: False: the condition doesn't hold; True: there is no such row now
        """
        return self._delete(
            stream_name,
            shard_id,
            condition="shardEnded = :ended AND attribute_not_exists(leaseOwner)",
            values={":ended": {"BOOL": True}},
        )

    def withdraw_shard(self, stream_name: str, shard_id: str, *, incarnation: str) -> bool:
        """Delete the row of a shard that nobody has leased since it was created. Needs
        ``dynamodb:DeleteItem``.

        Condition: the row has this incarnation, and was never written again.

        :return: False: the condition doesn't hold; True: there is no such row now
        """
        return self._delete(
            stream_name,
            shard_id,
            condition="incarnation = :incarnation AND attribute_not_exists(lastUpdateTimestamp)",
            values={":incarnation": text_value(incarnation)},
        )

    def take_lease(  # noqa: PLR0913 -- what a row lacks is written together with its first lease
        self,
        stream_name: str,
        shard: ShardState,
        *,
        owner: str,
        expiry: int,
        now: int,
        incarnation: str,
        start_at: StartAt | None = None,
        sink: str | None = None,
        stream_arn: str | None = None,
        predecessor: bool = False,
    ) -> ShardState | None:
        """Take the lease of a shard. Needs ``dynamodb:UpdateItem``.

        The first lease of a row created by another consumer records, in the same write, what would otherwise
        be lost: the time at which that consumer last wrote it.

        Condition: the row is there, and its lease is free, the worker's own, or still held as ``shard`` says,
        to the same millisecond. So of several workers one gets it, and a lease that was renewed since
        ``shard`` was read isn't taken. Whether an unrenewed lease is over is up to the caller. The row has
        the same incarnation: a reset in between may have moved the shard's parents as well. And it doesn't
        say that it belongs to another stream.

        :param shard: the row as it was read
        :param incarnation: for a row without one, which the Openflow connector wrote
        :param start_at: for a row without a start; None: it stays without
        :param sink: how the owner commits, replacing what the row says; the condition then also requires that
            no other sink has left the row in doubt, perhaps since it was read. None: the row stays as it is
        :param stream_arn: for a row that doesn't name its stream; None: it stays so
        :param predecessor: take it from ``shard.lease_owner`` even if it was renewed since: an earlier try of
            the same task instance, known to be over
        :return: the row as this write left it; None: another worker holds the lease, or the row is gone, was
            reset, belongs to another stream, or is in doubt for another sink
        """
        free = "attribute_not_exists(leaseOwner) OR leaseOwner = :owner"
        values = {
            ":owner": text_value(owner),
            ":incarnation": text_value(shard.incarnation or incarnation),
        }
        if shard.lease_owner is not None:
            values[":holder"] = text_value(shard.lease_owner)
            if predecessor or shard.lease_expiry is None:
                free += " OR leaseOwner = :holder"
            else:
                free += " OR (leaseOwner = :holder AND leaseExpiry = :until)"
                values[":until"] = number_value(shard.lease_expiry)
        unless_there = {"incarnation": text_value(incarnation)}
        if start_at is not None:
            unless_there["startAt"] = text_value(str(start_at))
        if shard.incarnation is None and shard.last_update is not None:
            unless_there["othersUntil"] = number_value(shard.last_update)
        # A repeated write finds the one that it has given.
        unchanged = "incarnation = :incarnation"
        if shard.incarnation is None:
            unchanged = f"(attribute_not_exists(incarnation) OR {unchanged})"
        condition = f"attribute_exists(shardId) AND ({free}) AND {unchanged}"
        if stream_arn is not None:
            condition += " AND (attribute_not_exists(streamArn) OR streamArn = :arn)"
            values[":arn"] = unless_there["streamArn"] = text_value(stream_arn)
        changes = lease(owner=owner, expiry=expiry, now=now)
        if sink is not None:
            condition += f" AND {in_doubt_for_none_but(sink)}"
            changes["sinks"] = values[":sinks"] = {"SS": [sink]}
        row = self._update(
            stream_name,
            shard.shard_id,
            changes,
            unless_there=unless_there,
            condition=condition,
            values=values,
        )
        return None if row is None else row.shard_state()

    def renew_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Move the expiry of a lease. Needs ``dynamodb:UpdateItem``.

        Condition: ``owner`` is the lease's owner, even if it has expired meanwhile.

        :param millis_behind: of the shard, if known
        :param caught_up_at: the moment up to which the shard is drained, if known
        :return: False: the lease is lost, and nothing was written
        """
        changes = {
            **renewed(expiry=expiry, now=now),
            **known_facts(millis_behind=millis_behind, caught_up_at=caught_up_at),
        }
        return self._update_as_owner(stream_name, shard_id, owner, changes) is not None

    def save_checkpoint(  # noqa: PLR0913 -- all of it in one write
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        checkpoint: Position | None,
        expiry: int,
        now: int,
        millis_behind: int | None = None,
        offset: Position | None = None,
        committed_at: int | None = None,
        sink: str | None = None,
    ) -> bool:
        """Save that everything up to a position is committed in Snowflake, and renew the lease.

        Condition: ``owner`` is the lease's owner, and the checkpoint doesn't go back. The row isn't
        ``unsettled`` any more. Needs ``dynamodb:UpdateItem`` and ``dynamodb:GetItem``.

        :param checkpoint: None leaves the saved one as it is
        :param offset: as the sink has it; None leaves the saved one as it is
        :param committed_at: when it committed that, if it forgets; None leaves the saved one as it is
        :param sink: how the owner commits; no other can have committed more. None leaves those in the row
        :return: False: the lease is lost, and nothing was written
        :raises FencedError: the lease is held, but the saved checkpoint is further on already
        """
        changes = {
            **renewed(expiry=expiry, now=now),
            "unsettled": None,
            **known_facts(millis_behind=millis_behind),
        }
        if offset is not None:
            changes[offset_attribute(sink)] = text_value(encode_position(offset))
        if committed_at is not None and sink is not None:
            changes[moment_attribute(sink)] = number_value(committed_at)
        if sink is not None:
            changes["sinks"] = texts_value([sink])
        if checkpoint is None:
            return self._update_as_owner(stream_name, shard_id, owner, changes) is not None
        changes |= checkpoint_attributes(checkpoint)
        forward, values = not_beyond(checkpoint)
        if self._update_as_owner(stream_name, shard_id, owner, changes, also=forward, values=values):
            return True
        if self.lease_owner(stream_name, shard_id) != owner:
            return False
        raise FencedError(
            "Run again, which continues from there: something other than the lease's owner moved the "
            f"checkpoint of shard {shard_id} of stream {stream_name!r} in {self._table} beyond "
            f"{checkpoint.sequence_number}"
        )

    def release_lease(
        self,
        stream_name: str,
        shard_id: str,
        *,
        owner: str,
        now: int,
        ended: bool = False,
        unsettled: bool = False,
        millis_behind: int | None = None,
        caught_up_at: int | None = None,
    ) -> bool:
        """Release a lease, with the last facts about the shard in the same write.

        Condition: ``owner`` is the lease's owner. Needs ``dynamodb:UpdateItem``.

        :param ended: the shard is read to its end; it stays so
        :param unsettled: a commit is in doubt; only :meth:`save_checkpoint` clears that
        :return: False: the lease is lost (or was released before), and nothing was written
        """
        changes = {
            **released(now),
            **known_facts(
                ended=ended, unsettled=unsettled, millis_behind=millis_behind, caught_up_at=caught_up_at
            ),
        }
        return self._update_as_owner(stream_name, shard_id, owner, changes) is not None

    def heartbeat(self, stream_name: str, worker: str, *, now: int, again: bool = False) -> bool:
        """Record that a worker is alive. Needs ``dynamodb:UpdateItem``.

        :param again: not its first heartbeat. Condition: its row is still there, so that a heartbeat that was
            under way while the worker left doesn't bring it back
        :return: False: the condition doesn't hold, and nothing was written
        """
        changes = {"nodeHeartbeat": number_value(now), **updated(now)}
        condition = "attribute_exists(nodeHeartbeat)" if again else None
        return self._update(stream_name, NODE + worker, changes, condition=condition) is not None

    def leave(self, stream_name: str, worker: str) -> None:
        """Remove the row of this worker; one that isn't there is fine. Needs ``dynamodb:DeleteItem``."""
        self._delete(stream_name, NODE + worker)

    def forget_worker(self, stream_name: str, worker: str, *, heartbeat: int) -> bool:
        """Remove the row of a worker that is long gone. Needs ``dynamodb:DeleteItem``.

        Condition: it has sent no heartbeat since, or has none at all.

        :param heartbeat: the last one, as it was read
        :return: False: the condition doesn't hold; True: there is no such row now
        """
        return self._delete(
            stream_name,
            NODE + worker,
            condition="attribute_not_exists(nodeHeartbeat) OR nodeHeartbeat = :seen",
            values={":seen": number_value(heartbeat)},
        )

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the table can be used or created, and a description or advice."""
        try:
            facts = self.describe_table()
        except KinesisSnowflakeError as error:
            return False, str(error)
        if not facts.exists:
            return True, f"{self._table} doesn't exist yet; the first drain creates it."
        return True, f"{self._table} is a checkpoint table and {facts.status}."

    # --- maintenance ---------------------------------------------------------------------------------------

    def read_items(self, stream_name: str | None = None) -> list[dict[str, Any]]:
        """Return rows as DynamoDB stores them, whatever their content, by shard id. Needs ``dynamodb:Query``.

        :param stream_name: only rows of this stream; None: all rows, which needs ``dynamodb:Scan`` instead
        """
        if stream_name is None:
            with self._call("Scan") as client:
                return read_items(client, "scan", TableName=self.application_name)
        with self._call("Query") as client:
            return read_items(
                client,
                "query",
                TableName=self.application_name,
                KeyConditionExpression="streamName = :stream",
                ExpressionAttributeValues={":stream": text_value(stream_name)},
                ScanIndexForward=False,
            )[::-1]

    def shard_state(self, item: Mapping[str, Any]) -> ShardState | None:
        """Read one of :meth:`read_items`; None: it isn't the row of a shard.

        :raises CorruptStateError: an attribute holds what neither a drain nor the Openflow connector writes
        """
        row = Row(self._table, item)
        return None if is_note(row.key) else row.shard_state()

    def hold(
        self, stream_name: str, shard_id: str, *, owner: str, expiry: int, now: int, force: bool = False
    ) -> bool:
        """Take the lease of a shard, whatever else is in its row. Needs ``dynamodb:UpdateItem``.

        Condition: the row is there, and its lease is free, the owner's own or past its expiry. A lease that
        its owner didn't release leaves the row unsettled.

        :param force: take it from a live worker too
        :return: False: another worker holds the lease, or the row is gone
        """
        there, values = f"attribute_exists(shardId) AND ({_FREE})", {":owner": text_value(owner)}
        changes = lease(owner=owner, expiry=expiry, now=now)
        if self._update(stream_name, shard_id, changes, condition=there, values=values) is not None:
            return True
        if force:
            there, values = "attribute_exists(shardId)", {}
        else:
            there = f"attribute_exists(shardId) AND ({_FREE} OR leaseExpiry < :now)"
            values = {":owner": text_value(owner), ":now": number_value(now)}
        changes |= known_facts(unsettled=True)
        return self._update(stream_name, shard_id, changes, condition=there, values=values) is not None

    def lease_owner(self, stream_name: str, shard_id: str) -> str | None:
        """Return who holds the lease of a shard now. Needs ``dynamodb:GetItem``.

        :return: None: nobody, or there is no such row
        """
        return text_of(self._item(stream_name, shard_id), "leaseOwner")

    def reset_shard(
        self, stream_name: str, shard: ShardState, *, owner: str, now: int, made_until: int | None = None
    ) -> bool:
        """Set what a drain relies on in the row of a shard. Needs ``dynamodb:UpdateItem``.

        Condition: ``owner`` holds the lease. The lease and attributes of other software stay as they are.

        :param shard: the row as it should be; its lease is ignored
        :param made_until: there must be no such row instead, and it is made with a lease of ``owner`` until
            then
        :return: False: the condition doesn't hold, and nothing was written
        """
        changes = {**written(shard), **updated(now)}
        return self._write_row(stream_name, shard.shard_id, changes, owner=owner, made_until=made_until)

    def remove_shard(self, stream_name: str, shard_id: str, *, owner: str) -> bool:
        """Delete the row of a shard. Needs ``dynamodb:DeleteItem``.

        Condition: ``owner`` holds the lease.

        :return: False: the condition doesn't hold; True: there is no such row now
        """
        return self._delete(stream_name, shard_id, condition=_AS_OWNER, values={":owner": text_value(owner)})

    def restore_item(
        self, item: Mapping[str, Any], *, owner: str, now: int, made_until: int | None = None
    ) -> bool:
        """Write a row of :meth:`read_items` back, except for its lease. Needs ``dynamodb:UpdateItem``.

        Condition: ``owner`` holds the lease. Attributes that the row has and the item lacks are kept, unless
        a drain relies on them.

        :param made_until: there must be no such row instead, and it is made with a lease of ``owner`` until
            then
        :return: False: the condition doesn't hold, and nothing was written
        """
        changes = {**restored(item), **updated(now)}
        return self._write_row(*key_of(item), changes, owner=owner, made_until=made_until)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add tags to the table. Needs ``dynamodb:TagResource`` and ``dynamodb:DescribeTable``."""
        arn = self.describe_table().arn
        with self._call("TagResource") as client:
            client.tag_resource(
                ResourceArn=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
            )

    def back_up(self, name: str) -> str | None:
        """Create an on-demand backup of the table. Needs ``dynamodb:CreateBackup``.

        :param name: 3 to 255 characters of ``a-z A-Z 0-9 _ . -``
        :return: its ARN; None: this DynamoDB has no backups
        """
        with self._call("CreateBackup") as client:
            return make_backup(client, self.application_name, name)

    # --- calls ---------------------------------------------------------------------------------------------

    @property
    def _table(self) -> str:
        return f"table {self.application_name!r} {self.where}"

    @contextmanager
    def _call(self, operation: str) -> Iterator[Any]:
        with translated(doing=f"dynamodb:{operation}", resource=self._table):
            with self._opening:
                client: Any = self.get_conn()
            yield client

    def _wait_until(self, state: Literal["table_exists", "table_not_exists"]) -> None:
        with self._call("DescribeTable") as client:
            client.get_waiter(state).wait(TableName=self.application_name, WaiterConfig=_PATIENCE)

    def _write_row(
        self,
        stream_name: str,
        shard_id: str,
        changes: Mapping[str, Value | None],
        *,
        owner: str,
        made_until: int | None,
    ) -> bool:
        """Change a row whose lease is held, or create one together with a lease."""
        if made_until is None:
            return self._update_as_owner(stream_name, shard_id, owner, changes) is not None
        leased = {**changes, "leaseOwner": text_value(owner), "leaseExpiry": number_value(made_until)}
        return self._update(stream_name, shard_id, leased, condition=_NEW) is not None

    def _update_as_owner(
        self,
        stream_name: str,
        shard_id: str,
        owner: str,
        changes: Mapping[str, Value | None],
        *,
        also: str | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> Row | None:
        return self._update(
            stream_name,
            shard_id,
            changes,
            condition=_AS_OWNER if also is None else f"{_AS_OWNER} AND ({also})",
            values={":owner": text_value(owner), **(values or {})},
        )

    def _update(
        self,
        stream_name: str,
        shard_id: str,
        changes: Mapping[str, Value | None],
        *,
        unless_there: Mapping[str, Value] | None = None,
        condition: str | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> Row | None:
        """Change attributes of a row, where ``None`` removes one.

        botocore repeats a write whose response was lost, and the repetition may find its condition unmet
        because the first succeeded. So an unmet condition isn't a refusal if the row is as intended.

        :return: the row as it is after; None: the condition didn't hold
        """
        # Attributes of other software may have names that DynamoDB reserves.
        touched = {**changes, **(unless_there or {})}
        names = {name: f"#a{number}" for number, name in enumerate(touched)}
        expression, new_values = update_expression(changes, unless_there or {}, names=names)
        request: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        with self._call("UpdateItem") as client:
            try:
                answer = client.update_item(
                    TableName=self.application_name,
                    Key=key_of_row(stream_name, shard_id),
                    UpdateExpression=expression,
                    ExpressionAttributeNames={alias: name for name, alias in names.items()},
                    ExpressionAttributeValues={**new_values, **(values or {})},
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **request,
                )
            except ClientError as error:
                there = self._row_that_failed(error, stream_name, shard_id)
            else:
                return Row(self._table, answer["Attributes"])
        # A former owner has lost the lease, whatever else the row says.
        wanted = {"leaseOwner": values[":owner"], **changes} if values and ":owner" in values else changes
        return Row(self._table, there) if there and is_as_wanted(there, wanted) else None

    def _delete(
        self,
        stream_name: str,
        shard_id: str,
        *,
        condition: str | None = None,
        values: Mapping[str, Value] | None = None,
    ) -> bool:
        """Delete a row; False: the condition didn't hold, and it is still there."""
        request: dict[str, Any] = {"ConditionExpression": condition} if condition else {}
        if values:
            request["ExpressionAttributeValues"] = values
        with self._call("DeleteItem") as client:
            try:
                client.delete_item(
                    TableName=self.application_name,
                    Key=key_of_row(stream_name, shard_id),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **request,
                )
            except ClientError as error:
                return not self._row_that_failed(error, stream_name, shard_id)
            return True

    def _row_that_failed(self, error: ClientError, stream_name: str, shard_id: str) -> Mapping[str, Value]:
        """The row that failed the condition of a write; empty: there is no such row.

        :raises ClientError: it was something else
        """
        if error_code(error) != "ConditionalCheckFailedException":
            raise error
        # DynamoDB returns the row if there is one, but not every compatible service does.
        sent: Mapping[str, Value] | None = error.response.get("Item")  # type: ignore[assignment]
        return sent or self._item(stream_name, shard_id)

    def _item(self, stream_name: str, shard_id: str) -> Mapping[str, Value]:
        with self._call("GetItem") as client:
            answer = client.get_item(
                TableName=self.application_name, Key=key_of_row(stream_name, shard_id), ConsistentRead=True
            )
        found: Mapping[str, Value] = answer.get("Item", {})
        return found
