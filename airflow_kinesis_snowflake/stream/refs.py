"""A reference to a stream: its name, or its ARN, which also contains account and region."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_kinesis_snowflake.exceptions import InvalidSettingError

_NAME = "[a-zA-Z0-9_.-]{1,128}"
_RESOURCE = re.compile(rf"stream/(?P<name>{_NAME})")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_ACCOUNT = re.compile(r"[0-9]{12}")
_HOW = "Give arn:aws:kinesis:<region>:<account id>:stream/<name>"
# From botocore's partitions.json; a region that matches none of these prefixes belongs to "aws".
_PARTITIONS = {
    "cn-": "aws-cn",
    "eu-isoe-": "aws-iso-e",
    "eusc-": "aws-eusc",
    "us-gov-": "aws-us-gov",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "us-isof-": "aws-iso-f",
}


@dataclass(frozen=True)
class StreamRef:
    """A stream as the user named it. Its text is what was given: the ARN, or otherwise the name.

    :param name: 1 to 128 characters of ``a-z A-Z 0-9 _ . -``
    :param partition: of AWS: ``aws``, ``aws-cn`` ...; with ``region`` and ``account`` ``None`` where only the
        name is known
    :param account: AWS account id, twelve digits
    """

    name: str
    partition: str | None = None
    region: str | None = None
    account: str | None = None

    @classmethod
    def parse(cls, text: str) -> StreamRef:
        """Read a name or an ARN.

        :raises InvalidSettingError: it is neither, or the ARN of something else
        """
        if text.startswith("arn:"):
            return _parse_arn(text)
        if not re.fullmatch(_NAME, text):
            raise InvalidSettingError(
                f"Give the name of a Kinesis stream, not {text!r}: 1 to 128 letters, digits, '_', '.' or "
                "'-', or the ARN of a stream"
            )
        return cls(text)

    @property
    def arn(self) -> str | None:
        """``None`` where only the name is known."""
        if self.region is None:
            return None
        return f"arn:{self.partition}:kinesis:{self.region}:{self.account}:stream/{self.name}"

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters by which Kinesis calls name the stream."""
        return {"StreamName": self.name} if self.arn is None else {"StreamARN": self.arn}

    def region_beside(self, region: str | None) -> str | None:
        """The region to call Kinesis in.

        :param region: that of the settings; ``None``: they name none
        :return: that of the ARN, or otherwise that of the settings
        :raises InvalidSettingError: ARN and settings name two regions
        """
        if self.region is not None and region not in {None, "", self.region}:
            raise InvalidSettingError(
                f"Leave out region_name, or set it to {self.region!r}: {self} isn't in {region!r}"
            )
        return self.region or region

    def __str__(self) -> str:
        return self.arn or self.name


def region_of(stream_name: str | None, region: str | None) -> str | None:
    """The region of a stream, from its ARN or otherwise from the settings.

    :param stream_name: a name or an ARN; empty: no stream is involved
    :param region: that of the settings; ``None``: they name none
    :raises InvalidSettingError: neither a name nor an ARN, or ARN and settings name two regions
    """
    return StreamRef.parse(stream_name).region_beside(region) if stream_name else region


def partition_of(region: str) -> str:
    """The AWS partition of a region, as ARNs name it."""
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")


def _parse_arn(text: str) -> StreamRef:
    _, partition, service, region, account, resource = (*text.split(":", 5), "", "", "", "")[:6]
    if service != "kinesis":
        raise InvalidSettingError(
            f"{_HOW}: {text!r} is the ARN of a resource of {service or 'no service'}, not of Kinesis"
        )
    if "/consumer/" in resource:
        raise InvalidSettingError(
            f"Give the ARN of the stream, which ends before '/consumer/': {text!r} is that of a registered "
            "consumer"
        )
    named = _RESOURCE.fullmatch(resource)
    if not (named and _REGION.fullmatch(region) and _ACCOUNT.fullmatch(account)):
        raise InvalidSettingError(f"{_HOW}: {text!r} isn't the ARN of a Kinesis stream")
    if partition != partition_of(region):
        raise InvalidSettingError(
            f"Correct the ARN {text!r}, which contradicts itself: {region} is a region of the partition "
            f"{partition_of(region)!r}, not {partition!r}"
        )
    return StreamRef(named["name"], partition, region, account)
