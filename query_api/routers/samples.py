"""Files and the forecasts of their samples: convert, process, draw, quick plot."""

import asyncio
import base64
import binascii
import dataclasses
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, File, Header, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field, Strict, StrictBool, StrictInt
from starlette.responses import Response

from query_api.access import access
from query_api.callers import holder_of
from query_api.holders import Holder
from query_api.known_answers import remember
from query_api.plots import PLOT_TYPES, MediaType
from query_api.projections.fan_charts import ChartRow
from query_api.routers.drawing import PICTURES, Figure, Height, Scale, Timezone, Width, checked, one_of
from query_api.services import Services, services_of, while_connected
from query_api.style import HEIGHT, WIDTH, Style, Theme
from schemas.errors import MessageTooLargeError, OverloadedError, RejectedError, UnavailableError, UnknownHandleError
from schemas.reading import Unit
from schemas.upload import ProcessingWarnings, UploadOutcome
from streams.settings import Settings

router = APIRouter(tags=["samples of uploaded files"])
Uses = Annotated[Services, Depends(services_of)]

_THREAD_ABOVE_BYTES = 1 << 20


def upload_body_bytes(settings: Settings) -> int:
    """Of a body that holds a file: base64 makes it a third longer, and the rest of the question stands around it."""
    return settings.max_upload_bytes * 4 // 3 + (64 << 10)


class Question(BaseModel):
    """Request bodies: unknown fields are ignored, as GluRPC does."""

    model_config = ConfigDict(frozen=True)
    force_calculate: StrictBool = Field(False, description="Compute again; the same input gives the same samples.")


class FileQuestion(Question):
    csv_base64: str = Field(description="The file, base64: unified CSV or any supported vendor's export.")
    timezone: str = Field("UTC", max_length=64, description="IANA name of the zone of the file's local times.")


class PlotQuestion(Question):
    handle: str = Field(min_length=1, max_length=128)
    unit: Unit = Field("mg/dL", description="Unit of the plot.")
    index: StrictInt = Field(description="0: last hour with its truth; negative: earlier; 12: the real forecast.")
    theme: Theme = Field("light", description="Colours for light or for dark surroundings.")
    timezone: Timezone = None
    width: Annotated[Width, Strict()] = WIDTH
    height: Annotated[Height, Strict()] = HEIGHT
    scale: Annotated[Scale, Strict()] = 1

    def style(self) -> Style:
        """Raises `ImplausibleError` for a zone that does not exist."""
        return checked(
            Style(
                self.unit, theme=self.theme, timezone=self.timezone, width=self.width, height=self.height,
                scale=self.scale,
            )
        )  # fmt: skip


class ConvertAnswer(BaseModel):
    csv_content: str | None
    warnings: list[str] = Field([], description="What has to be said about the file, as `NAME: sentence`.")
    error: str | None = None


class ProcessAnswer(BaseModel):
    handle: str | None
    total_samples: int | None
    warnings: ProcessingWarnings
    error: str | None = None


class QuickAnswer(BaseModel):
    handle: str | None
    plot_base64: str | None = Field(description="PNG, 1000x600.")
    plot_data: Figure | None
    warnings: ProcessingWarnings
    error: str | None = None


@router.post("/convert_to_unified", response_model=ConvertAnswer)
@access(
    "everybody",
    body_bytes=upload_body_bytes,
    own_rate="convert_rate_limit",
    raises=(RejectedError, OverloadedError, UnavailableError),
)
async def convert_to_unified(request: Request, uses: Uses, file: Annotated[UploadFile, File()]) -> ConvertAnswer:
    """The whole file of any supported vendor as unified CSV, not cleaned. Nothing is stored.

    Where rates are limited, an address has one for conversions alone (429 with Retry-After). Few files are converted at
    a time and few wait for it (503 with Retry-After, as where the machine is too busy to read it).
    """
    raw = await file.read(uses.settings.max_upload_bytes + 1)
    _check_size(len(raw), uses.settings.max_upload_bytes)
    converted = await while_connected(request, uses.conversions.convert(raw))
    return ConvertAnswer(csv_content=converted.text, warnings=converted.notes)


@router.post("/process_unified", response_model=ProcessAnswer)
@access(
    "key",
    scope="write",
    whose="own",
    body_bytes=upload_body_bytes,
    raises=(RejectedError, UnavailableError, OverloadedError),
)
async def process_unified(request: Request, uses: Uses, question: FileQuestion) -> ProcessAnswer:
    """Take a file in and say under which handle its forecasts will be found; they are computed meanwhile.

    Sent with a key of single people it is theirs: keys for others do not find it, nor learn that they sent the same.
    """
    outcome = await while_connected(request, _accepted(uses, holder_of(request), question, question.force_calculate))
    return ProcessAnswer(handle=outcome.handle, total_samples=outcome.total_samples, warnings=outcome.warnings)


@router.post(
    "/draw_a_plot",
    responses=PICTURES,
    response_class=Response,
)
@access(
    "key", scope="read", whose="own", raises=(406, RejectedError, UnknownHandleError, UnavailableError, OverloadedError)
)
async def draw_a_plot(
    request: Request,
    uses: Uses,
    question: PlotQuestion,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """One sample's forecast: a PNG, an SVG, a WebP or the Plotly figure, as `Accept` says."""
    media_type, style = one_of(accept, None, PLOT_TYPES), question.style()

    async def drawn() -> bytes:
        row = await uses.submit.forecast(holder_of(request), question.handle, question.index, question.force_calculate)
        return await uses.plots.plot(row, style, media_type)

    answer = await while_connected(request, drawn())
    if not question.force_calculate:
        remember(request, _Drawing(question.handle, question.index, style, media_type))
    return _drawing(answer, media_type)


def _drawing(data: bytes, media_type: MediaType) -> Response:
    return Response(data, media_type=media_type, headers={"Vary": "Accept"})


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawing:
    """A plot of a sample, for whoever asks for it with the same words."""

    handle: str
    index: int
    style: Style
    media_type: MediaType

    def answer(self, uses: Services, _: str | None) -> Response | None:
        stored = uses.read_model.uploads.handle(self.handle)
        row = None if stored is None else uses.read_model.sample(stored, self.index)
        data = None if row is None else uses.plots.drawn(row, self.style, self.media_type)
        return None if data is None else _drawing(data, self.media_type)


@router.post("/quick_plot", response_model=QuickAnswer)
@access(
    "key",
    scope="write",
    whose="own",
    body_bytes=upload_body_bytes,
    raises=(RejectedError, UnknownHandleError, UnavailableError, OverloadedError),
)
async def quick_plot(request: Request, uses: Uses, question: FileQuestion) -> Response:
    """Take a file in and draw its last sample, in one call."""

    async def drawn() -> bytes:
        holder = holder_of(request)
        outcome = await _accepted(uses, holder, question, False)
        row = await uses.submit.forecast(holder, outcome.handle or "", 0, question.force_calculate)
        picture = await uses.plots.plot(row, Style(), "image/png")
        answer = {
            "handle": outcome.handle,
            "plot_base64": base64.b64encode(picture).decode(),
            "plot_data": orjson.Fragment(await uses.plots.plot(row, Style(), "application/json")),
            "warnings": outcome.warnings.model_dump(),
            "error": None,
        }
        data = orjson.dumps(answer)
        if not question.force_calculate:
            known = _QuickPlot(outcome.upload_id)
            uses.images.keep(known.key(outcome, row), data)
            remember(request, known)
        return data

    return Response(await while_connected(request, drawn()), media_type="application/json")


@dataclasses.dataclass(frozen=True, slots=True)
class _QuickPlot:
    """The answer to a file that is known, for whoever sends it again."""

    upload_id: str

    def key(self, outcome: UploadOutcome, row: ChartRow) -> str:
        """Under which the whole answer is kept: it says of the upload what its outcome says."""
        return f"{self.upload_id}/{outcome.began_ms}/{outcome.handle}/{row.digest}/quick_plot"

    def answer(self, uses: Services, _: str | None) -> Response | None:
        outcome = uses.submit.known_upload(self.upload_id)
        stored = None if outcome is None else uses.read_model.uploads.handle(outcome.handle or "")
        row = None if stored is None or 0 not in stored.indexes else uses.read_model.sample(stored, 0)
        data = None if outcome is None or row is None else uses.images.cached(self.key(outcome, row))
        return None if data is None else Response(data, media_type="application/json")


DRAWN_FROM_BODIES = ("/draw_a_plot", "/quick_plot")
"""Paths of the routes here that remember what they have answered."""


async def _accepted(uses: Services, holder: Holder, question: FileQuestion, force: bool) -> UploadOutcome:
    return await uses.submit.upload(holder, await file_in(uses, question.csv_base64), question.timezone, force)


async def file_in(uses: Services, text: str) -> bytes:
    """The file that came as base64. Raises `RejectedError`, `MessageTooLargeError` over the limit."""
    if len(text) < _THREAD_ABOVE_BYTES:
        raw = _decoded(text)
    else:
        raw = await asyncio.to_thread(_decoded, text)
    _check_size(len(raw), uses.settings.max_upload_bytes)
    return raw


def _decoded(text: str) -> bytes:
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RejectedError(
            "csv_base64 is not valid base64: encode the file's bytes, for example with base64 -w0"
        ) from None
    if not raw:
        raise RejectedError("csv_base64 is empty: send a CGM export")
    return raw


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise MessageTooLargeError(f"the file is larger than the {limit / (1 << 20):.0f} MiB that are accepted")
