"""The AsyncAPI 3 document of glucast, built from the topology: who reads and writes which record on which topic."""

from collections.abc import Mapping
from typing import Any

from schemas import event, topics
from schemas.dead_letter import REPLAY_OF
from schemas.topics import Topic
from schemas.upload import OWNER
from streams import topology

ASYNCAPI_VERSION = "3.0.0"
CONTRACT_VERSION = "1.0.0"
KAFKA_BINDING = "0.5.0"
JSON_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
ARROW_FORMAT = "application/vnd.apache.arrow.stream"

Node = dict[str, Any]

CHANNELS = (
    *topics.TOPICS, *topology.CHART_CHANGELOGS.values(), topology.SCORES_CHANGELOG, topology.ALERTS_CHANGELOG,
    topology.DAYS_CHANGELOG, topology.SOURCES_CHANGELOG,
)  # fmt: skip
"""All topics, and the changelogs that the query role follows."""


def document(payloads: Mapping[str, str]) -> Node:
    """The document as plain data. `payloads`: record name to the schema file beside ``asyncapi.yaml``."""
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "id": "urn:glucast",
        "info": {
            "title": "glucast",
            "version": CONTRACT_VERSION,
            "description": "Probabilistic glucose forecasts from continuous glucose monitoring, on Kafka. "
            "Delivery is at least once: drop repeats by the record's own id. "
            "Not a medical device; not for treatment decisions.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Any Apache Kafka; the embedded broker of `glucast up` listens on the default.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "host:port"}},
            }
        },
        "channels": {topic.name: _channel(topic) for topic in CHANNELS},
        "operations": _operations(),
        "components": {"messages": {_message_name(topic): _message(topic, payloads) for topic in CHANNELS}},
    }


def _channel(topic: Topic) -> Node:
    name = _message_name(topic)
    configuration: Node = {"cleanup.policy": ["compact" if topic.compacted else "delete"]}
    if not topic.compacted:
        configuration["retention.ms"] = topic.retention_ms
    configuration["max.message.bytes"] = topic.max_message_bytes
    if topic.stamped:
        configuration["message.timestamp.type"] = "LogAppendTime"
    return {
        "address": topic.name,
        "description": f"{topic.about}; keyed by {topic.key}",
        "tags": [{"name": "public" if topic.public else "internal"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": {"topicConfiguration": configuration, "bindingVersion": KAFKA_BINDING}},
    }


def _operations() -> Node:
    operations: Node = {}
    for step in topology.STEPS:
        for action, reached in (("receive", step.reads), ("send", _sent_by(step))):
            for topic in reached:
                operations.setdefault(f"{step.name}.{action}.{topic.name}", _operation(step, action, topic))
    return operations


def _sent_by(step: topology.Step) -> tuple[Topic, ...]:
    """What a step sends: a worker's also dead letters."""
    return (*step.writes, topics.DEAD_LETTERS) if step.role in topology.WORKER_ROLES else step.writes


def _operation(step: topology.Step, action: str, topic: Topic) -> Node:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": step.about if action == "receive" else f"{step.name}: {topic.about}",
        "tags": [{"name": step.role}],
        "messages": [{"$ref": f"{channel}/messages/{_message_name(topic)}"}],
        "bindings": _group(step) if action == "receive" and step.role != "query" else {},
    }


def _group(step: topology.Step) -> Node:
    """Workers share a consumer group; every replica of the query role reads everything."""
    pattern = f"^{topology.app_id(step.role)}"
    return {"kafka": {"groupId": {"type": "string", "pattern": pattern}, "bindingVersion": KAFKA_BINDING}}


def _message_name(topic: Topic) -> str:
    """KeyError for a followed topic of bytes whose rows have no name here."""
    return topic.record or _ROWS[topic]


_ROWS: Mapping[Topic, str] = {
    topics.UPLOADS: "VendorExport",
    topology.SCORES_CHANGELOG: "ScoreRow",
    topology.ALERTS_CHANGELOG: "AlertStateRow",
    topology.DAYS_CHANGELOG: "GlucoseDayRow",
    topology.SOURCES_CHANGELOG: "SourceStateRow",
    **dict.fromkeys(topology.CHART_CHANGELOGS.values(), "FanChartRow"),
}


def _message(topic: Topic, payloads: Mapping[str, str]) -> Node:
    content, payload = _payload(topic, payloads)
    return {
        "name": _message_name(topic),
        "contentType": content,
        "payload": payload,
        "bindings": {
            "kafka": {"key": {"type": "string", "description": topic.key}, "bindingVersion": KAFKA_BINDING},
        },
    } | _headers(topic)


def _payload(topic: Topic, payloads: Mapping[str, str]) -> tuple[str, Node]:
    if topic.record is None:
        return "application/octet-stream", {"type": "string", "format": "binary", "description": topic.about}
    if topic.encoding == "arrow":
        return ARROW_FORMAT, {"schemaFormat": ARROW_FORMAT, "schema": {"$ref": f"./{payloads[topic.record]}"}}
    return "application/json", {"schemaFormat": JSON_SCHEMA_FORMAT, "schema": {"$ref": f"./{payloads[topic.record]}"}}


def _headers(topic: Topic) -> Node:
    """Of what others read, and of uploads; none of them has to be there."""
    properties: Node = {}
    if topic is topics.UPLOADS:
        properties |= {
            "timezone": {"type": "string", "default": "UTC", "description": "IANA name of the file's local time."},
            "force": {"type": "string", "enum": ["1"], "description": "Compute again what is known."},
            OWNER: _text("Whose it is, a SHA-256 digest: its ids are this owner's own. Without it everybody's."),
        }
    if topic is topics.READINGS:
        properties |= {
            "reset": _text("Of a message without a value: what is remembered of the subject in its key goes."),
            "erase": _text("The same, and the subject's name with it."),
            "sources": _text("Of a message without a value: a SourcePolicy in JSON for the subject in its key."),
            "sensor-start": _text("The same: when a sensor was started, RFC 3339."),
        }
    if topic in (topics.UPLOADS, topics.READINGS):
        properties[REPLAY_OF] = _text("Of one that a dead letter sends again: topic/partition/offset/ms/step.")
    if topic.public:
        properties[event.TRACEPARENT] = _text("W3C Trace Context; what is made of the message carries it on.")
    if topic.public and topic.record and topic is not topics.WEBHOOKS:  # a state, no event
        properties |= {
            event.SPECVERSION: {"type": "string", "enum": ["1.0"]},
            event.ID: _text("The record's own id: with the source it tells a repeat."),
            event.SOURCE: _text("/glucast/ and the step that made it."),
            event.TYPE: {"type": "string", "enum": [f"glucast.{topic.record}"]},
            event.TIME: _text("When what it was made from came, RFC 3339; of what a step made."),
            event.CONTENT: {"type": "string", "enum": ["application/json"]},
        }
    if topic is topics.DEAD_LETTERS:
        names = ("topic", "partition", "offset", "connector.name", "stage", "exception.class.name", "exception.message")
        properties |= {f"__connect.errors.{name}": {"type": "string"} for name in names}
    return {"headers": {"type": "object", "properties": properties}} if properties else {}


def _text(description: str) -> Node:
    return {"type": "string", "description": description}
