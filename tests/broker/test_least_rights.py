"""All roles on a Kafka that grants nothing but what `glucast topics acls` prints: a reading in, a forecast out."""

import asyncio
import datetime
from functools import partial
from pathlib import Path

import httpx
import pytest

from deploy.bench.pipeline import export_of
from deploy.bench.roles import Place, RoleProcess, Roles
from deploy.roles import variables
from schemas.errors import TopicMismatchError
from streams import subjects
from streams.acls import PRINCIPALS, lines
from streams.dlq import letters
from streams.kafka.provision import provision, require
from streams.kafka.whole_topics import everything
from streams.notify import webhook_file
from streams.settings import Settings
from streams.topology import app_id, changelogs
from tests.kit.alerts import endpoint
from tests.kit.disks import files_with
from tests.kit.secured import SecuredKafka, secured_kafka
from tests.kit.waiting import until

pytestmark = pytest.mark.kafka
SUBJECT = "quillfeather"
LIGHT = {"forecaster": "ridge", "log_format": "json"}


def place(kafka: SecuredKafka, user: str) -> Place:
    return Place(variables(kafka.overrides_of(user) | LIGHT))


def certified(kafka: SecuredKafka, user: str) -> Place:
    """Known by a certificate, not by a password."""
    return Place(variables(kafka.certified_overrides_of(user) | LIGHT))


def readings() -> list[dict[str, object]]:
    now = datetime.datetime.now(datetime.UTC)
    times = [now - datetime.timedelta(minutes=5 * number) for number in reversed(range(97))]
    return [
        {"time": time.isoformat(), "glucose": 100 + number % 30, "unit": "mg/dL", "simulated": True}
        for number, time in enumerate(times)
    ]


async def rows_of_hers(settings: Settings) -> list[bytes]:
    """Keys of rows that a table of a worker still holds: only ingest has confirmed that it erased its own."""
    found: list[bytes] = []
    for topic in changelogs():
        rows = {record.key or b"": record.value async for record in everything(settings, topic.name)}
        found += [key for key, row in rows.items() if row is not None and SUBJECT.encode() in key + row]
    return found


def upload_draw_and_command(client: httpx.Client) -> None:
    """What else asks something of the workers: a file, a forecast of a sample, a snooze, a delete."""
    answer = client.post("/process_unified", json={"csv_base64": export_of(1)})
    wanted = {"handle": answer.json()["handle"], "index": -1}
    assert client.post("/draw_a_plot", json=wanted, headers={"accept": "application/json"}).status_code == 200
    snooze = {"direction": "low", "minutes": 30}
    assert client.post(f"/subjects/{SUBJECT}/alerts/snooze", json=snooze).status_code == 200
    delete = {"action": "delete", "handle": wanted["handle"]}
    assert client.post("/cache_management", params=delete).json()["success"] is True


def ended(process: RoleProcess) -> bool:
    return process.returncode is not None


def test_every_role_works_with_the_least_rights_and_says_what_it_lacks(tmp_path: Path) -> None:
    with secured_kafka(tmp_path) as kafka:
        kafka.add_users([*(f"glucast-{who}" for who in PRINCIPALS), "nobody", "halfway"])
        kafka.run(lines({}))
        kafka.run(line for line in lines({"calc": "halfway"}, ["calc"]) if f"--group {app_id('calc')}" not in line)
        asyncio.run(provision(kafka.settings_of("glucast-operator")))
        home = tmp_path / "roles"
        with Roles(kafka.address, home) as roles:
            api = roles.api(place=place(kafka, "glucast-query"))
            roles.worker("ingest", place=place(kafka, "glucast-ingest"))
            for role in ("inference", "calc"):
                roles.worker(role, place=certified(kafka, f"glucast-{role}"))
            webhook_file.add(tmp_path / "webhooks", endpoint("nobodys"))
            file = {"GLUCAST_WEBHOOKS_FILE": str(tmp_path / "webhooks")}
            roles.notify(place=Place({**certified(kafka, "glucast-notify").environment, **file}))
            roles.wait_until_ready()
            lacking = roles.worker("calc", 7, place=place(kafka, "halfway"))
            with httpx.Client(base_url=api.url, timeout=30) as client:
                assert client.post(f"/subjects/{SUBJECT}/readings", json=readings()).status_code == 202
                until(lambda: client.get(f"/subjects/{SUBJECT}/forecast").status_code == 200, "a forecast", 60)
                assert client.get("/health").json()["models_initialized"] is True
                until(lambda: client.get("/webhooks").json()["webhooks"], "the webhook is told of", 60)
                upload_draw_and_command(client)
                assert asyncio.run(letters(kafka.settings_of("glucast-operator"))) == []
                found = subjects.export(kafka.settings_of("glucast-operator"), SUBJECT, tmp_path / "out")
                assert {source.topic for source in found if source.rows} >= {"cgm.readings", "cgm.fan-charts"}
                asyncio.run(subjects.erase(kafka.settings_of("glucast-operator"), SUBJECT))
                until(lambda: client.get("/subjects").json() == {"subjects": []}, "the API forgets", 60)
                until(
                    lambda: "glucast_read_model_lag 0.0" in client.get("/metrics").text, "what came by the way goes", 60
                )
                until(lambda: not asyncio.run(rows_of_hers(kafka.settings_of("glucast-operator"))), "and every row", 60)
                until(lambda: not files_with(home, SUBJECT), "and every byte in a file of a table, or in a log", 60)
                assert [*home.rglob("*.sst")]
            until(partial(ended, lacking), "who lacks a right ends", 60)
        said = lacking.log.read_text()
        assert "halfway may not join the consumer group glucast-calc: glucast topics acls prints" in said, said
        assert "Traceback" not in said
        with pytest.raises(TopicMismatchError, match="nobody may not see them: glucast topics acls prints"):
            asyncio.run(require(kafka.settings_of("nobody")))
        assert files_with(home, SUBJECT) == [], "nor does anything come again at the end"
