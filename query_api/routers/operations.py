"""Is it alive, is it ready, how does it do."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from query_api.access import access
from query_api.services import Services, services_of

router = APIRouter(tags=["operations"])
Uses = Annotated[Services, Depends(services_of)]

_GPU = Path("/dev/nvidia0")


class Health(BaseModel):
    """The figures of the whole, as far as this replica sees them through Kafka."""

    status: Literal["ok", "degraded"]
    cache_size: int = Field(description="Handles that forecasts can be asked for.")
    models_initialized: bool = Field(description="Whether an inference worker takes requests.")
    queue_length: int = Field(description="What waits at all stages of the pipeline together.")
    waiting: dict[str, int] = Field(description="By topic: messages that no worker has finished.")
    avg_fulfillment_time_ms: float = Field(description="Mean wait of the forecasts that were computed on demand.")
    vmem_usage_mb: float = Field(description="0: the memory of a GPU is in the inference worker's own metrics.")
    device: str = Field(description="The device that is configured for inference.")
    total_requests_processed: int
    total_errors: int


@router.get("/health")
@access("everybody", counted=False)
async def health(uses: Uses) -> Health:
    pipeline = await uses.pipeline.status()
    submit, metrics = uses.submit, uses.metrics
    working = uses.follower.connected and pipeline.inference_workers > 0
    return Health(
        status="ok" if working else "degraded",
        cache_size=uses.read_model.uploads.handle_count(),
        models_initialized=pipeline.inference_workers > 0,
        queue_length=pipeline.queued,
        waiting=dict(pipeline.waiting),
        avg_fulfillment_time_ms=round(1000 * submit.fulfilment_seconds / max(1, submit.fulfilled), 1),
        vmem_usage_mb=0.0,
        device=_device(uses.settings.model.device),
        total_requests_processed=metrics.total,
        total_errors=metrics.errors,
    )


def _device(configured: str) -> str:
    if configured != "auto":
        return configured
    return "cuda" if _GPU.exists() else "cpu"


class Liveness(BaseModel):
    alive: bool


@router.get("/livez")
@access("everybody", counted=False)
async def livez() -> Liveness:
    """The event loop answers."""
    return Liveness(alive=True)


class NotReadyReason(BaseModel):
    code: str
    text: str
    lag: int | None = None


class Pictures(BaseModel):
    ready: bool
    reason: str | None


class Readiness(BaseModel):
    ready: bool
    reasons: list[NotReadyReason]
    pictures: Pictures


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
@access("everybody", counted=False)
async def readyz(uses: Uses) -> Response:
    """200 when every answer can be given; 503 with reasons otherwise. Stored forecasts are served all the same."""
    reasons: list[dict[str, Any]] = []
    if problem := uses.follower.storage_problem:
        reasons.append({"code": "disk", "text": problem})
    elif not uses.follower.connected:
        reasons.append({"code": "no_broker", "text": f"no Kafka answers at {uses.settings.broker}"})
    elif not uses.follower.caught_up:
        lag = uses.follower.lag()
        reasons.append({"code": "catching_up", "text": f"{lag} messages behind Kafka", "lag": lag})
    if not uses.publisher.connected:
        reasons.append({"code": "no_producer", "text": "no connection for sending to Kafka yet"})
    pictures = {"ready": uses.images.ready and uses.images.problem is None, "reason": uses.images.problem}
    answer = {"ready": not reasons, "reasons": reasons, "pictures": pictures}
    return JSONResponse(answer, 503 if reasons else 200)


@router.get("/metrics", response_class=PlainTextResponse)
@access("everybody", counted=False)
async def metrics(uses: Uses) -> Response:
    """For Prometheus."""
    return Response(uses.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
