"""The import contracts hold the house in one direction; `lint-imports` in the gate checks them, and can fail."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES = ("deploy", "query_api", "streams", "agents", "schemas")


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_every_package_has_its_layer_and_every_module_its_own() -> None:
    layers = [contract for contract in CONFIG["contracts"] if contract["type"] == "layers"]
    assert tuple(layers[0]["layers"]) == PACKAGES
    assert set(CONFIG["root_packages"]) == set(PACKAGES)
    exhaustive = {
        container for contract in layers if contract.get("exhaustive") for container in contract["containers"]
    }
    assert exhaustive == set(PACKAGES)
    acyclic = [contract for contract in CONFIG["contracts"] if contract["type"] == "acyclic_siblings"]
    assert set(acyclic[0]["ancestors"]) == set(PACKAGES)


UPWARD = [
    ("agents/core/fingerprint.py", "from streams import topology", "agents is not allowed to import streams"),
    ("schemas/reading.py", "import agents.core.local_time", "schemas is not allowed to import agents"),
    ("streams/kafka/fence.py", "from streams import guard", "streams.kafka is not allowed to import streams.guard"),
    ("streams/health.py", "import prometheus_client", "streams is not allowed to import prometheus_client"),
    ("deploy/supervisor.py", "from deploy import up", "deploy.supervisor is not allowed to import deploy.up"),
]
CIRCLE = [
    ("agents/models/gluformer/config.py", "from agents.models.gluformer import checkpoint", "No cycles are allowed"),
]


@pytest.mark.parametrize("slips", [UPWARD, CIRCLE], ids=["upward", "in a circle"])
def test_deliberate_imports_against_the_direction_fail(tmp_path: Path, slips: list[tuple[str, str, str]]) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line, _ in slips:
        path = tmp_path / module
        path.write_text(f"{path.read_text()}\n{line}\n")
    found = lint_imports(tmp_path)
    assert found.returncode == 1, found.stdout + found.stderr
    said = " ".join(found.stdout.split())
    assert [told for *_, told in slips if told not in said] == []
