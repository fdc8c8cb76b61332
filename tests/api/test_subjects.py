"""Readings in, forecasts of subjects out."""

import datetime
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from deploy.bench.faults_audit import read_all
from query_api.style import DARK
from schemas.fan_chart import FanChart
from schemas.grid import MGDL_PER_MMOLL
from schemas.reading import ReadingOutcome
from schemas.score import TargetScore
from schemas.topics import READING_OUTCOMES, SCORES
from streams.kafka import messages
from streams.kafka.connection import producer_options
from streams.settings import Settings
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async


def reading(step: int, **more: Any) -> dict[str, Any]:
    return {"time": at(5 * step), "glucose": 100 + step % 30, "unit": "mg/dL", "simulated": True, **more}


async def publish(client: Client, count: int, subject: str = "anna") -> None:
    response = await client.post(f"/subjects/{subject}/readings", json=[reading(step) for step in range(count)])
    assert (response.status_code, response.json()) == (202, {"accepted": count, "rejected": []})


async def forecast_of(client: Client, subject: str = "anna", **query: str) -> dict[str, Any]:
    async def there() -> Any:
        response = await client.get(f"/subjects/{subject}/forecast", params=query)
        return response if response.status_code == 200 else None

    found: dict[str, Any] = (await until_async(there, f"a forecast of {subject}")).json()
    return found


@pytest.mark.parametrize(
    "body",
    [reading(0), [reading(0)], {"readings": [reading(0)]}, reading(0, subject_id="anna", unit="mmol/L", glucose=6.4)],
)
async def test_readings_come_alone_in_a_list_or_in_an_object(
    client: Client, pipeline: SmallPipeline, body: Any
) -> None:
    response = await client.post("/subjects/anna/readings", json=body)
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "rejected": []})
    await until_async(lambda: client.services.read_model.readings.latest("anna"), "an outcome of the reading")


async def test_each_reading_is_judged_alone(client: Client) -> None:
    items = [reading(0), {"time": "soon", "glucose": 1}, reading(1, glucose=-5), reading(2, subject_id="bob"), 7]
    response = await client.post("/subjects/anna/readings", json=items)
    answer = response.json()
    assert (response.status_code, answer["accepted"]) == (202, 1)
    assert [item["position"] for item in answer["rejected"]] == [1, 2, 3, 4]
    assert "time" in answer["rejected"][0]["reason"]
    assert "impossible" in answer["rejected"][1]["reason"]


async def test_a_number_without_a_unit_is_no_reading(client: Client) -> None:
    item = reading(0)
    del item["unit"]
    response = await client.post("/subjects/anna/readings", json=item)
    assert (response.status_code, response.json()["detail"]) == (422, "unit: Field required")
    for glucose, unit in ((24, "mg/dL"), (120, "mmol/L"), (38, "mg/dL")):
        response = await client.post("/subjects/anna/readings", json=reading(0, glucose=glucose, unit=unit))
        assert (response.status_code, "check unit" in response.json()["detail"]) == (422, True)


async def test_an_error_code_is_refused_and_reaches_the_topic_all_the_same(
    client: Client, pipeline: SmallPipeline
) -> None:
    alone = await client.post("/subjects/anna/readings", json=reading(0, glucose=5))
    assert (alone.status_code, "error code" in alone.json()["detail"]) == (422, True)
    among = await client.post(
        "/subjects/anna/readings", json=[reading(1), reading(2, glucose=38), reading(3, glucose=5.5)]
    )
    assert (among.status_code, among.json()["accepted"]) == (202, 1)
    assert [item["position"] for item in among.json()["rejected"]] == [1, 2]
    outcomes = await until_async(lambda: outcomes_of(client), "three outcomes")
    assert outcomes == [("rejected", "sensor_error"), ("no_forecast", "warming_up"), ("rejected", "sensor_error")]


async def outcomes_of(client: Client, count: int = 3) -> list[tuple[str, str | None]] | None:
    """Status and code of so many readings, once they have been judged."""
    records = await read_all(client.services.settings, READING_OUTCOMES.name)
    found = [ReadingOutcome.from_json(record.value) for record in records]
    return [(each.status, each.code) for each in found] if len(found) >= count else None


async def test_without_a_forecast_the_reason_is_given(client: Client, pipeline: SmallPipeline) -> None:
    response = await client.get("/subjects/nobody/forecast")
    assert (response.status_code, "no readings" in response.json()["detail"]) == (404, True)
    await publish(client, 37)
    readings = client.services.read_model.readings
    await until_async(
        lambda: (found := readings.latest("anna")) and "3 h of" in (found.reason or ""), "3 h of readings"
    )
    response = await client.get("/subjects/anna/forecast/plot")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "no forecast yet: 3 h of" in response.json()["detail"]


async def test_eight_hours_of_readings_give_a_forecast_and_its_plots(client: Client, pipeline: SmallPipeline) -> None:
    await publish(client, 98)
    await forecast_of(client)
    await until_async(lambda: len(client.services.read_model.fan_charts.history("anna", None, None)) == 3, "3 charts")
    chart = FanChart.model_validate(await forecast_of(client))
    assert (chart.kind, chart.subject_id, chart.issue_time.isoformat()) == ("live", "anna", at(5 * 97))
    for accept, begin in (("*/*", b"\x89PNG"), ("image/svg+xml", b"<svg"), ("application/json", b'{"data"')):
        plot = await client.get("/subjects/anna/forecast/plot", headers={"accept": accept})
        assert plot.content.startswith(begin)
    total, epistemic = [
        (await client.get(f"/subjects/anna/forecast/plot?epistemic={flag}", headers={"accept": "image/png"})).content
        for flag in ("false", "true")
    ]
    assert total != epistemic
    assert (await client.get("/subjects/anna/forecast/plot", headers={"accept": "text/csv"})).status_code == 406
    assert (await client.get("/subjects")).json() == {"subjects": ["anna"]}


async def test_every_glucose_field_is_converted(client: Client, pipeline: SmallPipeline) -> None:
    await publish(client, 96)
    mgdl, mmoll = await forecast_of(client, curves="true"), await forecast_of(client, unit="mmol/L", curves="true")
    assert not [name for name in mmoll if name.endswith("_mgdl")]
    assert mmoll["median_mmoll"] == [round(value / MGDL_PER_MMOLL, 3) for value in mgdl["median_mgdl"]]
    assert mmoll["quantiles_mmoll"][0][3] == pytest.approx(mgdl["quantiles_mgdl"][0][3] / MGDL_PER_MMOLL, abs=1e-3)
    before, after = mgdl["fan"][11], mmoll["fan"][11]
    assert after["glucose_mmoll"][5] == pytest.approx(before["glucose_mgdl"][5] / MGDL_PER_MMOLL, abs=1e-3)
    assert after["density"][5] == pytest.approx(before["density"][5] * MGDL_PER_MMOLL)
    assert len(mmoll["epistemic_fan"]) == 12
    assert "fan" not in await forecast_of(client)
    assert mmoll["p_below_70"] == mgdl["p_below_70"]
    figure = await client.get(
        "/subjects/anna/forecast/plot?unit=mmol/L", headers={"accept": "application/json"}
    )  # fmt: skip
    assert figure.json()["layout"]["yaxis"]["title"]["text"] == "Glucose (mmol/L)"


async def test_an_unchanged_forecast_is_not_sent_again(client: Client, pipeline: SmallPipeline) -> None:
    await publish(client, 96)
    await forecast_of(client)
    first = await client.get("/subjects/anna/forecast")
    tag = first.headers["etag"]
    again = await client.get("/subjects/anna/forecast", headers={"if-none-match": tag})
    assert again.status_code == 304 or again.headers["etag"] != tag, "a minute of its age ended in between"
    other = await client.get("/subjects/anna/forecast?unit=mmol/L", headers={"if-none-match": tag})
    assert other.status_code == 200


async def test_history_is_paged_in_order(client: Client, pipeline: SmallPipeline) -> None:
    await publish(client, 101)
    await until_async(lambda: len(client.services.read_model.fan_charts.history("anna", None, None)) == 6, "6 charts")
    seen: list[str] = []
    url = "/subjects/anna/forecasts?limit=4"
    while url:
        page = await client.get(url)
        seen += [item["issue_time"] for item in page.json()["forecasts"]]
        url = page.links.get("next", {}).get("url", "")
        assert url == (page.json()["next"] or "")
    assert len(seen) == 6
    assert seen == sorted(set(seen))
    some = await client.get("/subjects/anna/forecasts", params={"from": at(5 * 97), "to": at(5 * 98)})
    assert len(some.json()["forecasts"]) == 2
    drawn = await client.get(f"/subjects/anna/forecasts/{at(5 * 97)}/plot?theme=dark&timezone=Asia/Kolkata&unit=mmol/L")
    assert drawn.json()["layout"]["paper_bgcolor"] == DARK.paper
    assert "UTC+05:30" in drawn.text
    nowhere = await client.get(f"/subjects/anna/forecasts/{at(5 * 97)}/plot?timezone=Nowhere/Else")
    assert nowhere.status_code == 422


async def test_a_subject_whom_a_wrong_clock_blocks_begins_anew(
    client: Client, pipeline: SmallPipeline, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone in the year 2099: its readings and messages say so, and an earlier version believed it."""
    await publish(client, 96)
    await forecast_of(client)
    model = client.services.read_model
    ahead = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    value = orjson.dumps(reading(0, subject_id="anna", time=ahead.isoformat()))
    monkeypatch.setattr(messages, "_sound", lambda timestamp_ms: timestamp_ms)
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait("cgm.readings", value, b"anna", timestamp_ms=int(ahead.timestamp() * 1000))
    await until_async(lambda: (it := model.readings.newest("anna")) and it.time == ahead, "the reading of 2099")
    for path in ("forecast", "forecast/plot"):
        answer = await client.get(f"/subjects/anna/{path}")
        assert (answer.status_code, "DELETE /subjects/" in answer.json()["detail"]) == (404, True)
    for _ in range(2):
        answer = await client.delete("/subjects/anna/window")
        assert (answer.status_code, "begins anew" in answer.json()["message"]) == (200, True)
        answer = await client.get("/subjects/anna/forecast")
        assert (answer.status_code, "was reset" in answer.json()["detail"]) == (404, True)
    await until_async(lambda: not model.fan_charts.history("anna", None, None), "its forecasts go")
    assert (await client.get("/subjects")).json() == {"subjects": []}
    await publish(client, 97)
    assert FanChart.model_validate(await forecast_of(client)).issue_time.isoformat() in (at(5 * 95), at(5 * 96))
    assert (await client.get("/subjects")).json() == {"subjects": ["anna"]}


async def test_a_reading_of_the_future_in_a_message_of_the_future_is_refused(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    ahead = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
    value = orjson.dumps(reading(0, subject_id="anna", time=ahead.isoformat()))
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        await producer.send_and_wait("cgm.readings", value, b"anna", timestamp_ms=int(ahead.timestamp() * 1000))
    readings = client.services.read_model.readings
    outcome = await until_async(lambda: readings.latest("anna"), "an outcome of the reading")
    assert (outcome.status, outcome.code) == ("rejected", "future")


async def test_forecasts_of_readings_are_scored_on_the_topic_and_over_http(
    client: Client, pipeline: SmallPipeline, settings: Settings
) -> None:
    for part in ("forecast", "forecast/plot", "scores"):
        asked = f"/subjects/anna/{part}"
        missing, told = await client.get(asked), await client.get(f"{asked}?or_reason=true")
        assert (missing.status_code, told.status_code) == (404, 200)
        assert told.json() == {name: missing.json().get(name) for name in ("code", "detail", "expected_time")}
    nobody = await client.get("/subjects/anna/scores")
    assert (nobody.status_code, "8 h of readings" in nobody.json()["detail"]) == (404, True)
    items = [reading(step) for step in range(117)]
    assert (await client.post("/subjects/anna/readings", json=items[:97])).status_code == 202
    await forecast_of(client)
    early = await client.get("/subjects/anna/scores")
    assert (early.status_code, "30 minutes" in early.json()["detail"]) == (404, True)
    assert (await client.post("/subjects/anna/readings", json=items[97:])).status_code == 202

    async def scored() -> Any:
        response = await client.get("/subjects/anna/scores")
        answer = response.json()
        return answer if response.status_code == 200 and answer["scored"] == 49 else None

    card = await until_async(scored, "the scores of 22 forecasts")
    (fortnight,) = [window for window in card["windows"] if window["days"] == 14]
    assert {row["minutes_ahead"]: row["targets"] for row in fortnight["horizons"]} == {15: 13, 30: 10, 60: 4}
    assert card["unmeasured"] == 0
    assert card["calibration"]["readings"] == pytest.approx(4.0, abs=0.1)
    for row in fortnight["horizons"]:
        assert sum(row["clarke"].values()) == pytest.approx(1, abs=1e-3)
        assert 0 <= row["covered"]["50"] <= row["covered"]["90"] <= 1
    records = [TargetScore.from_json(record.value) for record in await read_all(settings, SCORES.name)]
    assert len({record.score_id for record in records}) == len(records) == 15
    assert sum(len(record.scores) for record in records) == 49
    assert {record.subject_id for record in records} == {"anna"}
    chart = await forecast_of(client)
    assert chart["calibration"]["readings"] == card["calibration"]["readings"]
    assert (card["model"], card["trial"]) == (chart["model_fingerprint"][:16], None)
    (served,) = (await client.get("/models")).json()["models"]
    assert (served["role"], served["model"], served["people"]) == ("served", card["model"], 1)
    assert served["horizons"] == fortnight["horizons"]
