"""Entries of a Nightscout site: ``GET /api/v1/entries.json``, newest first, filtered by type and time.

Source: cgm-remote-monitor, lib/api/entries and lib/authorization; a secret and an access token are both sent as SHA-1.
"""

import datetime
import hashlib

import httpx

from agents.core.nightscout_entry import is_glucose
from deploy.bridges.people import Person
from deploy.bridges.source import SignInError, Source, SourceError, ask
from query_api.routers.nightscout.incoming import milliseconds, reading_of
from schemas.errors import MalformedRecordError
from schemas.reading import Reading

MOST_ENTRIES = 6000
"""Two days of a sensor that measures each minute, twice over."""
_UNAUTHORISED = (401, 403)


class Nightscout(Source):
    """One site, which is one person's."""

    def __init__(self, person: Person, client: httpx.AsyncClient) -> None:
        self._person, self._client = person, client
        self._url = f"{(person.url or '').rstrip('/')}/api/v1/entries.json"
        secret = person.password.get_secret_value().encode()
        self._headers = {"api-secret": hashlib.sha1(secret, usedforsecurity=False).hexdigest()}

    async def readings(self, since: datetime.datetime) -> list[Reading]:
        params: dict[str, str | int] = {
            "find[type]": "sgv",
            "find[date][$gt]": milliseconds(since),
            "count": MOST_ENTRIES,
        }
        answer = await ask(self._client, "GET", self._url, headers=self._headers, params=params)
        entries = answer.json  # first: a page of what stands before the site refuses no secret
        if answer.status in _UNAUTHORISED:
            raise SignInError(f"the site refuses the secret ({answer.status})")
        if answer.status != 200 or not isinstance(entries, list):
            raise SourceError(f"the site answers {answer.status} and no list of entries")
        found = []
        for entry in entries:
            if is_glucose(entry):
                try:
                    found.append(
                        Reading.from_json(reading_of(entry, self._person.subject, self._person.timezone))
                    )  # fmt: skip
                except MalformedRecordError:
                    continue  # an entry without a time or a number is no reading
        return found
