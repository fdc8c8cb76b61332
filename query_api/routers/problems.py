"""What the `type` of a problem leads to: a page for people, the same as JSON for programs."""

import functools
import html
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from query_api.access import access
from query_api.problem_types import PROBLEMS, ROOT, address
from query_api.routers.drawing import one_of

router = APIRouter(prefix=ROOT, tags=["problems"])

_TYPES = ("application/json", "text/html")
_HEADERS = {"Cache-Control": "public, max-age=3600", "Vary": "Accept"}
_AS_A_PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
_CODES: dict[str, Any] = {"enum": list(PROBLEMS)}

Accept = Annotated[str | None, Header(include_in_schema=False)]


class ToldProblem(BaseModel):
    """One kind of problem."""

    type: str = Field(description="The address of this, as it stands in problem documents.")
    code: str = Field(description="For programs: it does not change.")
    status: int
    title: str
    text: str = Field(description="What it means and what to do, for a person.")


class ToldProblems(BaseModel):
    problems: list[ToldProblem]


@router.get("", response_model=ToldProblems, responses=_AS_A_PAGE)
@access("everybody", raises=(406,))
async def problems(accept: Accept = None) -> Response:
    """Every kind of problem, in words: as JSON, or as a page for `Accept: text/html`."""
    media_type = one_of(accept, None, _TYPES)
    return Response(_encoded(None, media_type), media_type=media_type, headers=_HEADERS)


@router.get("/{code}", response_model=ToldProblem, responses=_AS_A_PAGE)
@access("everybody", raises=(404, 406))
async def problem_type(
    code: Annotated[str, Path(max_length=64, description="As problem documents have it.", json_schema_extra=_CODES)],
    accept: Accept = None,
) -> Response:
    """One kind of problem, in words: what the `type` of a problem document leads to."""
    if code not in PROBLEMS:
        raise HTTPException(404, f"there is no such problem: {ROOT} lists them all")
    media_type = one_of(accept, None, _TYPES)
    return Response(_encoded(code, media_type), media_type=media_type, headers=_HEADERS)


@functools.cache
def _encoded(code: str | None, media_type: str) -> bytes:
    """Of one kind, or of all."""
    told = [
        ToldProblem(type=address(each), code=each, status=found.status, title=found.title, text=found.text)
        for each, found in PROBLEMS.items()
        if code in (None, each)
    ]
    if media_type == "text/html":
        return _page(told).encode()
    return (ToldProblems(problems=told) if code is None else told[0]).model_dump_json().encode()


def _page(told: list[ToldProblem]) -> str:
    title = html.escape(told[0].title if len(told) == 1 else "Problems")
    parts = "".join(
        f"<h2>{html.escape(each.title)}</h2><p>{html.escape(each.text)}</p>"
        f'<p><small>{each.status} · <a href="{each.type}">{each.code}</a></small></p>'
        for each in told
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>{title} · glucast</title>'
        f'<body style="font-family: system-ui; max-width: 40em; margin: 2em auto; padding: 0 1em">{parts}</body></html>'
    )
