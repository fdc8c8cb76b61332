"""One attempt: what is signed and how, where it may go; nothing of the other side holds it up or leads it on."""

import base64
import datetime
import hashlib
import hmac
import json

import pytest
from standardwebhooks import Webhook as Verifier

from deploy.brokers.wire import HeldPort
from schemas.webhook import Delivery
from streams.notify.addresses import networks_of
from streams.notify.events import event_of_alert
from streams.notify.outbox import Outbox
from streams.notify.sender import Attempt, Sender, request_of
from streams.notify.webhook_file import Endpoint
from tests.kit.alerts import NOW, alert, endpoint
from tests.kit.receiver import NETWORK, receiving

LOCAL = networks_of([NETWORK])
HOUR = datetime.timedelta(hours=1)
ZONED = NOW.astimezone(datetime.timezone(HOUR))


def delivery_of(to: Endpoint, **changes: object) -> Delivery:
    (delivery,) = Outbox(10).plan(event_of_alert(alert(**changes), NOW), 0, [to], NOW)
    return delivery


async def sent(to: Endpoint, seconds: float = 5.0, networks: tuple = LOCAL, now: datetime.datetime = NOW) -> Attempt:
    sender = Sender(to, seconds, networks)
    try:
        return await sender.send(delivery_of(to), now)
    finally:
        await sender.close()


def test_the_signature_is_that_of_the_specification() -> None:
    """HMAC-SHA256 over id, time and body between full stops, keyed by the bytes behind whsec_; computed by hand."""
    key = bytes(range(32))
    to = endpoint(secret="whsec_" + base64.b64encode(key).decode())
    body, headers = request_of(to, delivery_of(to), NOW)
    assert headers["webhook-id"] == f"alert_{'9' * 64}_raised"
    assert headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert (told["type"], told["timestamp"], told["data"]["subject_id"]) == ("alert.raised", NOW.isoformat(), "anna")
    assert "not for treatment decisions" in told["data"]["disclaimer"]


async def test_a_receiver_verifies_what_it_gets() -> None:
    async with receiving() as receiver:
        to = endpoint(url=f"{receiver.url}/hook?x=1")
        attempt = await sent(to, now=datetime.datetime.now(datetime.UTC))
    assert attempt.ok
    (got,) = receiver.got
    assert to.secret is not None
    verified = Verifier(to.secret.get_secret_value()).verify(got.body, dict(got.headers))
    assert verified["data"]["alert_id"] == "9" * 64


async def test_who_hangs_is_left_and_who_is_not_there_is_told_apart() -> None:
    async with receiving() as receiver:
        receiver.hangs = True
        hung = await sent(endpoint(url=receiver.url), seconds=0.2)
    assert hung == Attempt(None, "no answer within 0.2 s")
    nobodys = HeldPort()
    missing = await sent(endpoint(url=f"http://127.0.0.1:{nobodys.number}/T0SECRET"))
    assert missing == Attempt(None, "it cannot be connected to")
    unknown = await sent(endpoint(url="https://hooks.invalid/T0SECRET"))
    assert unknown.status is None
    assert "SECRET" not in (unknown.reason or "")


async def test_answers_but_2xx_are_failures_and_redirects_lead_nowhere() -> None:
    async with receiving() as receiver:
        receiver.statuses, receiver.headers = [302, 500, 429], {"Location": f"{receiver.url}/else", "Retry-After": "9"}
        to = endpoint(url=f"{receiver.url}/hook")
        moved, broken, busy = [await sent(to) for _ in range(3)]
    assert [each.path for each in receiver.got] == ["/hook"] * 3
    assert "redirects are not followed" in (moved.reason or "")
    assert (broken.reason, busy.reason, busy.asked_seconds) == ("it answers 500", "it answers 429", 9.0)
    assert not any(each.ok for each in (moved, broken, busy))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"])
async def test_an_address_is_judged_when_it_is_connected_to_whatever_its_name(host: str) -> None:
    async with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1]
        attempt = await sent(endpoint(url=f"http://{host}:{port}/"), networks=())
    assert receiver.got == []
    assert attempt.status is None
    assert "not public" in (attempt.reason or "")


async def test_ntfy_gets_a_message_for_a_person() -> None:
    async with receiving() as receiver:
        to = endpoint(url=f"{receiver.url}/anna-alerts", channel="ntfy", events=["alert"], secret="tk_s3cret")
        assert (await sent(to)).ok
    (got,) = receiver.got
    assert (got.path, got.headers["Title"], got.headers["Priority"]) == ("/anna-alerts", "anna: low", "high")
    assert got.headers["Authorization"] == "Bearer tk_s3cret"
    assert got.body.decode().endswith("62 %. Not a medical device; not for treatment decisions.")
    assert "webhook-signature" not in {name.lower() for name in got.headers}


@pytest.mark.parametrize(
    ("changes", "title", "text"),
    [
        ({}, "anna: low, 40 min ago", "At 13:00, 40 min ago: P(below"),
        ({"began_ms": 0, "simulated": True, "issue_time": ZONED - 2 * HOUR}, "anna: low, 40 min ago", "40 min ago: P"),
        (
            {"status": "repeated", "issue_time": ZONED - HOUR / 2, "kind": "urgent_low"},
            "anna: urgent low (repeated), 1 h 10 min ago",
            "At 12:30, 1 h 10 min ago: P(below",
        ),
        ({"kind": "stale_data", "issue_time": ZONED - 3 * HOUR}, "anna: stale data, 40 min ago", "40 min ago: P(below"),
        ({"status": "false"}, "anna: low (false), 40 min ago", "40 min ago: P(below"),
    ],
)
def test_a_late_message_says_of_when_it_is(changes: dict[str, object], title: str, text: str) -> None:
    """Its text says "now", and the server that it could not be sent to shows when it came there."""
    to = endpoint("phone", channel="ntfy", events=["alert", "outcome"], secret=None)
    delivery = delivery_of(to, **{"issue_time": ZONED} | changes)
    body, headers = request_of(to, delivery, NOW + datetime.timedelta(minutes=40))
    assert headers["Title"] == title
    assert body.decode().startswith(text)
    body, headers = request_of(to, delivery_of(to), NOW + datetime.timedelta(minutes=4))
    assert (headers["Title"], body[:7]) == ("anna: low", b"P(below")
