"""What commands for operators and people make of a fuzzed message: topics that no step reads, and exports."""

import json
from collections.abc import Callable, Mapping
from typing import TypeAlias

from aiokafka.structs import ConsumerRecord

from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.errors import RejectedError
from schemas.score import TargetScore
from schemas.topics import SUBJECT_KEYS, Topic
from streams import dlq, models, replays, subjects
from streams.settings import Settings

Record: TypeAlias = ConsumerRecord[bytes, bytes]


def ending_of_tool(record: Record, settings: Settings) -> str | None:
    """How whoever reads the topic ends with a message; None for a topic that no tool reads."""
    reader = _READERS.get(record.topic)
    return None if reader is None else "processed" if reader(record, settings) else "skipped"


def _letter(record: Record, settings: Settings) -> bool:
    """`glucast dlq list` and `replay`: listed, and sent again where a step could have failed at it."""
    try:
        letter = DeadLetter.from_json(record.value)
    except RejectedError:
        return False
    if dlq.refusal_of(settings, letter) is None:
        dlq.carried(letter)
    return True


def _score(record: Record, _: Settings) -> bool:
    """Everybody may read scores; so they are read as the record says."""
    try:
        TargetScore.from_json(record.value)
    except RejectedError:
        return False
    return True


_READERS: Mapping[str, Callable[[Record, Settings], bool]] = {
    topics.DEAD_LETTERS.name: _letter,
    topics.MODEL_CHOICES.name: lambda record, _: models.choice_in(record.key, record.value) is not None,
    topics.REPLAYS.name: lambda record, _: replays.answer_of(record.value) is not None,
    topics.SCORES.name: _score,
}


def export_of(record: Record, topic: Topic, settings: Settings) -> list[str]:
    """What is wrong with how a person's export tells the message: it holds whatever lies under the person's name."""
    if topic.key not in SUBJECT_KEYS or record.key is None:
        return []
    named = subjects.named_by(record, topic)
    whose = record.key.decode(errors="replace") if named is None else named
    row = subjects.exported(record, topic, whose, settings)
    if row is None:
        return [] if named is None else ["an export leaves out what lies under the person's name"]
    if row["record"] is not None:
        json.loads(row["record"])
    elif row["raw"] is None and record.value is not None:
        return ["an export says nothing of a message"]
    return []
