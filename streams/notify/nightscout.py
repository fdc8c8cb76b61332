"""Forecasts into a Nightscout site as ``devicestatus``, where no loop's predictions stand.

A caregiver's app takes the site's newest predictions for those of whatever doses the insulin. So the site is asked
first, each time: where one of its newest documents is of a loop that is not glucast, nothing is sent there any more
until somebody enables it again. What it answers tells as well whether a forecast has arrived already, although its
answer did not, by the document's ``_id``, which the site keeps once.

The interface is that of cgm-remote-monitor: lib/api/devicestatus, lib/server/devicestatus.js, lib/authorization.
"""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from agents.core.device_status import DEVICE, FORMS, Form, document_of
from schemas.fan_chart import FanChart
from schemas.webhook import Delivery
from streams.notify.addresses import Network
from streams.notify.courier import utc_now
from streams.notify.outbox import TOO_LATE
from streams.notify.sender import Attempt, Sender
from streams.notify.webhook_file import Endpoint

LOOKED_AT = 20
"""Documents. The newest alone would often be of a phone that tells its battery, between two of a loop."""
MOST_BYTES = 4 << 20
"""Of them all: a loop's has some 10 kB."""
ANOTHER_LOOP = (
    "the site has the predictions of another loop, which readers would take ours for: nothing is pushed beside them"
)
NO_SITE = "it is no Nightscout site: it answers with no list of device statuses"


class NightscoutSender(Sender):
    """Sends to one site; as a `Sender` for all else."""

    def __init__(
        self, endpoint: Endpoint, timeout_seconds: float, networks: tuple[Network, ...], form: Form, lower: float
    ) -> None:
        """`lower`: the level of the lower curve, see `document_of`."""
        super().__init__(endpoint, timeout_seconds, networks)
        site = endpoint.url.get_secret_value().rstrip("/").removesuffix("/api/v1")
        self._url = f"{site}/api/v1/devicestatus.json"
        self._headers = _headers("" if endpoint.secret is None else endpoint.secret.get_secret_value())
        self._form, self._lower = form, lower

    async def send(self, delivery: Delivery, now: datetime.datetime) -> Attempt:
        """Ask, then tell. Never raises for what the other side does."""
        asked, answer = await self._ask(
            "GET", f"{self._url}?count={LOOKED_AT}", self._headers, now, most_bytes=MOST_BYTES
        )
        if not asked.ok:
            return asked
        found = _documents(answer)
        if found is None:
            return Attempt(asked.status, NO_SITE)
        document = document_of(_chart(delivery), self._form, self._lower)
        if any(each.get("_id") == document["_id"] for each in found):
            return asked  # it arrived before, and its answer did not
        if any(_is_another_loops(each) for each in found):
            return Attempt(asked.status, ANOTHER_LOOP, over=ANOTHER_LOOP)
        if utc_now() >= delivery.valid_until:
            return Attempt(None, TOO_LATE)
        headers = self._headers | {"Content-Type": "application/json"}
        told, _ = await self._ask("POST", self._url, headers, now, orjson.dumps([document]))
        return told


def _headers(secret: str) -> dict[str, str]:
    """An API secret and an access token are both sent as their SHA-1. What comes is not to be unpacked."""
    digest = hashlib.sha1(secret.encode(), usedforsecurity=False).hexdigest()
    return {"User-Agent": DEVICE, "api-secret": digest, "Accept": "application/json", "Accept-Encoding": "identity"}


def _chart(delivery: Delivery) -> FanChart:
    return FanChart.from_json(orjson.dumps(orjson.loads(delivery.body or "{}")["data"]))


def _documents(answer: bytes) -> list[Mapping[str, Any]] | None:
    """The newest device statuses of a site; None for what is no list of documents."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return None
    return found


def _is_another_loops(document: Mapping[str, Any]) -> bool:
    """Whether it holds what a loop tells, and is not ours."""
    return document.get("device") != DEVICE and any(document.get(form) is not None for form in FORMS)
