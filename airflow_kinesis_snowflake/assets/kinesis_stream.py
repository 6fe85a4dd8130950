"""A Kinesis stream as an asset: ``kinesis-stream://<region>/<account id>/<stream>``.

Airflow's Amazon provider calls a message queue ``kinesis``. A scheme belongs to whoever registers it last, so
this one has a name of its own, and won't change should that provider ever define assets for streams.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.refs import StreamRef, partition_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

    from airflow.sdk import AssetWatcher

SCHEME = "kinesis-stream"
_PATH = re.compile(r"/\d{12}/[a-zA-Z0-9_.-]{1,128}")


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check the URI of a stream.

    :raises ValueError: it doesn't name a region, an account of twelve digits and a stream
    """
    if not uri.netloc or not _PATH.fullmatch(uri.path):
        raise ValueError(f"write the URI of a stream as {SCHEME}://<region>/<account id>/<stream>")
    return uri


def create_asset(
    *,
    stream: str,
    region: str | None = None,
    account: str | None = None,
    watchers: Sequence[AssetWatcher] = (),
    extra: dict[str, Any] | None = None,
) -> Asset:
    """A stream as an asset, for ``schedule`` and ``inlets``.

    :param stream: name of the stream, or its ARN, which includes the next two
    :param region: AWS region
    :param account: AWS account id, twelve digits
    :param watchers: what notifies Airflow of new records, such as one with a
        :class:`~airflow_kinesis_snowflake.triggers.backlog.KinesisBacklogTrigger`
    :raises InvalidSettingError: region or account is missing beside a name, or contradicts the ARN
    """
    ref = StreamRef.parse(stream)
    its_region, its_account = ref.region_beside(region), ref.account or account
    if its_region is None or its_account is None or account not in {None, its_account}:
        raise InvalidSettingError(
            f"Give the region and the account of stream {stream!r}, or its ARN alone: not region {region!r} "
            f"and account {account!r}"
        )
    uri = f"{SCHEME}://{its_region}/{its_account}/{ref.name}"
    return Asset(uri=uri, watchers=list(watchers), extra=extra)


def uri_of_arn(arn: str) -> str:
    """The URI of the stream with this ARN.

    :raises InvalidSettingError: not the ARN of a stream
    """
    stream = StreamRef.parse(arn)
    if stream.arn is None:
        raise InvalidSettingError(f"Give the ARN of a Kinesis stream: {arn!r} isn't one")
    return f"{SCHEME}://{stream.region}/{stream.account}/{stream.name}"


def convert_asset_to_openlineage(asset: Asset, lineage_context: object) -> Any:
    """The stream's OpenLineage name: like those of AWS Glue tables, the two halves of its ARN."""
    from urllib.parse import urlsplit

    from airflow.providers.common.compat.openlineage.facet import Dataset

    region, (_, account, stream) = urlsplit(asset.uri).netloc, urlsplit(asset.uri).path.split("/")
    owner = f"arn:{partition_of(region)}:kinesis:{region}:{account}"
    return Dataset(namespace=owner, name=f"stream/{stream}")
