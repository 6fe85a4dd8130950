"""Files with backups in a folder: private, and never in the place of something else."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from airflow_kinesis_snowflake.exceptions import InvalidSettingError
from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook, backup_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """Let the process give everybody everything that it doesn't withhold itself."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_can_read_a_backup(tmp_path: Path) -> None:
    files = BackupFilesHook()
    address = files.write(str(tmp_path / "new"), "rows.json", b"{}")
    assert mode(tmp_path / "new" / "rows.json") == 0o600
    assert mode(tmp_path / "new") == 0o700
    assert files.read(address) == b"{}"


@pytest.mark.parametrize("dangling", [False, True])
def test_a_symbolic_link_is_neither_written_through_nor_read_through(tmp_path: Path, dangling: bool) -> None:
    target, link = tmp_path / "target", tmp_path / "rows.json"
    link.symlink_to(target)
    if not dangling:
        target.write_bytes(b"of somebody")
    files = BackupFilesHook()
    with pytest.raises(InvalidSettingError, match="can't be written"):
        files.write(str(tmp_path), "rows.json", b"{}")
    with pytest.raises(InvalidSettingError, match="can't be read"):
        files.read(str(link))
    assert target.exists() is not dangling


def test_a_backup_takes_the_place_of_no_other(tmp_path: Path) -> None:
    files = BackupFilesHook()
    files.write(str(tmp_path), "rows.json", b"first")
    with pytest.raises(InvalidSettingError, match="can't be written"):
        files.write(str(tmp_path), "rows.json", b"second")
    assert (tmp_path / "rows.json").read_bytes() == b"first"


def test_a_folder_can_be_tried_out_again_and_is_left_as_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        BackupFilesHook().try_out(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_application_with_the_longest_name_can_be_backed_up(tmp_path: Path) -> None:
    name = backup_name("a" * 255, now=1_800_000_000_123)
    assert len(name) <= 255
    BackupFilesHook().write(str(tmp_path), f"{name}.json", b"{}")
    assert backup_name("orders", now=1_800_000_000_123) == "orders-20270115T080000-123"
