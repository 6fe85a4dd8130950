"""What a package index shows: the project's addresses, and a README whose links don't end in nothing.

The address of the repository comes from the environment variable ``REPOSITORY_URL``, as the release workflow
knows it; without it, the package has no addresses, and the README's links stay as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)]+)\)")


class IndexPage(MetadataHookInterface):
    """Fills in ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set both, for the version that is built."""
        readme = (Path(self.root) / "README.md").read_text()
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        tag = f"v{metadata['version']}"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(readme, repository, tag) if repository else readme,
        }
        metadata["urls"] = addresses(repository, tag) if repository else {}


def absolute(readme: str, repository: str, tag: str) -> str:
    """The README with links into the repository, as it was when this tag was set.

    :param repository: where GitHub has it, without a slash at the end
    """

    def link(match: re.Match[str]) -> str:
        picture, text, path = match.groups()
        return f"{picture}{text}{repository}/{'raw' if picture else 'blob'}/{tag}/{path})"

    return _RELATIVE.sub(link, readme)


def addresses(repository: str, tag: str) -> dict[str, str]:
    """The project's addresses, by what they are."""
    return {
        "Documentation": f"{repository}/blob/{tag}/docs/index.md",
        "Source": repository,
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }
