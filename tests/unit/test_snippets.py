"""Every snippet of README and docs: Python runs as it stands; what is else is what its parser takes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlglot
import yaml
from airflow.cli import cli_parser
from airflow.sdk import DAG
from packaging.requirements import Requirement

from airflow_kinesis_snowflake.cli import program
from tests.compose import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
LANGUAGES = {"bash", "dockerfile", "json", "mermaid", "python", "sql", "text", "yaml"}
TARGETS = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Snippet:
    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text()
        for fence in FENCE.finditer(text):
            indent = re.compile(f"^{fence['indent']}", re.MULTILINE)
            line = text.count("\n", 0, fence.start()) + 1
            yield Snippet(page, line, fence["language"], indent.sub("", fence["code"]))


SNIPPETS = list(snippets())


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [snippet for snippet in SNIPPETS if snippet.language in languages]
    return pytest.mark.parametrize("snippet", chosen, ids=str)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:airflow_kinesis_snowflake|docs|local|requirements|tests)/[\w./-]+)`", page.read_text()
    )
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_every_snippet_says_what_language_it_is_in() -> None:
    assert [str(snippet) for snippet in SNIPPETS if snippet.language not in LANGUAGES] == []
    assert len(SNIPPETS) * 2 == sum(
        len(re.findall(r"^ *```", page.read_text(), re.MULTILINE)) for page in PAGES
    )


@pytest.fixture
def _first_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module ``clicks``, which the page about tests imports."""
    [code] = [each.code for each in SNIPPETS if (each.page.name, each.language) == ("first-dag.md", "python")]
    (tmp_path / "clicks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("clicks", None)


@of("python")
@pytest.mark.usefixtures("_first_dag")
def test_python_runs_as_it_stands_and_its_tests_pass(snippet: Snippet) -> None:
    namespace: dict[str, object] = {"__name__": "snippet"}
    exec(compile(snippet.code, str(snippet), "exec"), namespace)
    for name, value in namespace.items():
        if isinstance(value, DAG):
            value.validate()  # type: ignore[no-untyped-call]
            assert value.tasks
        if name.startswith("test_") and callable(value):
            value()


@of("bash", "python")
def test_one_application_is_named_throughout(snippet: Snippet) -> None:
    named = re.findall(r"(?:application_name=|--application )\"?([\w-]+)", snippet.code)
    assert set(named) <= {"clicks-to-snowflake"}


@of("sql")
def test_sql_is_snowflakes(snippet: Snippet) -> None:
    statements = sqlglot.parse(snippet.code, dialect="snowflake")
    assert [statement for statement in statements if statement is None] == []


@of("json")
def test_json_is_json(snippet: Snippet) -> None:
    decoder, rest = json.JSONDecoder(), snippet.code.strip()
    while rest:
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


@of("yaml")
def test_yaml_is_yaml(snippet: Snippet) -> None:
    assert [document for document in yaml.compose_all(snippet.code) if document is None] == []


@of("dockerfile")
def test_a_dockerfile_runs_commands_that_are_taken(snippet: Snippet) -> None:
    for line in snippet.code.replace("\\\n", " ").splitlines():
        instruction, *command = shlex.split(line)
        assert instruction in {"COPY", "FROM", "RUN"}
        if instruction == "RUN":
            check(command)


@of("bash")
def test_commands_are_taken_by_their_programs(snippet: Snippet) -> None:
    for command in commands(snippet.code):
        check(command)


def commands(script: str) -> Iterator[list[str]]:
    """The commands of a script, as words; quotes may go over several lines."""
    pending = ""
    for line in script.replace("\\\n", " ").splitlines(keepends=True):
        pending += line
        with suppress(ValueError):
            words = shlex.split(pending, comments=True)
            pending = ""
            if words:
                yield words
    assert pending == ""


def check(command: list[str]) -> None:
    """Fail unless a program takes its arguments, as far as that can be told without running it."""
    name, *arguments = command
    PROGRAMS[Path(name).name](arguments)


def make(targets: list[str]) -> None:
    assert set(targets) <= TARGETS


def python(arguments: list[str]) -> None:
    option, what, *rest = arguments
    if option == "-c":
        compile(what, "command", "exec")
    elif what == "airflow_kinesis_snowflake":
        program.parser().parse_args(rest)
    else:
        module = ROOT.joinpath(*what.split("."))
        assert option == "-m"
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()


def airflow(arguments: list[str]) -> None:
    if arguments[0] == "kinesis-snowflake":
        program.parser().parse_args(arguments[1:])
    else:
        cli_parser.get_parser().parse_args(arguments)


def pip(arguments: list[str]) -> None:
    """``pip install`` with requirements and files; of its options only those that take one."""
    action, *rest = arguments
    assert action == "install"
    for before, argument in pairwise([action, *rest]):
        if not argument.startswith("-") and before not in {"--constraint", "--requirement"}:
            Requirement(argument)


def docker(arguments: list[str]) -> None:
    assert arguments[0] in {"build", "compose"}
    if arguments[:2] == ["compose", "exec"]:
        assert arguments[2] in SERVICES


def kubectl(arguments: list[str]) -> None:
    """The files that are applied exist; what else is said can only be told by a cluster."""
    files = [file for option, file in pairwise(arguments) if option == "--filename"]
    assert [file for file in files if not (ROOT / file).exists()] == []


PROGRAMS: dict[str, Callable[[list[str]], object]] = {
    "airflow": airflow,
    "aws": lambda arguments: arguments[:1] == ["kinesis"],
    "cp": lambda paths: len(paths) > 1,
    "docker": docker,
    "kubectl": kubectl,
    "make": make,
    "mkdir": lambda paths: len(paths) > 0,
    "openssl": lambda arguments: arguments[0] in {"genrsa", "pkcs8", "rsa"},
    "pip": pip,
    "py-spy": lambda arguments: check(arguments[arguments.index("--") + 1 :]),
    "python": python,
}
