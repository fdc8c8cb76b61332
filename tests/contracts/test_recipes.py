"""The recipes of CONTRIBUTING.md, followed word by word in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("deploy", "query_api", "streams", "agents", "schemas", "tests")
RECIPES = (
    "A topic with its record", "A step", "A projection", "An HTTP route", "A forecaster", "A vendor format", "A metric",
)  # fmt: skip


def section(text: str, heading: str) -> str:
    """What stands under a heading of the third level."""
    return re.split(r"^##", text.split(f"### {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def follow(recipe: str, checkout: Path) -> list[Path]:
    """Do what a recipe says: write its files, apply its diffs. Returns what it touched."""
    touched = []
    for language, body in re.findall(r"^```(python|diff)\n(.*?)^```$", recipe, re.MULTILINE | re.DOTALL):
        head, _, rest = body.partition("\n")
        path = checkout / head.removeprefix("# ").removeprefix("--- ")
        if language == "diff":
            path.write_text(changed(path.read_text(), rest))
        else:
            assert not path.exists(), f"{path} is there already"
            path.write_text(rest)
        touched.append(path)
    return touched


def changed(text: str, diff: str) -> str:
    """A text after a diff without line numbers; what each part between ``@@`` begins from has to stand once."""
    for part in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert before
        assert text.count(before) == 1, f"stands {text.count(before)} times:\n{before}"
        text = text.replace(before, after)
    return text


def run(checkout: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)  # mypy reads everything where it has no cache
def test_a_newcomer_can_follow_the_recipes(tmp_path: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    if (ROOT / ".mypy_cache").is_dir():  # then mypy reads only what the recipes touch
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / ".mypy_cache")
    for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml"):
        shutil.copy(path, tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    touched = [path for name in RECIPES for path in follow(section(text, name), tmp_path)]
    code = [str(path) for path in touched if path.suffix == ".py"]
    written = run(tmp_path, "-m", "deploy.cli.main", "schemas", "export")
    assert all(name in written for name in ("Glance.schema.json", "asyncapi.yaml", "ARCHITECTURE.md"))
    run(tmp_path, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache")
    run(tmp_path, "-m", "ruff", "check", "--no-cache", *code)
    run(tmp_path, "-m", "ruff", "format", "--no-cache", "--check", *code)
    tests = [path for path in code if path.startswith(f"{tmp_path}/tests/")]
    run(tmp_path, "-m", "mypy", *sorted(set(code) - set(tests)))
    contracts = ["tests/contracts/test_topology.py", "tests/contracts/test_export.py"]
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, *contracts)


def test_a_diff_that_fits_nowhere_or_twice_is_noticed() -> None:
    assert changed("a\nb\nc\n", " b\n+d\n@@\n-a\n+e\n") == "e\nb\nd\nc\n"
    with pytest.raises(AssertionError, match="stands 0 times"):
        changed("a\n", " b\n+c\n")
    with pytest.raises(AssertionError, match="stands 2 times"):
        changed("a\na\n", " a\n+c\n")
