"""The child processes of `glucast up`: which role runs how often, with which settings."""

import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.brokers.wire import LOOPBACK, HeldPort
from deploy.readiness import reached_at
from deploy.supervisor import Child

API = "api"
NOTIFY = "notify"
TRIAL = "trial"
SIMULATE = "simulate"
_STOP_RANKS = {API: 0, SIMULATE: 0, "ingest": 1, "inference": 2, "calc": 3, NOTIFY: 3}

_GIVES_WAY = {"inference": "5", "calc": "5"}
"""Niceness of those whom a backlog keeps busy: who waits for a plot waits for the API and its browser too."""

_LEAN = {
    "PYTHONUNBUFFERED": "1",
    # Roles are processes already: thread pools of numeric libraries and one malloc arena a thread only cost memory.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How many workers of each role; the one that takes longest to start comes first."""

    inference: int = 1
    ingest: int = 1
    calc: int = 1

    def names(self) -> list[tuple[str, str, int]]:
        """(name, role, number) of every worker; a worker alone in its role has the role's name."""
        return [
            (role if count == 1 else f"{role}-{number}", role, number)
            for role, count in dataclasses.asdict(self).items()
            for number in range(count)
        ]


def environment(broker: str, state_dir: Path, overrides: Mapping[str, object]) -> dict[str, str]:
    """What every child finds in its environment; what the user has set there stays."""
    ours = {"broker": broker, "state_dir": state_dir.absolute(), **overrides}
    return _LEAN | dict(os.environ) | variables(ours)


def variables(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as the environment of a process has them."""
    return {f"GLUCAST_{name.upper()}": str(value) for name, value in settings.items()}


def trial(name: str, ordinal: int, shared: Mapping[str, str]) -> Child:
    """An inference worker whose model is on trial: an ordinal that no other has, and a health port of its own."""
    held = HeldPort()
    own = {"GLUCAST_ORDINAL": str(ordinal), "GLUCAST_HEALTH_PORT": str(held.number), "GLUCAST_MODEL_SERVES": "false"}
    environment = {"GLUCAST_NICENESS": "10", **shared, **own}  # nobody waits for it
    command = _glucast("worker", "inference")
    rank = _STOP_RANKS["inference"]
    return Child(name, command, environment, held.number, stop_rank=rank, held=held, host=_health_host(shared))


def workers(counts: Counts, first_ordinal: int, shared: Mapping[str, str]) -> list[Child]:
    """The workers of every role, each with its ordinal and a health port of its own."""
    children = []
    for name, role, number in counts.names():
        held = HeldPort()
        own = {"GLUCAST_ORDINAL": str(first_ordinal + number), "GLUCAST_HEALTH_PORT": str(held.number)}
        nice = {"GLUCAST_NICENESS": _GIVES_WAY[role]} if role in _GIVES_WAY else {}
        arguments = ("worker", role)
        children.append(
            Child(
                name,
                _glucast(*arguments),
                {**nice, **shared, **own},
                held.number,
                stop_rank=_STOP_RANKS[role],
                spare_arguments=arguments,
                held=held,
                host=_health_host(shared),
            )
        )
    return children


def api(host: str, port: int, shared: Mapping[str, str], held: HeldPort | None = None) -> Child:
    """The query API. SIGTERM if it is orphaned: it has a browser to close."""
    own = {"GLUCAST_HOST": host, "GLUCAST_PORT": str(port)}
    rank = _STOP_RANKS[API]
    return Child(
        API, _glucast("api"), {**shared, **own}, port, stop_rank=rank, orphan_signal=signal.SIGTERM, held=held,
        host=reached_at(host),
    )  # fmt: skip


def notifier(ordinal: int, shared: Mapping[str, str]) -> Child:
    """Tells webhooks and MQTT, which have their settings from the environment."""
    held = HeldPort()
    own = {"GLUCAST_ORDINAL": str(ordinal), "GLUCAST_HEALTH_PORT": str(held.number)}
    rank = _STOP_RANKS[NOTIFY]
    environment = {**shared, **own}
    host = _health_host(shared)
    return Child(NOTIFY, _glucast("notify"), environment, held.number, stop_rank=rank, held=held, host=host)


def simulator(tag: str, shared: Mapping[str, str]) -> Child:
    """One virtual person, whose subject ids end with `tag`."""
    return Child(SIMULATE, _glucast("simulate", "--tag", tag), shared, stop_rank=_STOP_RANKS[SIMULATE])


def _health_host(shared: Mapping[str, str]) -> str:
    return reached_at(shared.get("GLUCAST_HEALTH_HOST", LOOPBACK))


def _glucast(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "deploy.cli.main", *arguments)
