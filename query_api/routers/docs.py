"""This API described: the OpenAPI document, and the page at ``/docs`` that shows it."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import iter_route_contexts
from starlette.responses import JSONResponse, Response

from query_api import fhir
from query_api.access import CLOSED, Access, access, declared_access
from query_api.conditional import KnownTags
from query_api.problems import (
    MEDIA_TYPE,
    GlurpcError,
    NightscoutError,
    Problem,
    is_fhir,
    is_glurpc,
    is_nightscout,
    status_of,
)
from query_api.routers import subject_readings
from query_api.routers.page import DASHBOARD, SHORT, delivered

router = APIRouter(include_in_schema=False)


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
@access("everybody")
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(described(request.app))


@router.api_route("/docs", methods=["GET", "HEAD"])
@access("everybody")
async def docs(tags: KnownTags = None) -> Response:
    """Swagger's page, with all that it needs from here."""
    return delivered(DASHBOARD / "docs.html", SHORT, tags)


def described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the routes, with every problem that each may answer.

    Those are the refusals of the gate, what the route declares that it raises, and 422 wherever anything is validated:
    with our own problem document, where FastAPI would describe its own.
    """
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for error in (Problem, NightscoutError, GlurpcError):
        described_error = error.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= described_error.pop("$defs", {}) | {error.__name__: described_error}
    schemas |= subject_readings.COMPONENTS
    document["components"]["securitySchemes"] = _KEYS
    for theirs in ("HTTPValidationError", "ValidationError"):
        schemas.pop(theirs, None)
    for route in iter_route_contexts(app.routes):
        declared = declared_access(route.endpoint) or CLOSED
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                validated = "422" in operation["responses"]
                site = is_nightscout(route.path_format or "")
                form = _form_of(route.path_format or "")
                problems = {
                    str(status): {"description": text, "content": form}
                    for status, text in _problems(declared, validated)
                }
                operation["responses"] = operation["responses"] | problems
                if declared.audience == "key":
                    operation["x-glucast-scope"] = declared.scope or "any"
                    operation["x-glucast-whose"] = declared.whose
                    operation["security"] = _security(declared, site)
    return document


_TEXTS = {
    404: "There is nothing of the kind, no forecast or no readings; the text says why.",
    406: "`Accept` names nothing that this operation can answer with.",
    413: "The body is larger than this operation takes.",
    415: "The body is compressed in a way that this operation does not know.",
    422: "The request makes no sense; the text says what to change.",
    500: "A mistake of glucast's own, which its log tells.",
    503: "The broker or the workers do not answer, or too many requests wait; `Retry-After` says when to try again.",
}


def _problems(declared: Access, validated: bool) -> Iterator[tuple[int, str]]:
    yield 400, "The request, its header `Host` or `Origin`, or its body cannot be read at all."
    yield 413, _TEXTS[413]
    if declared.audience == "key":
        yield 401, "No key was sent, where one is needed; on the Nightscout site also: it is unknown."
        yield 403, "The key is unknown or not for this, or the page that asks or the name that is asked for is foreign."
    else:
        yield 403, "The page that asks or the name that is asked for is foreign."
    if declared.counted:
        yield 429, "Too many requests; `Retry-After` says in how many seconds there may be more."
    raised = {error if isinstance(error, int) else status_of(error) for error in declared.raises}
    for status in sorted(raised | {500} | ({422} if validated else set())):
        yield status, _TEXTS[status]


def _form_of(path: str) -> dict[str, Any]:
    """The content of an error under a path."""
    if is_fhir(path):
        return {fhir.MEDIA_TYPE: {"schema": fhir.SCHEMA}}
    if not is_nightscout(path) and not is_glurpc(path):
        return {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    error = NightscoutError if is_nightscout(path) else GlurpcError
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{error.__name__}"}}}


_KEYS = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "ApiSecret": {
        "type": "apiKey",
        "in": "header",
        "name": "api-secret",
        "description": "The SHA-1 of a key in hexadecimal, or the key; on the Nightscout site, of one person's key.",
    },
    "Token": {"type": "apiKey", "in": "query", "name": "token", "description": "The same key."},
    "WebToken": {"type": "http", "scheme": "bearer", "description": "From /api/v2/authorization/request/{token}."},
}


def _security(declared: Access, site: bool) -> list[dict[str, list[str]]]:
    """Ways to show a key, each with the scope that it has to have; none at all where keys may be off."""
    scopes: list[str] = [] if declared.scope is None else [declared.scope]
    if site:
        return [{name: scopes} for name in ("ApiSecret", "Token", "WebToken")]
    return [{}, {"ApiKey": scopes}]
