"""What a drain reports to OpenLineage, if Airflow's OpenLineage provider is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Asset

from airflow_kinesis_snowflake.assets.kinesis_stream import convert_asset_to_openlineage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.openlineage.extractors import OperatorLineage


def lineage(report: Mapping[str, Any] | None) -> OperatorLineage[Any, Any]:
    """The stream as input, the landing table as output with rows and bytes.

    :param report: of the drain, as in its XCom; ``None``: it didn't end
    """
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.snowflake.utils.openlineage import fix_account_name

    if report is None:
        return OperatorLineage()
    assets = report["assets"]
    inputs = [convert_asset_to_openlineage(Asset(uri=assets["stream"]), None)] if "stream" in assets else []
    outputs = []
    if "table" in assets:
        parsed = urlsplit(assets["table"])
        loaded = OutputStatisticsOutputDatasetFacet(
            rowCount=report["records"] - report["dead_letters"], size=report["bytes"]
        )
        outputs = [
            OutputDataset(
                namespace=f"snowflake://{fix_account_name(parsed.netloc)}",
                name=parsed.path[1:].replace("/", "."),
                outputFacets={"outputStatistics": loaded},
            )
        ]
    return OperatorLineage(inputs=inputs, outputs=outputs)
