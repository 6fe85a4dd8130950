"""Bad days of the local Snowflake: what it does on request to the sessions and statements of a test."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from local.services import LocalServices


class SnowflakeFault:
    """One fault that is in force. A context manager that ends it; see :class:`NastySnowflake`."""

    def __init__(self, server: NastySnowflake, id_: int) -> None:
        self._server = server
        self._id = id_
        self._last: list[dict[str, Any]] = []

    @property
    def events(self) -> list[dict[str, Any]]:
        """The statements it was done to: ``session`` (number or None), ``statement``, ``outcome``."""
        shown = self._server.call("GET", "/faults")
        self._last = next((fault["events"] for fault in shown if fault["id"] == self._id), self._last)
        return self._last

    @property
    def hits(self) -> int:
        """How many statements it was done to."""
        return len(self.events)

    @property
    def outcomes(self) -> list[str]:
        """What became of each statement: for :meth:`NastySnowflake.deliver_late` ``under way``, ``refused``,
        ``done`` or the message of an error.
        """
        return [event["outcome"] for event in self.events]

    def deliver(self) -> None:
        """Let the statements arrive that :meth:`NastySnowflake.deliver_late` keeps; returns when they ran."""
        self._server.call("POST", f"/faults/{self._id}/deliver")

    def remove(self) -> None:
        """End it. Statements that are under way never arrive. What it did stays known."""
        _ = self.events
        self._server.call("DELETE", f"/faults/{self._id}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class NastySnowflake:
    """Asks the local Snowflake for bad days. Each method returns a fault, to be used as a context manager::

        nasty = NastySnowflake(services, session={"database": database})
        with nasty.end_transaction(before="UPDATE .*OFFSETS", times=1) as fault:
            drain.run()
        assert fault.hits == 1

    All methods take, besides what they name:

    - ``times``: at most so many statements; ``skip``: leave so many alone first
    - ``probability``, ``seed``: of doing it to a statement that is meant

    Regular expressions are searched in the whole statement, whatever the case. A login is the statement
    ``LOGIN``, a logout ``LOGOUT``, the transfer of a file ``UPLOAD <path>`` (which belongs to no session).

    :param services: whose Snowflake
    :param session: regular expressions that choose sessions, by ``user``, ``account``, ``application``,
        ``query_tag`` and ``database`` (the session's current one, and all it has named so far); tests that
        share a server name their own
    """

    def __init__(self, services: LocalServices, *, session: dict[str, str] | None = None) -> None:
        self._url = f"http://{services.snowflake_host}:{services.snowflake_port}"
        self._session = session or {}

    def end_transaction(self, *, before: str = "", **limits: Any) -> SnowflakeFault:
        """Roll back the open transaction before a statement, and tell nobody; the statement runs outside.

        Outcome: ``rolled back`` or ``had no transaction``.
        """
        return self._add("end_transaction", before, limits)

    def end_session(self, *, before: str = "", **limits: Any) -> SnowflakeFault:
        """End the session before a statement, with its transaction; the answer is error 390111."""
        return self._add("end_session", before, limits)

    def lose_answer(self, statement: str = "", *, for_good: bool = False, **limits: Any) -> SnowflakeFault:
        """Cut the connection after a statement has run.

        :param for_good: cut it whenever the connector sends the statement again, too; otherwise that gets the
            answer
        """
        return self._add("lose_answer", statement, limits, lost="for good" if for_good else "once")

    def answer_error(
        self, statement: str, *, code: str, sqlstate: str = "42601", message: str = "injected", **limits: Any
    ) -> SnowflakeFault:
        """Answer an error in place of running a statement.

        :param code: six digits
        """
        return self._add("error", statement, limits, code=code, sqlstate=sqlstate, message=message)

    def refuse_parameter(self, name: str, **limits: Any) -> SnowflakeFault:
        """Don't know a session parameter, as a Snowflake of another version: error 1008."""
        message = f"SQL compilation error: invalid parameter '{name}'"
        statement = rf"ALTER\s+SESSION\s+SET\b.*\b{re.escape(name)}\b"
        return self.answer_error(statement, code="001008", sqlstate="22023", message=message, **limits)

    def refuse_error_logging(self, **limits: Any) -> SnowflakeFault:
        """Refuse COPY into tables made with ERROR_LOGGING = TRUE, but to sessions with the opt-out.

        Snowflake's documentation says so on one page, and the contrary on another.
        """
        return self._add("error_logging", "^COPY", limits)

    def deliver_late(
        self,
        statement: str = "",
        *,
        after: int | None = None,
        after_statement: str = "",
        anybody: bool = False,
        code: str | None = None,
        **limits: Any,
    ) -> SnowflakeFault:
        """Keep a statement, cut the connection each time it is sent, and run it later.

        It runs in whatever transaction the session has then, before the statement that it comes behind is
        answered; never, if the session has ended. Without ``after`` it waits for
        :meth:`SnowflakeFault.deliver`. ``LOGOUT`` never arrives.

        :param after: so many further statements that match ``after_statement``
        :param anybody: of any session, else of its own
        :param code: answer this error instead of cutting the connection
        """
        options = {"after": after, "after_statement": after_statement, "anybody": anybody, "code": code}
        return self._add("late", statement, limits, **options)

    def deliver_twice(self, statement: str = "", *, answer: str = "first", **limits: Any) -> SnowflakeFault:
        """Run a statement twice, and give one answer. Outcome: ``done`` or the second run's error.

        :param answer: ``first`` or ``second``
        """
        return self._add("twice", statement, limits, answer=answer)

    def read_stale(self, *tables: str, statement: str = "", **limits: Any) -> SnowflakeFault:
        """Let sessions that are open now go on reading the database of these tables as it is now.

        Until the session begins a transaction or writes. (READ_CONSISTENCY_MODE = 'SESSION')

        :param tables: names in full
        """
        return self._add("stale", statement, limits, tables=tables)

    def race_merges(
        self, *tables: str, statement: str = "^MERGE", times: int = 2, **limits: Any
    ) -> SnowflakeFault:
        """Run MERGEs without a lock, each on what the tables hold now: all insert the same keys.

        :param tables: names in full
        """
        return self._add("race", statement, {"times": times, **limits}, tables=tables)

    def never_look_again(self, statement: str = "", **limits: Any) -> SnowflakeFault:
        """Let an UPDATE or DELETE that waited for its table change what it had found before.

        Outcome: ``waits`` as soon as it has looked and waits.
        """
        return self._add("blind", statement, limits)

    def purge_at_commit(self, **limits: Any) -> SnowflakeFault:
        """Let COPY ... PURGE remove files only when its transaction commits.

        Otherwise they are gone as soon as COPY has loaded them, whatever becomes of the transaction:
        Snowflake documents neither. Holds for the rest of the session.
        """
        return self._add("purge", "^COPY", limits, when="commit")

    def clear(self) -> None:
        """End all faults, those of other tests too."""
        self.call("DELETE", "/faults")

    def _add(self, do: str, statement: str, limits: dict[str, Any], **options: Any) -> SnowflakeFault:
        asked = {"do": do, "statement": statement, "session": self._session, "options": options, **limits}
        return SnowflakeFault(self, self.call("POST", "/faults", asked)["id"])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
