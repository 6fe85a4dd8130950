"""docker-compose.yaml, read so that its commands can be run as plain processes on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE_FILE = REPOSITORY / "docker-compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
AIRFLOW_PARTS = ("api-server", "scheduler", "dag-processor", "triggerer", "worker")


def command(service: str, *, replacing: Mapping[str, str]) -> list[str]:
    """Return the command of a service.

    :param replacing: texts of the compose file, such as addresses, and what stands for them here.
    """
    words = SERVICES[service]["command"]
    return [here(word, replacing) for word in (shlex.split(words) if isinstance(words, str) else words)]


def health_command(service: str, *, replacing: Mapping[str, str]) -> list[str]:
    """Return the command that tells by its exit status whether a service is healthy."""
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    shell = ["/bin/sh", "-c"] if kind == "CMD-SHELL" else []
    return [*shell, *(here(word, replacing) for word in words)]


def environment(service: str, *, replacing: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a service."""
    return {name: here(value, replacing) for name, value in SERVICES[service]["environment"].items()}


def here(text: str, replacing: Mapping[str, str]) -> str:
    """Return a text of the compose file as it reads on this machine."""
    for old, new in replacing.items():
        text = text.replace(old, new)
    return text.replace("$$", "$")
