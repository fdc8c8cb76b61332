"""Readings in: one, many, a week of them, each judged alone."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from query_api.access import access
from query_api.callers import key_of
from query_api.problems import problem
from query_api.routers.subjects import Subject, Uses
from query_api.sent_readings import judged
from query_api.services import while_connected
from schemas.errors import RejectedError, UnavailableError
from schemas.reading import Reading

router = APIRouter(tags=["subjects"])

MOST_READINGS = 2016
"""A week of 5-minute readings in one request."""
READINGS_BODY_BYTES = 1 << 20
"""Room for so many, each with every field."""


class Rejection(BaseModel):
    """A reading of the request that was not taken."""

    position: int = Field(description="Its place in the request, from 0.")
    reason: str


class ReadingsAnswer(BaseModel):
    accepted: int = Field(description="Readings that Kafka has confirmed.")
    rejected: list[Rejection]


def _sent_reading() -> dict[str, Any]:
    """A reading whose subject stands in the path already."""
    schema = Reading.model_json_schema()
    schema["required"] = [name for name in schema["required"] if name != "subject_id"]
    return schema | {"title": "SentReading"}


_SENT = {"$ref": "#/components/schemas/SentReading"}
_MANY = {"type": "array", "items": _SENT, "minItems": 1, "maxItems": MOST_READINGS}
COMPONENTS: Mapping[str, dict[str, Any]] = {
    "SentReading": _sent_reading(),
    "SentReadings": {
        "title": "SentReadings", "type": "object", "required": ["readings"], "properties": {"readings": _MANY},
    },
}  # fmt: skip
"""Schemas of bodies that are read here and not by the framework."""


@router.post(
    "/subjects/{subject_id}/readings",
    status_code=202,
    response_model=ReadingsAnswer,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": 'One reading, a list of them, or {"readings": [...]}; `subject_id` may be left out.',
            "content": {
                "application/json": {
                    "schema": {"anyOf": [_SENT, _MANY, {"$ref": "#/components/schemas/SentReadings"}]},
                    "example": {"time": "2026-01-01T08:00:00+01:00", "glucose": 6.4, "unit": "mmol/L"},
                }
            },
        }
    },
)
@access("key", scope="write", whose="path", body_bytes=READINGS_BODY_BYTES, raises=(RejectedError, UnavailableError))
async def publish_readings(request: Request, uses: Uses, subject_id: Subject) -> Any:
    """Publish one or many readings; answers when Kafka has confirmed them. Each of them is judged alone.

    A sensor's error code, a whole number below 39 mg/dL, is rejected and published all the same: three of them in a
    row are an alert. With a key of one person that knows their timezone a time in UTC (`Z`), or without an offset, is
    on their clock, and a reading without a device has that of the key.
    """
    items, key = _items(await request.body()), key_of(request)
    published, rejected = [], []
    for position, item in enumerate(items):
        reading, refusal = judged(subject_id, item, key)
        if reading is not None:
            published.append(reading)
        if refusal is not None:
            rejected.append(Rejection(position=position, reason=str(refusal)))
    if published:
        sending = uses.submit.publish_readings(subject_id, [reading.to_json() for reading in published])
        await while_connected(request, sending)
    if len(rejected) == len(items):
        return problem(
            422, rejected[0].reason if len(rejected) == 1 else f"none of {len(rejected)} readings was accepted",
            "rejected", rejected=[item.model_dump() for item in rejected],
        )  # fmt: skip
    return ReadingsAnswer(accepted=len(items) - len(rejected), rejected=rejected)


def _items(body: bytes) -> list[Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RejectedError("the body is not JSON") from None
    if isinstance(document, dict) and isinstance(document.get("readings"), list):
        document = document["readings"]
    items = document if isinstance(document, list) else [document]
    if not items:
        raise RejectedError("the request holds no reading")
    if len(items) > MOST_READINGS:
        raise RejectedError(f"{len(items)} readings in one request; send at most {MOST_READINGS}")
    return items
