"""Links from a drain: its page, its stream, its checkpoints, its landing table.

Airflow shows the XCom under a link's key, and writes it again when the task ends, with what :meth:`get_link`
returns then. So the operator keeps its links, pushes them when it starts, and returns the same at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_kinesis_snowflake.identifiers import TableName

AWS_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}


class DrainLink(BaseOperatorLink):
    """Base of the links of a drain: the URL is the one the operator keeps under the link's name."""

    name: ClassVar[str]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The URL; empty while it isn't known, and if there is none."""
        urls: Mapping[str, str] = getattr(operator, "link_urls", {})
        return urls.get(self.name, "")


class MonitoringPageLink(DrainLink):
    """The application on the provider's page in Airflow."""

    name = "Kinesis to Snowflake"


class StreamLink(DrainLink):
    """The stream in the AWS console."""

    name = "Kinesis stream"


class CheckpointTableLink(DrainLink):
    """The application's DynamoDB table in the AWS console."""

    name = "Checkpoints in DynamoDB"


class LandingTableLink(DrainLink):
    """The landing table in Snowsight, where the tab Copy History is the log of its loads."""

    name = "Loads in Snowsight"


LINKS = (MonitoringPageLink(), StreamLink(), CheckpointTableLink(), LandingTableLink())


def link_urls(
    *,
    base_url: str,
    region: str,
    state_region: str,
    partition: str,
    stream_name: str,
    application_name: str,
    table: TableName,
    account: str | None,
) -> dict[str, str]:
    """The URLs of the links, by name.

    :param base_url: of Airflow's web server
    :param region: of the stream
    :param state_region: of the checkpoints
    :param partition: of AWS: ``aws``, ``aws-cn`` or ``aws-us-gov``; others have no console
    :param account: as the Snowflake connection names it
    """
    page = urlencode({"application": application_name, "stream": stream_name}, quote_via=quote)
    urls = {MonitoringPageLink.name: f"{base_url.rstrip('/')}/plugin/kinesis-snowflake?{page}"}
    if console := AWS_CONSOLES.get(partition):
        urls[StreamLink.name] = (
            f"https://{region}.{console}/kinesis/home?region={region}"
            f"#/streams/details/{quote(stream_name, safe='')}/monitoring"
        )
        urls[CheckpointTableLink.name] = (
            f"https://{state_region}.{console}/dynamodbv2/home?region={state_region}"
            f"#table?name={quote(application_name, safe='')}"
        )
    if snowsight := snowsight_url(account):
        database, schema, name = (quote(part, safe="") for part in (table.database, table.schema, table.name))
        urls[LandingTableLink.name] = f"{snowsight}/#/data/databases/{database}/schemas/{schema}/table/{name}"
    return urls


def snowsight_url(account: str | None) -> str | None:
    """The address of an account in Snowsight; ``None`` for accounts behind a private link, or without one.

    :param account: ``organisation-account``, or a locator as in ``xy12345.eu-west-1`` or
        ``xy12345.ap-south-1.aws``; one without a region is in ``us-west-2``. See
        https://docs.snowflake.com/en/user-guide/admin-account-identifier
    """
    if not account or account.endswith(".privatelink"):
        return None
    locator, _, region = account.partition(".")
    organisation, _, name = account.partition("-")
    if region or not name:
        return f"https://app.snowflake.com/{region or 'us-west-2'}/{locator}"
    return f"https://app.snowflake.com/{organisation}/{name}"


def push_links(ti: Any, operator: BaseOperator) -> None:
    """Show the links of a task while it runs."""
    for link in LINKS:
        if url := link.get_link(operator, ti_key=ti):
            ti.xcom_push(key=link.xcom_key, value=url)
