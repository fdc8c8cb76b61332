"""The papers say what is there: generated blocks, links, commands, settings, topics, routes and paths all exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic_settings import BaseSettings

from agents.training.cli import app as training
from deploy.cli.main import app
from query_api.app import create_app
from schemas import topics
from schemas.fan_chart import FanChart
from streams import topology
from streams.contracts import papers
from streams.settings import Settings

ROOT = Path(__file__).parents[2]
README_LINES = 260
TOP = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "NOTICE"}
PACKAGES = {"deploy", "query_api", "streams", "agents", "schemas"}
PAPERS = sorted(name for name in TOP if name.endswith(".md"))
OF_TODAY = [name for name in PAPERS if name != "CHANGELOG.md"] + ["deploy/kafka.md", "deploy/notify.md"]
"""A changelog names what is gone, too."""
ALL = [*PAPERS, "deploy/kafka.md", "deploy/notify.md", "agents/models/bundled/MODEL_CARD.md"]

LINK = r"\]\(([^)\s]+)\)"
PATH = rf"`((?:{'|'.join((*sorted(PACKAGES), 'tests'))})/[\w./-]*)`"
COMMAND = r"`glucast ([^`]+)`"
SETTING = r"GLUCAST_[A-Z0-9_]+"
TOPIC = r"(?<![\w/])cgm\.[a-z-]+(?:\.[a-z]+)?"
ROUTE = r"localhost:8000(/[^\s'\"`]+)"
FIELD = r'chart\["(\w+)"\]'

every_paper = pytest.mark.parametrize("paper", ALL)
every_paper_of_today = pytest.mark.parametrize("paper", OF_TODAY)


def text_of(paper: str) -> str:
    return (ROOT / paper).read_text("utf-8")


def blocks(paper: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages."""
    found = re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", text_of(paper), re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def prose(paper: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", text_of(paper), flags=re.MULTILINE | re.DOTALL)


def test_the_top_holds_the_packages_the_papers_and_what_builds_them() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} == {
        *PACKAGES, *TOP, "tests", "pyproject.toml", "requirements.lock",
    }  # fmt: skip


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES


# generated blocks


@pytest.mark.parametrize("block", papers.BLOCKS)
def test_one_paper_carries_each_generated_block(block: str) -> None:
    start, end = f"<!-- {block} -->\n", f"\n<!-- /{block} -->\n"
    (paper,) = [name for name in PAPERS if start in text_of(name)]
    assert text_of(paper).split(start)[1].split(end)[0] == papers.BLOCKS[block]()


def test_blocks_are_renewed_where_they_stand_and_the_rest_stays(tmp_path: Path) -> None:
    carries = "before\n<!-- topics -->\nold\n<!-- /topics -->\nafter `<!-- settings -->`\n"
    (tmp_path / "A.md").write_text(carries)
    (tmp_path / "B.md").write_text("none\n")
    renewed = papers.renewed(tmp_path)
    assert renewed[tmp_path / "B.md"] == "none\n"
    assert renewed[tmp_path / "A.md"] == carries.replace("old", papers.topics_table())


def test_the_diagram_shows_every_step_topic_and_table() -> None:
    diagram = papers.topology_diagram()
    for step in topology.STEPS:
        assert f"[{step.name}]" in diagram
        assert all(f"[({table})]" in diagram for table in step.tables)
        assert all(f"([{topic.name}])" in diagram for topic in (*step.reads, *step.writes) if topic in topics.TOPICS)
    assert "fan_charts_table -. changelog .-> query_api" in diagram


# links and paths


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_paper
def test_relative_links_resolve(paper: str) -> None:
    for link in re.findall(LINK, prose(paper)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / paper).parent / path if path else ROOT / paper
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


@every_paper_of_today
def test_paths_that_are_named_exist(paper: str) -> None:
    made = re.findall(r"^# (\S+\.py)$", text_of(paper), re.MULTILINE)  # by the recipes
    for path in re.findall(PATH, prose(paper)):
        assert path in made or (ROOT / path).exists(), path


# commands


def argument_lists(script: str) -> Iterator[list[str]]:
    """The commands of a shell script, without variables set before them; comments and continued lines understood."""
    lexer = shlex.shlex(script.replace("\\\n", " ").replace("\n", "\n; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for token in [*lexer, ";"]:
        if not set(token) <= set("();<>|&"):
            command.append(token)
        else:
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                del command[0]
            if command:
                yield command
            command = []


def glucast_arguments(command: list[str]) -> list[str] | None:
    """What a command hands to `glucast`; None where it is about something else."""
    if command[0] == "glucast" or command[0].endswith("/glucast"):
        return command[1:]
    return ["up", *command[2:]] if command[:2] == ["bash", "deploy/try.sh"] else None


def command_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """The command of `glucast` that these arguments begin with, and the rest of them."""
    command: Any = typer.main.get_command(app)
    rest = list(arguments)
    while rest and hasattr(command, "commands"):
        if command.invoke_without_command and rest[0] not in command.commands:
            break  # it does something of its own, and these are its options
        assert rest[0] in command.commands, f"glucast has no command {' '.join(arguments)}"
        if rest[0] in ("train", "evaluate", "fit-alerts"):
            command = typer.main.get_command(training)
        command = command.commands[rest.pop(0)]
    return command, rest


@every_paper
def test_commands_in_code_blocks_parse(paper: str) -> None:
    for block in blocks(paper, "bash", ""):
        for command in argument_lists(block):
            if (arguments := glucast_arguments(command)) is not None:
                found, rest = command_of(arguments)
                found.make_context(found.name, rest)


@every_paper
def test_commands_in_the_text_exist_with_their_options(paper: str) -> None:
    for text in re.findall(COMMAND, prose(paper)):
        found, rest = command_of(text.split())
        options = {"--help", *(name for each in found.params for name in (*each.opts, *each.secondary_opts))}
        assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= options, text


@every_paper
def test_files_of_ours_in_code_blocks_exist(paper: str) -> None:
    for block in blocks(paper, "bash", ""):
        for word in [word for command in argument_lists(block) for word in command]:
            if word.split("/")[0] in PACKAGES | {"tests"}:
                assert (ROOT / word).exists(), word


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert list(argument_lists("A=1 glucast up --port 1 | cat  # x\nb \\\n c")) == [
        ["glucast", "up", "--port", "1"], ["cat"], ["b", "c"],
    ]  # fmt: skip
    with pytest.raises(AssertionError, match="no command topics sing"):
        command_of(["topics", "sing"])
    found, rest = command_of(["up", "--loud"])
    with pytest.raises(Exception, match="No such option: --loud"):
        found.make_context(found.name, rest)


# what else they name


def variables(settings: type[BaseSettings]) -> set[str]:
    """The environment variables that settings are read from, whichever of their names."""
    return {name for field in papers._fields(settings) for name in papers._variables(*field) if name}


@every_paper_of_today
def test_settings_that_are_named_exist(paper: str) -> None:
    assert set(re.findall(SETTING, text_of(paper))) <= variables(Settings) | {"GLUCAST_API_KEY"}


@pytest.mark.parametrize("paper", [paper for paper in OF_TODAY if paper != "CONTRIBUTING.md"])
def test_topics_that_are_named_exist(paper: str) -> None:
    names = {topic.name for topic in topology.all_topics()}
    assert set(re.findall(TOPIC, text_of(paper))) <= names


def test_routes_and_fields_that_are_named_exist() -> None:
    routes = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in create_app(Settings()).openapi()["paths"]]
    for paper in OF_TODAY:
        for path in re.findall(ROUTE, text_of(paper)):
            assert any(re.fullmatch(route, path) for route in routes), path
        for field in re.findall(FIELD, text_of(paper)):
            assert field in FanChart.model_fields, field


@every_paper
def test_python_blocks_compile(paper: str) -> None:
    for block in blocks(paper, "python"):
        compile(block, paper, "exec")


def test_there_is_something_to_check() -> None:
    """A pattern that finds nothing any more would let everything pass."""
    found = {pattern: sum(len(re.findall(pattern, text_of(paper))) for paper in ALL) for pattern in (
        LINK, PATH, COMMAND, SETTING, TOPIC, ROUTE, FIELD,
    )}  # fmt: skip
    assert [pattern for pattern, count in found.items() if count < 4] == []
    commands = [each for paper in ALL for block in blocks(paper, "bash", "") for each in argument_lists(block)]
    assert sum(glucast_arguments(command) is not None for command in commands) > 8
    assert sum(word.split("/")[0] in PACKAGES for command in commands for word in command) > 4
    assert sum(len(blocks(paper, "python")) for paper in ALL) > 4
