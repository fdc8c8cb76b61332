"""Who may use a route, whether its use counts, how large a body it takes and what it may raise: said where it stands.

    @router.post("/subjects/{subject_id}/things")
    @access("key", scope="write", whose="path", body_bytes=1 << 20, raises=(UnavailableError,))
    async def add_thing(...) -> ...:

The gate looks it up before anything of the body is read, and the API's description tells it. What declares nothing is
closed: a route that somebody adds in a hurry needs a key for everything and everybody, counts, and takes a small body.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from fastapi.routing import iter_route_contexts
from starlette.routing import Match
from starlette.types import Scope as Connection

from query_api.key_file import Scope
from schemas.errors import GlucastError
from streams.settings import Settings

Audience = Literal["everybody", "key"]
"""Whom a route serves where keys are on: anybody, or who shows one. Without keys every route serves everybody."""

Whose = Literal["everybody", "path", "own", "person"]
"""Whose data a route is about, so which keys it takes: only those for everybody; those for the `subject_id` in its
path; any, because it shows each key its own; or those of one person, whose the Nightscout site then is."""

OwnRate = Literal["convert_rate_limit"]
"""The settings that hold the rate of a route alone."""

SMALL_BODY_BYTES = 64 << 10
"""Enough for a question in JSON, and for the bodies that routes without one are sent all the same."""

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_ATTRIBUTE = "glucast_access"


@dataclass(frozen=True, slots=True)
class Access:
    """What one route declares. The defaults are what holds for a route that declares nothing."""

    audience: Audience = "key"
    scope: Scope | None = "admin"
    """What a key has to allow; None for a route that asks nothing but that it is one."""
    whose: Whose = "everybody"
    counted: bool = True
    """Whether a use counts against the caller's rate and is logged: not what machines ask for every few seconds."""
    body_bytes: int | Callable[[Settings], int] = SMALL_BODY_BYTES
    """The largest body; a function where it depends on the settings."""
    own_rate: OwnRate | None = None
    """A rate that counts the uses of this route alone, an address each; None: the caller's, which all routes share."""
    streams: bool = False
    """Whether its answer goes on until somebody leaves: measured and logged when it begins."""
    raises: tuple[type[GlucastError] | int, ...] = ()
    """Errors that its callers have to expect, or their status; those of the gate and of validation come with it."""
    audit: str | None = None
    """What the audit log calls a use of it; None for what is not in that log (`query_api.audit`)."""

    def largest_body_bytes(self, settings: Settings) -> int:
        return self.body_bytes(settings) if callable(self.body_bytes) else self.body_bytes


CLOSED = Access()
"""Of a route that declares nothing."""
UNKNOWN = Access(scope=None, whose="own", body_bytes=sys.maxsize)
"""Of a path without a route: nothing reads its body, and 404 tells more than 413 to who mistyped the path."""


def access(
    audience: Audience,
    *,
    scope: Scope | None = CLOSED.scope,
    whose: Whose = CLOSED.whose,
    counted: bool = True,
    body_bytes: int | Callable[[Settings], int] = SMALL_BODY_BYTES,
    own_rate: OwnRate | None = None,
    streams: bool = False,
    raises: tuple[type[GlucastError] | int, ...] = (),
    audit: str | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Declares the access of the function that answers a route; above or below the route's own decorator alike."""
    declared = Access(audience, scope, whose, counted, body_bytes, own_rate, streams, raises, audit)

    def declare(endpoint: Endpoint) -> Endpoint:
        # On the function itself: it is the one thing that a route keeps through every router that includes it.
        vars(endpoint)[_ATTRIBUTE] = declared
        return endpoint

    return declare


def declared_access(endpoint: object) -> Access | None:
    """What the function of a route declares; None where it declares nothing."""
    found: Access | None = getattr(endpoint, _ATTRIBUTE, None)
    return found


def access_for(scope: Connection) -> Access:
    """The access of the route that will answer a request, from its path and method alone."""
    return found_for(scope)[0]


def found_for(scope: Connection) -> tuple[Access, Mapping[str, Any]]:
    """The same, with the parameters in the path.

    As the router chooses: the first route that fits, else the first whose path fits, which answers 405. Where there is
    none a key is needed all the same: who has none does not learn what exists.
    """
    of_the_path: tuple[Access, Mapping[str, Any]] | None = None
    for route in iter_route_contexts(scope["app"].routes):
        match, child = route.matches(scope)
        if match is Match.NONE:
            continue
        found = declared_access(route.endpoint) or CLOSED, child.get("path_params", {})
        if match is Match.FULL:
            return found
        of_the_path = of_the_path or found
    return of_the_path or (UNKNOWN, {})
