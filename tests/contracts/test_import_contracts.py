"""The import contracts cover every module of the pure core; `lint-imports` in the gate checks them."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_module_of_the_core_is_missing_from_the_contract_on_torch() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["forbidden_modules"] == ["torch"]]
    core = {f"agents.{path.stem}" for path in (ROOT / "agents").glob("[a-z]*.py")}
    assert core <= set(contract["source_modules"])
