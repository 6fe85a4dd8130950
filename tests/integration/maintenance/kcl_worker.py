"""A consumer of the Kinesis Client Library: reads so many records, checkpoints behind the last, and stops.

Usage: ``python kcl_worker.py ENDPOINT APPLICATION RECORDS STREAM...``. The records are those of users, so the
last checkpoint may be inside an aggregate. A stream with colons in it is one of the multi-stream mode. Ends
with 1 if the records don't come.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from kcl_rs import RecordProcessorBase, Scheduler

PATIENCE_SECONDS = 90


class Records:
    """The records that are left to read."""

    def __init__(self, left: int) -> None:
        self.none_left = threading.Event()
        self._left = left
        self._lock = threading.Lock()

    def take(self, records: list[Any]) -> list[Any]:
        """Those of some records that are wanted."""
        with self._lock:
            taken = records[: self._left]
            self._left -= len(taken)
            return taken

    def note_checkpoint(self) -> None:
        if self._left == 0:
            self.none_left.set()


class Processor(RecordProcessorBase):
    """Counts records, and checkpoints behind the last of each call."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def initialize(self, initialize_input: Any) -> None:
        pass

    def process_records(self, process_records_input: Any) -> None:
        taken = self._records.take(list(process_records_input.records))
        if taken:
            last = taken[-1]
            process_records_input.checkpointer.checkpoint(last.sequence_number, last.sub_sequence_number)
            self._records.note_checkpoint()

    def lease_lost(self, lease_lost_input: Any) -> None:
        pass

    def shard_ended(self, shard_ended_input: Any) -> None:
        shard_ended_input.checkpointer.checkpoint()

    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        pass


def main(endpoint: str, application: str, count: str, *streams: str) -> int:
    records = Records(int(count))
    several = ":" in streams[0]
    scheduler = Scheduler(
        **({"stream_identifiers": list(streams)} if several else {"stream_name": streams[0]}),
        application_name=application,
        record_processor_factory=lambda: Processor(records),
        region="us-east-1",
        endpoint_url=endpoint,
        initial_position="TRIM_HORIZON",
        access_key_id="test",
        secret_access_key="test",
        retrieval_mode="POLLING",
        idle_time_between_reads_millis=200,
        shard_sync_interval_millis=1_000,
    )
    scheduler.start()
    done = records.none_left.wait(PATIENCE_SECONDS)
    scheduler.shutdown()
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
