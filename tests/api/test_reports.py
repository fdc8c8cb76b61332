"""What a subject's glucose was, over HTTP: days, reports, drawings to hand on, and FHIR."""

import re
from typing import Any

import pytest

from query_api.plots import PLOT_TYPES
from schemas.grid import MGDL_PER_MMOLL
from tests.kit.query import Client
from tests.kit.small_pipeline import SmallPipeline, at
from tests.kit.waiting import until_async

COUNT = 118


def readings(count: int = COUNT, **more: Any) -> list[dict[str, Any]]:
    return [{"time": at(5 * step), "glucose": 100 + step % 30, "unit": "mg/dL", **more} for step in range(count)]


async def publish(client: Client, subject: str = "anna", **more: Any) -> None:
    """Readings, and all that follows from them."""
    answer = await client.post(f"/subjects/{subject}/readings", json=readings(**more))
    assert answer.status_code == 202
    model = client.services.read_model
    await until_async(
        lambda: (
            (days := model.days.history(subject))
            and len(days.readings) == COUNT
            and len(model.fan_charts.history(subject, None, None)) == COUNT - 95
            and model.scores.of(subject)
        ),
        "days, charts and scores",
    )


async def test_days_and_reports_of_a_subject(client: Client, pipeline: SmallPipeline) -> None:
    for path in ("day", "day/plot", "report"):
        nobody = await client.get(f"/subjects/anna/{path}")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "no_readings")
        assert "publish some" in nobody.json()["detail"]
    await publish(client)

    day = (await client.get("/subjects/anna/day", params={"timezone": "Asia/Kathmandu"})).json()
    assert [each["glucose"] for each in day["readings"]] == [100 + step % 30 for step in range(COUNT)]
    assert day["readings"][-1]["time"].endswith("+05:45")
    assert [len(day["forecasts"]), day["unit"], day["simulated"]] == [2, "mg/dL", False]
    mmoll = (await client.get("/subjects/anna/day?unit=mmol/L")).json()
    assert mmoll["readings"][5]["glucose"] == round(105 / MGDL_PER_MMOLL, 2)
    assert mmoll["forecasts"][0]["median"][0] == pytest.approx(
        day["forecasts"][0]["median"][0] / MGDL_PER_MMOLL, abs=0.01
    )
    other = await client.get("/subjects/anna/day?date=2020-01-01")
    assert (other.status_code, "those that are kept are of" in other.json()["detail"]) == (404, True)

    async def scored() -> Any:
        found = (await client.get("/subjects/anna/report")).json()
        return found if len(found["forecasts"]) >= 3 else None

    report = await until_async(scored, "scores of every horizon")
    assert (report["readings"], report["ranges"]["from_70_to_180"], report["representative"]) == (COUNT, 100, False)
    assert "1 of 14 days" in report["why_not_representative"]
    assert {each["minutes_ahead"] for each in report["forecasts"]} == {15, 30, 60}
    page = await client.get("/subjects/anna/report", headers={"accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert "style-src 'self' 'unsafe-inline'" in page.headers["content-security-policy"]
    assert "Too few data for conclusions" in page.text
    assert (await client.get("/subjects/anna/report?format=html")).text.startswith("<!doctype html>")

    for path in ("day", "day/plot", "report", "forecast/plot"):
        wrong = await client.get(f"/subjects/anna/{path}?timezone=Mars/Olympus")
        assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
        assert "unknown timezone" in wrong.json()["detail"]
    for query in ("width=1", "width=99999", "height=1e3", "scale=0", "scale=9", "theme=blue", "format=gif", "unit=g"):
        for path in ("day/plot", "forecast/plot"):
            wrong = await client.get(f"/subjects/anna/{path}?{query}")
            assert (wrong.status_code, query.partition("=")[0] in wrong.json()["detail"]) == (422, True)
    for path, accept in (("day/plot", "text/csv"), ("report", "image/png")):
        wrong = await client.get(f"/subjects/anna/{path}", headers={"accept": accept})
        assert (wrong.status_code, "comes as" in wrong.json()["detail"]) == (406, True)

    await client.delete("/subjects/anna")
    await until_async(lambda: client.services.read_model.days.history("anna") is None, "the days are forgotten")
    assert (await client.get("/subjects/anna/report")).status_code == 404
    await until_async(lambda: not [key for key, _ in pipeline.table_rows() if "anna" in key], "so is the rest")


async def test_drawings_that_are_asked_for_in_the_same_words_are_drawn_once(
    client: Client, pipeline: SmallPipeline, browser: Any
) -> None:
    await publish(client, simulated=True)
    styles = ["", "theme=dark", "timezone=Europe/Vienna", "unit=mmol/L", "width=800&height=500", "scale=2"]
    for path in ("forecast/plot", "day/plot"):
        seen = set()
        for query in styles:
            for media_type in PLOT_TYPES[:3]:
                before = browser.drawn
                answers = [
                    await client.get(f"/subjects/anna/{path}?{query}", headers={"accept": media_type}) for _ in "12"
                ]
                assert {answer.headers["content-type"] for answer in answers} == {media_type}
                assert len({answer.content for answer in answers}) == 1
                assert browser.drawn == before + 1
                if media_type == "image/png" and query != "scale=2":  # that figure is the same, only larger
                    seen.add(answers[0].content)
        assert len(seen) == len(styles) - 1
    plain = await client.get("/subjects/anna/forecast/plot")
    aged = await client.get("/subjects/anna/forecast/plot?age=true&format=json")
    assert re.search(r"Simulated; computed \d min before this was drawn", aged.text)
    again = await client.get("/subjects/anna/forecast/plot", headers={"if-none-match": plain.headers["etag"]})
    dark = await client.get("/subjects/anna/forecast/plot?theme=dark", headers={"if-none-match": plain.headers["etag"]})
    assert (again.status_code, dark.status_code) == (304, 200)


async def test_readings_go_in_and_out_as_fhir(client: Client, pipeline: SmallPipeline) -> None:
    base = "/subjects/anna/fhir"
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "105272-9"}]},
                "subject": {"reference": "Patient/1"},
                "effectiveDateTime": at(5 * step),
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mmol/L"},
            },
            "request": {"method": "POST", "url": "Observation"},
        }
        for step, value in enumerate([5.5, 5.6, 99.0, 5.8])
    ]
    entries.append({"resource": {"resourceType": "Device"}, "request": {"method": "POST", "url": "Device"}})
    bundle = {"resourceType": "Bundle", "type": "transaction", "timestamp": at(0), "entry": entries}
    for path in ("$submit-cgm-bundle", "Bundle/$submit-cgm-bundle"):  # again: nothing happens twice
        answer = await client.post(f"{base}/{path}", json=bundle)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")
        told = [each["response"] for each in answer.json()["entry"]]
        assert [each["status"][:3] for each in told] == ["202", "202", "422", "202", "422"]
        assert "check unit" in told[2]["outcome"]["issue"][0]["diagnostics"]
    measured = client.services.read_model.readings.measured
    await until_async(lambda: len(list(measured.rows("anna"))) == 3, "the readings are shown")

    found = (await client.get(f"{base}/Observation")).json()
    values = [each["resource"]["valueQuantity"]["value"] for each in found["entry"]]
    assert values == [round(value * MGDL_PER_MMOLL, 1) for value in (5.8, 5.6, 5.5)]
    assert f"Observation/{found['entry'][0]['resource']['id']}" == told[3]["location"]
    seen: list[float] = []
    url: str | None = f"{base}/Observation?code=http://loinc.org|105272-9&_count=1&date=ge{at(5)}".replace("+", "%2B")
    while url:
        answer = await client.get(url)
        page = answer.json()
        seen += [each["resource"]["valueQuantity"]["value"] for each in page.get("entry", [])]
        url = answer.links.get("next", {}).get("url")
        assert [url] == [link["url"] for link in page["link"] if link["relation"] == "next"] or url is None
    assert seen == [5.8, 5.6]

    assert (await client.get(f"{base}/metadata")).json()["fhirVersion"] == "4.0.1"
    for wrong in (
        await client.get(f"{base}/Observation?code=1234-5"),
        await client.get(f"{base}/Observation?date=yesterday"),
        await client.get(f"{base}/Observation?_count=0"),
        await client.post(f"{base}/$submit-cgm-bundle", content=b"{"),
        await client.post(f"{base}/$submit-cgm-bundle", json={**bundle, "type": "batch"}),
    ):
        assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/fhir+json")
        assert wrong.json()["resourceType"] == "OperationOutcome"
