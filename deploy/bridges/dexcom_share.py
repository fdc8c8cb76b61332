"""Dexcom Share: an account is named by its user, a session by the account, and readings of a day by the session.

Source: pydexcom 0.5 (MIT) for endpoints, application ids and error codes. The package itself is a development
dependency alone: it waits for an answer without end and writes answers to the log.
"""

import datetime
import re
from typing import Any

import httpx

from agents.core.local_time import zone
from deploy.bridges.people import Person
from deploy.bridges.source import SignInError, Source, SourceError, ask
from schemas.errors import ConfigurationError
from schemas.reading import Reading

_PATH = "/ShareWebServices/Services"
_HOSTS = {"us": "https://share2.dexcom.com", "ous": "https://shareous1.dexcom.com", "jp": "https://share.dexcom.jp"}
_APPLICATIONS = {"jp": "d8665ade-9673-4e27-9ff6-92db4ce13d13"}
_APPLICATION = "d89443d2-327c-4a6f-89e5-496bbb0317db"
_NOBODY = "00000000-0000-0000-0000-000000000000"
_MOST_MINUTES, _MOST_COUNT = 1440, 288
_SESSION_OVER = ("SessionIdNotFound", "SessionNotValid")
_REFUSED = ("AccountPasswordInvalid", "SSO_AuthenticateMaxAttemptsExceeded", "SSO_AuthenticatePasswordInvalid")
_TIME = re.compile(r"/?Date\((\d{10,14})([+-]\d{4})?\)/?")
_DIRECTIONS = {"NotComputable": "NOT COMPUTABLE", "RateOutOfRange": "RATE OUT OF RANGE", "None": "NONE"}


class DexcomShare(Source):
    """One account: that of the person who wears the sensor, with a follower invited."""

    def __init__(self, person: Person, client: httpx.AsyncClient) -> None:
        self._person, self._client = person, client
        region = person.region or "us"
        if person.url is None and region not in _HOSTS:
            raise ConfigurationError(f"a region of Dexcom Share is one of {', '.join(_HOSTS)}")
        self._base = (person.url or _HOSTS[region]).rstrip("/") + _PATH
        self._application = _APPLICATIONS.get(region, _APPLICATION)
        self._session: str | None = None

    async def readings(self, since: datetime.datetime) -> list[Reading]:
        minutes = (datetime.datetime.now(datetime.UTC) - since) // datetime.timedelta(minutes=1) + 1
        answer = None
        if self._session is not None:
            answer = await self._latest(minutes)
        if answer is None:
            self._session = await self._sign_in()
            answer = await self._latest(minutes)
        if answer is None:
            raise SourceError("Dexcom Share ends the session as soon as it has begun")
        found = [self._reading(each) for each in answer]
        return [reading for reading in found if reading is not None and reading.time > since]

    async def _latest(self, minutes: int) -> list[Any] | None:
        """None where the session is over."""
        params: dict[str, str | int] = {
            "sessionId": self._session or "",
            "minutes": min(max(minutes, 1), _MOST_MINUTES),
            "maxCount": _MOST_COUNT,
        }
        answer = await ask(
            self._client, "POST", f"{self._base}/Publisher/ReadPublisherLatestGlucoseValues", params=params, json={}
        )
        if answer.status == 200 and isinstance(values := answer.json, list):
            return values
        if _code(answer.json) in _SESSION_OVER:
            return None
        raise SourceError(f"Dexcom Share answers {answer.status} and no readings")

    async def _sign_in(self) -> str:
        password = self._person.password.get_secret_value()
        shared = {"password": password, "applicationId": self._application}
        account = await self._named("AuthenticatePublisherAccount", {"accountName": self._person.user, **shared})
        return await self._named("LoginPublisherAccountById", {"accountId": account, **shared})

    async def _named(self, what: str, body: dict[str, Any]) -> str:
        answer = await ask(self._client, "POST", f"{self._base}/General/{what}", json=body)
        found = answer.json
        if answer.status == 200 and isinstance(found, str) and found != _NOBODY:
            return found
        if found == _NOBODY or _code(found) in _REFUSED or answer.status in (401, 403):
            raise SignInError("Dexcom Share refuses user and password; is sharing on, and somebody invited to follow?")
        raise SourceError(f"Dexcom Share answers {answer.status} to the sign-in")

    def _reading(self, value: Any) -> Reading | None:
        """``{"WT": "Date(…)", "ST": …, "DT": "Date(1767254400000+0100)", "Value": 118, "Trend": "Flat"}``."""
        if not isinstance(value, dict) or not isinstance(glucose := value.get("Value"), int):
            return None
        match = next((found for name in ("DT", "WT") if (found := _TIME.search(str(value.get(name))))), None)
        if match is None:
            return None
        time = datetime.datetime.fromtimestamp(int(match[1]) / 1000, datetime.UTC)
        trend = value.get("Trend")
        return Reading(
            subject_id=self._person.subject,
            time=time.astimezone(_offset(match[2]) or zone(self._person.timezone)),
            glucose=glucose,
            unit="mg/dL",
            direction=_DIRECTIONS.get(trend, trend) if isinstance(trend, str) and len(trend) <= 32 else None,
            device="Dexcom Share",
        )


def _offset(text: str | None) -> datetime.tzinfo | None:
    """Of ``+0100``; None for what is no offset."""
    try:
        return datetime.datetime.strptime(text, "%z").tzinfo if text else None
    except ValueError:
        return None


def _code(document: Any) -> str | None:
    code = document.get("Code") if isinstance(document, dict) else None
    return code if isinstance(code, str) else None
