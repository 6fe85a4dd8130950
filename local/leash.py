"""Run a command that can't outlive the program that started it.

Usage: ``python leash.py SIGNAL GRACE COMMAND...``. When the standard input of this script ends (because the
parent closed it, or died in whatever way), or when this script gets SIGTERM, the command gets SIGNAL and has
GRACE seconds. What it and its descendants have not ended by themselves is killed then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import psutil


def main(signal_name: str, grace: str, *command: str) -> int:
    """Run the command until it ends or the leash is let go, and return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Event()
    # A process whose parent is gone can't be found any more, so they are noted while the parent lives.
    family = [psutil.Process(child.pid)]

    def stop() -> None:
        note_descendants(family)
        child.send_signal(signal.Signals[signal_name])
        if not ended.wait(float(grace)):
            note_descendants(family)
            kill(family)

    def stop_when_the_parent_is_gone() -> None:
        # Not sys.stdin: this thread would hold its lock when the child ends first, and the interpreter abort.
        while os.read(0, 1024):
            pass
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_when_the_parent_is_gone, daemon=True).start()
    status = child.wait()
    ended.set()
    kill(family)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return status


def note_descendants(family: list[psutil.Process]) -> None:
    """Add to the family all that descends from its first member."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family.extend(set(family[0].children(recursive=True)) - set(family))


def kill(family: list[psutil.Process]) -> None:
    """Kill whoever is left of the family."""
    for process in list(family):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
