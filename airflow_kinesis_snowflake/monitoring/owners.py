"""Who holds a lease, as far as the owner's id reveals it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Holder:
    """The task instance that a lease belongs to.

    :param name: the task with its map index, such as ``drain[2]``
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    name: str


def holder_of(owner: str | None) -> Holder | None:
    """The task instance named in a lease owner's id; None: it isn't the id of one of our workers."""
    task, hash_sign, _ = (owner or "").rpartition("#")
    parts = task.split("/")
    if not hash_sign or len(parts) < 4 or not parts[-1].lstrip("-").isdecimal():
        return None
    dag_id, *run, task_id, index = parts
    name = task_id if int(index) < 0 else f"{task_id}[{index}]"
    return Holder(dag_id, "/".join(run), task_id, int(index), name)


def short_name(owner: str) -> str:
    """A lease owner in a sentence."""
    holder = holder_of(owner)
    return owner if holder is None else holder.name
