"""Waiting until a stream is drained."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.configuration import conf
from airflow.sdk import BaseSensorOperator

from airflow_kinesis_snowflake.exceptions import InvalidSettingError, ServiceRefusedError
from airflow_kinesis_snowflake.operators.failures import no_retry_of_terminal_errors
from airflow_kinesis_snowflake.operators.settings import (
    AWS,
    DURATION,
    MOMENT,
    STREAM,
    TEXT,
    TRUTH,
    CheckedSettings,
    SettingType,
    as_written,
    optional,
)
from airflow_kinesis_snowflake.triggers.lag import KinesisDrainedTrigger, describe

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow.sdk import Context


class KinesisDrainedSensor(CheckedSettings, BaseSensorOperator):
    """Waits until an application has loaded everything that arrived in its stream before a moment.

    It relies on the application's state rows and reads no records, so it sees what drains have done, not what
    producers have sent since: an idle stream counts as drained up to when the last drain looked. So choose a
    ``max_lag`` that is longer than the interval between drains.

    :param stream_name: name of the Kinesis stream, or its ARN if it is of another account or region
        (templated)
    :param application_name: the name of the DynamoDB table with its state (templated)
    :param until: caught up: the moment, ISO-8601 with a time zone, or an aware datetime; default is the start
        of the DAG run (templated)
    :param max_lag: maximum lag: instead of ``until``, a moving moment this long before now
    :param deferrable: wait in the triggerer instead of on a worker; default is Airflow's
        ``[operators] default_deferrable``
    :param aws_conn_id: Airflow connection of type ``aws`` (templated)
    :param region_name: AWS region of the stream, default is that of its ARN, or else the connection's
        (templated)
    :param dynamodb_conn_id: Airflow connection of type ``aws`` for the state, whose region counts then;
        default is ``aws_conn_id`` in the stream's region (templated)
    :param verify: whether or with which CA bundle to check certificates of AWS
    :param botocore_config: arguments of ``botocore.config.Config``
    :param kwargs: as every sensor takes them: ``poke_interval``, ``timeout``, ``soft_fail`` ...
    :raises AirflowFailException: a setting, permission or state must be changed first
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        "stream_name": STREAM,
        "application_name": TEXT,
        "until": optional(MOMENT),
        "max_lag": optional(DURATION),
        "deferrable": as_written(TRUTH),
        **AWS,
    }
    ui_color = "#e6f2fb"

    def __init__(  # noqa: PLR0913 -- each is a setting of the sensor
        self,
        *,
        stream_name: str,
        application_name: str,
        until: str | datetime | None = None,
        max_lag: timedelta | None = None,
        deferrable: bool | None = None,
        aws_conn_id: str | None = "aws_default",
        dynamodb_conn_id: str | None = None,
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name
        self.application_name = application_name
        self.until = until
        self.max_lag = max_lag
        self.deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        if deferrable is not None:
            self.deferrable = deferrable
        self.aws_conn_id = aws_conn_id
        self.dynamodb_conn_id = dynamodb_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        self.check_settings()

    def execute(self, context: Context) -> Any:
        """Wait here, or in the triggerer."""
        with no_retry_of_terminal_errors():
            settings = self.read_settings()
            if settings["until"] is None and settings["max_lag"] is None:
                self.until = context["dag_run"].start_date
            if not settings["deferrable"]:
                return super().execute(context)
            if not self.poke(context):
                self.defer(
                    trigger=self._trigger(),
                    method_name="execute_complete",
                    timeout=timedelta(seconds=self.timeout),
                )
        return None

    def poke(self, context: Context) -> bool:
        """Whether the condition holds now."""
        from airflow_kinesis_snowflake.engine.lag import read_drained_until

        with no_retry_of_terminal_errors():
            trigger = self._trigger()
            drained = read_drained_until(*trigger.source.open())
            self.log.info("%s", describe(trigger.source, drained))
            return drained is not None and drained >= trigger.wanted()

    def execute_complete(self, context: Context, event: dict[str, str]) -> None:
        """Continue, or fail, with the trigger's result.

        :raises AirflowFailException: the result is an error that waiting doesn't fix
        """
        with no_retry_of_terminal_errors():
            if "error" in event:
                raise ServiceRefusedError(event["error"])
        self.log.info("Drained until %s", event["drained_until"])

    @classmethod
    def check_together(cls, settings: Mapping[str, Any]) -> None:
        """Check that the sensor has one thing to wait for.

        :raises InvalidSettingError: it has two
        """
        super().check_together(settings)
        if settings.get("until") is not None and settings.get("max_lag") is not None:
            raise InvalidSettingError("set until or max_lag, not both: a sensor waits for one thing")

    def _trigger(self) -> KinesisDrainedTrigger:
        settings = self.read_settings()
        until, max_lag = settings["until"], settings["max_lag"]
        return KinesisDrainedTrigger(
            until=None if until is None else until.isoformat(),
            max_lag_seconds=0.0 if max_lag is None else max_lag.total_seconds(),
            poll_seconds=self.poke_interval,
            **{name: settings[name] for name in ("stream_name", "application_name", *AWS)},
        )
