"""A Kinesis stream as an asset: ``kinesis-stream://<region>/<account id>/<stream>``.

Airflow's Amazon provider calls a message queue ``kinesis``. Schemes belong to whoever registers them last, so
this one has a name of its own, and stays what it is should that provider come to have assets of streams.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

    from airflow.sdk import AssetWatcher

SCHEME = "kinesis-stream"
_PATH = re.compile(r"/\d{12}/[a-zA-Z0-9_.-]{1,128}")
_ARN = re.compile(
    r"arn:[a-z-]+:kinesis:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):stream/(?P<stream>[a-zA-Z0-9_.-]{1,128})"
)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the URI of a stream.

    :raises ValueError: it doesn't name a region, an account of twelve digits and a stream
    """
    if not uri.netloc or not _PATH.fullmatch(uri.path):
        raise ValueError(f"the URI of a stream is {SCHEME}://<region>/<account id>/<stream>")
    return uri


def create_asset(
    *,
    region: str,
    account: str,
    stream: str,
    watchers: Sequence[AssetWatcher] = (),
    extra: dict[str, Any] | None = None,
) -> Asset:
    """A stream as an asset, for ``schedule`` and ``inlets``.

    :param region: AWS region
    :param account: AWS account id, twelve digits
    :param stream: name of the stream
    :param watchers: what tells Airflow that there is something new, such as one with a
        :class:`~airflow_kinesis_snowflake.triggers.backlog.KinesisBacklogTrigger`
    """
    return Asset(uri=f"{SCHEME}://{region}/{account}/{stream}", watchers=list(watchers), extra=extra)


def uri_of_arn(arn: str) -> str:
    """The URI of the stream with this ARN.

    :raises ValueError: not the ARN of a stream
    """
    named = _ARN.fullmatch(arn)
    if named is None:
        raise ValueError(f"not the ARN of a Kinesis stream: {arn!r}")
    return f"{SCHEME}://{named['region']}/{named['account']}/{named['stream']}"


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Any:
    """The stream as OpenLineage names it: like tables of AWS Glue, by the two halves of its ARN."""
    from urllib.parse import urlsplit

    from airflow.providers.common.compat.openlineage.facet import Dataset

    region, (_, account, stream) = urlsplit(asset.uri).netloc, urlsplit(asset.uri).path.split("/")
    return Dataset(namespace=f"arn:{partition(region)}:kinesis:{region}:{account}", name=f"stream/{stream}")


def partition(region: str) -> str:
    """The part of AWS that a region belongs to, as ARNs name it."""
    special = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
    return next((name for start, name in special.items() if region.startswith(start)), "aws")
