"""A service that readings are pulled from, and the one way in which all of them are asked."""

import asyncio
import datetime
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import httpx
import orjson

from schemas.reading import Reading

MOST_BYTES = 8 << 20
"""Of an answer: two days of readings a minute are a megabyte."""
TIMEOUT_SECONDS = 20.0
WHOLE_SECONDS = 60.0
"""For an answer that keeps coming: a few people are asked at a time, and others wait for their turn."""


class SourceError(Exception):
    """The service gave no readings now: it is asked again soon. Its text repeats nothing of an answer."""


class SignInError(SourceError):
    """The service does not take the credentials, or wants something of the person: asked again so soon it would lock
    the account."""


class Source(Protocol):
    """The readings of one person."""

    @abstractmethod
    async def readings(self, since: datetime.datetime) -> list[Reading]:
        """Those that are newer, as far as the service has them, in any order.

        Raises `SourceError`, of which `SignInError` is one.
        """


def new_client() -> httpx.AsyncClient:
    """For all people: no redirect takes a secret elsewhere, and no answer is waited for for ever."""
    return httpx.AsyncClient(timeout=TIMEOUT_SECONDS, follow_redirects=False)


class Answer:
    """What a service said."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    @property
    def json(self) -> Any:
        """Raises `SourceError` for what is none."""
        try:
            return orjson.loads(self._body)
        except orjson.JSONDecodeError:
            raise SourceError(f"the service answers {self.status} with something else than JSON") from None


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str | int] | None = None,
    json: object = None,
) -> Answer:
    """One request. Raises `SourceError` where nothing comes in time, or too much."""
    try:
        async with (
            asyncio.timeout(WHOLE_SECONDS),
            client.stream(method, url, headers=headers, params=params, json=json) as response,
        ):
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise SourceError(f"the service answers with more than {MOST_BYTES >> 20} MiB")
            return Answer(response.status_code, bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise SourceError(f"the service does not answer ({type(error).__name__})") from None
