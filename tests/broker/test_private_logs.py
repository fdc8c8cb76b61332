"""No role and no bridge logs a key, a name, a glucose value or a file's content, whatever goes wrong.

Everything that can be provoked from outside is provoked, then the output of every process is searched, at the level
that says the most, in both formats.
"""

import asyncio
import base64
import contextlib
import datetime
import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from deploy.bench.roles import Place
from deploy.brokers.embedded import EmbeddedBroker
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.tables import SUBJECTS_TABLE
from streams.kafka.partitioning import partition_of
from streams.kafka.provision import provision
from streams.notify import webhook_file
from streams.settings import Settings
from streams.topology import STEPS, app_id, changelogs
from tests.kit.alerts import alert, endpoint
from tests.kit.brokers import PARTITIONS, overrides_of
from tests.kit.cgm_services import PASSWORD, USER, DexcomService, serving
from tests.kit.charts import fan_chart
from tests.kit.clients import Client
from tests.kit.keys import person_in
from tests.kit.pipeline import Pipeline, running
from tests.kit.samples import dexcom, glucose_rows
from tests.kit.waiting import until

KEY = "k3y-Quetzalcoatl-0123456789"
SITE_KEY = "s1te-Quetzalcoatl-0123456789"
SUBJECT = "quillfeather.anna@clinic"
EVERYWHERE = [
    next(name for n in itertools.count() if partition_of((name := f"quillfeather.{n}").encode(), PARTITIONS) == number)
    for number in range(PARTITIONS)
]
"""Somebody of each partition, so that each process of a role gets something; a row of theirs cannot be read."""
BLOCKED = EVERYWHERE[0]
GLUCOSE = 173.4567
FILE = b"Quillfeather-Export;173.4567;wyvern"
GOOD = base64.b64encode(dexcom(glucose_rows(121)).replace(b"Ada", b"quillfeather")).decode()
WEBHOOK_SECRET = f"whsec_{base64.b64encode(b'Quetzalcoatl-0123456789-abcdefgh').decode()}"
SECRETS = (
    "Quetzalcoatl", "quillfeather", "173.45", "9.6281", "wyvern", "VerySecretQuery", PASSWORD, USER.split("@")[0] + "@",
)  # fmt: skip
EVERY_ROLE = {"ingest": 2, "inference": 1, "calc": 1, "api": 2, "notify": 2}
IN_JSON = {name: Place({"GLUCAST_LOG_FORMAT": "json"}) for name in ("ingest-1", "calc-0", "api-1", "notify-1")}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    home = tmp_path_factory.mktemp("logs")
    keys = home / "keys"
    keys.write_text(f"clinic {hashlib.sha256(KEY.encode()).hexdigest()}\n")
    person_in(keys, SUBJECT, SITE_KEY, name="site")
    broker = EmbeddedBroker(home)
    broker.start()
    try:
        poison_a_table(broker, home)
        rates = {"rate_limit": "100000/minute", "wrong_key_rate_limit": "100000/minute"}
        webhooks = {"webhooks_file": webhooks_in(home), "webhook_private_networks": "127.0.0.0/8"}
        options = {"api_keys_file": keys, "log_level": "debug", **rates, **webhooks}
        with running(
            broker, home, EVERY_ROLE, IN_JSON, **options, answer_timeout_seconds=5, step_attempts=2
        ) as started:
            yield started
    finally:
        broker.stop()


def poison_a_table(broker: EmbeddedBroker, home: Path) -> None:
    """A row that no worker can read, so that a step fails at each reading of one subject."""
    settings = Settings(broker=broker.address, state_dir=home, **overrides_of(broker))
    asyncio.run(provision(settings))
    table = topics.changelog(app_id("ingest"), SUBJECTS_TABLE)
    assert table in changelogs()
    rows = [(whose.encode(), b"\xff wyvern 173.4567 quillfeather") for whose in EVERYWHERE]
    Client(settings).publish(table.name, rows)


def webhooks_in(home: Path) -> Path:
    """Of every channel, where nobody listens."""
    file, url = home / "webhooks", "http://127.0.0.1:9/wyvern-Quetzalcoatl"
    begun = datetime.datetime.now(datetime.UTC)
    webhook_file.add(file, endpoint("home", url=url, secret=WEBHOOK_SECRET, added_at=begun))
    webhook_file.add(
        file, endpoint("phone", channel="ntfy", url=url, secret=SITE_KEY, events=["alert"], added_at=begun)
    )
    webhook_file.add(
        file,
        endpoint("site", channel="nightscout", url=url, secret=SITE_KEY, subject_id=SUBJECT, events=["forecast"],
                 added_at=begun),
    )  # fmt: skip
    return file


def reading(subject: str = SUBJECT, **changes: object) -> dict[str, object]:
    time = datetime.datetime.now(datetime.UTC).isoformat()
    return {"subject_id": subject, "time": time, "glucose": GLUCOSE, "unit": "mg/dL"} | changes


def ask_everything(urls: Sequence[str]) -> set[int]:
    """Statuses of requests that are right, wrong, hostile and cut off, to the replicas in turn."""
    statuses, turns = set(), itertools.cycle(urls)
    file = base64.b64encode(FILE).decode()
    with httpx.Client(timeout=60) as anybody:
        for headers in ({}, {"x-api-key": f"wrong-{KEY}"}, {"x-api-key": KEY}):
            for method, path, body in (
                ("GET", f"/subjects/{SUBJECT}/forecast?token=VerySecretQuery&key={KEY}", None),
                ("GET", f"/subjects/{SUBJECT}/forecast/plot?unit=VerySecretQuery", None),
                ("GET", f"/subjects/{SUBJECT}/forecasts?from=VerySecretQuery&limit=quillfeather", None),
                ("GET", f"/subjects/{quote('quillfeather anna/…')}/forecast", None),
                ("GET", f"/quillfeather/{GLUCOSE}?key={KEY}", None),
                ("PUT", f"/subjects/{SUBJECT}/readings", None),
                ("POST", f"/subjects/{SUBJECT}/readings", reading()),
                ("POST", f"/subjects/{SUBJECT}/readings", reading(glucose=9.6281, unit="mmol/L")),
                (
                    "POST",
                    f"/subjects/{SUBJECT}/readings",
                    [reading(unit="quillfeather"), reading(time="wyvern"), 173.4567],
                ),
                ("POST", f"/subjects/{BLOCKED}/readings", reading(BLOCKED)),
                ("POST", f"/subjects/{SUBJECT}/readings", "quillfeather " * 100_000),
                ("DELETE", f"/subjects/{SUBJECT}/window", None),
                ("DELETE", f"/subjects/{SUBJECT}", None),
                ("POST", "/process_unified", {"csv_base64": GOOD}),
                ("POST", "/quick_plot", {"csv_base64": file, "timezone": "quillfeather/wyvern"}),
                ("POST", "/process_unified", {"csv_base64": file}),
                ("POST", "/process_unified", {"csv_base64": "wyvern!!", "force_calculate": "quillfeather"}),
                ("POST", "/draw_a_plot", {"handle": "quillfeather", "index": "wyvern"}),
                ("POST", "/cache_management?action=delete&handle=quillfeather", None),
                ("POST", "/cache_management?action=VerySecretQuery", None),
            ):
                answer = anybody.request(method, f"{next(turns)}{path}", json=body, headers=headers)
                statuses.add(answer.status_code)
            upload = {"file": ("quillfeather.csv", FILE)}
            answer = anybody.post(f"{next(turns)}/convert_to_unified", files=upload, headers=headers)
            statuses.add(answer.status_code)
            for name in ("host", "origin", "accept", "if-none-match", "content-type"):
                plot = f"{next(turns)}/subjects/{SUBJECT}/forecast/plot"
                answer = anybody.get(plot, headers={**headers, name: "quillfeather["})
                statuses.add(answer.status_code)
        entries = [reading(), {"type": "sgv", "sgv": GLUCOSE, "date": 1, "device": "wyvern"}, "quillfeather"]
        for secret in (SITE_KEY, f"wrong-{SITE_KEY}"):
            for path in ("/api/v1/entries.json", "/api/v1/status.json", "/api/v3/entries", "/api/v1/quillfeather"):
                for headers in ({"api-secret": secret}, {"api-secret": f"token={secret}"}, {}):
                    query = {"token": "" if headers else secret, "find[device]": "VerySecretQuery"}
                    anybody.get(f"{next(turns)}{path}", params=query, headers=headers)
                    anybody.post(f"{next(turns)}{path}", params=query, headers=headers, json=entries)
            answer = anybody.get(f"{next(turns)}/api/v2/authorization/request/{secret}")
            statuses.add(answer.status_code)
    for url, text in itertools.product(urls, (
        f"GET /subjects/{SUBJECT} HTTP/9.9\r\n\r\n",
        f"GE\x00T /quillfeather?{KEY}\r\n\r\n",
        f"GET /subjects/{SUBJECT} HTTP/1.1\r\nX-Api-Key: {KEY}\x00\r\nHost: localhost\r\n\r\n",
        "GET /quillfeather HTTP/1.1\r\nHost: localhost\r\nUpgrade: wyvern\r\nConnection: upgrade\r\n\r\n",
        f"POST /subjects/{SUBJECT}/readings HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\n"
        "Content-Length: 999\r\n\r\n{\"subject_id\": \"quillfeather",
    )):  # fmt: skip
        host, port = url.removeprefix("http://").split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 5) as raw:
            raw.sendall(text.encode("latin-1"))
            raw.settimeout(1)
            raw.recv(4096)
    return statuses


def _upload_until_read(url: str) -> int:
    """The status of a good file once it is read: nobody waits long for an answer here, and a machine may be busy."""

    def read() -> int | None:
        headers = {"x-api-key": KEY}
        answer = httpx.post(f"{url}/process_unified", json={"csv_base64": GOOD}, headers=headers, timeout=60)
        return 200 if answer.status_code == 200 else None

    return until(read, "the good file is read", 60) or 0


def send_everything(client: Client) -> int:
    """Messages that are no records, on every topic that somebody reads, under the subject's key."""
    values = [
        json.dumps(reading()).encode(),
        json.dumps(reading(unit="wyvern")).encode(),
        json.dumps(reading(noise="quillfeather")).encode(),
        json.dumps(reading(BLOCKED)).encode(),
        b'{"subject_id": "quillfeather", "glucose": 173.4567',
        b"quillfeather 173.4567 wyvern",
        FILE * 1000,
        b"\xff\xfewyvern",
        None,
    ]
    sent = 0
    for topic in {topic for step in STEPS for topic in step.reads}:
        keys = (SUBJECT.encode(), BLOCKED.encode(), b"\xffquillfeather", None)
        sent += client.publish(topic.name, [(key, value) for value in values for key in keys if key or value])
    now = datetime.datetime.now(datetime.UTC)
    for number, whose in enumerate((SUBJECT, *EVERYWHERE)):
        told = alert(alert_id=f"{number:064x}", subject_id=whose, glucose_mgdl=GLUCOSE, issue_time=now)
        issued = fan_chart(
            chart_id=f"{number:064x}", subject_id=whose, series_key=whose, issue_time=now,
            first_target_time=now + datetime.timedelta(minutes=5),
        )  # fmt: skip
        for topic, value in ((topics.READINGS, json.dumps(reading(whose)).encode()), (topics.ALERTS, told.to_json()),
                             (topics.FAN_CHARTS, issued.to_json())):  # fmt: skip
            sent += client.publish(topic.name, [(whose.encode(), value)])
    return sent


def pull_everything(broker: str, home: Path) -> None:
    """A bridge in each format, to somebody with the right password, somebody with another, and a service in trouble."""
    measured = [(datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5), 173)]
    right, down = DexcomService(measured), DexcomService(measured)
    down.down = True
    with serving(right.app) as url, serving(down.app) as url_down:
        file = home / "people.toml"
        file.touch(mode=0o600)
        file.write_text("".join(
            f'[[person]]\nsubject = "{subject}"\ntimezone = "Europe/Vienna"\nuser = "{USER}"\n'
            f'password = "{password}"\nurl = "{at}"\n'
            for subject, password, at in (
                (SUBJECT, PASSWORD, url), (EVERYWHERE[0], KEY, url), (EVERYWHERE[1], PASSWORD, url_down)
            )
        ))  # fmt: skip
        command = [sys.executable, "-m", "deploy.cli.main", "bridge", "dexcom-share", "--file", str(file), "--once"]
        runs = []
        for form in ("console", "json"):
            more = {"GLUCAST_BROKER": broker, "GLUCAST_LOG_LEVEL": "debug", "GLUCAST_LOG_FORMAT": form,
                    "GLUCAST_STATE_DIR": str(home / form)}  # fmt: skip
            with (home / f"bridge-{form}.log").open("wb") as out:
                runs.append(subprocess.Popen(command, env=os.environ | more, stdout=out, stderr=out))
        assert [run.wait(60) for run in runs] == [1, 1], "somebody was not heard"


def test_no_role_logs_what_is_nobodys_business(pipeline: Pipeline) -> None:
    statuses = ask_everything([process.url for process in pipeline.roles.all if process.name.startswith("api")])
    statuses.add(_upload_until_read(pipeline.url))
    assert statuses >= {200, 202, 400, 401, 403, 404, 405, 406, 413, 422}, statuses
    client = Client(pipeline.settings)
    send_everything(client)
    pull_everything(pipeline.settings.broker, pipeline.home)

    def failed(records: list) -> bool:
        letters = [
            DeadLetter.from_json(record.value) for record in records if record.value and record.value[:1] == b"{"
        ]
        codes = {(letter.step, letter.code) for letter in letters}
        return codes >= {("window", "failed"), ("window", "malformed"), ("infer", "malformed"), ("calc", "malformed")}

    client.until(topics.DEAD_LETTERS.name, failed)
    for name, said in (("ingest", "step failed"), ("notify", "a webhook fails")):
        for number in range(2):
            log = pipeline.home / "roles" / f"{name}-{number}.log"
            until(lambda log=log, said=said: said in log.read_text(errors="replace"), f"{log.stem} says {said!r}", 30)
    pipeline.broker.stop()  # whoever waits for it says so
    with httpx.Client(base_url=pipeline.url, timeout=60, headers={"x-api-key": KEY}) as late:
        body = {"csv_base64": base64.b64encode(FILE).decode()}
        assert late.post("/process_unified", json=body).status_code == 503
        assert late.post(f"/subjects/{SUBJECT}/readings", json=reading()).status_code == 503
    for process in pipeline.roles.all:
        process.kill()
    written = [path for path in pipeline.home.rglob("*.log") if not path.stem.isdigit()]  # those are tables' journals
    logs = {path.name: path.read_text(errors="replace") for path in written}
    assert {name.split("-")[0] for name in logs} >= {
        "ingest",
        "inference",
        "calc",
        "api",
        "embedded",
        "notify",
        "bridge",
    }
    assert all(json.loads(line) for line in logs["ingest-1.log"].splitlines() if line.startswith("{"))
    assert logs["ingest-1.log"].count("\n{") > logs["ingest-0.log"].count("\n{") == 0
    variants = {variant for secret in SECRETS for variant in forms_of(secret)}
    hits = [
        f"{name}: {secret}: …{line[max(0, line.index(secret) - 200) : line.index(secret) + 100]}"
        for name, text in sorted(logs.items())
        for line in text.splitlines()
        for secret in variants
        if secret in line
    ]
    assert hits == []


def forms_of(secret: str) -> Iterator[str]:
    """As it is, and as base64 shows its middle, wherever in a text it begins."""
    yield secret
    for before in range(3):
        text = base64.b64encode(bytes(before) + secret.encode() + bytes(3)).decode()
        yield text[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]


def test_a_secret_is_found_in_any_form() -> None:
    for secret in SECRETS:
        for before in range(4):
            text = base64.b64encode(b"x" * before + secret.encode() + b"yy").decode()
            assert sum(form in text for form in forms_of(secret)) == 1
