"""The committed contracts say what the code does, and a change that breaks somebody is named."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import topics
from schemas.arrow_record import ArrowRecord
from schemas.errors import ConfigurationError
from schemas.forecast import Forecast
from schemas.reading import Reading
from schemas.record import Record
from streams import topology
from streams.contracts import compatibility, export, papers
from streams.contracts.records import ARROW_RECORDS, JSON_RECORDS, records_of
from tests.kit.processes import printed

ROOT = Path(__file__).parents[2]


def test_committed_files_are_those_that_the_code_generates() -> None:
    assert export.check() == []


def generated(hash_seed: str) -> str:
    """What a process of its own writes, in which sets and hashes have another order."""
    program = "from streams.contracts import export, papers; import json; print(json.dumps("
    program += "export.documents() | {name: block() for name, block in papers.BLOCKS.items()}, ensure_ascii=True))"
    return printed(program, hash_seed=hash_seed)


def test_generation_is_deterministic() -> None:
    first, second = generated("1"), generated("2")
    assert first == second
    assert json.loads(first).keys() == {*export.documents(), *papers.BLOCKS}


def test_every_record_of_a_topic_is_exported() -> None:
    exported = {kind.__name__ for kind in (*JSON_RECORDS, *ARROW_RECORDS)}
    assert {topic.record for topic in topics.TOPICS if topic.record} == exported


def test_a_record_that_schemas_does_not_define_is_named() -> None:
    unknown = dataclasses.replace(topics.READINGS, record="Reeding")
    with pytest.raises(
        ConfigurationError, match=r"cgm\.readings carries Reeding: no module of schemas defines it as json"
    ):
        records_of(Record, [unknown])
    with pytest.raises(ConfigurationError, match="carries Reading: no module of schemas defines it as arrow"):
        records_of(ArrowRecord, [dataclasses.replace(topics.READINGS, encoding="arrow")])


def test_drift_missing_files_and_orphans_are_told(tmp_path: Path) -> None:
    directory = tmp_path / "schemas"
    export.export(directory)
    assert export.check(directory) == []
    (directory / "json" / "Reading.schema.json").unlink()
    (directory / "asyncapi.yaml").write_text("asyncapi: 3.0.0\n")
    assert [problem.split()[0] for problem in export.check(directory)] == ["Reading.schema.json", "asyncapi.yaml"]
    assert {path.name for path in export.export(directory)} == {"Reading.schema.json", "asyncapi.yaml"}
    (directory / "json" / "Gone.schema.json").write_text("{}")
    assert any("Gone" in problem and "removed" in problem for problem in export.check(directory))


def test_an_incompatible_change_is_not_exported(tmp_path: Path) -> None:
    export.export(tmp_path)
    path = tmp_path / "json" / "Reading.schema.json"
    committed = json.loads(path.read_text())
    committed["properties"]["calibrated"] = {"type": "boolean"}
    path.write_text(json.dumps(committed))
    with pytest.raises(ConfigurationError, match=r"Reading\.calibrated was removed"):
        export.export(tmp_path)
    assert json.loads(path.read_text()) == committed
    assert path in export.export(tmp_path, allow_incompatible=True)


def altered(path: str, value: Any) -> dict[str, Any]:
    """Reading's schema with the entry at a dotted path set, or removed where `value` is None."""
    schema = copy.deepcopy(export.json_schema(Reading))
    *parents, last = path.split(".")
    node: Any = schema
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return schema


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("properties.device", None, "Reading.device was removed"),
        ("properties.glucose", {"type": "integer"}, "Reading.glucose no longer takes number"),
        ("properties.unit.enum", ["mg/dL"], "Reading.unit no longer takes mmol/L"),
        ("properties.subject_id.maxLength", 64, "Reading.subject_id has a lower maxLength"),
        ("properties.subject_id.minLength", 2, "Reading.subject_id has a higher minLength"),
        ("properties.subject_id.pattern", "^[a-z]+$", "Reading.subject_id has another pattern"),
        ("properties.glucose.minimum", 20, "Reading.glucose has a higher minimum"),
        ("properties.device.anyOf", [{"type": "string"}], "Reading.device no longer takes null"),
        ("required", ["subject_id", "time", "glucose", "unit", "device"], "Reading.device is newly required"),
        ("additionalProperties", False, "Reading no longer takes unknown fields"),
    ],
)
def test_what_breaks_is_named(path: str, value: Any, told: str) -> None:
    assert told in compatibility.json_breaks("Reading", export.json_schema(Reading), altered(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties.tomorrow", {"type": "string"}),
        ("properties.unit.enum", ["mg/dL", "mmol/L", "g/L"]),
        ("properties.subject_id.maxLength", 256),
        ("properties.glucose.description", "In other words."),
        ("required", ["subject_id", "time"]),
    ],
)
def test_additive_changes_pass(path: str, value: Any) -> None:
    assert compatibility.json_breaks("Reading", export.json_schema(Reading), altered(path, value)) == []


def test_every_schema_is_compatible_with_itself() -> None:
    for kind in JSON_RECORDS:
        schema = export.json_schema(kind)
        assert compatibility.json_breaks(kind.__name__, schema, schema) == []


def test_arrow_columns_are_compared() -> None:
    old = export.arrow_schema(Forecast)
    new = copy.deepcopy(old)
    new["columns"][0]["type"] = "int32"
    removed = new["columns"].pop()
    new["columns"] += [
        {"name": "extra", "type": "int32", "required": True},
        {"name": "optional", "type": "int32", "required": False},
    ]
    assert compatibility.arrow_breaks("Forecast", old, new) == [
        f"Forecast.{removed['name']} was removed",
        "Forecast.request_id changed from string to int32",
        "Forecast.extra is newly required",
    ]


def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "schemas" / "asyncapi.yaml").read_text())
    return document


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_asyncapi_has_what_version_3_requires() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    assert document["servers"]
    for server in document["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        for message in operation["messages"]:
            assert message["$ref"].rsplit("/", 1)[1] in channel["messages"], "a message that its channel does not carry"
    for message in document["components"]["messages"].values():
        assert {"contentType", "payload"} <= message.keys()


def test_asyncapi_references_resolve() -> None:
    document = asyncapi()
    kinds = {reference.split("/")[0] for reference in references(document)}
    assert kinds == {"#", "."}, "parts of the document and files beside it"
    for reference in references(document):
        if reference.startswith("./"):
            assert (ROOT / "schemas" / reference).is_file(), reference
            continue
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_asyncapi_follows_the_topology() -> None:
    document = asyncapi()
    followed = [topic for topic in topology.step_of("query_api").reads if topic in topology.changelogs()]
    channels = [*topics.TOPICS, *followed]
    assert [channel["address"] for channel in document["channels"].values()] == [topic.name for topic in channels]
    expected = {f"{step.name}.receive.{topic.name}" for step in topology.STEPS for topic in step.reads}
    expected |= {f"{step.name}.send.{topic.name}" for step in topology.STEPS for topic in step.writes}
    expected |= {
        f"{step.name}.send.{topics.DEAD_LETTERS.name}" for step in topology.STEPS if step.role in topology.WORKER_ROLES
    }
    assert set(document["operations"]) == expected
