"""The notify role pushes into a Nightscout site: each forecast once through a kill, and no more beside another loop."""

import asyncio
import datetime
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.core.fingerprint import device_status_id
from deploy.bench.roles import Place, Roles
from deploy.roles import variables
from schemas import topics
from schemas.fan_chart import FanChart
from streams.notify import webhook_file
from streams.notify.nightscout import ANOTHER_LOOP
from streams.settings import Settings
from tests.broker.test_notify import MINUTE, all_is_committed, environment, now, publish
from tests.kit.alerts import endpoint
from tests.kit.brokers import embedded
from tests.kit.charts import fan_chart
from tests.kit.nightscout_site import SECRET, nightscout_site
from tests.kit.query import serving
from tests.kit.receiver import NETWORK
from tests.kit.waiting import until_async


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with embedded(tmp_path) as settings:
        yield settings


def forecast(digit: str, age: datetime.timedelta = MINUTE) -> FanChart:
    issue = now() - age
    return fan_chart(chart_id=digit * 64, issue_time=issue, first_target_time=issue + 5 * MINUTE, computed_at=issue)


async def test_each_forecast_is_pushed_once_through_a_kill_and_none_beside_another_loop(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "webhooks"
    place = Place({"GLUCAST_WEBHOOKS_FILE": str(file), "GLUCAST_WEBHOOK_PRIVATE_NETWORKS": NETWORK})
    async with nightscout_site() as site:
        fields = {"channel": "nightscout", "subject_id": "anna", "events": ["forecast"], "secret": SECRET}
        webhook_file.add(file, endpoint("site", url=site.url, added_at=now(), **fields))
        with Roles(settings.broker, tmp_path / "roles", variables(environment(settings))) as roles:
            role = roles.notify(place=place)
            await asyncio.to_thread(roles.wait_until_ready)
            bert = forecast("b").model_copy(update={"subject_id": "bert", "series_key": "bert"})
            await publish(settings, (topics.FAN_CHARTS, bert), key=b"bert")
            await publish(settings, (topics.FAN_CHARTS, forecast("1", 20 * MINUTE)))  # holds no longer
            site.loses_answers = True
            await publish(settings, (topics.FAN_CHARTS, forecast("2")))
            await until_async(lambda: site.ours, "it has arrived, and nobody says so")
            await until_async(partial(all_is_committed, settings), "all is committed")
            role.kill()
            site.loses_answers = False
            asked = site.asked
            role.start_again()
            await until_async(lambda: site.asked > asked, "the site is asked what it has")
            await publish(settings, (topics.FAN_CHARTS, forecast("3", MINUTE / 2)))
            await until_async(lambda: len(site.ours) == 2, "the next one is pushed")
            assert [each["_id"] for each in site.documents] == [device_status_id(digit * 64, 0) for digit in "23"]

            loop = {"_id": "9", "device": "loop://iPhone", "loop": {}, "created_at": f"{now():%Y-%m-%dT%H:%M:%SZ}"}
            site.documents.append(loop)
            await publish(settings, (topics.FAN_CHARTS, forecast("4", MINUTE / 4)))
            await _is_told(settings, tmp_path)
            assert role.stop() == 0
            log = role.log.read_text()
        assert len(site.ours) == 2
    assert SECRET not in log
    assert "anna" not in log
    assert "Traceback" not in log


async def _is_told(settings: Settings, home: Path) -> None:
    """What the API tells of it."""
    async with serving(settings, home / "query") as client:

        async def body() -> dict[str, Any]:
            """Once it tells how all has ended: that comes on two topics, in no order."""
            answer = await client.get("/webhooks/site/deliveries")
            found: dict[str, Any] = answer.json() if answer.status_code == 200 else {"webhook": {}, "deliveries": []}
            by_chart = {each["event_id"].removeprefix("forecast_")[0]: each["status"] for each in found["deliveries"]}
            ended = {"1": "expired", "2": "delivered", "3": "delivered", "4": "dropped"}
            return found if found["webhook"].get("disabled_at") and by_chart == ended else {}

        told = await until_async(body, "the API knows that it is disabled, and what has become of each forecast")
    assert (told["webhook"]["channel"], told["webhook"]["reason"]) == ("nightscout", ANOTHER_LOOP)
