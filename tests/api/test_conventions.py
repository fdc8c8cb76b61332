"""What holds of every answer: tags, pages, types of problems, whose data lists show, what pages may read."""

import datetime
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from query_api.app import create_app
from query_api.problem_types import PROBLEMS
from query_api.problems import status_of
from query_api.routers.docs import described
from schemas.errors import GlucastError
from schemas.reading import Reading
from streams.settings import Settings
from tests.kit.charts import STEP
from tests.kit.keys import key_in, person_in
from tests.kit.query import Client
from tests.kit.told_api import Told, now, told_api, told_forecast, told_reading

FORECAST, PLOT = "/subjects/anna/forecast", "/subjects/anna/forecast/plot?format=json"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Three readings and forecasts of Anna, one of Eve."""
    times = [now() - step * STEP for step in (2, 1, 0)]
    told = [record for time in times for record in (told_reading("anna", time), told_forecast("anna", time))]
    told += [told_reading("eve", times[0]), told_forecast("eve", times[0])]
    async with told_api(Settings(partitions=2, api_keys_file=None), tmp_path, *told) as client:
        yield client


# tags


@pytest.mark.parametrize("path", [FORECAST, f"{FORECAST}?unit=mmol/L", PLOT])
async def test_what_is_known_is_not_sent_again(client: Client, path: str) -> None:
    async def twice(form: str) -> tuple[httpx.Response, httpx.Response]:
        first = await client.get(path)
        tag = first.headers["etag"]
        known = form.format(tag=tag, bare=tag.removeprefix("W/"))
        return first, await client.get(path, headers={"if-none-match": known})

    for form in ("{tag}", "{bare}", "W/{bare}", '"other", {tag}', "*"):
        first, again = await twice(form)
        if again.status_code == 200:  # a minute of its age ended in between: not again within the next
            assert first.headers["etag"] != again.headers["etag"]
            first, again = await twice(form)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert first.headers["etag"].startswith("W/") == (path != PLOT), "the age is in the one body alone"
        for answer in (first, again):
            assert answer.headers["cache-control"] == "private, no-cache"
            assert answer.headers.get("vary") == first.headers.get("vary")


async def test_what_differs_is_sent(client: Client) -> None:
    for path, other in ((FORECAST, f"{FORECAST}?curves=true"), (PLOT, f"{PLOT}&theme=dark")):
        tag = (await client.get(path)).headers["etag"]
        assert (await client.get(other, headers={"if-none-match": tag})).status_code == 200
        assert (await client.get(path, headers={"if-none-match": tag.replace("0-", "1-", 1)})).status_code == 200


# pages


async def test_a_header_leads_from_page_to_page(client: Client) -> None:
    for path, of_page in (
        ("/subjects/anna/forecasts?limit=1&unit=mmol/L&x=%0d%0aSet-Cookie:%20a%3Eb", "forecasts"),
        ("/subjects/anna/fhir/Observation?_count=1&date=gt2020-01-01T00:00:00%2B01:00", "entry"),
    ):
        pages: list[Any] = []
        url = path
        while url:
            answer = await client.get(url)
            assert answer.status_code == 200, answer.text
            assert "set-cookie" not in answer.headers
            pages.append(answer.json())
            url = answer.links["next"]["url"] if "link" in answer.headers else ""
        assert [len(page[of_page]) for page in pages] == [1, 1, 1]
        assert len({str(page[of_page]) for page in pages}) == 3


# problems


def kinds(of: type[GlucastError] = GlucastError) -> set[type[GlucastError]]:
    return {of}.union(*(kinds(each) for each in of.__subclasses__()))


def test_every_error_of_the_tree_is_described() -> None:
    found = {kind.code: status_of(kind) for kind in kinds() if kind.__module__ == "schemas.errors"}
    told = {code: PROBLEMS[code].status for code in found}
    assert told == found | {"client_gone": 499}


async def test_the_type_of_a_problem_leads_to_its_description(client: Client) -> None:
    for problem in (await client.get("/nothing"), await client.get("/subjects/nobody/forecast")):
        document = problem.json()
        assert document["type"] == f"/problems/{document['code']}"
        described = await client.get(document["type"])
        assert described.status_code == 200
        assert described.json() == {
            "type": document["type"], "code": document["code"], "status": problem.status_code,
            "title": document["title"], "text": PROBLEMS[document["code"]].text,
        }  # fmt: skip
        page = await client.get(document["type"], headers={"accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        assert document["title"] in page.text
    every = (await client.get("/problems")).json()["problems"]
    assert [each["code"] for each in every] == list(PROBLEMS)
    assert "/problems/no_forecast" in (await client.get("/problems", headers={"accept": "text/html"})).text
    assert (await client.get("/problems/none-such")).status_code == 404
    assert (await client.get("/problems", headers={"accept": "image/png"})).status_code == 406


async def test_descriptions_of_problems_need_no_key(tmp_path: Path) -> None:
    person_in(tmp_path / "keys", "anna")
    async with told_api(Settings(api_keys_file=tmp_path / "keys"), tmp_path) as client:
        refused = (await client.get("/subjects")).json()
        assert refused["type"] == "/problems/api_key_required"
        assert (await client.get(refused["type"])).status_code == 200


# lists


async def test_lists_show_a_key_its_own_people(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    anna, two = person_in(file, "anna"), key_in(file, "two", subjects=["eve", "cleo"], scopes=["read"])
    everybody, writer = key_in(file, "everybody", scopes=["read"]), person_in(file, "anna", scopes=["write"])
    people = ("anna", "eve", "ann")
    told = [record for name in people for record in (told_reading(name, now()), told_forecast(name, now()))]
    async with told_api(Settings(partitions=2, api_keys_file=file), tmp_path, *told) as client:

        async def seen(key: str) -> tuple[Any, ...]:
            headers = {"x-api-key": key}
            listed = (await client.get("/subjects", headers=headers)).json()["subjects"]
            glances = (await client.get("/overview", headers=headers)).json()["subjects"]
            assert all(each["reading"] and each["forecast"] for each in glances)
            models = await client.get("/models", headers=headers)
            return sorted(listed), sorted(each["subject_id"] for each in glances), models.status_code

        assert await seen(anna) == (["anna"], ["anna"], 403)
        assert await seen(two) == (["eve"], ["eve"], 403)
        assert await seen(everybody) == (["ann", "anna", "eve"], ["ann", "anna", "eve"], 200)
        for path in ("/subjects", "/overview", "/models"):
            assert (await client.get(path, headers={"x-api-key": writer})).status_code == 403, path


async def test_the_overview_tells_what_a_trend_is_made_of_and_that_the_newest_reading_got_no_forecast(
    tmp_path: Path,
) -> None:
    def read(minutes: int, glucose: float, device: str | None, **fields: Any) -> Told:
        time = now() + datetime.timedelta(minutes=minutes)
        reading = Reading(subject_id="anna", time=time, glucose=glucose, unit="mg/dL", device=device)
        return told_reading("anna", time, reading=reading, **fields)

    told = [read(-15, 90, "arm"), read(-9, 91, "arm"), read(-4, 92, "leg"), read(-3, 93, "arm")]
    none = read(-1, 94, "arm", status="no_forecast", code="implausible_change", reason="too fast")
    async with told_api(Settings(partitions=2, api_keys_file=None), tmp_path, *told, none) as client:
        (glance,) = (await client.get("/overview")).json()["subjects"]
        newest = glance["reading"]
        assert [each["glucose_mgdl"] for each in newest["before"]] == [93, 91, 90]
        assert (newest["glucose_mgdl"], newest["without_forecast"]) == (94, True)
    async with told_api(Settings(partitions=2, api_keys_file=None), tmp_path / "other", *told) as client:
        (glance,) = (await client.get("/overview")).json()["subjects"]
        assert not glance["reading"]["without_forecast"]


# pages of other origins


async def test_a_day_of_a_sensor_of_every_minute_is_told_in_one_answer(tmp_path: Path) -> None:
    """As the page's history asks for it: it was 422, and with the most that was allowed 14 of its hours were blank."""
    newest = now()
    told = [told_reading("anna", newest - minute * STEP / 5) for minute in reversed(range(600))]
    async with told_api(Settings(partitions=2, api_keys_file=None), tmp_path, *told) as client:
        answer = await client.get("/subjects/anna/readings?limit=2880")
        few = await client.get("/subjects/anna/readings", params={"limit": 2, "to": (newest - STEP).isoformat()})
    assert (answer.status_code, len(answer.json()["readings"])) == (200, 600)
    assert [each["time"] for each in few.json()["readings"]] == [
        (newest - minute * STEP / 5).isoformat().replace("+00:00", "Z") for minute in (6, 5)
    ]


async def test_pages_of_listed_origins_read_what_they_need(tmp_path: Path) -> None:
    settings = Settings(partitions=2, cors_origins=("https://app.example",))
    async with told_api(settings, tmp_path, told_forecast("anna", now())) as client:
        origin = {"origin": "https://app.example"}
        told = (await client.get(FORECAST, headers=origin)).headers["access-control-expose-headers"]
        assert {"etag", "link", "retry-after"} <= {name.strip().lower() for name in told.split(",")}
        asked = {
            "access-control-request-method": "GET",
            "access-control-request-headers": "if-none-match,last-event-id,traceparent,x-api-key",
        }
        assert (await client.options(FORECAST, headers=origin | asked)).status_code == 200


# the description


def test_the_description_has_a_schema_of_every_json_answer() -> None:
    document = described(create_app(Settings()))
    schemas = document["components"]["schemas"]

    def says(schema: dict[str, Any]) -> bool:
        if "$ref" in schema:
            return says(schemas[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return all(says(each) for each in schema["anyOf"])
        if schema.get("type") == "array":
            return says(schema.get("items", {}))
        if schema.get("type") == "object":
            return bool(schema.get("properties")) or says(schema.get("additionalProperties") or {})
        return bool({"type", "enum", "const"} & schema.keys())

    silent = [
        f"{method.upper()} {path} {status}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for status, response in operation["responses"].items()
        for media_type, content in response.get("content", {}).items()
        if re.search("json", media_type) and not says(content.get("schema", {}))
    ]
    assert silent == []


def test_the_description_names_the_scope_of_every_key_and_the_500_of_every_operation() -> None:
    document = described(create_app(Settings()))
    operations = itertools.chain.from_iterable(each.values() for each in document["paths"].values())
    for operation in operations:
        assert "500" in operation["responses"], operation["operationId"]
        scope = operation.get("x-glucast-scope")
        asked = [scopes for way in operation.get("security", []) for scopes in way.values()]
        assert asked == [[] if scope == "any" else [scope]] * len(asked)
        assert bool(asked) == (scope is not None)
