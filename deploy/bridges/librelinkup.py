"""LibreLinkUp: an account that follows people signs in, and asks for the last twelve hours of one of them.

Source: pylibrelinkup 0.11 (MIT) for endpoints, headers and the steps of the sign-in. The package itself is a
development dependency alone: it waits for an answer without end.
"""

import datetime
import hashlib
from typing import Any

import httpx

from agents.core.local_time import zone
from deploy.bridges.people import Person
from deploy.bridges.source import Answer, SignInError, Source, SourceError, ask
from schemas.reading import Reading

_HEADERS = {"cache-control": "no-cache", "product": "llu.android", "version": "4.16.0"}
_TIMES = "%m/%d/%Y %I:%M:%S %p"
_STEPS = {
    "tou": "accept the new terms of use in the LibreLinkUp app",
    "pp": "accept the new privacy policy in the LibreLinkUp app",
    "verifyEmail": "verify the e-mail address of the account",
}
_DIRECTIONS = {1: "SingleDown", 2: "FortyFiveDown", 3: "Flat", 4: "FortyFiveUp", 5: "SingleUp"}
_RUSSIA = "https://api.libreview.ru"


class LibreLinkUp(Source):
    """One person whom an account follows."""

    def __init__(self, person: Person, client: httpx.AsyncClient) -> None:
        self._person, self._client = person, client
        self._base = (person.url or _host(person.region or "us")).rstrip("/")
        self._signed_in: dict[str, str] | None = None
        self._patient: str | None = None

    async def readings(self, since: datetime.datetime) -> list[Reading]:
        if self._signed_in is None:
            await self._sign_in()
        if self._patient is None:
            self._patient = await self._followed()
        data = await self._asked(f"/llu/connections/{self._patient}/graph")
        connection = data.get("connection") if isinstance(data, dict) else None
        graph = data.get("graphData") if isinstance(data, dict) else None
        latest = connection.get("glucoseMeasurement") if isinstance(connection, dict) else None
        found = [self._reading(each) for each in (*(graph if isinstance(graph, list) else ()), latest)]
        return [reading for reading in found if reading is not None and reading.time > since]

    async def _sign_in(self, moved: bool = False) -> None:
        body = {"email": self._person.user, "password": self._person.password.get_secret_value()}
        answer = await ask(self._client, "POST", f"{self._base}/llu/auth/login", headers=_HEADERS, json=body)
        data = _data(answer)
        if isinstance(region := data.get("region"), str) and data.get("redirect") and not moved:
            if self._person.url is None and region.isalnum():
                self._base = _host(region.lower())
            await self._sign_in(moved=True)
            return
        step = data.get("step")
        if isinstance(step, dict):
            wanted = _STEPS.get(str(step.get("type")), "open the LibreLinkUp app, which wants something of its user")
            raise SignInError(f"LibreLinkUp lets nobody in before somebody does this: {wanted}")
        ticket, user = data.get("authTicket"), data.get("user")
        token = ticket.get("token") if isinstance(ticket, dict) else None
        name = user.get("id") if isinstance(user, dict) else None
        if not isinstance(token, str) or not isinstance(name, str):
            raise SignInError("LibreLinkUp refuses user and password")
        account = hashlib.sha256(name.encode()).hexdigest()
        self._signed_in = {**_HEADERS, "authorization": f"Bearer {token}", "account-id": account}

    async def _followed(self) -> str:
        """Which patient: the only one, or the one that the file names."""
        connections = await self._asked("/llu/connections")
        patients = [each.get("patientId") for each in connections if isinstance(each, dict)]
        if self._person.patient is not None:
            if self._person.patient not in patients:
                raise SignInError("the account does not follow the patient that the file names")
            return self._person.patient
        if len(patients) != 1 or not isinstance(patients[0], str):
            raise SignInError(f"the account follows {len(patients)} people: say which one (patient, by patientId)")
        return patients[0]

    async def _asked(self, path: str) -> Any:
        answer = await ask(self._client, "GET", self._base + path, headers=self._signed_in)
        if answer.status in (401, 403):
            self._signed_in = None
            raise SourceError("LibreLinkUp has ended the session")
        if answer.status != 200 or not isinstance(document := answer.json, dict) or document.get("status", 0) != 0:
            raise SourceError(f"LibreLinkUp answers {answer.status} and no data")
        return document.get("data") or []

    def _reading(self, value: Any) -> Reading | None:
        """``{"FactoryTimestamp": "1/1/2026 7:00:00 AM", "ValueInMgPerDl": 118, "TrendArrow": 3, …}``; UTC."""
        if not isinstance(value, dict):
            return None
        glucose, trend = value.get("ValueInMgPerDl"), value.get("TrendArrow")
        try:
            time = datetime.datetime.strptime(str(value.get("FactoryTimestamp")), _TIMES).replace(tzinfo=datetime.UTC)
        except ValueError:
            return None
        if isinstance(glucose, bool) or not isinstance(glucose, int | float):
            return None
        return Reading(
            subject_id=self._person.subject,
            time=time.astimezone(zone(self._person.timezone)),
            glucose=glucose,
            unit="mg/dL",
            direction=_DIRECTIONS.get(trend) if isinstance(trend, int) else None,
            device="LibreLinkUp",
        )


def _host(region: str) -> str:
    return _RUSSIA if region == "ru" else f"https://api-{region}.libreview.io"


def _data(answer: Answer) -> dict[str, Any]:
    """Raises `SignInError` where the account is refused, `SourceError` where the service has no time."""
    if answer.status in (429, 430) or answer.status >= 500:
        raise SourceError(f"LibreLinkUp takes no sign-in now ({answer.status})")
    document = answer.json
    data = document.get("data") if isinstance(document, dict) else None
    if answer.status != 200 or not isinstance(data, dict):
        raise SignInError(f"LibreLinkUp refuses user and password ({answer.status})")
    return data
