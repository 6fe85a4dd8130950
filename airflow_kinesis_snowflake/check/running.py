"""Running checks, one after another; none of them stops the next."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.check.bench import Bench, CheckSettings
from airflow_kinesis_snowflake.check.checks import Check, CheckResult, CheckVerdict, Needs, Observation
from airflow_kinesis_snowflake.check.results import CheckReport
from airflow_kinesis_snowflake.check.suite import CHECKS
from airflow_kinesis_snowflake.exceptions import (
    AccessDeniedError,
    InvalidSettingError,
    KinesisSnowflakeError,
    SnowflakeObjectNotFoundError,
    StreamNotFoundError,
    TransientError,
)
from airflow_kinesis_snowflake.sinks.snowflake.files import work_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Errors that mean that a check couldn't be run, not that something doesn't hold.
_PREVENTED = (
    TransientError,
    AccessDeniedError,
    InvalidSettingError,
    SnowflakeObjectNotFoundError,
    StreamNotFoundError,
)

log = logging.getLogger(__name__)


def run_checks(
    settings: CheckSettings,
    *,
    checks: Sequence[Check] = CHECKS,
    stopping: threading.Event | None = None,
) -> CheckReport:
    """Run the requested checks, and remove what they created.

    An exception raised by a check is its result. What an earlier, killed check left behind is removed first.

    :param stopping: set it to skip the remaining checks
    :raises InvalidSettingError: an unknown check is named, or nothing is named to check
    """
    chosen = choose(checks, settings)
    with work_folder() as folder:
        run = _Run(settings, Bench(settings, folder=folder, now=datetime.now(UTC)), stopping)
        try:
            results = tuple(run.result(check) for check in chosen)
        finally:
            left = run.bench.close()
            for name in left:
                log.error("A check has left behind %s", name)
    return CheckReport(
        results, stand_ins=run.stand_ins(), removed=tuple(run.removed), left=(*run.unsure, *left)
    )


def choose(checks: Sequence[Check], settings: CheckSettings) -> Sequence[Check]:
    """The checks to report on.

    :raises InvalidSettingError: an unknown check is named, or nothing is named to check
    """
    if unknown := set(settings.only) - {check.name for check in checks}:
        names = ", ".join(check.name for check in checks)
        raise InvalidSettingError(f"Name some of {names}: there is no check {', '.join(sorted(unknown))}")
    if not any(settings.names(needed) for needed in Needs):
        raise InvalidSettingError(f"Name at least one of: {'; '.join(Needs)}")
    return [check for check in checks if not settings.only or check.name in settings.only]


class _Run:
    def __init__(self, settings: CheckSettings, bench: Bench, stopping: threading.Event | None) -> None:
        self.bench = bench
        self.removed: list[str] = []
        self.unsure: list[str] = []
        self._settings = settings
        self._stopping = stopping or threading.Event()
        # The outcome of preparing for checks of Snowflake, and for those of the scratch table.
        self._prepared: dict[Needs, KinesisSnowflakeError | None] = {}

    def result(self, check: Check) -> CheckResult:
        """The result of a check."""
        began = time.monotonic()
        observed = self._skipped(check) or self._tried(check)
        result = CheckResult(check, observed.verdict, observed.text, time.monotonic() - began)
        log.info("Check %s: %s: %s", check.name, result.verdict, result.text)
        return result

    def stand_ins(self) -> tuple[str, ...]:
        """Services that are local stand-ins, as far as is known without asking again."""
        known = vars(self.bench)
        found = {
            "Snowflake": known.get("snowflake_stand_in"),
            "AWS": "stream" in known and self.bench.aws_stand_in,
        }
        return tuple(name for name, stand_in in found.items() if stand_in)

    def _skipped(self, check: Check) -> Observation | None:
        if self._stopping.is_set():
            return Observation(CheckVerdict.SKIPPED, "the run was told to stop")
        if not self._settings.names(check.needs):
            return Observation(CheckVerdict.SKIPPED, f"name {check.needs}")
        if check.slow and not self._settings.slow and not self._settings.only:
            return Observation(CheckVerdict.SKIPPED, "it takes minutes; request it with --slow")
        return None

    def _tried(self, check: Check) -> Observation:
        try:
            self._prepare(check.needs)
        except KinesisSnowflakeError as error:
            return _broken(error)
        try:
            if check.beyond_stand_ins and self._on_stand_in(check.needs):
                return Observation(CheckVerdict.NOT_SHOWN, check.beyond_stand_ins)
            observed = check.run(self.bench)
        except _PREVENTED as error:
            return _broken(error)
        except KinesisSnowflakeError as error:
            observed = Observation(CheckVerdict.FAILED, f"{type(error).__name__}: {error}")
        except Exception as error:
            # A bug in this check, which must not hide what the others find. Its text may quote anything.
            *_, frame = traceback.extract_tb(error.__traceback__)
            where = f"{Path(frame.filename).name}, line {frame.lineno}"
            return Observation(CheckVerdict.BROKEN, f"a bug in the check: {type(error).__name__} in {where}")
        if observed.verdict is CheckVerdict.FAILED and not check.promises:
            return Observation(CheckVerdict.NOTED, observed.text)
        return observed

    def _on_stand_in(self, needs: Needs) -> bool:
        return self.bench.snowflake_stand_in if needs.snowflake else self.bench.aws_stand_in

    def _prepare(self, needs: Needs) -> None:
        """Create what the checks of one side share, once; if that fails, each of them fails."""
        kind = Needs.DATABASE if needs.snowflake else needs
        if kind not in self._prepared:
            try:
                if kind is Needs.DATABASE:
                    self._remove(self.bench.remove_schemas)
                    self.bench.make_schema()
                    _ = self.bench.snowflake_stand_in
                elif kind is Needs.SCRATCH_TABLE:
                    self._remove(self.bench.remove_tables)
                self._prepared[kind] = None
            except KinesisSnowflakeError as error:
                self._prepared[kind] = error
        if (prevented := self._prepared[kind]) is not None:
            raise prevented

    def _remove(self, leftovers: Callable[[], list[str]]) -> None:
        try:
            self.removed += leftovers()
        except KinesisSnowflakeError as error:
            self.unsure.append(f"perhaps what earlier checks created: {error}")


def _broken(error: KinesisSnowflakeError) -> Observation:
    return Observation(CheckVerdict.BROKEN, f"{type(error).__name__}: {error}")
