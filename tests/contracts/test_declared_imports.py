"""Whatever we import is declared: what only comes along with another package leaves with it, unannounced.

What a module imports as it is loaded has to be a dependency; what it imports within a function may be an extra's. Of
tests all extras count. Every version is bounded on both sides, and the locked ones lie between.
"""

import ast
import functools
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.kit.sources import PACKAGES, ROOT, Source, imported, requirements, sources

EXTRAS = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
UNBOUNDED = {"tzdata": "time zones change when governments say so, and the newest are the right ones"}


def at_load(node: ast.AST) -> Iterator[ast.AST]:
    """Everything under a node that runs as its module is loaded: not what stands in functions or is for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        yield child
        yield from at_load(child)


@functools.cache
def _homes() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def undeclared(source: Source) -> set[str]:
    """Imports of a module that nothing declares. A package that is not installed counts under its import's name."""
    own = {*PACKAGES, "tests", *sys.stdlib_module_names}
    lazy = {canonicalize_name(each.name) for each in requirements(*EXTRAS)}
    declared = lazy if source.path.startswith("tests/") else {canonicalize_name(each.name) for each in requirements()}
    strict = {id(node) for node in at_load(source.tree)}
    return {
        f"{library} at {source.at(node)}"
        for node in ast.walk(source.tree)
        for library in imported(node)
        if library not in own
        and not (declared if id(node) in strict else lazy) & {*map(canonicalize_name, _homes().get(library, [library]))}
    }


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_every_import_is_declared(package: str) -> None:
    found = sorted(set().union(*map(undeclared, sources(package))))
    assert found == [], (
        "add their packages to pyproject.toml, with bounds: dependencies, or an extra if imported lazily"
    )


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("import attrs", ["attrs"]),
        ("from yarl.sub import x", ["yarl"]),
        ("def f():\n import confluent_kafka, yarl", ["yarl"]),
        ("import confluent_kafka", ["confluent_kafka"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import confluent_kafka", []),
        ("try:\n import no_such_library\nexcept ImportError: ...", ["no_such_library"]),
        ("import yaml, os.path\nfrom streams.topics import x\nfrom . import y", []),
    ],
)
def test_an_undeclared_import_is_found(text: str, missing: list[str]) -> None:
    found = undeclared(Source("streams/some.py", ast.parse(text)))
    assert sorted(each.split()[0] for each in found) == missing


@pytest.mark.parametrize("requirement", dict.fromkeys(requirements(*EXTRAS)), ids=str)
def test_a_version_is_bounded_to_what_is_locked(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    pairs = [line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line]
    locked = {canonicalize_name(pair[0]): pair[1] for pair in pairs if len(pair) == 2}
    assert requirement.specifier.contains(locked[name]), f"{name} {locked[name]} is locked, {requirement} is asked for"
    operators = {each.operator for each in requirement.specifier}
    assert operators >= {">=", "<"} or "==" in operators or name in UNBOUNDED, f"{requirement} needs both bounds"
