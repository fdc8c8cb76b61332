"""How a spare process is started, and how it is told which worker to be; see spare.py for what it is."""

import json
import sys
from collections.abc import Mapping, Sequence

COMMAND = (sys.executable, "-m", "deploy.spare")
DELAY_SECONDS = 5.0
"""How long to wait with the next spare process: a worker that has just begun needs the processor more."""


def order(arguments: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """What makes a spare process ``glucast ARGUMENTS`` under exactly this environment, for its standard input."""
    return json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode() + b"\n"
