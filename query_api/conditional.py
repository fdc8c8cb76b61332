"""Answers that a client may keep, if it asks each time whether they still hold (RFC 9110 section 13, RFC 9111)."""

from typing import Annotated, Any

from fastapi import Depends, Header, Request
from starlette.datastructures import Headers
from werkzeug.http import parse_etags

_KEPT = "private, no-cache"
"""Whoever asked may keep it and has to ask again before each use; nobody between may keep it."""

UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is the one that `If-None-Match` names."}}
"""What a route whose answers carry a tag may also answer, for the API's description."""


def tagged(tag: str) -> dict[str, str]:
    """The headers of an answer with this tag, and of the 304 instead of it."""
    return {"ETag": tag, "Cache-Control": _KEPT}


def holds(if_none_match: str | None, tag: str) -> bool:
    """Whether the answer of this tag is one that the client has: a list of tags, weak or not, or ``*``.

    Compared weakly, as RFC 9110 section 13.1.2 says: ``W/"x"`` and ``"x"`` are the same.
    """
    if if_none_match is None:
        return False
    if if_none_match == tag:
        return True
    return parse_etags(if_none_match).contains_weak(tag.removeprefix("W/").strip('"'))


def known_tags(headers: Headers) -> str | None:
    """The header ``If-None-Match``, of which there may be several, as one list."""
    return ", ".join(headers.getlist("if-none-match")) or None


def _asked(
    request: Request,
    if_none_match: Annotated[
        str | None, Header(description="Tags of answers that are known; 304 where one holds.")
    ] = None,
) -> str | None:
    return None if if_none_match is None else known_tags(request.headers)


KnownTags = Annotated[str | None, Depends(_asked)]
"""The parameter of a route whose answers carry a tag."""
