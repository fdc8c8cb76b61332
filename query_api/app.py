"""The query API: ``create_app`` builds it, ``serve`` runs it."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id
from starlette.middleware.cors import CORSMiddleware

from query_api.callers import check_exposure
from query_api.connections import most_connections, protocol
from query_api.gate import Gate
from query_api.known_answers import KnownAnswers
from query_api.present import HEADERS
from query_api.problems import install, is_glurpc, is_nightscout
from query_api.request_metrics import RequestMetrics
from query_api.routers import (
    alerts,
    cache,
    docs,
    events,
    fhir,
    glurpc,
    models,
    operations,
    overview,
    page,
    past,
    problems,
    reports,
    samples,
    sources,
    subject_export,
    subject_readings,
    subjects,
    webhooks,
)
from query_api.routers.nightscout import collections, entries, site, v3
from query_api.services import running
from schemas.errors import ConfigurationError, UnavailableError
from schemas.fan_chart import DISCLAIMER
from streams import logs
from streams.kafka import provision, state_dir
from streams.settings import Settings

log = structlog.get_logger("query_api")

NIGHTSCOUT_ROUTERS = (site.router, entries.router, collections.router, v3.router)
ROUTERS = (
    samples.router, subject_readings.router, subjects.router, overview.router, past.router, reports.router, fhir.router,
    events.router, alerts.router, webhooks.router, cache.router, operations.router, page.router, docs.router,
    glurpc.router, models.router, sources.router, subject_export.router, problems.router,
    *NIGHTSCOUT_ROUTERS,
)  # fmt: skip
"""Everything that is answered. Each route declares its access where it stands."""

_ASKED = [
    "content-type", "x-api-key", "api-secret", "authorization", "if-none-match", "last-event-id", "traceparent",
]  # fmt: skip
"""Headers that pages of other origins may send."""
_TOLD = ["ETag", "Link", "Retry-After", "Content-Disposition", "Last-Modified"]
"""Headers that they may read."""

BROKER_SECONDS = 30.0
STOP_SECONDS = 3


def create_app(settings: Settings, directory: Path | None = None) -> FastAPI:
    """The application; its table lies in `directory`, else where the broker's cluster says, asked at start-up.

    Raises `ConfigurationError` for keys that cannot be read and for an address that is open to everybody.
    """
    check_exposure(settings)
    metrics = RequestMetrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(settings, directory or await table_directory(settings), metrics) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="glucast",
        description=f"Probabilistic one-hour glucose forecasts. {DISCLAIMER}",
        version="0.1.0",
        lifespan=lifespan,
        openapi_url=None,  # our own route serves it, with its access
        generate_unique_id_function=_operation,
    )
    install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(KnownAnswers, posts=samples.DRAWN_FROM_BODIES)
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=_ASKED,
            expose_headers=[*_TOLD, *HEADERS],
        )
    return app


def _operation(route: APIRoute) -> str:
    """The name of an operation for those who generate clients: that of its function, where it is the only such one."""
    if is_nightscout(route.path_format):
        return generate_unique_id(route)
    return f"glurpc_{route.name}" if is_glurpc(route.path_format) else route.name


async def table_directory(settings: Settings) -> Path:
    """Where this replica keeps its table. Without a broker the one it used last, so that it can serve from that.

    Raises `TopicMismatchError` where topics are not as they have to be, `UnavailableError` without broker and table.
    """
    name = f"query-{settings.port}"
    deadline = asyncio.get_running_loop().time() + BROKER_SECONDS
    while True:
        try:
            await provision.require(settings)
            return state_dir.directory(settings, await state_dir.cluster_id(settings), name)
        except UnavailableError:
            earlier = sorted(settings.state_dir.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
            if earlier:
                log.warning("no Kafka answers yet, stored forecasts are served meanwhile", broker=settings.broker)
                return earlier[-1]
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.5)


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the application: without a log of its own, and with an end to every wait for a client."""
    # An address may take half of the places, and a key half of the streams of events.
    most = most_connections(4 * max(settings.waiters, settings.event_clients))
    return uvicorn.Config(
        app,
        http=protocol(most),
        ws="none",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=STOP_SECONDS,
        server_header=False,
        limit_concurrency=most + 1,
    )


class Server(uvicorn.Server):
    """uvicorn's, which does not wait for clients that follow events: they would stay until it loses its patience."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app: Any = self.config.app
        app.state.services.event_streams.end()
        await super().shutdown(sockets)


def serve(settings: Settings) -> int:
    """Run until SIGINT or SIGTERM; returns the exit code. Raises `GlucastError` for what an operator has to change."""
    logs.configure(settings)
    check_exposure(settings)
    with _listening(settings) as listening:
        settings = settings.model_copy(update={"port": listening.getsockname()[1]})
        directory = asyncio.run(table_directory(settings))
        config = server_config(create_app(settings, directory), settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("query API listens", url=f"http://{host}:{settings.port}", keys=_keys(settings))
        server = Server(config)
        server.run(sockets=[listening])
    return 0 if server.started else 2


def _keys(settings: Settings) -> str:
    return "API keys" if settings.enable_api_keys or settings.api_keys_file else "nobody has to show a key"


def _listening(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=512)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {settings.host}:{settings.port} ({error.strerror}): set GLUCAST_HOST or GLUCAST_PORT"
        ) from None


if __name__ == "__main__":
    sys.exit(serve(Settings()))
