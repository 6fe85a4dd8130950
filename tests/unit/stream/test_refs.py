"""Names and ARNs of streams."""

from __future__ import annotations

import re

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.stream.refs import StreamRef, partition_of

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"


def test_a_name_says_nothing_of_account_and_region() -> None:
    ref = StreamRef.parse("clicks")
    assert (ref.name, ref.arn, ref.region, ref.account, ref.partition) == ("clicks", None, None, None, None)
    assert str(ref) == "clicks"
    assert ref.parameters == {"StreamName": "clicks"}


def test_an_arn_says_everything() -> None:
    ref = StreamRef.parse(ARN)
    assert (ref.partition, ref.region, ref.account) == ("aws", "eu-west-1", "123456789012")
    assert ref.name == "clicks"
    assert str(ref) == ref.arn == ARN
    assert ref.parameters == {"StreamARN": ARN}


@pytest.mark.parametrize("partition", botocore.session.Session().get_available_partitions())
def test_regions_of_every_partition_that_botocore_knows_are_taken(partition: str) -> None:
    session = botocore.session.Session()
    regions = session.get_available_regions("dynamodb", partition_name=partition)
    for region in regions:
        arn = f"arn:{partition}:kinesis:{region}:123456789012:stream/clicks"
        assert partition_of(region) == partition
        assert StreamRef.parse(arn).arn == arn


@given(st.from_regex(r"[a-zA-Z0-9_.-]{1,128}", fullmatch=True))
def test_every_legal_name_is_taken_alone_and_in_an_arn(name: str) -> None:
    assert StreamRef.parse(name) == StreamRef(name)
    assert StreamRef.parse(ARN.replace("clicks", name)).name == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Give the name of a Kinesis stream"),
        ("two words", "Give the name of a Kinesis stream"),
        ("clicks\n", "Give the name of a Kinesis stream"),
        ("x" * 129, "Give the name of a Kinesis stream"),
        ("arn:", "a resource of no service"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/clicks", "a resource of dynamodb, not of Kinesis"),
        ("arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks", "a resource of firehose"),
        (f"{ARN}/consumer/app:1700000000", "is that of a registered consumer"),
        ("arn:aws-cn:kinesis:eu-west-1:123456789012:stream/clicks", "a region of the partition 'aws'"),
        ("arn:aws:kinesis:cn-north-1:123456789012:stream/clicks", "a region of the partition 'aws-cn'"),
        ("arn:aws:kinesis:eu-west-1:12345:stream/clicks", "isn't the ARN of a Kinesis stream"),
        ("arn:aws:kinesis:eu-west-1::stream/clicks", "isn't the ARN of a Kinesis stream"),
        ("arn:aws:kinesis:*:123456789012:stream/clicks", "isn't the ARN of a Kinesis stream"),
        ("arn:aws:kinesis:eu-west-1:123456789012:clicks", "isn't the ARN of a Kinesis stream"),
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/", "isn't the ARN of a Kinesis stream"),
        (f"{ARN}\n", "isn't the ARN of a Kinesis stream"),
    ],
)
def test_what_is_neither_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidSettingError, match=re.escape(says)):
        StreamRef.parse(text)


def test_the_region_comes_from_the_arn_and_may_be_said_again() -> None:
    assert StreamRef.parse(ARN).region_beside(None) == "eu-west-1"
    assert StreamRef.parse(ARN).region_beside("") == "eu-west-1"
    assert StreamRef.parse(ARN).region_beside("eu-west-1") == "eu-west-1"
    assert StreamRef("clicks").region_beside("us-east-1") == "us-east-1"
    assert StreamRef("clicks").region_beside(None) is None


def test_a_region_that_contradicts_the_arn_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match=r"set it to 'eu-west-1'.* isn't in 'us-east-1'"):
        StreamRef.parse(ARN).region_beside("us-east-1")
