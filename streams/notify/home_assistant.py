"""A person as a device of Home Assistant: which topics of MQTT there are, and how the device announces itself. Pure.

Discovery as https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery has it: one retained message an entity at
``<discovery prefix>/<component>/<node>/<object>/config``. All entities of a person read one topic, whose state is not
retained: a broker that brings an old one back would make it look new.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from schemas.grid import PRESENT
from schemas.reading import Unit

ONLINE, OFFLINE = "online", "offline"
_EXPIRES_SECONDS = int(PRESENT.total_seconds()) + 60
"""Home Assistant shows nothing older by itself, should the process and its last will both fail."""


class Entity(NamedTuple):
    """One thing that Home Assistant shows: which field of the state, and how."""

    component: str
    name: str
    field: str
    more: Mapping[str, Any]


def entities(unit: Unit) -> tuple[Entity, ...]:
    """Of every person."""
    measured = {"unit_of_measurement": unit, "state_class": "measurement", "expire_after": _EXPIRES_SECONDS}
    chance = {"unit_of_measurement": "%", "state_class": "measurement", "expire_after": _EXPIRES_SECONDS}
    return (
        Entity("sensor", "Glucose", "glucose", measured | {"icon": "mdi:water"}),
        Entity("sensor", "Trend", "trend", {"icon": "mdi:trending-up", "expire_after": _EXPIRES_SECONDS}),
        Entity("sensor", "Measured", "measured_at", {"device_class": "timestamp"}),
        Entity("sensor", "In 30 minutes", "median_30", measured | {"icon": "mdi:chart-bell-curve"}),
        Entity("sensor", "In 60 minutes", "median_60", measured | {"icon": "mdi:chart-bell-curve"}),
        Entity("sensor", "Low within 30 minutes", "low_percent_30", chance | {"icon": "mdi:arrow-down-bold"}),
        Entity("sensor", "Low within 60 minutes", "low_percent_60", chance | {"icon": "mdi:arrow-down-bold"}),
        Entity("sensor", "Alert kind", "alert_kind", {"icon": "mdi:bell"}),
        Entity("binary_sensor", "Alert", "alert", {"device_class": "problem"}),
    )


class Topics(NamedTuple):
    """The names of topics; `ordinal` of the process, so that each says of itself whether it lives."""

    prefix: str
    discovery_prefix: str
    ordinal: int

    @property
    def availability(self) -> str:
        return f"{self.prefix}/notify-{self.ordinal}/availability"

    @property
    def birth(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.discovery_prefix}/status"

    def state(self, subject_id: str) -> str:
        """Subject ids have neither slash nor a wildcard of MQTT."""
        return f"{self.prefix}/{subject_id}/state"

    def config(self, subject_id: str, entity: Entity) -> str:
        return f"{self.discovery_prefix}/{entity.component}/{_node(subject_id)}/{entity.field}/config"


def announcements(topics: Topics, subject_id: str, unit: Unit) -> dict[str, bytes]:
    """Retained messages by topic that make a person's device known."""
    node = _node(subject_id)
    device = {
        "identifiers": [node],
        "name": f"glucast {subject_id}",
        "manufacturer": "glucast",
        "model": "Not a medical device",
    }
    found = {}
    for entity in entities(unit):
        config = {
            "name": entity.name,
            "unique_id": f"{node}_{entity.field}",
            "state_topic": topics.state(subject_id),
            "value_template": f"{{{{ value_json.{entity.field} }}}}",
            "json_attributes_topic": topics.state(subject_id),
            "availability_topic": topics.availability,
            "device": device,
            "origin": {"name": "glucast"},
            **entity.more,
        }
        found[topics.config(subject_id, entity)] = orjson.dumps(config)
    return found


def removals(topics: Topics, subject_id: str, unit: Unit) -> dict[str, bytes]:
    """Retained messages by topic that make Home Assistant forget a person."""
    return dict.fromkeys((topics.config(subject_id, entity) for entity in entities(unit)), b"")


def _node(subject_id: str) -> str:
    """A name of letters and digits alone, which discovery asks for."""
    return f"glucast_{hashlib.sha256(subject_id.encode()).hexdigest()[:16]}"
