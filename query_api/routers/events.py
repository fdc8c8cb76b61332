"""What happens to subjects, as Server-Sent Events."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse
from starlette.responses import Response

from query_api.access import access
from query_api.callers import key_of, may_still
from query_api.event_streams import HEADERS, Client
from query_api.routers.drawing import InUnit
from query_api.routers.subjects import Subject, Uses
from query_api.services import Services
from schemas.errors import OverloadedError, UnavailableError
from schemas.reading import Unit

router = APIRouter(tags=["subjects"])

LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="The `id` of the last event that came: what came since comes first."),
]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`reading`: what became of a reading, as on cgm.reading-outcomes. `forecast`: a FanChart, as in "
        "`/forecasts`; one of two that were made for the same minute replaces the other. `alerts` and `scores`: as "
        "`/alerts` and `/scores` answer now. `reset`: forget what you know of `subject_id`, of everybody where it is "
        "null, and ask anew. A comment every 15 s.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
_RAISES = (OverloadedError, UnavailableError)


@router.get("/subjects/{subject_id}/events", response_class=Response, responses=_STREAM)
@access("key", scope="read", whose="path", streams=True, raises=_RAISES)
async def events_of_subject(
    request: Request, uses: Uses, subject_id: Subject, last_event_id: LastEventId = None, unit: InUnit = "mg/dL"
) -> Response:
    """Readings, forecasts, alerts and scores of a subject as they come, until one of both leaves.

    What an event tells, the other routes of this replica know when it comes. Follow first and ask second, and nothing
    is missed between the two.
    """
    return _answer(request, uses, frozenset({subject_id}), last_event_id, unit)


@router.get("/events", response_class=Response, responses=_STREAM)
@access("key", scope="read", whose="own", streams=True, raises=_RAISES)
async def events(request: Request, uses: Uses, last_event_id: LastEventId = None, unit: InUnit = "mg/dL") -> Response:
    """The same of all subjects; for a key of single people, of these."""
    key = key_of(request)
    subjects = None if key is None or key.subjects is None else frozenset(key.subjects)
    return _answer(request, uses, subjects, last_event_id, unit)


def _answer(
    request: Request, uses: Services, subjects: frozenset[str] | None, last_event_id: str | None, unit: Unit
) -> Response:
    client = Client(request.scope["caller"], subjects, unit, may_still(request))
    return EventSourceResponse(uses.event_streams.stream(client, last_event_id), headers=HEADERS)
