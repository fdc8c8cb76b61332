"""Examples of public records: one of each, as its class writes it, valid by its schema."""

import json

import jsonschema
import pytest

from schemas.topics import TOPICS
from streams.contracts.export import DIRECTORY
from streams.contracts.records import JSON_RECORDS

PUBLIC = sorted({topic.record for topic in TOPICS if topic.public and topic.record})


def test_there_is_one_of_each_public_record_and_of_no_other() -> None:
    assert sorted(path.stem for path in (DIRECTORY / "examples").glob("*.json")) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_is_a_record(name: str) -> None:
    text = (DIRECTORY / "examples" / f"{name}.json").read_text("utf-8")
    schema = json.loads((DIRECTORY / "json" / f"{name}.schema.json").read_text("utf-8"))
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))
    (kind,) = [kind for kind in JSON_RECORDS if kind.__name__ == name]
    assert json.loads(kind.from_json(text.encode()).to_json()) == json.loads(text)
