"""Programs of others under Node, from the packages that ``deploy/setup.sh --test`` installs (`tests/node`)."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

MODULES = Path(sys.prefix) / "node/node_modules"
RUN_SECONDS = 60.0


async def run(script: str, *arguments: str, package: str) -> str:
    """What a script printed that ends by itself; it finds the packages by `require`.

    Skips the test where Node or the `package` is missing. AssertionError where the script fails or does not end.
    """
    node = shutil.which("node")
    if node is None or not (MODULES / package).is_dir():
        pytest.skip(f"no Node or no {package}: bash deploy/setup.sh --test installs the latter where there is npm")
    process = await asyncio.create_subprocess_exec(
        node, "-e", script, *arguments, env={"NODE_PATH": str(MODULES)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUN_SECONDS):
            printed, _ = await process.communicate()
    except TimeoutError:
        raise AssertionError(f"the script did not end within {RUN_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()
    return printed.decode()
