"""Which trace a request belongs to, for the messages that it causes: as its header `traceparent` says, if any."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from starlette.datastructures import Headers

from schemas.event import TRACEPARENT, traceparent_of

_CURRENT: ContextVar[bytes | None] = ContextVar("traceparent", default=None)


@contextlib.contextmanager
def of_request(headers: Headers) -> Iterator[None]:
    """Meanwhile, and in tasks that begin meanwhile, `traceparent` is that of these headers."""
    token = _CURRENT.set(traceparent_of(headers.get(TRACEPARENT, "").encode("latin-1")))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def headers() -> dict[str, bytes]:
    """What a message carries of the trace."""
    found = _CURRENT.get()
    return {} if found is None else {TRACEPARENT: found}
