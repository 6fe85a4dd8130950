"""The DynamoDB tables of an account and region, whoever owns them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from airflow_kinesis_snowflake.exceptions import ServiceRefusedError
from airflow_kinesis_snowflake.hooks.aws import AwsHook, error_code, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class TableDetails:
    """What DescribeTable and the tags reveal about a table.

    :param keys: ``HASH`` and ``RANGE`` to the names of the attributes
    :param types: of these attributes, by name: ``S``, ``N`` or ``B``
    :param created: aware, in UTC
    :param protected: against deletion
    """

    name: str
    arn: str
    keys: Mapping[str, str]
    created: datetime
    status: str
    protected: bool = False
    types: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def describe_table(client: Any, name: str) -> TableDetails | None:
    """Facts of a table; None: there is no such table."""
    try:
        table = client.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise
    return TableDetails(
        name=name,
        arn=table["TableArn"],
        keys={key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]},
        created=table["CreationDateTime"].astimezone(UTC),
        status=table["TableStatus"],
        protected=table.get("DeletionProtectionEnabled", False),
        types={each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]},
    )


def read_items(client: Any, operation: Literal["query", "scan"], **request: Any) -> list[dict[str, Any]]:
    """All items that a request finds, strongly consistent, as DynamoDB stores them."""
    pages = client.get_paginator(operation).paginate(ConsistentRead=True, **request)
    return [item for page in pages for item in page["Items"]]


def begin_deletion(client: Any, name: str) -> None:
    """Start the deletion of a table. A missing one is no error."""
    try:
        client.delete_table(TableName=name)
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise


def make_backup(client: Any, name: str, backup: str) -> str | None:
    """Create an on-demand backup of a table.

    :return: its ARN; None: this DynamoDB has no backups
    """
    try:
        answer = client.create_backup(TableName=name, BackupName=backup)
    except ClientError as error:
        if error_code(error) in {"UnknownOperationException", "UnknownOperation"}:
            return None
        raise
    return str(answer["BackupDetails"]["BackupArn"])


class DynamoDBTablesHook(AwsHook):
    """Finds, reads and deletes tables. Which ones is up to the caller.

    Raises the errors of :mod:`airflow_kinesis_snowflake.exceptions` only.

    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    """

    def __init__(self, **aws: Any) -> None:
        super().__init__(client_type="dynamodb", **aws)

    def names(self) -> Iterator[str]:
        """Names of all tables. Needs ``dynamodb:ListTables``."""
        with self._translated("ListTables", "the tables"):
            for page in self._client.get_paginator("list_tables").paginate():
                yield from page["TableNames"]

    def describe(self, name: str) -> TableDetails | None:
        """Facts of a table; None: there is no such table. Needs ``dynamodb:DescribeTable``."""
        with self._translated("DescribeTable", f"table {name!r}"):
            return describe_table(self._client, name)

    def tags(self, arn: str) -> dict[str, str]:
        """Tags of a table. Needs ``dynamodb:ListTagsOfResource``."""
        with self._translated("ListTagsOfResource", f"table {arn}"):
            pages = self._client.get_paginator("list_tags_of_resource").paginate(ResourceArn=arn)
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}

    def items(self, name: str) -> list[dict[str, Any]]:
        """All items of a table, strongly consistent, as DynamoDB stores them. Needs ``dynamodb:Scan``."""
        with self._translated("Scan", f"table {name!r}"):
            return read_items(self._client, "scan", TableName=name)

    def back_up(self, name: str, backup: str) -> str | None:
        """Create an on-demand backup of a table. Needs ``dynamodb:CreateBackup``.

        :param backup: its name
        :return: its ARN; None: this DynamoDB has no backups
        """
        with self._translated("CreateBackup", f"table {name!r}"):
            return make_backup(self._client, name, backup)

    def delete(self, name: str) -> None:
        """Delete a table, and wait until it is gone. A missing one is no error.

        Needs ``dynamodb:DeleteTable`` and ``dynamodb:DescribeTable``.

        :raises ServiceRefusedError: it is protected
        """
        details = self.describe(name)
        if details is None:
            return
        if details.protected:
            raise ServiceRefusedError(
                f"Turn its deletion protection off first: table {name} is left as it is."
            )
        with self._translated("DeleteTable", f"table {name!r}"):
            begin_deletion(self._client, name)
            self._client.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1})

    @property
    def _client(self) -> Any:
        return self.get_conn()

    def _translated(self, operation: str, resource: str) -> Any:
        return translated(doing=f"dynamodb:{operation}", resource=f"{resource} {self.where}")
