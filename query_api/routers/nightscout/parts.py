"""What the site's routes share: who asks, and the body that they send."""

import zlib
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from query_api.callers import key_of
from query_api.key_file import Key
from query_api.services import Services, services_of

Uses = Annotated[Services, Depends(services_of)]

ENTRIES_BODY_BYTES = 8 << 20
"""Juggluco sends up to 10,440 entries at once, about 3.6 MB."""
DOCUMENT_BODY_BYTES = 1 << 20
"""Of a status, treatment or profile."""
MOST_ELEMENTS = 20_000

NOTHING: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "null"}}}}
ONE_OR_MANY: dict[str, Any] = {
    "required": True,
    "description": "One document or a list of them; the whole may come with `Content-Encoding: gzip`.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [{"type": "object"}, {"type": "array", "items": {}, "maxItems": MOST_ELEMENTS}]}
        }
    },
}


@dataclass(frozen=True, slots=True)
class Person:
    """Whose site it is, in the judgement of the gate."""

    key: Key
    subject_id: str
    timezone: str


def person_of(request: Request) -> Person:
    """The dependency of routes that declare ``whose="person"``: the gate lets no other key in there."""
    key = key_of(request)
    if key is None or key.subject is None or key.timezone is None:
        raise RuntimeError("a route of the Nightscout site has to declare whose='person'")
    return Person(key, key.subject, key.timezone)


Whom = Annotated[Person, Depends(person_of)]


async def sent(request: Request) -> Any:
    """The JSON of the body. Raises `HTTPException` 400, 413 or 415."""
    raw = await request.body()
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding == "gzip":
        raw = _inflated(raw)
    elif coding not in ("identity", ""):
        raise HTTPException(415, "a body comes as it is or with Content-Encoding: gzip")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise HTTPException(400, "the body is not JSON") from None


async def documents(request: Request) -> tuple[list[Any], bool]:
    """The elements of the body, and whether they came in a list. Raises `HTTPException` 400, 413 or 415."""
    body = await sent(request)
    if not isinstance(body, dict | list):
        raise HTTPException(400, "the body is neither a document nor a list of documents")
    elements = body if isinstance(body, list) else [body]
    if len(elements) > MOST_ELEMENTS:
        raise HTTPException(400, f"{len(elements)} elements in one request; send at most {MOST_ELEMENTS}")
    return elements, isinstance(body, list)


def encoded(answer: Any) -> bytes:
    """Raises `HTTPException` 400 for what a sender has nested too deep to be sent back."""
    try:
        return orjson.dumps(answer)
    except orjson.JSONEncodeError:
        raise HTTPException(400, "a document is nested too deep") from None


def _inflated(raw: bytes) -> bytes:
    """Never larger than the largest body that is taken as it is."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        whole = inflater.decompress(raw, ENTRIES_BODY_BYTES)
    except zlib.error:
        raise HTTPException(400, "the body is not gzip") from None
    if inflater.unconsumed_tail:
        raise HTTPException(413, f"the body unfolds to more than {ENTRIES_BODY_BYTES >> 20} MiB")
    if not inflater.eof:
        raise HTTPException(400, "the body is cut off")
    return whole
