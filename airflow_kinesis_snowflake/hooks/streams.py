"""The Kinesis data streams of an account and region."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.aws import AwsHook, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class KinesisStreamsHook(AwsHook):
    """Lists streams. Raises the errors of :mod:`airflow_kinesis_snowflake.exceptions` only.

    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    """

    def __init__(self, **aws: Any) -> None:
        super().__init__(client_type="kinesis", **aws)

    def find(self, *, pattern: str | None = None, tags: Mapping[str, str] | None = None) -> list[str]:
        """Names of streams that match, sorted. Needs ``kinesis:ListStreams``, and for tags
        ``kinesis:ListTagsForStream``, which AWS allows five times a second.

        :param pattern: a regular expression for the whole name
        :param tags: which they must all have
        :raises InvalidSettingError: the pattern isn't a regular expression
        """
        try:
            expression = re.compile(pattern or ".*")
        except re.error as error:
            raise InvalidSettingError(
                f"stream_pattern must be a regular expression, not {pattern!r}: {error}"
            ) from None
        names = sorted(name for name in self._names() if expression.fullmatch(name))
        return [name for name in names if (tags or {}).items() <= self._tags(name).items()] if tags else names

    def _names(self) -> Iterator[str]:
        # By name: NextToken was introduced later, and compatible services may lack it.
        after: dict[str, str] = {}
        more = True
        while more:
            with translated(doing="kinesis:ListStreams", resource=self.where):
                page = self._client.list_streams(**after)
            names = page["StreamNames"]
            yield from names
            more = page["HasMoreStreams"] and bool(names)
            after = {"ExclusiveStartStreamName": names[-1]} if more else {}

    def _tags(self, name: str) -> dict[str, str]:
        with translated(doing="kinesis:ListTagsForStream", resource=f"stream {name!r}"):
            answer = self._client.list_tags_for_stream(StreamName=name)
        return {tag["Key"]: tag.get("Value", "") for tag in answer["Tags"]}

    @property
    def _client(self) -> Any:
        return self.get_conn()
