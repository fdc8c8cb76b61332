"""This API described: the OpenAPI document, and the page at ``/docs`` that shows it."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.responses import FileResponse, JSONResponse

from query_api.access import CLOSED, Access, access, declared_access
from query_api.problems import MEDIA_TYPE, Problem
from query_api.routers.page import DASHBOARD, SHORT

router = APIRouter(include_in_schema=False)


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
@access("everybody")
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(described(request.app))


@router.api_route("/docs", methods=["GET", "HEAD"])
@access("everybody")
async def docs() -> FileResponse:
    """Swagger's page, with all that it needs from here."""
    return FileResponse(DASHBOARD / "docs.html", media_type="text/html", headers=SHORT)


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the routes, with the problems that the gate answers before a route is reached."""
    document = app.openapi()
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    for route in iter_route_contexts(app.routes):
        refusals = dict(_refusals(declared_access(route.endpoint) or CLOSED))
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                operation["responses"] |= refusals
    return document


def _refusals(declared: Access) -> Iterator[tuple[str, dict[str, Any]]]:
    if declared.audience == "key":
        yield _refusal(401, "No API key was sent, where keys are on.")
        yield _refusal(403, "The API key is unknown, or the page that asks is of a foreign origin.")
    if declared.counted:
        yield _refusal(413, "The body is larger than this operation takes.")
        yield _refusal(429, "Too many requests; `Retry-After` says in how many seconds there may be more.")


def _refusal(status: int, description: str) -> tuple[str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return str(status), {"description": description, "content": {MEDIA_TYPE: {"schema": schema}}}
