"""Python interpreters of this machine, by version; run as a program, it prints where one is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def interpreter(*versions: str) -> str:
    """Return the path of an interpreter of the first of these versions that is here.

    None is here: return the first version itself, which uv downloads where it can.

    :param versions: such as ``3.12``, the best first.
    """
    return next((str(path) for version in versions for path in found(version)), versions[0])


def found(version: str) -> Iterator[Path]:
    """Interpreters of a version on the search path and in pyenv's folder, as far as they run."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for path in [*([Path(on_path)] if on_path else []), *pyenv.glob(f"{version}.*/bin/python")]:
        # pyenv has a command for each version that it could hold.
        if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            yield path


if __name__ == "__main__":
    print(interpreter(*sys.argv[1:]))
