"""Files with backups, in a folder or in S3."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.aws import CheckedAwsHook, translated
from airflow_kinesis_snowflake.stream.times import moment

_S3 = "s3://"
_TRIAL = "airflow-kinesis-snowflake-can-write"
# Names of backups in DynamoDB and of files have up to 255 characters; ".json" is one of the ends.
_MAX_NAME_LENGTH = 225


class BackupFilesHook(CheckedAwsHook):
    """Writes and reads files at an absolute path of this machine, or at ``s3://bucket/prefix``.

    :param aws: parameters of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`, for S3
    """

    def __init__(self, **aws: Any) -> None:
        super().__init__(client_type="s3", **aws)

    def write(self, folder: str, name: str, content: bytes) -> str:
        """Write a new file, which nobody but the user of this process can read. Needs ``s3:PutObject`` if it
        goes to S3, where the bucket's policies say who can.

        :param folder: where; a missing folder is created, for the user of this process only
        :return: the address of the file, for :meth:`read`
        :raises InvalidSettingError: neither an absolute path nor an S3 address; or it can't be written to, or
            already contains something of that name, even a symbolic link
        """
        if folder.startswith(_S3):
            address = f"{_S3}{folder.removeprefix(_S3).strip('/')}/{name}"
            bucket, key = _bucket_and_key(address)
            with translated(doing="s3:PutObject", resource=f"{address} {self.where}"):
                self._client.put_object(Bucket=bucket, Key=key, Body=content)
            return address
        path = _absolute(folder) / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(path, content)
        except OSError as error:
            raise InvalidSettingError(
                f"Choose another backup folder, or let the worker write to it: {path} can't be written "
                f"({error.strerror})"
            ) from error
        return str(path)

    def try_out(self, folder: str) -> None:
        """Find out whether files can be written to a folder, by writing an empty one; in S3 it stays.

        Raises what :meth:`write` raises.
        """
        if folder.startswith(_S3):
            self.write(folder, _TRIAL, b"")
        else:
            Path(self.write(folder, f"{_TRIAL}-{uuid.uuid4().hex}", b"")).unlink()

    def read(self, address: str) -> bytes:
        """Read a file. Needs ``s3:GetObject`` if it is in S3.

        :raises InvalidSettingError: there is no such file, or it is a symbolic link
        """
        if address.startswith(_S3):
            bucket, key = _bucket_and_key(address)
            with translated(doing="s3:GetObject", resource=f"{address} {self.where}"):
                return bytes(self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
        path = _absolute(address)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                return file.read()
        except OSError as error:
            raise InvalidSettingError(
                f"Name a backup that the worker can read: {path} can't be read ({error.strerror})"
            ) from error

    @property
    def _client(self) -> Any:
        return self.get_conn()


def backup_name(application: str, *, now: int) -> str:
    """A name for a backup that is valid in DynamoDB and file systems, however long the application's name is.

    :param now: milliseconds since the epoch
    """
    return f"{application[:_MAX_NAME_LENGTH]}-{moment(now):%Y%m%dT%H%M%S}-{now % 1000:03d}"


def _write_new(path: Path, content: bytes) -> None:
    # O_EXCL neither overwrites a file nor follows a symbolic link (open(2)).
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _bucket_and_key(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix(_S3).partition("/")
    if not bucket or not key:
        raise InvalidSettingError(f"Write the address in S3 as s3://bucket/prefix: {address!r} isn't one")
    return bucket, key


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise InvalidSettingError(
            "Give an absolute path for backups, which all workers share, or s3://bucket/prefix: "
            f"{text!r} is neither"
        )
    return path
