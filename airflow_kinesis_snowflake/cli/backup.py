"""``backup``: save the rows of an application to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_kinesis_snowflake.cli.command import Answer, Command
from airflow_kinesis_snowflake.cli.options import APPLICATION, AWS, FOLDER, aws_of_state, open_store
from airflow_kinesis_snowflake.stream.times import now_millis

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from airflow_kinesis_snowflake.cli.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> Answer:
    """Save all rows of an application."""
    with terminal.working("Saving the rows"):
        from airflow_kinesis_snowflake.hooks.backups import BackupFilesHook
        from airflow_kinesis_snowflake.maintenance.backup import back_up

        saved = back_up(
            open_store(options),
            BackupFilesHook(**aws_of_state(options)),
            folder=options.folder,
            now=now_millis(),
        )
    return Answer(saved, [backup_text(saved)])


def backup_text(saved: dict[str, Any]) -> str:
    """A sentence about what a backup has saved."""
    if saved["file"] is None:
        return "There is no table, so nothing was saved."
    return f"{saved['rows']} rows saved to {saved['file']}."


COMMAND = Command(
    "backup",
    run,
    "save all rows of an application to a file",
    (APPLICATION, FOLDER._replace(settings={**FOLDER.settings, "required": True}), *AWS),
)
