"""Everything that the routes use, built once an application, and how it starts and stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastapi import Request

from agents.ingest.files.readers import Readers
from query_api.event_streams import EventStreams
from query_api.follow import Follower
from query_api.image import Images
from query_api.pipeline_status import PipelineWatch
from query_api.plots import Plots
from query_api.publish import Publisher
from query_api.read_model import ReadModel
from query_api.request_metrics import RequestMetrics
from query_api.store import Store
from query_api.submit import Submit
from query_api.subscriptions import Subscriptions
from schemas import metrics
from schemas.errors import ClientGoneError
from schemas.metrics import Metric
from streams.settings import Settings

T = TypeVar("T")

BROWSER_AFTER_SECONDS = 3.0
"""Starting it takes two to three seconds of a core, which the roles that start beside the API need first."""

CONVERSIONS, CONVERSIONS_WAITING = 1, 8
"""Files that are converted at a time, and that wait for it: nobody has to show a key for that."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application."""

    settings: Settings
    read_model: ReadModel
    follower: Follower
    publisher: Publisher
    submit: Submit
    images: Images
    plots: Plots
    pipeline: PipelineWatch
    conversions: Readers
    metrics: RequestMetrics
    event_streams: EventStreams

    @property
    def parquet_dir(self) -> Path:
        """Where handles are saved: beside the clusters' directories, because it outlives them."""
        return self.settings.state_dir / "parquet"


def services_of(request: Request) -> Services:
    """The dependency that routes take."""
    found: Services = request.app.state.services
    return found


@contextlib.asynccontextmanager
async def running(settings: Settings, directory: Path, request_metrics: RequestMetrics) -> AsyncIterator[Services]:
    """Open the table and run everything that works in the background."""
    read_model = ReadModel(
        Store(directory / "read-model", settings.block_cache_bytes, settings.write_buffer_bytes), Subscriptions()
    )  # fmt: skip
    follower, publisher = Follower(settings, read_model), Publisher(settings)
    images = Images(waiters=settings.waiters, start_after_seconds=BROWSER_AFTER_SECONDS)
    submit = Submit(settings, read_model, follower, publisher)
    pipeline = PipelineWatch(settings, follower)
    conversions = Readers(settings, CONVERSIONS, CONVERSIONS_WAITING)
    services = Services(
        settings, read_model, follower, publisher, submit, images, Plots(images), pipeline, conversions,
        request_metrics, EventStreams(settings, read_model, follower),
    )  # fmt: skip
    _measure(services)
    tasks = [asyncio.create_task(part.run()) for part in (follower, publisher, images)]
    tasks.append(asyncio.create_task(submit.keep_bounded()))
    try:
        yield services
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=4)
        await pipeline.close()
        await conversions.close()
        read_model.close()


def _measure(services: Services) -> None:
    submit, images = services.submit, services.images
    gauges: dict[Metric, Callable[[], float]] = {
        metrics.READ_MODEL_LAG: services.follower.lag,
        metrics.READ_MODEL_CONNECTED: lambda: services.follower.connected,
        metrics.READ_MODEL_SKIPPED: lambda: services.read_model.skipped,
        metrics.HANDLES: services.read_model.uploads.handle_count,
        metrics.EVENT_CLIENTS: lambda: services.event_streams.clients,
        metrics.WAITERS: lambda: submit.in_flight.waiters,
        metrics.COMPUTATIONS: lambda: submit.in_flight.computations,
        metrics.PICTURES_DRAWN: lambda: images.renders,
        metrics.PICTURES_REUSED: lambda: images.hits,
    }
    for metric, value in gauges.items():
        services.metrics.gauge(metric, value)


async def while_connected(request: Request, answer: Awaitable[T]) -> T:
    """The answer, or `ClientGoneError` as soon as nobody waits for it: the waiter is then free for others.

    Call it when the route has read the body: nothing but the client's leaving is of interest after that.
    """
    task = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return await task
    finally:
        leaving.cancel()
        task.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
