"""A sink whose drain is watched: how much of the stream it holds at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_kinesis_snowflake.engine.ports import Sink, SinkContext, SinkSettings

PROMISE = "6: a drain holds two batches"


class Counted:
    """Settings of a sink, whose drain may hold one batch that is loaded and one that is filled.

    A full one may grow by the pages that were under way, one of each shard.

    :param settings: of the sink
    :param most_records: with which a batch is full
    :param shards: tells how many there are
    :param expect: checks a promise
    """

    def __init__(
        self,
        settings: SinkSettings,
        *,
        most_records: int,
        shards: Callable[[], int],
        expect: Callable[[bool, str, str], None],
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._most_records = most_records
        self._shards = shards
        self._expect = expect
        self._held: set[Path] = set()

    def open(self, context: SinkContext, /) -> Sink:
        """The sink, with containers that are counted."""
        sink: Any = self._settings.open(context)
        sink.begin = partial(self._begin, sink.begin)
        opened: Sink = sink
        return opened

    def _begin(self, begin: Callable[[Path], Any], folder: Path) -> Any:
        rows, late = begin(folder), 0
        append, delete = rows.append, rows.delete
        self._held.add(folder)
        held = len(self._held)
        self._expect(held <= 2, PROMISE, f"a drain holds {held} batches")

        def add(*args: Any, **kwargs: Any) -> None:
            nonlocal late
            late += rows.rows + rows.dead_letters >= self._most_records
            append(*args, **kwargs)
            self._expect(late <= self._shards(), PROMISE, f"{late} pages were added to a full batch")

        def forget() -> None:
            self._held.discard(folder)
            delete()

        rows.append, rows.delete = add, forget
        return rows
