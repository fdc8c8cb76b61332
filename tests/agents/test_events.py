"""What public records say beside their bytes: what they are, and which trace they belong to, from reading to alert."""

import dataclasses
import datetime
import json

import pytest

from agents.work import Send
from schemas import event
from schemas.alert import Alert
from schemas.command import CacheCommand
from schemas.event import ID, SOURCE, TIME, TRACEPARENT, TYPE
from schemas.fan_chart import FanChart
from schemas.forecast import ForecastRequest
from schemas.reading import ReadingOutcome
from schemas.topics import ALERTS, CACHE_COMMANDS, FAN_CHARTS, LIVE, READING_OUTCOMES, READINGS, SCORES
from streams.settings import Settings
from tests.kit.falling import falling, glucose
from tests.kit.small_pipeline import forecast_of
from tests.kit.workbench import NOW_MS, Workbench, built

WINDOW, CALC = built("window", Settings(partitions=1)), built("calc")
START = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)


def trace(number: int) -> bytes:
    return f"00-{number + 1:032x}-{number + 1:016x}-01".encode()


async def read(
    bench: Workbench, step: int, subject: str = "ada", headers: dict[str, bytes] | None = None, days: int = 0
) -> list[Send]:
    time = START + datetime.timedelta(minutes=5 * step, days=days)
    value = {"subject_id": subject, "time": time.isoformat(), "glucose": glucose(step - 96), "unit": "mg/dL"}
    return await bench.run(
        WINDOW, json.dumps(value).encode(), key=subject.encode(), offset=step, headers=headers or {},
        timestamp_ms=int(time.timestamp() * 1000),
    )  # fmt: skip


async def test_a_trace_goes_from_a_reading_to_its_forecast_and_the_alert_and_no_further() -> None:
    bench = Workbench()
    sent: list[Send] = []
    for step in range(96 + 26):
        sends = await read(bench, step, headers={TRACEPARENT: trace(step)} if step != 100 else {})
        sent += sends
        for request in (send for send in sends if send.topic == LIVE):
            assert request.headers == ({} if step == 100 else {TRACEPARENT: trace(step)})
            asked = ForecastRequest.from_arrow(request.value)
            spread = falling(step - 96)
            answer = dataclasses.replace(
                forecast_of(asked), samples_mgdl=spread.samples_mgdl, residual_sd_mgdl=spread.residual_sd_mgdl
            )
            arrived = NOW_MS + step * 300_000 + 1000
            sent += await bench.run(CALC, answer.to_arrow(), headers=request.headers, timestamp_ms=arrived, offset=step)
    for send in sent:
        if send.topic == ALERTS:
            alert = Alert.from_json(send.value)
            step = (alert.issue_time - START) // datetime.timedelta(minutes=5)
            if alert.status == "raised":
                assert send.headers[TRACEPARENT] == trace(step)
        if send.topic == FAN_CHARTS:
            chart = FanChart.from_json(send.value)
            step = (chart.issue_time - START) // datetime.timedelta(minutes=5)
            assert send.headers.get(TRACEPARENT) == (None if step == 100 else trace(step))
            assert send.headers[ID].decode() == chart.chart_id
    raised = [Alert.from_json(send.value) for send in sent if send.topic == ALERTS]
    assert any(alert.status == "raised" and alert.kind == "low" for alert in raised)
    public = [send for send in sent if send.topic.public]
    assert {send.topic for send in public} == {READING_OUTCOMES, FAN_CHARTS, ALERTS, SCORES}
    for send in public:
        assert send.headers[TYPE].decode() == f"glucast.{send.topic.record}"
        assert send.headers[SOURCE] in (b"/glucast/window", b"/glucast/calc")
        assert datetime.datetime.fromisoformat(send.headers[TIME].decode()) >= START
        assert sum(len(name) + len(value) for name, value in send.headers.items()) < 320
    keys = [(send.headers[SOURCE], send.headers[ID]) for send in public]
    assert len(set(keys)) == len(keys), "none of them is a repeat"


async def test_what_is_delivered_again_says_the_same_and_a_reading_sent_again_does_not() -> None:
    bench = Workbench()
    first = await read(bench, 0, headers={TRACEPARENT: trace(0)})
    assert await read(bench, 0, headers={TRACEPARENT: trace(0)}) == first
    (outcome,) = (send for send in first if send.topic == READING_OUTCOMES)
    assert outcome.headers[ID].decode() == f"{ReadingOutcome.from_json(outcome.value).outcome_id}/no_forecast"
    bench = Workbench()
    await read(bench, 0)
    value = json.dumps({"subject_id": "ada", "time": START.isoformat(), "glucose": 140.0, "unit": "mg/dL"}).encode()
    (again,) = await bench.run(WINDOW, value, key=b"ada", offset=9)
    assert again.headers[ID].endswith(b"/duplicate")


@pytest.mark.parametrize(
    "text",
    [b"", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", b"00-" + b"1" * 32 + b"-" + b"0" * 16 + b"-01",
     trace(1) + b"-x", b"ff" + trace(1)[2:], trace(1).upper().replace(b"0", b"G"), trace(1) + b"\n", b"\xff" * 55],
)  # fmt: skip
async def test_what_is_no_traceparent_goes_nowhere(text: bytes) -> None:
    sends = await read(Workbench(), 0, headers={TRACEPARENT: text})
    assert sends
    assert all(TRACEPARENT not in send.headers for send in sends)


async def test_what_a_reading_of_somebody_else_leads_to_is_not_in_its_trace() -> None:
    bench = Workbench()
    await read(bench, 0, "ada")
    sends = await read(bench, 1, "bob", {TRACEPARENT: trace(1)}, days=40)
    (command,) = (send for send in sends if send.topic == CACHE_COMMANDS)
    assert CacheCommand.from_json(command.value).series_key == "ada"
    of_ada = [send for send in sends if send.key == b"ada"]
    assert {send.topic for send in of_ada} == {CACHE_COMMANDS, READING_OUTCOMES}
    assert not any(TRACEPARENT in send.headers for send in of_ada)
    assert all(send.headers[TRACEPARENT] == trace(1) for send in sends if send.key == b"bob")


async def test_a_reading_that_is_sent_on_keeps_what_it_said_of_itself() -> None:
    said = event.cloud_event("Reading", "mine", "elsewhere") | {TRACEPARENT: trace(3)}
    value = json.dumps({"subject_id": "ada", "time": START.isoformat(), "glucose": 140.0, "unit": "mg/dL"}).encode()
    (send,) = await Workbench().run(WINDOW, value, key=b"bob", headers=said)
    assert send.topic == READINGS
    assert said.items() <= send.headers.items()
