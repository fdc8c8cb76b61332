"""The contracts as files: a JSON Schema a record, the columns of Arrow records, AsyncAPI, the tables of the papers.

Other teams build on these files, so they are committed, `check` fails where they differ from the code, and `export`
refuses to overwrite them with something that breaks a reader or a writer of today.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import yaml

import schemas
from schemas.arrow_record import ArrowRecord
from schemas.errors import ConfigurationError
from schemas.record import Record
from streams.contracts import asyncapi, compatibility, papers
from streams.contracts.records import ARROW_RECORDS, JSON_RECORDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DIRECTORY = Path(schemas.__file__).parent


def json_schema(record: type[Record]) -> dict[str, Any]:
    """The JSON Schema of what a reader accepts: unknown fields pass, fields with a default may be absent."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", record.__name__).lower()
    return {"$schema": DIALECT, "$id": f"urn:glucast:{name}:1"} | record.model_json_schema(mode="validation")


def arrow_schema(record: type[ArrowRecord]) -> dict[str, Any]:
    """The columns of an Arrow record; one that is not required has a default where a writer left it out."""
    fields = {field.name: field for field in dataclasses.fields(record)}
    attributes = record.arrow_attributes
    columns = [
        {"name": name, "type": str(kind), "required": _has_no_default(fields[attributes.get(name, name)])}
        for name, kind in record.arrow_fields.items()
    ]
    return {
        "$id": f"urn:glucast:{record.arrow_name}:{record.arrow_version}",
        "title": record.__name__,
        "description": " ".join((record.__doc__ or "").split()),
        "encoding": "Arrow IPC stream of one row; record and version are in the schema's metadata",
        "columns": columns,
    }


def documents() -> dict[str, str]:
    """Every generated file: path below ``schemas/`` to text. The same code gives the same bytes."""
    files = {f"json/{record.__name__}.schema.json": _as_json(json_schema(record)) for record in JSON_RECORDS}
    files |= {f"json/{record.__name__}.arrow.json": _as_json(arrow_schema(record)) for record in ARROW_RECORDS}
    payloads = {name.split("/")[1].split(".")[0]: name for name in files}
    files["asyncapi.yaml"] = yaml.safe_dump(asyncapi.document(payloads), sort_keys=False, width=120, allow_unicode=True)
    return files


def export(directory: Path = DIRECTORY, allow_incompatible: bool = False) -> list[Path]:
    """Write what changed, the papers' blocks beside `directory` too, and return it.

    Raises `ConfigurationError`, with nothing written, where a change breaks who reads or writes the records today.
    """
    if not allow_incompatible and (broken := _incompatibilities(directory)):
        raise ConfigurationError(
            "incompatible with the committed schemas: " + "; ".join(broken) + ". Keep the old fields beside the new."
        )
    written = []
    for path, text in _wanted(directory).items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            written.append(path)
    for path in _orphans(directory):
        path.unlink()
        written.append(path)
    return written


def check(directory: Path = DIRECTORY) -> list[str]:
    """What is wrong with the committed files, a sentence each; empty where they say what the code does."""
    problems = [f"incompatible: {broken}" for broken in _incompatibilities(directory)]
    for path, text in _wanted(directory).items():
        if not path.exists():
            problems.append(f"{path.name} is missing; run: glucast schemas export")
        elif path.read_text("utf-8") != text:
            problems.append(f"{path.name} differs from the code; run: glucast schemas export")
    return problems + [f"{path.name} describes no record; run: glucast schemas export" for path in _orphans(directory)]


def _wanted(directory: Path) -> dict[Path, str]:
    files = {directory / name: text for name, text in documents().items()}
    return files | papers.renewed(directory.parent)


def _orphans(directory: Path) -> list[Path]:
    known = documents()
    return [path for path in sorted((directory / "json").glob("*.json")) if f"json/{path.name}" not in known]


def _incompatibilities(directory: Path) -> list[str]:
    found = []
    generated = documents()
    for path in sorted((directory / "json").glob("*.json")):
        name = path.name.split(".")[0]
        committed = json.loads(path.read_text("utf-8"))
        text = generated.get(f"json/{path.name}")
        if text is None:
            found.append(f"{name}: the record was removed")
        elif path.name.endswith(".arrow.json"):
            found += compatibility.arrow_breaks(name, committed, json.loads(text))
        else:
            found += compatibility.json_breaks(name, committed, json.loads(text))
    return found


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
