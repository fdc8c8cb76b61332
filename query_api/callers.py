"""Who calls, and whether they may: origin, key, what the key is for, rate. From the headers alone, before any body."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cachetools import TTLCache
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from query_api import credentials
from query_api.access import Access, OwnRate
from query_api.auth import Keys
from query_api.holders import EVERYBODY, Holder, holder_for
from query_api.key_file import Key
from query_api.origins import Fault, Origins, is_loopback
from query_api.problems import is_nightscout
from query_api.rate_limit import AmountLimit, RateLimit
from schemas.errors import ConfigurationError
from streams.settings import Settings

WRONG_KEYS_KNOWN, WRONG_KEY_SECONDS = 4096, 3600.0
"""Wrong keys of an address that are remembered, and how long after they were shown last: each counts once meanwhile."""


def check_exposure(settings: Settings) -> None:
    """Raises `ConfigurationError` for an address that others reach while anybody may ask anything."""
    if is_loopback(settings.host) or needs_keys(settings) or settings.allow_unauthenticated:
        return
    raise ConfigurationError(
        f"{settings.host} is reachable from other machines: configure GLUCAST_API_KEYS_FILE, "
        "or set GLUCAST_ALLOW_UNAUTHENTICATED=1 where something in front of glucast checks who calls"
    )


def needs_keys(settings: Settings) -> bool:
    """Keys are on when they are asked for or configured."""
    return settings.enable_api_keys or settings.api_keys_file is not None


def key_of(request: HTTPConnection) -> Key | None:
    """The key that a request came with, in the gate's judgement; None where keys are off or the route needs none."""
    found: Key | None = request.scope.get("key")
    return found


def holder_of(request: HTTPConnection) -> Holder:
    """Whose uploads the caller has: by the key that the request came with."""
    key = key_of(request)
    return EVERYBODY if key is None or key.subjects is None else holder_for(key.subjects)


def may_still(request: HTTPConnection) -> Callable[[], bool]:
    """Whether the key that a request came with is still as it was: for answers that go on for long."""
    found: Callable[[], bool] | None = request.scope.get("key_holds")
    return found or _always


def _always() -> bool:
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request goes no further."""

    status: int
    code: str
    detail: str
    retry_after_seconds: int | None = None


_FAULTS: dict[Fault, tuple[int, str]] = {
    "malformed_host": (400, "the header Host is not one host name or address, with or without a port"),
    "malformed_origin": (400, "the header Origin is not scheme://host, with or without a port"),
    "foreign_host": (403, "not served under this name: ask for localhost, or list it in GLUCAST_ALLOWED_HOSTS"),
    "foreign_origin": (403, "this origin is not allowed: list it in GLUCAST_CORS_ORIGINS"),
}
_UNAUTHORIZED = Refusal(401, "unauthorized", "Invalid/Missing")
"""In Nightscout's own words: its clients look for them."""


class Callers:
    """Decides whether a request may go on."""

    def __init__(self, settings: Settings) -> None:
        """Raises `ConfigurationError` where keys are wanted and cannot be read."""
        if settings.enable_api_keys and settings.api_keys_file is None:
            raise ConfigurationError("API keys are on and there are none: set GLUCAST_API_KEYS_FILE")
        self._keys = Keys(settings.api_keys_file) if settings.api_keys_file else None
        limited = self._keys is not None or not is_loopback(settings.host)
        self._limit = RateLimit(settings.rate_limit) if limited else None
        self._own_limits: dict[OwnRate, RateLimit] = {"convert_rate_limit": RateLimit(settings.convert_rate_limit)}
        self._amounts = AmountLimit(settings.body_rate_limit)
        self._of_the_site = AmountLimit(settings.nightscout_rate_limit)
        self._wrong_keys = RateLimit(settings.wrong_key_rate_limit)
        self._known_wrong: TTLCache[tuple[str, bytes], None] = TTLCache(WRONG_KEYS_KNOWN, WRONG_KEY_SECONDS)
        only_local = self._keys is None and is_loopback(settings.host)
        self._origins = Origins((*settings.allowed_hosts, settings.host), settings.cors_origins, only_local)

    def refusal(self, scope: Scope, headers: Headers, access: Access, in_path: Mapping[str, Any]) -> Refusal | None:
        """None where the request may go on; `scope["caller"]` then names who makes it, `scope["key"]` is their key."""
        scope["caller"], scope["key"] = "anonymous", None
        fault = self._origins.fault(headers, scope.get("http_version", "1.1"))
        if fault is not None:
            status, detail = _FAULTS[fault]
            return Refusal(status, fault, detail)
        site, needed = is_nightscout(scope["path"]), access.audience == "key"
        if self._keys is None:
            return _UNAUTHORIZED if site and needed else self._too_often(scope, access)
        offered = _offered(scope, headers, site)
        if needed or (site and offered):
            refusal = self._refused(self._keys, offered, scope, site)
            if refusal is not None and (needed or refusal.status == 429):
                return refusal
        key: Key | None = scope["key"]
        if key is not None:
            scope["caller"] = key.name
            if (refusal := _forbidden(key, access, in_path)) is not None:
                return refusal
            if site:
                return self._too_much(key, max(1, _declared_kibibytes(headers)), site)
        refusal = self._too_often(scope, access)
        if refusal is None and key is not None:
            return self._too_much(key, _declared_kibibytes(headers), site)
        return refusal

    def received(self, scope: Scope, undeclared_bytes: int) -> None:
        """Counts a body whose length no header told, when it has come."""
        key: Key | None = scope.get("key")
        if key is not None and undeclared_bytes:
            amounts = self._amounts_of(key, is_nightscout(scope["path"]))
            amounts.came(key.name, -(-undeclared_bytes // 1024), key.body_rate_limit)

    def _refused(self, keys: Keys, offered: tuple[str, ...], scope: Scope, site: bool) -> Refusal | None:
        """Finds the key. An address that has guessed wrong too often is not heard, whatever it offers."""
        if not offered:
            return (
                _UNAUTHORIZED
                if site
                else Refusal(401, "api_key_required", "API key required: send it in the header X-API-Key")
            )
        seconds = self._wrong_keys.full_seconds(_address(scope))
        if seconds is not None:
            return _wait("too many wrong keys came from this address", seconds)
        scope["key"] = keys.find(offered)
        if scope["key"] is not None:
            scope["key_holds"] = partial(keys.holds, scope["key"])
            return None
        # The same text again is no guess: an app with an old key, which keeps nobody out who shares its address.
        wrong = _address(scope), hashlib.sha256("\n".join(offered).encode(errors="surrogateescape")).digest()
        if wrong not in self._known_wrong:
            self._wrong_keys.wait_seconds(_address(scope))
        self._known_wrong[wrong] = None
        return _UNAUTHORIZED if site else Refusal(403, "invalid_api_key", "Invalid API key")

    def _too_often(self, scope: Scope, access: Access) -> Refusal | None:
        limit, own_rate = self._limit, access.own_rate
        if limit is None or not access.counted:
            return None
        if own_rate is not None:
            limit = self._own_limits[own_rate]
        key: Key | None = scope["key"]
        if own_rate is not None or key is None:
            seconds = limit.wait_seconds(_address(scope))
        else:
            seconds = limit.wait_seconds(key.name, own=key.rate_limit)
        return None if seconds is None else _wait("too many requests", seconds)

    def _amounts_of(self, key: Key, site: bool) -> AmountLimit:
        """A key with a limit of its own has it for all doors together."""
        return self._of_the_site if site and key.body_rate_limit is None else self._amounts

    def _too_much(self, key: Key, kibibytes: int, site: bool) -> Refusal | None:
        if not kibibytes:
            return None
        seconds = self._amounts_of(key, site).wait_seconds(key.name, kibibytes, key.body_rate_limit)
        return None if seconds is None else _wait("too much came with this key", seconds)


def _declared_kibibytes(headers: Headers) -> int:
    """What has been begun counts as one; so does a body of which nobody knows the length yet."""
    declared = headers.get("content-length")
    if declared is None:
        return 1 if "transfer-encoding" in headers else 0
    return -(-int(declared) // 1024) if declared.isdecimal() else 0


def _wait(why: str, seconds: int) -> Refusal:
    return Refusal(429, "too_many_requests", f"{why}; try again in {seconds} s", seconds)


def _offered(scope: Scope, headers: Headers, site: bool) -> tuple[str, ...]:
    if site:
        return credentials.nightscout(scope["path"], headers, scope.get("query_string", b""))
    return credentials.api_key(headers)


def _address(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else "unknown"


def _forbidden(key: Key, access: Access, in_path: Mapping[str, Any]) -> Refusal | None:
    """What the key is not for."""
    if access.audience == "everybody":
        return None
    if access.scope is not None and access.scope not in key.scopes:
        return Refusal(403, "wrong_scope", f"this key does not allow to {access.scope}: it is for {_list(key.scopes)}")
    if access.whose == "everybody" and key.subjects is not None:
        return Refusal(403, "not_for_everybody", "this key is for single people, and here is asked about everybody")
    if access.whose == "path" and not key.covers(str(in_path.get("subject_id"))):
        return Refusal(403, "foreign_subject", "this key is not for this subject")
    if access.whose == "person" and key.subject is None:
        return Refusal(
            403, "not_one_person",
            "a Nightscout site is one person's: this key names none, or no timezone; make one with glucast keys add",
        )  # fmt: skip
    return None


def _list(words: tuple[str, ...]) -> str:
    return " and ".join(words)
