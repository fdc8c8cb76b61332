"""Short programs in processes of their own: for what must be the same there, or must not be loaded."""

import os
import subprocess
import sys

from tests.kit.sources import ROOT


def printed(program: str, *arguments: str, hash_seed: str = "random") -> str:
    """What a program prints; with another hash seed its sets have another order. It must end well."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout
