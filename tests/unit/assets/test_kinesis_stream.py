"""Streams as assets: their URIs, and who owns the scheme."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Asset

from airflow_kinesis_snowflake.assets.kinesis_stream import (
    SCHEME,
    convert_asset_to_openlineage,
    create_asset,
    uri_of_arn,
)
from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.get_provider_info import get_provider_info

URI = "kinesis-stream://eu-west-1/123456789012/clicks"


ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"


def test_a_stream_has_one_uri_however_it_is_named() -> None:
    assert create_asset(stream=ARN).uri == create_asset(stream=ARN, region="eu-west-1").uri == URI
    assert create_asset(region="eu-west-1", account="123456789012", stream="clicks").uri == URI
    assert uri_of_arn("arn:aws:kinesis:eu-west-1:123456789012:stream/clicks") == URI


@pytest.mark.parametrize(
    "uri",
    [
        f"{SCHEME}://eu-west-1/clicks",
        f"{SCHEME}://eu-west-1/12345/clicks",
        f"{SCHEME}:///123456789012/clicks",
        f"{SCHEME}://eu-west-1/123456789012/no spaces",
        f"{SCHEME}://eu-west-1/123456789012/clicks/more",
    ],
)
def test_airflow_refuses_a_uri_that_is_not_that_of_a_stream(uri: str) -> None:
    with pytest.raises(ValueError, match="the URI of a stream as"):
        Asset(uri=uri)


@pytest.mark.parametrize(
    "named",
    [
        {"stream": "clicks"},
        {"stream": "clicks", "region": "eu-west-1"},
        {"stream": "clicks", "account": "123456789012"},
        {"stream": ARN, "region": "us-east-1"},
        {"stream": ARN, "account": "210987654321"},
    ],
)
def test_a_stream_whose_place_is_missing_or_contradictory_is_refused(named: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingError, match=r"region|account"):
        create_asset(**named)


def test_an_arn_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not of Kinesis"):
        uri_of_arn("arn:aws:dynamodb:eu-west-1:123456789012:table/clicks")


def test_no_other_provider_has_the_scheme() -> None:
    ours = get_provider_info()["package-name"]
    others = {
        scheme
        for name, provider in ProvidersManager().providers.items()  # type: ignore[no-untyped-call]
        if name != ours
        for declared in provider.data.get("asset-uris", [])
        for scheme in declared["schemes"]
    }
    assert {"s3", "snowflake"} & others
    assert SCHEME not in others


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_openlineage_gets_the_two_halves_of_the_arn(region: str, partition: str) -> None:
    pytest.importorskip("openlineage.client", reason="OpenLineage is optional")
    asset = create_asset(region=region, account="123456789012", stream="clicks")
    dataset = convert_asset_to_openlineage(asset, None)
    assert (dataset.namespace, dataset.name) == (
        f"arn:{partition}:kinesis:{region}:123456789012",
        "stream/clicks",
    )
