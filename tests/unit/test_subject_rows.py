"""Whose a record is, whatever people are called: names of parts of other keys, of webhooks, of each other."""

import pytest
from aiokafka.structs import ConsumerRecord

from schemas import topics
from schemas.tables import (
    ALERTS_TABLE,
    DAYS_TABLE,
    FAN_CHART_TABLES,
    SCORES_TABLE,
    SERIES_TABLE,
    SOURCES_TABLE,
    SUBJECTS_TABLE,
    WATCH_TABLE,
    day_key,
    handle_key,
    subject_key,
    subject_of_row,
    trial_key,
)
from schemas.topics import Topic
from streams import subjects, topology
from streams.settings import Settings
from tests.kit.alerts import NOW, endpoint

SETTINGS = Settings()
DAY, SLOT = 20_786, 77
MODEL = "d" * 64
CHARTS = FAN_CHART_TABLES["live"]
OF_ANNA = [
    (DAYS_TABLE, day_key("anna", DAY)), (SCORES_TABLE, "anna"), (SCORES_TABLE, trial_key("anna")),
    (CHARTS, str(subject_key("anna", SLOT, 576, MODEL))), (CHARTS, f"subject/anna/{SLOT}"),
    (SUBJECTS_TABLE, "anna"), (SUBJECTS_TABLE, "anna/seen"), (SUBJECTS_TABLE, f"seen-on/00{DAY}/anna"),
    (SOURCES_TABLE, "anna"), (ALERTS_TABLE, "anna"), (WATCH_TABLE, "anna"), (WATCH_TABLE, "due/001764400000000/anna"),
]  # fmt: skip
OF_NOBODY = [
    (CHARTS, str(handle_key("a" * 64, SLOT, MODEL))), (CHARTS, "gone/*"), (CHARTS, "gone/anna"), (SERIES_TABLE, "anna"),
    (CHARTS, "gone-since/001764400000000/anna"), (SUBJECTS_TABLE, "forgotten/anna"), (DAYS_TABLE, "anna"),
]  # fmt: skip
ALIKE = [
    "ben", str(DAY), f"00{DAY}", "trial", "seen", "seen-on", "subject", "handle", "due", "001764400000000", "gone",
    "forgotten", "*", "ann", "a" * 64, MODEL[:16], str(SLOT),
]  # fmt: skip


def record_of(topic: Topic, key: str, value: bytes = b"1") -> ConsumerRecord:
    return ConsumerRecord(
        topic=topic.name, partition=0, offset=1, key=key.encode(), value=value, headers=[], checksum=None,
        timestamp=1_764_400_000_000, timestamp_type=0, serialized_key_size=1, serialized_value_size=1,
    )  # fmt: skip


def exported_to(topic: Topic, record: ConsumerRecord, *names: str) -> list[str]:
    return [name for name in names if subjects.exported(record, topic, name, SETTINGS) is not None]


def changelog_of(table: str) -> Topic:
    role = next(role for role in topology.WORKER_ROLES if table in topology.tables_of(role))
    return topics.changelog(topology.app_id(role), table)


@pytest.mark.parametrize(("table", "key"), OF_ANNA)
def test_a_row_is_exported_with_whom_its_key_names_and_with_nobody_called_as_another_part(table: str, key: str) -> None:
    topic = changelog_of(table)
    assert exported_to(topic, record_of(topic, key), "anna", *ALIKE) == ["anna"]
    for other in ALIKE:  # and each of those has the row that is theirs
        theirs = "/".join(other if part == "anna" else part for part in key.split("/"))
        assert exported_to(topic, record_of(topic, theirs), "anna", *ALIKE) == [other]


@pytest.mark.parametrize(("table", "key"), OF_NOBODY)
def test_handles_series_and_markers_are_nobodys(table: str, key: str) -> None:
    topic = changelog_of(table)
    assert exported_to(topic, record_of(topic, key), "anna", "*", *key.split("/")) == []


def test_every_table_says_whose_its_rows_are() -> None:
    for role in topology.WORKER_ROLES:
        for table in topology.tables_of(role):
            subject_of_row(table, "anna")


def test_a_webhook_is_exported_with_whom_it_is_about_and_not_with_whom_it_is_called_as() -> None:
    webhook = endpoint(name="ben", subject_id="anna").public(None, NOW).to_json()
    assert exported_to(topics.WEBHOOKS, record_of(topics.WEBHOOKS, "ben", webhook), "anna", "ben") == ["anna"]
