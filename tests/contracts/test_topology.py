"""What a newcomer has to keep in mind when a topic, step or projection is added, and would not see fail at once."""

import importlib
import inspect
from collections import Counter
from pathlib import Path
from typing import get_args

from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.topics import TOPICS, Topic
from streams import topology
from streams.apps import module_of
from streams.subjects import sources


def test_every_topic_is_listed() -> None:
    named = {topic for topic in vars(topics).values() if isinstance(topic, Topic)}
    assert named | set(topics.FORECASTS.values()) == set(TOPICS)


def test_every_topic_says_whether_it_may_name_a_person() -> None:
    """What may is exported with the person; a key of a kind that nobody has decided upon is no key."""
    assert {topic.key for topic in topology.all_topics()} <= set(get_args(topics.KeyedBy))
    exported = {topic.name for topic in sources()}
    assert exported >= {topic.name for topic in topology.changelogs()}
    left_out = {topic for topic in TOPICS if topic.name not in exported}
    assert {topic.key for topic in left_out} == {"series key", "upload id", "role of a model"}
    assert {topic.record for topic in left_out} == {None, "Series", "ForecastDemand", "UploadOutcome", "ModelChoice"}


def test_a_role_reads_a_topic_with_one_step() -> None:
    """Two would share each message and its ack: the first to finish would ack for both."""
    read = Counter((step.role, topic.name) for step in topology.STEPS for topic in step.reads)
    assert [pair for pair, steps in read.items() if steps > 1] == []


def test_every_step_of_a_worker_is_a_module_of_its_role() -> None:
    for role in ("ingest", "calc"):
        for step in topology.steps_of(role):
            assert callable(importlib.import_module(module_of(step)).build), step.name


def test_the_query_role_follows_what_the_page_says(tmp_path: Path) -> None:
    model = ReadModel(Store(tmp_path / "read-model", 1 << 20, 1 << 20), Subscriptions())
    reads = [topic.name for topic in topology.step_of("query_api").reads]
    assert sorted(model.followed) == sorted(reads)
    model.close()


def test_where_a_step_looks_at_a_messages_time_the_broker_says_it() -> None:
    """A sender's own time would let it reach into the future of everybody."""
    judged = {
        topic
        for role in ("ingest", "calc")
        for step in topology.steps_of(role)
        if any(word in inspect.getsource(importlib.import_module(module_of(step))) for word in TIMES)
        for topic in step.reads
    }
    assert topics.READINGS in judged, "the search finds nothing"
    assert {topic.name for topic in judged} == {topic.name for topic in TOPICS if topic.stamped}


TIMES = ("timestamp_ms", "message.came_ms", "mark_deleted", "subject_reset")
