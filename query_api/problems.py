"""Errors as RFC 9457 problem documents, with a `detail` for a person and a `code` for programs.

Under the paths of the Nightscout site they are what Nightscout's clients know, under those of GluRPC what GluRPC's do,
under those of FHIR OperationOutcomes.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from query_api import fhir
from query_api.problem_types import PROBLEMS, address, code_of
from schemas import errors
from schemas.errors import ClientGoneError, GlucastError

STATUS: Sequence[tuple[type[GlucastError], int]] = (
    (errors.MessageTooLargeError, 413),
    (errors.RejectedError, 422),
    (errors.UnknownHandleError, 404),
    (errors.NoForecastError, 404),
    (errors.NoReadingsError, 404),
    (errors.OverloadedError, 503),
    (errors.UnavailableError, 503),
)
RETRY_AFTER_SECONDS = 2
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """A problem document. Some have further fields that their route describes."""

    model_config = ConfigDict(extra="allow")
    type: str = Field("about:blank", description="Where this kind of problem is described: a path on this host.")
    title: str = Field(description="This kind of problem in words.")
    status: int
    code: str = Field(description="Which problem it is, for programs.")
    detail: str = Field(description="What is wrong and what to do, for a person.")
    error: str = Field(description="The detail again, for clients of GluRPC, which look there.")


def problem(status: int, detail: str, code: str, headers: Mapping[str, str] | None = None, **extra: object) -> Response:
    """The answer with a problem document; `extra` are further fields of it."""
    known = PROBLEMS.get(code)
    title = HTTPStatus(status).phrase if known is None else known.title
    document = Problem(type=address(code), title=title, status=status, code=code, detail=detail, error=detail, **extra)
    return Response(document.model_dump_json(), status, headers, media_type=MEDIA_TYPE)


class NightscoutError(BaseModel):
    """How Nightscout says that something went wrong."""

    status: int
    message: str = Field(description="The status in words.")
    description: str = Field(description="What is wrong and what to do, for a person.")


NIGHTSCOUT = ("/api/v1", "/api/v2", "/api/v3", "/pebble")


def is_nightscout(path: str) -> bool:
    """Whether a path belongs to the Nightscout site."""
    return any(path == root or path.startswith((f"{root}/", f"{root}.")) for root in NIGHTSCOUT)


class Invalid(BaseModel):
    """One thing that is wrong with a request to GluRPC's endpoints, as its framework says it."""

    type: str
    loc: list[str | int] = Field(description="Where: body or query, then the field.")
    msg: str


class GlurpcError(BaseModel):
    """How GluRPC says that something went wrong; a list where the request is not valid."""

    detail: str | list[Invalid]


_FHIR = re.compile(r"/subjects/[^/]+/fhir(/.*)?")
_ISSUES = {401: "login", 403: "forbidden", 404: "not-found", 413: "too-long", 429: "throttled", 503: "transient"}
"""FHIR's types of issues by status; all others are invalid, or exceptions of ours."""


def is_fhir(path: str) -> bool:
    """Whether a path belongs to FHIR, whose errors are OperationOutcomes."""
    return _FHIR.fullmatch(path) is not None


GLURPC = "/glurpc"
_GLURPC_WORDS = {
    "api_key_required": "API key required",
    "unknown_handle": "Handle not found or expired",
    "method_not_allowed": "Method Not Allowed",
}
"""GluRPC's own, by the code of the problem: its clients show them or look for them."""


def is_glurpc(path: str) -> bool:
    """Whether a path belongs to the endpoints of GluRPC."""
    return path == GLURPC or path.startswith(f"{GLURPC}/")


def answer_of(
    scope: Scope, status: int, detail: str, code: str, headers: Mapping[str, str] | None = None, **extra: object
) -> Response:
    """The error in the form that who asks for this path expects."""
    document: BaseModel
    if is_fhir(scope["path"]):
        issue = _ISSUES.get(status, "exception" if status >= 500 else "invalid")
        return Response(orjson.dumps(fhir.outcome(detail, issue)), status, headers, media_type=fhir.MEDIA_TYPE)
    if is_nightscout(scope["path"]):
        document = NightscoutError(status=status, message=HTTPStatus(status).phrase, description=detail)
    elif is_glurpc(scope["path"]):
        document = GlurpcError(detail=_GLURPC_WORDS.get(code, detail))
    else:
        return problem(status, detail, code, headers, **extra)
    return Response(document.model_dump_json(), status, headers, media_type="application/json")


def status_of(kind: type[GlucastError]) -> int:
    return next((status for known, status in STATUS if issubclass(kind, known)), 500)


def install(app: FastAPI) -> None:
    """Answer every error of this application and of the framework as a problem document."""
    app.add_exception_handler(GlucastError, _glucast)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientGoneError, _gone)
    app.add_exception_handler(ClientDisconnect, _gone)


async def _glucast(request: Request, error: Any) -> Response:
    status = status_of(type(error))
    retry_after = getattr(error, "retry_after_seconds", RETRY_AFTER_SECONDS)
    headers = {"Retry-After": str(retry_after)} if status == 503 else None
    expected = getattr(error, "expected", None)
    extra = {} if expected is None else {"expected_time": expected.isoformat()}
    return answer_of(request.scope, status, str(error), error.code, headers, **extra)


async def _invalid(request: Request, error: Any) -> Response:
    """What the framework rejects, in sentences that never repeat the input."""
    if is_glurpc(request.scope["path"]):
        wrong = [Invalid(type=item["type"], loc=list(item["loc"]), msg=item["msg"]) for item in error.errors()]
        return Response(GlurpcError(detail=wrong).model_dump_json(), 422, media_type="application/json")
    reasons = [_reason(item) for item in error.errors()[:3]]
    return answer_of(request.scope, 422, "; ".join(reasons) or "the request is not valid", "invalid_request")


_NO_OBJECT = {
    "json_invalid": "the body is no valid JSON",
    "model_attributes_type": "the body is no JSON object",
    "missing": "there is no body",
}


def _reason(item: Mapping[str, Any]) -> str:
    """What the framework says of a body as a whole tells nobody what to send."""
    if item["type"] == "json_invalid" or tuple(item["loc"]) == ("body",):
        reason = _NO_OBJECT.get(item["type"])
        if reason is not None:
            return f"{reason}: send a JSON object with the header content-type: application/json"
    return f"{_place(item['loc'])}: {item['msg']}"


def _place(location: Sequence[Any]) -> str:
    return ".".join(str(part) for part in location if part != "body") or "body"


async def _http(request: Request, error: Any) -> Response:
    detail, headers = str(error.detail), error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods_of(request))
        detail, headers = f"{request.method} is not answered here; this path takes {allowed}", {"Allow": allowed}
    return answer_of(request.scope, error.status_code, detail, code_of(error.status_code), headers)


def _methods_of(request: Request) -> list[str]:
    """Of all routes of a path: the framework names those of the first alone."""
    routes = iter_route_contexts(request.app.routes)
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=499)


def unexpected(scope: Scope) -> Response:
    """The answer where a route raised what nobody expects."""
    return answer_of(scope, 500, "an error of glucast's own; the log says more", "internal")
