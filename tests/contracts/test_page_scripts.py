"""The page's scripts: their types are right, and every one of them is served."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from query_api.routers.page import _OWN, DASHBOARD
from tests.kit.sources import ROOT

TSC = Path(sys.prefix) / "node/node_modules/typescript/bin/tsc"


def test_the_types_of_the_scripts_are_right() -> None:
    node = shutil.which("node")
    if node is None or not TSC.exists():
        pytest.skip("no Node or no TypeScript: bash deploy/setup.sh --test installs the latter where there is npm")
    checked = subprocess.run(
        [node, TSC, "--project", ROOT / "tests/browser/tsconfig.json"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_every_file_of_the_page_is_served() -> None:
    assert {path.name for path in DASHBOARD.iterdir()} - {"page.html", "docs.html"} == {*_OWN}
