"""A person's data for the person: what this API holds, as files."""

import datetime

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from query_api.access import access
from query_api.export import archive, held
from query_api.routers.subjects import Subject, Uses
from query_api.services import while_connected
from schemas.errors import NoReadingsError, UnavailableError

router = APIRouter(tags=["subjects"])


@router.get(
    "/subjects/{subject_id}/export",
    response_class=Response,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
@access("key", scope="admin", whose="path", audit="export", raises=(NoReadingsError, UnavailableError))
async def export_subject(request: Request, uses: Uses, subject_id: Subject) -> Response:
    """What this API holds of a subject: Parquet files in a ZIP archive, and a manifest with the settings.

    Readings of two days as they were sent, the days that reports cover, kept forecasts and their windows, alerts and
    scores. The manifest names what only Kafka holds, and how to get it (`glucast subject export`).
    """
    if not uses.follower.caught_up:
        raise UnavailableError("this replica is still reading what Kafka holds; try again")
    found = held(uses.read_model, subject_id)
    data = await while_connected(
        request, run_in_threadpool(archive, found, subject_id, datetime.datetime.now(datetime.UTC))
    )
    headers = {"content-disposition": 'attachment; filename="glucast-subject.zip"'}
    return Response(data, media_type="application/zip", headers=headers)
