"""The operator that audits what an application has loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_kinesis_snowflake.exceptions import NotExactlyOnceError
from airflow_kinesis_snowflake.operators import settings as types
from airflow_kinesis_snowflake.operators.maintenance import StateOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_kinesis_snowflake.operators.settings import SettingType


class AuditOperator(StateOperator):
    """Checks whether an application has loaded everything exactly once, and for how many records. Changes
    nothing.

    It compares the landing table, the dead letters and the offsets table in one statement, which reads the
    landing table once, and the checkpoints with the offsets. Drains may run meanwhile. The log shows the
    report: counts per shard and incarnation, what isn't exactly once, and what can't be known.

    Needs SELECT on the three tables and what reading the state needs; with ``with_stream`` also
    ``kinesis:ListShards``, ``DescribeStreamSummary``, ``GetShardIterator`` and ``GetRecords``.

    :param on_findings: ``fail`` or ``warn``: what to do if it isn't exactly once (templated)
    :param with_stream: read what the stream still retains, and look for each record: at most 2.5 reads a
        second and shard, besides those of the drains (templated)
    :param compare_counts: whether the tables should hold as many records as were committed; set it to
        ``False`` if rows or dead letters are removed, or other software has loaded into the table (templated)
    :param several_documents: a record may become several rows (templated)
    :param together_with: other applications that load the stream into the same table: names, or
        comma-separated text (templated)
    :param kwargs: ``application_name``, ``stream_name``, ``table`` and what
        :class:`~airflow_kinesis_snowflake.operators.maintenance.StateOperator` takes besides
    :return: the report, as XCom, also if the task fails: ``exactly_once``, ``records``, ``landed``,
        ``dead_letters``, ``loaded_again``, ``compared``, ``shards``, ``findings``, ``limits``
    :raises AirflowFailException: it isn't exactly once, or a table isn't there, or can't be read
    """

    setting_types: ClassVar[Mapping[str, SettingType[Any]]] = {
        **StateOperator.setting_types,
        "stream_name": types.STREAM,
        "table": types.TABLE,
        "on_findings": types.choice("fail", "warn"),
        "with_stream": types.TRUTH,
        "compare_counts": types.TRUTH,
        "several_documents": types.TRUTH,
        "together_with": types.WORDS,
    }

    def __init__(
        self,
        *,
        on_findings: str = "fail",
        with_stream: bool | str = False,
        compare_counts: bool | str = True,
        several_documents: bool | str = False,
        together_with: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_findings = on_findings
        self.with_stream = with_stream
        self.compare_counts = compare_counts
        self.several_documents = several_documents
        self.together_with = together_with
        self.check_settings()

    def work(self, context: Context) -> dict[str, Any]:
        """Run the audit."""
        from airflow_kinesis_snowflake.audit.auditing import AuditRequest, audit, open_landed
        from airflow_kinesis_snowflake.audit.markdown import report_text, verdict

        settings = self.read_settings()
        request = AuditRequest(
            stream=self.kinesis.stream_name,
            applications=(settings["application_name"], *settings["together_with"]),
            several_documents=settings["several_documents"],
            compare_counts=settings["compare_counts"],
            with_stream=settings["with_stream"],
        )
        with open_landed(str(settings["table"]), snowflake_conn_id=settings["snowflake_conn_id"]) as landed:
            report = audit(request, landed=landed, open_store=self.open_store, kinesis=self.kinesis)
        answer = report.as_dict()
        (self.log.info if report.exactly_once else self.log.warning)("%s", report_text(report))
        if not report.exactly_once and settings["on_findings"] == "fail":
            context["ti"].xcom_push(key="return_value", value=answer)
            raise NotExactlyOnceError(
                "Look at the findings in the log of this task, and at what the page Audit says of each kind: "
                f"{verdict(report)} Stream {request.stream}, table {report.table}"
            )
        return answer
