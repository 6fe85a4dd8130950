"""``make demo``: flights go from Kinesis through a real Airflow into Snowflake, once by each sink.

Every figure is checked.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from local import flights
from local.airflow import USER, LocalAirflow
from local.services import DATABASE, LocalServices
from local.transfer import BY_HAND_ONLY, DAG_ID, transfer

if TYPE_CHECKING:
    from local.transfer import Transfer

STREAM = "flights"
APPLICATION = "flights-demo"
TABLE = f"{DATABASE}.PUBLIC.FLIGHTS"
# What another application streams, of the same records.
STREAMED = f"{DATABASE}.PUBLIC.FLIGHTS_STREAMED"
STREAMING = {"sink": "streaming", "application_name": "flights-streamed", "table": STREAMED}
# As Airflow Variables, so that people who look around can start further runs with empty forms.
VARIABLES = {
    "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_STREAM_NAME": STREAM,
    "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_APPLICATION_NAME": APPLICATION,
    "AIRFLOW_VAR_KINESIS_TO_SNOWFLAKE_TABLE": TABLE,
}


@dataclass(frozen=True)
class Check:
    """A figure as it must be and as it is."""

    what: str
    expected: int
    found: int

    @property
    def passed(self) -> bool:
        """Whether the two are the same."""
        return self.expected == self.found

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "WRONG"
        return f"{self.what:<44}{self.expected:>12,}{self.found:>12,}  {verdict}"


def main() -> int:
    """Run the demo; return 0 if every figure is as it must be, else 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    say("Starting Kinesis, DynamoDB and Snowflake (local stand-ins) and Airflow")
    with (
        LocalServices() as services,
        LocalAirflow(env=services.airflow_connections() | VARIABLES | BY_HAND_ONLY) as airflow,
    ):
        say(f"They run after {time.monotonic() - began:.0f} s. Airflow: {airflow.url}")
        checks = run(services, airflow)
        print(f"\n{'':<44}{'expected':>12}{'found':>12}", *checks, sep="\n")
        say(f"Done after {time.monotonic() - began:.0f} s")
        if sys.stdin.isatty():
            keep_open(airflow)
    return 0 if all(check.passed for check in checks) else 1


def run(services: LocalServices, airflow: LocalAirflow) -> list[Check]:
    """Move the flights, look for more, and compare what happened with what should have."""
    january = flights.january()
    source = flights.figures(january)
    say(
        f"Putting {source.records:,} flights into stream {STREAM}: {flights.SHARDS} shards, one of them split"
    )
    accepted = flights.put(services.kinesis_client(), STREAM, january)
    api = airflow.api()
    say(f"Running DAG {DAG_ID}")
    first = transfer(api, services)
    say(f"It moved {first.records:,} records in {first.seconds:.1f} s. Running it again")
    second = transfer(api, services)
    say(
        f"It found {second.records:,} new records in {second.seconds:.1f} s "
        f"and opened {second.snowflake_logins} connections to Snowflake"
    )
    say("Running it for another application, by Snowpipe Streaming")
    streamed = transfer(api, services, conf=STREAMING)
    say(f"It moved {streamed.records:,} records in {streamed.seconds:.1f} s, without a warehouse")
    return [
        *compare(
            source, accepted=accepted, first=first, second=second, landed=flights.landed(services, TABLE)
        ),
        *compare_streamed(source, streamed=streamed, landed=flights.landed(services, STREAMED)),
    ]


def compare(
    source: flights.Figures, *, accepted: int, first: Transfer, second: Transfer, landed: flights.Figures
) -> list[Check]:
    """Return every figure beside the one computed from the source data."""
    return [
        Check("records accepted by Kinesis", source.records, accepted),
        Check("shards read (four, and two from the split)", flights.SHARDS + 2, first.shards),
        Check("records drained", source.records, first.records),
        Check("dead letters", 0, first.dead_letters),
        Check("rows landed in Snowflake", source.records, landed.records),
        Check("distinct flights landed", source.flights, landed.flights),
        Check("miles flown, summed in Snowflake", source.miles, landed.miles),
        Check("second run: records drained", 0, second.records),
        Check("second run: connections to Snowflake", 0, second.snowflake_logins),
    ]


def compare_streamed(source: flights.Figures, *, streamed: Transfer, landed: flights.Figures) -> list[Check]:
    """The same for the run that streamed."""
    return [
        Check("streamed: records drained", source.records, streamed.records),
        Check("streamed: dead letters", 0, streamed.dead_letters),
        Check("streamed: rows landed in Snowflake", source.records, landed.records),
        Check("streamed: distinct flights landed", source.flights, landed.flights),
        Check("streamed: miles flown, summed in Snowflake", source.miles, landed.miles),
    ]


def keep_open(airflow: LocalAirflow) -> None:
    """Leave everything running until Ctrl-C, so that people can look around."""
    say(f"Look around at {airflow.url} as {USER} with password {airflow.password}. Ctrl-C stops everything")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def say(text: str) -> None:
    """Tell the user what happens."""
    print(f"{text}.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
