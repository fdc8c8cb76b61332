"""Into a Nightscout site: a forecast once, none that is stale, and nothing beside another loop's."""

import datetime
import re
from typing import Any

import pytest

from schemas.errors import ConfigurationError
from schemas.webhook import Delivery
from streams.notify import nightscout
from streams.notify.addresses import Network, networks_of
from streams.notify.courier import utc_now
from streams.notify.events import event_of_chart
from streams.notify.nightscout import ANOTHER_LOOP, LOOKED_AT, NO_SITE, NightscoutSender
from streams.notify.outbox import TOO_LATE, Outbox
from streams.notify.sender import Attempt
from streams.notify.webhook_file import Endpoint
from tests.kit.alerts import endpoint
from tests.kit.charts import fan_chart
from tests.kit.nightscout_site import SECRET, Site, nightscout_site
from tests.kit.receiver import NETWORK

MINUTE = datetime.timedelta(minutes=1)
LOCAL = networks_of([NETWORK])
LOOP = {"_id": "1", "device": "loop://iPhone", "loop": {"predicted": {"values": [100]}}}
OREF = {"_id": "2", "device": "openaps://rig", "openaps": {"suggested": {"bg": 100}}}
BATTERY = {"_id": "3", "device": "xDrip", "uploader": {"battery": 81}}


def site_of(url: str, **changes: Any) -> Endpoint:
    fields: dict[str, Any] = {"channel": "nightscout", "subject_id": "anna", "events": ["forecast"], "secret": SECRET,
                              "added_at": utc_now() - MINUTE}  # fmt: skip
    return endpoint("site", url=url, **(fields | changes))


def delivery_of(to: Endpoint, number: int = 1, age: datetime.timedelta = MINUTE, began_ms: int = 0) -> Delivery:
    issue = utc_now() - age
    chart = fan_chart(
        chart_id=f"{number:064d}"[::-1], issue_time=issue, first_target_time=issue + 5 * MINUTE, computed_at=issue,
        began_ms=began_ms,
    )  # fmt: skip
    event = event_of_chart(chart, utc_now())
    assert event is not None
    (delivery,) = Outbox(10).plan(event, 0, [to], utc_now())
    return delivery


async def sent(
    site: Site,
    number: int = 1,
    seconds: float = 5.0,
    networks: tuple[Network, ...] = LOCAL,
    form: Any = "openaps",
    began_ms: int = 0,
    **changes: Any,
) -> Attempt:
    to = site_of(changes.pop("url", site.url), **changes)
    sender = NightscoutSender(to, seconds, networks, form, 0.10)
    try:
        return await sender.send(delivery_of(to, number, began_ms=began_ms), utc_now())
    finally:
        await sender.close()


def document(kind: dict[str, Any], minutes_ago: int) -> dict[str, Any]:
    created = (utc_now() - minutes_ago * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**kind, "_id": f"{kind['_id']}-{minutes_ago}", "created_at": created}


@pytest.mark.parametrize("path", ["", "/", "/api/v1", "/api/v1/"])
async def test_a_forecast_is_a_device_status_of_the_site(path: str) -> None:
    async with nightscout_site() as site:
        attempt = await sent(site, url=site.url + path)
    assert (attempt.ok, attempt.status) == (True, 200)
    (told,) = site.documents
    assert told["device"] == "glucast"
    assert re.fullmatch("[0-9a-f]{24}", told["_id"]), "as the site's database has them"
    assert len(told["openaps"]["suggested"]["predBGs"]["ZT"]) == 13
    assert "Not a medical device" in told["openaps"]["suggested"]["reason"]


async def test_the_form_of_loop_is_the_operators_choice() -> None:
    async with nightscout_site() as site:
        assert (await sent(site, form="loop")).ok
    assert "openaps" not in site.documents[0]
    assert len(site.documents[0]["loop"]["predicted"]["values"]) == 13


async def test_what_arrived_and_was_not_answered_is_not_pushed_again() -> None:
    async with nightscout_site() as site:
        site.loses_answers = True
        lost = await sent(site, seconds=2.0)
        assert (lost.ok, len(site.documents)) == (False, 1)
        site.loses_answers = False
        assert (await sent(site)).ok
        assert (await sent(site, number=2)).ok
        assert (await sent(site, number=2, began_ms=1)).ok, "the same readings, drawn anew after a reset"
        assert (await sent(site, number=2, began_ms=1)).ok
    assert len({each["_id"] for each in site.documents}) == len(site.documents) == 3


@pytest.mark.parametrize("kind", [LOOP, OREF])
async def test_nothing_is_pushed_beside_another_loop(kind: dict[str, Any]) -> None:
    async with nightscout_site() as site:
        site.documents = [document(kind, 40), *(document(BATTERY, minutes) for minutes in range(1, LOOKED_AT))]
        attempt = await sent(site)
        assert site.ours == []
    assert (attempt.ok, attempt.reason, attempt.over) == (False, ANOTHER_LOOP, ANOTHER_LOOP)


async def test_a_phone_that_tells_its_battery_and_what_was_ours_are_no_other_loop() -> None:
    async with nightscout_site() as site:
        site.documents = [document(BATTERY, 2), document({**LOOP, "loop": None, "device": "xDrip"}, 3)]
        assert (await sent(site, number=1)).ok
        assert (await sent(site, number=2)).ok
        assert len(site.ours) == 2


async def test_a_forecast_that_gets_too_old_while_the_site_is_asked_is_not_pushed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nightscout, "utc_now", lambda: utc_now() + 15 * MINUTE)
    async with nightscout_site() as site:
        assert await sent(site) == Attempt(None, TOO_LATE)
    assert (site.asked, site.documents) == (1, [])


async def test_what_does_not_work_is_said_without_a_secret() -> None:
    async with nightscout_site() as site:
        wrong = await sent(site, secret="another secret")
        assert (wrong.status, wrong.reason, wrong.over) == (401, "it answers 401", None)
        site.statuses = [200]
        assert (await sent(site)).reason == NO_SITE
        site.statuses = [503]
        assert (await sent(site)).reason == "it answers 503"
        missing = await sent(site, url=f"{site.url}/other")
        assert (missing.status, site.documents) == (404, [])
        private = await sent(site, networks=())
        assert "not public" in (private.reason or "")
        assert (site.refused, site.documents) == (1, [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"subject_id": None}, "one person's"),
        ({"events": ["alert"]}, "forecasts and nothing else"),
        ({"events": ["forecast", "alert"]}, "forecasts and nothing else"),
        ({"secret": None}, "12 characters"),
        ({"secret": "hunter2"}, "12 characters"),
        ({"url": "https://anna.example.org/?token=hunter2"}, "given as a file"),
        ({"url": "https://hunter2@anna.example.org"}, "no user or password"),
    ],
)
def test_what_cannot_be_a_site_is_refused_without_its_secret(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        site_of(changes.pop("url", "https://anna.example.org"), **changes)
    assert "hunter2" not in str(caught.value)
