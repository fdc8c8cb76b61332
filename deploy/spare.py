"""A process that has loaded a worker's code and waits to be told which worker to be: a restart without the loading.

``python -m deploy.spare`` reads one line from standard input, written by spare_order.py, and becomes that command. It
ends when its input is closed before. Loading the code is most of what a restart costs: 1.9 s of a core.
"""

import importlib
import json
import os
import sys

from setproctitle import setproctitle

from streams import topology
from streams.topology import WorkerRole

_MODULES = (
    "streams.worker",
    "streams.runner",
    "streams.apps",
    "streams.health",
    "streams.kafka.liveness",
    "streams.kafka.provision",
)
_ROLES: tuple[WorkerRole, ...] = ("ingest", "calc")  # not inference: torch would cost more memory than all the rest


def main() -> None:
    """Load, wait for the order, obey."""
    setproctitle("glucast spare")
    _preload()
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return  # whoever kept this process is gone
    _obey(line)


def _preload() -> None:
    from deploy.cli import main as _main  # noqa: F401 - loaded for later
    from streams.apps import module_of

    for module in _MODULES:
        importlib.import_module(module)
    for role in _ROLES:
        for step in topology.steps_of(role):
            importlib.import_module(module_of(step))


def _obey(line: bytes) -> None:
    from deploy.cli.main import run

    wanted = json.loads(line)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = ["glucast", *wanted["arguments"]]
    setproctitle(" ".join(sys.argv))  # who lists processes sees which worker this has become
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    run()


if __name__ == "__main__":
    main()
