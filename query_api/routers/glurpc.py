"""The six endpoints of GluRPC 0.6, for its clients: their base URL is this API's with ``/glurpc`` behind it.

Requests, answers and errors have GluRPC's fields. What is done is what the routes of the other modules do: the same
pipeline, the same keys and limits. What GluRPC cannot say is not asked for here: another clock than UTC, another unit,
the real forecast. Errors are ``{"detail": …}`` (`query_api.problems`).
"""

import statistics
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, File, Query, Request, UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.responses import Response

from query_api.access import access
from query_api.callers import holder_of
from query_api.holders import Holder
from query_api.pipeline_status import PipelineStatus
from query_api.problems import GLURPC
from query_api.routers import cache, operations, samples
from query_api.routers.drawing import Figure
from query_api.services import Services, services_of, while_connected
from query_api.style import Style
from schemas.errors import MessageTooLargeError, OverloadedError, RejectedError, UnavailableError, UnknownHandleError
from schemas.lanes import LANES
from schemas.topics import FORECASTS, LANE_TOPICS
from schemas.upload import ProcessingWarnings

router = APIRouter(prefix=GLURPC, tags=["GluRPC"])
Uses = Annotated[Services, Depends(services_of)]

ACTIONS: tuple[cache.Action, ...] = ("flush", "info", "delete", "save", "load")
PRIORITIES = {"interactive": "0", "live": "1", "backfill": "3"}
"""GluRPC's names of its lanes: somebody waits, work behind, and what is computed ahead of questions."""
LOADS = ((0.99, "full"), (0.75, "overloaded"), (0.5, "heavily loaded"), (0.25, "loaded"), (0.01, "lightly loaded"))
"""From which part of its capacity on the fuller of two queues is said to be what."""


def _no_truth(value: Any) -> Any:
    """A boolean would pass for 0 or 1: it is as wrong as null."""
    return None if isinstance(value, bool) else value


Index = Annotated[
    int,
    Field(le=0, description="0: the last recorded hour; negative: earlier ones."),
    BeforeValidator(_no_truth),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "maximum": 0}, {"type": "string", "pattern": "^(0|-[1-9][0-9]{0,8})$"}]}
    ),
]
"""As GluRPC takes it: also a number in quotes."""
Flag = Annotated[
    bool,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {"type": "integer", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": "^(true|false|yes|no|on|off|t|f|y|n|1|0)$"},
            ]
        }
    ),
]
"""As GluRPC takes it: also in words and as 0 or 1."""


class ProcessRequest(BaseModel):
    """Other fields are ignored."""

    model_config = ConfigDict(frozen=True)
    csv_base64: str = Field(min_length=1, description="The file, base64: unified CSV or any vendor's export.")
    force_calculate: Flag = Field(False, description="Compute again; the same input gives the same samples.")


class PlotRequest(BaseModel):
    """Other fields are ignored."""

    model_config = ConfigDict(frozen=True)
    handle: str = Field(min_length=8, max_length=64)
    index: Index
    force_calculate: Flag = Field(False, description="Compute again; the same input gives the same samples.")


class GlurpcConverted(BaseModel):
    csv_content: str | None = None
    error: str | None = None


class GlurpcProcessed(BaseModel):
    handle: str | None = None
    total_samples: int | None = None
    warnings: ProcessingWarnings = ProcessingWarnings()
    error: str | None = None


class GlurpcQuickPlot(BaseModel):
    plot_data: dict[str, Any] = Field(description="The Plotly figure; empty where there is an error.")
    warnings: ProcessingWarnings = ProcessingWarnings()
    error: str | None = None


class GlurpcCache(BaseModel):
    success: bool
    message: str
    cache_size: int = Field(description="Handles that forecasts can be asked for.")
    persisted_count: int = Field(description="Handles saved as Parquet files.")
    items_affected: int | None = Field(description="None for info and flush, as GluRPC has it.")


class GlurpcHealth(BaseModel):
    """Exactly GluRPC's fields: its client takes no others. Figures of requests are this replica's."""

    status: str
    load_status: str = Field(description="How full the fuller queue is.")
    cache_size: int
    models_initialized: bool
    available_priority_models: int = Field(description="Inference workers, where nothing interactive waits.")
    available_general_models: int = Field(description="Inference workers, where nothing waits in any lane.")
    avg_fulfillment_time_ms: float
    vmem_usage_mb: float
    device: str
    total_http_requests: int
    total_http_errors: int = Field(description="Answers with 4xx or 5xx.")
    avg_request_time_ms: float = Field(description="This and the next three: of the last thousand requests.")
    median_request_time_ms: float
    min_request_time_ms: float
    max_request_time_ms: float
    inference_requests_by_priority: dict[str, int] = Field(description="0: interactive, 1: live, 3: backfill.")
    total_inference_errors: int = Field(description="Requests that the model failed on, seen by this replica.")
    total_calc_runs: int = Field(description="Forecasts that calc has finished.")
    total_calc_errors: int = Field(description="Dead letters of all steps.")
    inference_queue_size: int = Field(description="Requests that wait in all lanes.")
    inference_queue_capacity: int = Field(description="Requests that the lanes hold in memory; more wait in Kafka.")
    calc_queue_size: int = Field(description="Forecasts that wait for calc.")
    calc_queue_capacity: int = Field(description="Messages that calc holds in memory; more wait in Kafka.")


@router.post("/convert_to_unified", response_model=GlurpcConverted)
@access(
    "everybody",
    body_bytes=samples.upload_body_bytes,
    own_rate="convert_rate_limit",
    raises=(MessageTooLargeError, OverloadedError, UnavailableError),
)
async def convert_to_unified(request: Request, uses: Uses, file: Annotated[UploadFile, File()]) -> GlurpcConverted:
    """The whole file as unified CSV; a file that cannot be used is 200 with `error`."""
    try:
        converted = await samples.convert_to_unified(request, uses, file)
    except RejectedError as error:
        return GlurpcConverted(error=_reason(error))
    return GlurpcConverted(csv_content=converted.csv_content)


@router.post("/process_unified", response_model=GlurpcProcessed)
@access(
    "key",
    scope="write",
    whose="own",
    body_bytes=samples.upload_body_bytes,
    raises=(MessageTooLargeError, UnavailableError, OverloadedError),
)
async def process_unified(request: Request, uses: Uses, question: ProcessRequest) -> GlurpcProcessed:
    """Take a file in and say its handle; a file that cannot be used is 200 with `error`."""

    async def accepted() -> GlurpcProcessed:
        raw = await samples.file_in(uses, question.csv_base64)
        outcome = await uses.submit.upload(holder_of(request), raw, force=question.force_calculate)
        return GlurpcProcessed(
            handle=outcome.handle, total_samples=outcome.total_samples, warnings=_warnings(outcome.warnings)
        )  # fmt: skip

    try:
        return await while_connected(request, accepted())
    except RejectedError as error:
        return GlurpcProcessed(error=_reason(error))


@router.post("/draw_a_plot", response_model=Figure)
@access("key", scope="read", whose="own", raises=(UnknownHandleError, UnavailableError, OverloadedError))
async def draw_a_plot(request: Request, uses: Uses, question: PlotRequest) -> Response:
    """The Plotly figure of one sample. 400 names the valid range where the index is not in it."""

    async def drawn() -> bytes:
        holder = holder_of(request)
        stored = await uses.submit.stored(question.handle, holder)
        first = stored.indexes[0]
        if question.index < first:
            raise HTTPException(400, f"Index {question.index} out of range. Valid range: {first} to 0")
        try:
            row = await uses.submit.forecast(holder, question.handle, question.index, question.force_calculate)
        except RejectedError as error:
            raise HTTPException(400, str(error)) from None
        return await uses.plots.plot(row, Style(), "application/json")

    return Response(await while_connected(request, drawn()), media_type="application/json")


@router.post("/quick_plot", response_model=GlurpcQuickPlot)
@access(
    "key",
    scope="write",
    whose="own",
    body_bytes=samples.upload_body_bytes,
    raises=(MessageTooLargeError, UnknownHandleError, UnavailableError, OverloadedError),
)
async def quick_plot(request: Request, uses: Uses, question: ProcessRequest) -> Response:
    """Take a file in and draw its last sample; a file that cannot be used is 200 with `error` and an empty figure."""
    warnings = ProcessingWarnings()

    async def drawn() -> bytes:
        nonlocal warnings
        holder = holder_of(request)
        outcome = await uses.submit.upload(holder, await samples.file_in(uses, question.csv_base64))
        warnings = _warnings(outcome.warnings)
        row = await uses.submit.forecast(holder, outcome.handle or "", 0, question.force_calculate)
        return await uses.plots.plot(row, Style(), "application/json")

    figure, reason = b"{}", None
    try:
        figure = await while_connected(request, drawn())
    except RejectedError as error:
        reason = _reason(error)
    answer = {"plot_data": orjson.Fragment(figure), "warnings": warnings.model_dump(), "error": reason}
    return Response(orjson.dumps(answer), media_type="application/json")


@router.post("/cache_management", response_model=GlurpcCache)
@access("key", scope="admin", whose="own", audit="cache", raises=(UnavailableError,))
async def cache_management(
    request: Request,
    uses: Uses,
    action: Annotated[str, Query(description=", ".join(ACTIONS), json_schema_extra={"enum": [*ACTIONS]})],
    handle: Annotated[str | None, Query(max_length=128)] = None,
) -> GlurpcCache:
    """What cannot be done for its handle is 200 with ``success: false`` and the reason as `message`."""
    known = next((each for each in ACTIONS if each == action), None)
    if known is None:
        raise HTTPException(400, f"Unknown action: {action}. Valid actions are: {', '.join(ACTIONS)}")
    if known in ("delete", "load") and not handle:
        raise HTTPException(400, f"Handle parameter required for {known} action")
    holder = holder_of(request)
    try:
        if known == "load" and await _is_stored(uses, holder, handle or ""):
            done = await cache.stored_now(uses, holder, True, "the handle is stored, there is nothing to load", 1)
        else:
            done = await cache.cache_management(request, uses, known, handle)
    except (RejectedError, UnknownHandleError) as error:
        done = await cache.stored_now(uses, holder, False, str(error), 0)
    counted = done.items_affected if known not in ("info", "flush") else None
    return GlurpcCache(**done.model_dump(exclude={"items_affected"}), items_affected=counted)


@router.get("/health", response_model=GlurpcHealth)
@access("everybody", counted=False)
async def health(uses: Uses) -> GlurpcHealth:
    whole, pipeline, settings = await operations.health(uses), await uses.pipeline.status(), uses.settings
    times = [1000 * seconds for seconds in uses.metrics.recent_seconds] or [0.0]
    by_lane = {lane: pipeline.waiting.get(topic.name, 0) for lane, topic in LANE_TOPICS.items()}
    inference, calc = sum(by_lane.values()), sum(pipeline.waiting.get(topic.name, 0) for topic in FORECASTS.values())
    inference_capacity, calc_capacity = len(LANES) * settings.lane_capacity, settings.stream_buffer_maxsize
    return GlurpcHealth(
        status=whole.status,
        load_status=load_of(max(inference / inference_capacity, calc / calc_capacity)),
        cache_size=whole.cache_size,
        models_initialized=whole.models_initialized,
        available_priority_models=0 if by_lane["interactive"] else pipeline.inference_workers,
        available_general_models=0 if inference else pipeline.inference_workers,
        avg_fulfillment_time_ms=whole.avg_fulfillment_time_ms,
        vmem_usage_mb=whole.vmem_usage_mb,
        device=whole.device,
        total_http_requests=uses.metrics.total,
        total_http_errors=uses.metrics.unsuccessful,
        avg_request_time_ms=round(statistics.fmean(times), 3),
        median_request_time_ms=round(statistics.median(times), 3),
        min_request_time_ms=round(min(times), 3),
        max_request_time_ms=round(max(times), 3),
        inference_requests_by_priority=_by_priority(pipeline),
        total_inference_errors=uses.read_model.requests.failed,
        total_calc_runs=sum(pipeline.finished.get(topic.name, 0) for topic in FORECASTS.values()),
        total_calc_errors=pipeline.dead_letters,
        inference_queue_size=inference,
        inference_queue_capacity=inference_capacity,
        calc_queue_size=calc,
        calc_queue_capacity=calc_capacity,
    )


def load_of(part: float) -> str:
    """GluRPC's word for a queue that is full to this part."""
    return next((word for least, word in LOADS if part >= least), "idle")


def _by_priority(pipeline: PipelineStatus) -> dict[str, int]:
    return {PRIORITIES[lane]: pipeline.finished.get(topic.name, 0) for lane, topic in LANE_TOPICS.items()}


async def _is_stored(uses: Services, holder: Holder, handle: str) -> bool:
    """GluRPC's `load` is content with what is in memory already."""
    try:
        await uses.submit.stored(handle, holder)
    except UnknownHandleError:
        return False
    return True


def _reason(error: RejectedError) -> str:
    """Of what is wrong with the data itself. What is too large is refused here as everywhere."""
    if isinstance(error, MessageTooLargeError):
        raise error
    return str(error)


def _warnings(found: ProcessingWarnings) -> ProcessingWarnings:
    """Without what GluRPC does not tell: that times were moved to the grid, which they are in nearly every file."""
    messages = tuple(text for text in found.messages if not text.startswith("SYNCHRONIZATION:"))
    return found.model_copy(update={"messages": messages, "has_warnings": bool(messages)})
