"""Our own source text and what it declares: for tests of what it reaches for. Modules may move: none is named here."""

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "deploy", "query_api", "schemas", "streams")


class Source(NamedTuple):
    """One module."""

    path: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a node stands, as an editor understands it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"

    @property
    def imports(self) -> set[str]:
        """The libraries that it imports, anywhere."""
        return {library for node in ast.walk(self.tree) for library in imported(node)}


def sources(*packages: str) -> Iterator[Source]:
    """Every module of these packages, one after the other: nobody keeps their trees, millions of objects together."""
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield Source(str(path.relative_to(ROOT)), ast.parse(path.read_text(), str(path)))


def library_of(dotted: str) -> str:
    """The library of a dotted path: its first part."""
    return dotted.partition(".")[0]


def imported(node: ast.AST) -> list[str]:
    """The libraries that a statement imports, by the names under which they are imported."""
    match node:
        case ast.Import(names=aliases):
            return [library_of(alias.name) for alias in aliases]
        case ast.ImportFrom(module=str(module), level=0):
            return [library_of(module)]
    return []


@functools.cache
def requirements(*extras: str) -> tuple[Requirement, ...]:
    """What pyproject.toml asks for, with what these extras add."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return tuple(map(Requirement, lines))
