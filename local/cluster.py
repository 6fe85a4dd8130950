"""What the machines of an Airflow deployment share, on this one: PostgreSQL and Redis; and Celery workers."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from local.airflow import REPOSITORY, Part, free_port
from local.processes import Process

POSTGRESQL = Path("/usr/lib/postgresql")
PACKAGES = "Install the Debian packages postgresql and redis-server."
USER = "airflow"
WORKER = "LOCAL_CELERY_WORKER"
ENVIRONMENT = {"PATH": os.environ["PATH"]}
# PostgreSQL refuses to run as root.
AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


class LocalCluster:
    """PostgreSQL, for Airflow's database and Celery's results, and Redis, Celery's broker.

    Both listen on free ports of 127.0.0.1, ask for a password, and keep their files in a temporary folder.
    A context manager: they answer when the block begins and are gone when it ends.

    :raises FileNotFoundError: PostgreSQL or Redis isn't installed.
    :raises ProcessFailedError: one of them didn't start; the message ends with the tail of its log.
    """

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        initdb, postgres, redis = find_postgresql("initdb"), find_postgresql("postgres"), find_redis()
        self._password = secrets.token_urlsafe(24)
        self._postgresql_port, self._redis_port = free_port(), free_port()
        with contextlib.ExitStack() as starting:
            self._folder = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="local-cluster-")))
            self._prepare(initdb)
            postgresql = starting.enter_context(self._process("postgresql", postgres, "-D", self._data))
            broker = starting.enter_context(self._process("redis", redis, self._folder / "redis.conf"))
            postgresql.wait_for_text("ready to accept connections")
            broker.wait_for_text("Ready to accept connections")
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def airflow_environment(self) -> dict[str, str]:
        """Return environment variables with which Airflow runs its tasks on Celery workers."""
        database = f"{USER}:{self._password}@127.0.0.1:{self._postgresql_port}/postgres"
        return {
            "AIRFLOW__CELERY__BROKER_URL": f"redis://:{self._password}@127.0.0.1:{self._redis_port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql://{database}",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "PYTHONPATH": str(REPOSITORY),
        }

    def worker(self, name: str) -> Part:
        """Return a Celery worker that runs one task at a time.

        :param name: of the worker; also the ``hostname`` of task instances that run there.
        """
        pid_file = self._folder / f"{name}.pid"
        return Part(
            name,
            [
                *("celery", "worker", "--celery-hostname", name, "--concurrency", "1"),
                *("--pid", str(pid_file), "--skip-serve-logs", "--without-gossip", "--without-mingle"),
            ],
            env={"AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{__name__}.worker_name", WORKER: name},
            # Workers that create Celery's tables at the same moment may fail.
            ready=f"celery@{name} ready.",
        )

    @property
    def _data(self) -> Path:
        return self._folder / "postgresql"

    def _process(self, name: str, *command: str | Path) -> Process:
        return Process(
            name,
            [*AS_NOBODY, *command],
            folder=self._folder,
            env=ENVIRONMENT,
            stop_signal="SIGINT",  # after SIGTERM, PostgreSQL waits for its clients to leave
        )

    def _prepare(self, initdb: Path) -> None:
        password = self._folder / "password"
        password.write_text(self._password)
        redis = {
            "bind": "127.0.0.1",
            "port": self._redis_port,
            "requirepass": self._password,
            "dir": self._folder,
            "save": '""',
        }
        (self._folder / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in redis.items()))
        if AS_NOBODY:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, "nobody", "nogroup")
        command = [
            *(
                *AS_NOBODY,
                str(initdb),
                f"--pgdata={self._data}",
                f"--pwfile={password}",
                f"--username={USER}",
            ),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"),
        ]
        subprocess.run(command, cwd=self._folder, env=ENVIRONMENT, check=True, capture_output=True)
        postgresql = {
            "listen_addresses": "'127.0.0.1'",
            "port": self._postgresql_port,
            "unix_socket_directories": "''",
            "fsync": "off",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{key} = {value}\n" for key, value in postgresql.items())


def worker_name() -> str:
    """Return the name of the Celery worker that this process belongs to."""
    return os.environ[WORKER]


def find_postgresql(program: str) -> Path:
    """Return the path of a program of the newest PostgreSQL that is installed."""
    found = sorted(POSTGRESQL.glob(f"*/bin/{program}"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise FileNotFoundError(f"PostgreSQL is missing. {PACKAGES}")
    return found[-1]


def find_redis() -> str:
    """Return the path of Redis."""
    found = shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError(f"Redis is missing. {PACKAGES}")
    return found
