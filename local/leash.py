"""Run a command that can't outlive the program that started it.

Usage: ``python leash.py SIGNAL GRACE COMMAND...``. The command runs in a process group of its own. When the
standard input of this script ends (because the parent closed it, or died in whatever way), or when this
script gets SIGTERM, the command gets SIGNAL; what is left of its group after GRACE seconds is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(signal_name: str, grace: str, *command: str) -> int:
    """Run the command until it ends or the leash is let go, and return its exit status."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Event()

    def stop() -> None:
        child.send_signal(signal.Signals[signal_name])
        if not ended.wait(float(grace)):
            kill_group(child.pid)

    def stop_when_the_parent_is_gone() -> None:
        # Not sys.stdin: this thread would hold its lock when the child ends first, and the interpreter abort.
        while os.read(0, 1024):
            pass
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_when_the_parent_is_gone, daemon=True).start()
    status = child.wait()
    ended.set()
    kill_group(child.pid)
    return status


def kill_group(group: int) -> None:
    """Kill what is left of the process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
