"""Small servers that speak the APIs that bridges pull from, as far as the bridges' sources document them."""

import contextlib
import hashlib
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.brokers.wire import LOOPBACK, HeldPort
from tests.kit.waiting import until

PASSWORD = "correct horse battery"
USER = "anna@example.org"
PATIENT = str(uuid.UUID(int=7))
Measured = tuple[datetime, int]


class Service:
    """What a sensor has measured, and whether the service is there."""

    def __init__(self, measured: Sequence[Measured] = ()) -> None:
        self.measured = list(measured)
        self.asked: list[str] = []
        self.down = False
        self.app = Starlette(routes=self.routes())

    def routes(self) -> list[Route]:
        raise NotImplementedError

    def refusal(self, request: Request) -> Response | None:
        self.asked.append(request.url.path)
        return Response("<html>bad gateway", 502) if self.down else None


class NightscoutSite(Service):
    """Entries newest first, above a time, for who sends the SHA-1 of the secret."""

    def routes(self) -> list[Route]:
        return [Route("/api/v1/entries.json", self.entries)]

    async def entries(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        if request.headers.get("api-secret") != hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest():
            return JSONResponse({"status": 401, "message": "Unauthorized", "description": "Invalid/Missing"}, 401)
        since, count = int(request.query_params["find[date][$gt]"]), int(request.query_params["count"])
        assert request.query_params["find[type]"] == "sgv"
        newest = sorted(self.measured, reverse=True)
        rows = [
            {
                "_id": f"{milliseconds(time):024x}", "type": "sgv", "sgv": value, "date": milliseconds(time),
                "dateString": time.astimezone(UTC).isoformat().replace("+00:00", "Z"), "direction": "Flat",
                "device": "xDrip",
            }
            for time, value in newest
            if milliseconds(time) > since
        ]  # fmt: skip
        return JSONResponse([*rows, {"type": "sgv", "date": None, "sgv": 5}, {"type": "cal", "slope": 1}][:count])


class DexcomService(Service):
    """Account, session and readings; a session can end."""

    def __init__(self, measured: Sequence[Measured] = ()) -> None:
        self.sessions: list[str] = []
        super().__init__(measured)

    def routes(self) -> list[Route]:
        base = "/ShareWebServices/Services"
        return [
            Route(f"{base}/General/AuthenticatePublisherAccount", self.account, methods=["POST"]),
            Route(f"{base}/General/LoginPublisherAccountById", self.session, methods=["POST"]),
            Route(f"{base}/Publisher/ReadPublisherLatestGlucoseValues", self.values, methods=["POST"]),
        ]

    async def account(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        body = await request.json()
        if (body["accountName"], body["password"]) != (USER, PASSWORD):
            return JSONResponse({"Code": "AccountPasswordInvalid", "Message": "Publisher account password failed"}, 500)
        return JSONResponse(str(uuid.UUID(int=1)))

    async def session(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        assert (await request.json())["accountId"] == str(uuid.UUID(int=1))
        self.sessions.append(str(uuid.UUID(int=100 + len(self.sessions))))
        return JSONResponse(self.sessions[-1])

    async def values(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        asked = {name.lower(): value for name, value in request.query_params.items()}  # bridges write them either way
        if self.sessions[-1:] != [asked["sessionid"]]:
            return JSONResponse({"Code": "SessionIdNotFound", "Message": "Session ID not found"}, 500)
        since = datetime.now(UTC) - timedelta(minutes=int(asked["minutes"]))
        here = timezone(timedelta(hours=1))
        rows = [
            {
                "WT": f"Date({milliseconds(time)})", "ST": f"Date({milliseconds(time)})",
                "DT": f"Date({milliseconds(time)}{time.astimezone(here):%z})", "Value": value, "Trend": "FortyFiveUp",
            }
            for time, value in sorted(self.measured, reverse=True)
            if time >= since
        ]  # fmt: skip
        return JSONResponse(rows[: int(asked["maxcount"])])


class LibreService(Service):
    """Sign-in, connections, and the graph of one of them; a step may stand before the sign-in."""

    step: str | None = None
    patients: Sequence[str] = (PATIENT,)
    token = "t1"
    region: str | None = None
    """Where the account lives, if that is elsewhere."""
    sign_ins = 0

    def routes(self) -> list[Route]:
        return [
            Route("/llu/auth/login", self.login, methods=["POST"]),
            Route("/llu/connections", self.connections),
            Route(f"/llu/connections/{PATIENT}/graph", self.graph),
        ]

    async def login(self, request: Request) -> Response:
        if refusal := self.refusal(request):
            return refusal
        body = await request.json()
        self.sign_ins += 1
        assert request.headers["product"] == "llu.android"
        if (body["email"], body["password"]) != (USER, PASSWORD):
            return JSONResponse({"status": 2, "error": {"message": "notAuthenticated"}})
        if self.region is not None:
            return JSONResponse({"status": 0, "data": {"redirect": True, "region": self.region}})
        if self.step is not None:
            return JSONResponse({"status": 4, "data": {"step": {"type": self.step}}})
        messages = {"messages": {"unread": 0}, "notifications": {"unresolved": 0}, "invitations": []}
        return JSONResponse({"status": 0, "data": {"user": _user(), "authTicket": _ticket(self.token), **messages}})

    async def connections(self, request: Request) -> Response:
        if refusal := self.refusal(request) or self.unsigned(request):
            return refusal
        found = [{"id": each, "patientId": each, "firstName": "A", "lastName": "B"} for each in self.patients]
        return JSONResponse({"status": 0, "data": found, "ticket": _ticket(self.token)})

    async def graph(self, request: Request) -> Response:
        if refusal := self.refusal(request) or self.unsigned(request):
            return refusal
        rows = [_libre(time, value) for time, value in sorted(self.measured)]
        latest = rows[-1] | {"TrendArrow": 4}
        connection = _connection() | {"glucoseMeasurement": latest, "glucoseItem": latest}
        data = {"connection": connection, "activeSensors": [], "graphData": rows[:-1]}
        return JSONResponse({"status": 0, "data": data, "ticket": _ticket(self.token)})

    def unsigned(self, request: Request) -> Response | None:
        account = hashlib.sha256(_user()["id"].encode()).hexdigest()
        right = (f"Bearer {self.token}", account)
        is_right = (request.headers.get("authorization"), request.headers.get("account-id")) == right
        return None if is_right else JSONResponse({"message": "invalid or expired jwt"}, 401)


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The address of an application that a thread of its own serves while the block runs."""
    quiet: dict[str, Any] = {"log_level": "critical", "lifespan": "off", "timeout_graceful_shutdown": 1}
    held = HeldPort()
    server = uvicorn.Server(uvicorn.Config(app, LOOPBACK, held.number, **quiet))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the server listens")
        yield f"http://{LOOPBACK}:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join(10)


def milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _libre(time: datetime, value: int) -> dict[str, Any]:
    utc = time.astimezone(UTC)
    local = time.astimezone(timezone(timedelta(hours=2)))
    form = "{:%m/%d/%Y %I:%M:%S %p}"
    return {
        "FactoryTimestamp": form.format(utc), "Timestamp": form.format(local), "type": 1, "ValueInMgPerDl": value,
        "MeasurementColor": 1, "GlucoseUnits": 1, "Value": value, "isHigh": False, "isLow": False,
    }  # fmt: skip


def _ticket(token: str) -> dict[str, Any]:
    return {"token": token, "expires": 1, "duration": 1}


def _user() -> dict[str, Any]:
    return {
        "id": "user-1", "firstName": "A", "lastName": "B", "email": USER, "country": "AT", "emailDay": [1],
        "system": {"messages": {}}, "details": {}, "created": 1, "lastLogin": 1, "programs": {}, "dateOfBirth": 1,
        "practices": {}, "devices": {}, "consents": {},
    }  # fmt: skip


def _connection() -> dict[str, Any]:
    level = {"th": 70, "thmm": 3.9, "d": 10, "tl": 10, "tlmm": 0.6}
    rules = {"c": True, "h": {"th": 240, "thmm": 13.3, "d": 10, "f": 0.1}, "f": level, "l": level,
             "nd": {"i": 20, "r": 5, "l": 6}, "p": 5, "r": 5, "std": {}}  # fmt: skip
    device = {"did": "d", "dtid": 1, "v": "1", "ll": 70, "hl": 240, "u": 1, "alarms": False,
              "fixedLowAlarmValues": {"mgdl": 60, "mmoll": 3.3}}  # fmt: skip
    return {
        "id": PATIENT, "patientId": PATIENT, "country": "AT", "status": 2, "firstName": "A", "lastName": "B",
        "targetLow": 70, "targetHigh": 180, "uom": 1, "sensor": {"deviceId": "", "sn": "s", "a": 1, "w": 60, "pt": 4},
        "alarmRules": rules, "glucoseAlarm": None, "patientDevice": device, "created": 1,
    }  # fmt: skip
