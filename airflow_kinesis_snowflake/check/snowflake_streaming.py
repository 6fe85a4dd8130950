"""Checks of Snowpipe Streaming: fences, tokens, and rows that it rejects."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.check.checks import Check, Needs, Observation, found, not_shown
from airflow_kinesis_snowflake.exceptions import FencedError, InvalidSettingError
from airflow_kinesis_snowflake.sinks.snowflake.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_kinesis_snowflake.check.bench import Bench
    from airflow_kinesis_snowflake.check.sessions import CheckSession
    from airflow_kinesis_snowflake.identifiers import TableName
    from airflow_kinesis_snowflake.sinks.snowflake.channels import Channel, ChannelClient

_PATIENCE_SECONDS = 120.0
_CHANNEL = "check"
_TABLE = "CREATE TABLE {table} (N NUMBER(38, 0))"


def fenced(bench: Bench) -> Observation:
    """A channel that is opened again refuses its former owner, and reports its offset token."""
    with _streamed(bench, "STREAMED") as (table, session, former, other):
        first = former.open(_CHANNEL)
        _commit(first, b'{"N": 1}', "1")
        second = other.open(_CHANNEL)
        token = second.opened.committed
        refused = False
        try:
            first.append([b'{"N": 2}'], "2", "2")
            first.wait("2", timeout=_PATIENCE_SECONDS, stopping=threading.Event())
        except FencedError:
            refused = True
        _commit(second, b'{"N": 3}', "3")
        rows = sorted(int(row[0]) for row in session.rows(Statement(f"SELECT N FROM {table.sql}")))
    text = f"the second owner found the token {token!r}, and the rows are {rows}"
    return found(
        refused and token == "1" and rows == [1, 3],
        f"{text}; the first owner {'was refused' if refused else 'was not refused'}",
    )


def rejected(bench: Bench) -> Observation:
    """A row that the table can't take is counted, and the one after it lands."""
    with _streamed(bench, "REJECTED") as (table, session, client, _):
        channel = client.open(_CHANNEL)
        channel.append([b'{"N": "no number"}', b'{"N": 2}'], "1", "2")
        state = channel.wait("2", timeout=_PATIENCE_SECONDS, stopping=threading.Event())
        rows = [int(row[0]) for row in session.rows(Statement(f"SELECT N FROM {table.sql}"))]
    count = None if state is None else state.rejected
    return found(count == 1 and rows == [2], f"{count} of 2 rows were rejected, and {len(rows)} landed")


@contextmanager
def _streamed(
    bench: Bench, name: str
) -> Iterator[tuple[TableName, CheckSession, ChannelClient, ChannelClient]]:
    """A scratch table, a session, and two clients that stream into the table."""
    table = bench.scratch(name)
    with bench.session() as session:
        session.rows(Statement(_TABLE.format(table=table.sql)))
        with bench.snowflake.open_channels(table) as one, bench.snowflake.open_channels(table) as other:
            yield table, session, one, other
            # Its token would be the next one's start.
            one.drop(_CHANNEL)


def _commit(channel: Channel, row: bytes, token: str) -> None:
    channel.append([row], token, token)
    channel.wait(token, timeout=_PATIENCE_SECONDS, stopping=threading.Event())


def _if_it_can(run: Callable[[Bench], Observation]) -> Callable[[Bench], Observation]:
    """Whoever doesn't stream needs neither the extra nor a key pair."""

    def tried(bench: Bench) -> Observation:
        try:
            bench.snowflake.streaming_login()
            return run(bench)
        except InvalidSettingError as error:
            return not_shown(str(error))

    return tried


CHECKS = (
    Check(
        name="streaming-fence",
        tries="A channel that is opened again refuses its former owner, and reports its offset token",
        promises=(1, 2, 3),
        advice="Load with sink='copy': exactly-once streaming rests on this. Report it to the maintainers.",
        needs=Needs.DATABASE,
        run=_if_it_can(fenced),
    ),
    Check(
        name="streaming-rejected",
        tries="Rows that a table can't take are counted, and those after them land",
        promises=(8, 10),
        advice="Set ERROR_LOGGING = TRUE on the landing table, and check its error table after drains.",
        needs=Needs.DATABASE,
        run=_if_it_can(rejected),
    ),
)
