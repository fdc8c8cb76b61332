"""Runs one worker role until a signal or a failure."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from schemas.errors import ConfigurationError, UnavailableError
from schemas.exit_codes import ExitCode
from streams import logs
from streams.settings import Settings
from streams.topology import WorkerRole

if TYPE_CHECKING:  # the help of the command line must not wait for Faust
    import faust

    from streams.apps import Host

log = structlog.get_logger(__name__)

AppOf = Callable[[WorkerRole, "Host"], "faust.App"]
"""Builds the App of ingest or calc; it is imported when it is called."""


def strict_app(role: WorkerRole, host: "Host") -> "faust.App":
    """The App that loses nothing."""
    from streams.apps import step_app

    return step_app(role, host)


def run_worker(role: WorkerRole, settings: Settings, app_of: AppOf = strict_app) -> int:
    """Run a role in the foreground; returns an exit code. `app_of` is for benchmarks that compare with another App."""
    logs.configure(settings)
    try:
        if role == "inference":
            from streams.inference_role import run_inference

            return run_inference(settings)
        return asyncio.run(_run_steps(role, settings, app_of))
    except ConfigurationError as error:
        log.error(str(error))
        return ExitCode.CONFIGURATION
    except UnavailableError as error:
        log.error(str(error))
        return ExitCode.RESTART


async def _run_steps(role: WorkerRole, settings: Settings, app_of: AppOf) -> int:
    from streams.runner import RoleRunner

    runner = RoleRunner(role, settings)
    await runner.prepare()
    runner.apps.append(app_of(role, runner.host))
    return await runner.run()
