"""All that Kafka holds of one person, for the person: written to files, or erased.

Where to look comes from the topology alone: every topic and changelog whose key may be a subject. A new one is covered
without a change here; of a table whose rows are not known here the bytes themselves are written. Whose a row of a table
is, `schemas.tables.subject_of_row` says.
"""

import asyncio
import base64
import dataclasses
import datetime
import json
import shutil
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from agents.core import fingerprint
from agents.core.past_hours import SLOTS_AN_HOUR
from agents.core.rolling_window import RollingWindow, slot_time
from schemas import topics
from schemas.alert import AlertState
from schemas.arrival import WatchState
from schemas.command import CacheCommand
from schemas.errors import ConfigurationError, MalformedRecordError, UnavailableError
from schemas.fan_chart_row import from_row
from schemas.glucose_day import GlucoseDay
from schemas.reading import ERASE, ReadingOutcome
from schemas.score_state import SUMMED_STEPS, ScoreState
from schemas.sources import SourceState
from schemas.tables import FAN_CHART_TABLES, SUBJECTS_TABLE, WATCH_TABLE, subject_of_row
from schemas.topics import Topic, longest_kept_ms
from streams import topology
from streams.kafka.connection import new_consumer, producer_options
from streams.kafka.decoding import Undecodable
from streams.kafka.log_ends import log_ends
from streams.kafka.messages import moment_of
from streams.kafka.partitioning import partition_of
from streams.kafka.whole_topics import everything, placed, started
from streams.settings import Settings

MANIFEST = "manifest.json"
ROWS_A_WRITE = 1000
CONFIRMED_WITHIN_SECONDS = 30.0
_TABLES = {
    topics.changelog(topology.app_id(role), table).name: table
    for role in topology.WORKER_ROLES
    for table in topology.tables_of(role)
}
"""By the names of their changelogs."""
_EPOCH = datetime.date(1970, 1, 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Remains:
    """A topic that keeps records of an erased subject, and until when at the latest."""

    topic: str
    until: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What one topic held of a subject: a file where it was anything, and from when to when its records came."""

    topic: str
    about: str
    rows: int
    file: str | None
    first: str | None
    last: str | None


def sources() -> tuple[Topic, ...]:
    """Every topic and changelog that may hold records of a subject."""
    return tuple(topic for topic in topology.all_topics() if topic.key in topics.SUBJECT_KEYS)


def remains(now: datetime.datetime) -> list[Remains]:
    """What keeps records of a subject that is erased now. Changelogs keep the name of a deleted row, and no more."""
    kept = ((topic.name, datetime.timedelta(milliseconds=longest_kept_ms(topic))) for topic in sources())
    return [Remains(name, (now + longest).replace(microsecond=0)) for name, longest in kept]


def export(settings: Settings, subject_id: str, directory: Path) -> list[Source]:
    """Write a Parquet file a topic that holds anything of a subject, and the manifest, to a new directory.

    A row is a record: partition, offset, time, key, `record` (JSON, where it can be read) or `raw`. Of a table's
    changelog only what the table holds now, with its bytes too: the JSON is for reading and may say less. Raises
    `ConfigurationError` for a directory that is there already, `UnavailableError` and `TopicMismatchError` where Kafka
    does not answer; then nothing is left of it.
    """
    try:
        directory.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be made ({error.strerror}): name a new directory") from None
    try:
        found = asyncio.run(_export_all(settings, subject_id, directory))
        manifest = {
            "subject_id": subject_id,
            "exported_at": _text(datetime.datetime.now(datetime.UTC)),
            "sources": [dataclasses.asdict(source) for source in found],
            "not_here": "uploaded files and their forecasts belong to handles, which name nobody",
        }
        (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return found


async def _export_all(settings: Settings, subject_id: str, directory: Path) -> list[Source]:
    return [await _export(settings, subject_id, topic, directory) for topic in sources()]


async def _export(settings: Settings, subject_id: str, topic: Topic, directory: Path) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("partition", pa.int32()), ("offset", pa.int64()), ("time", pa.timestamp("ms", "UTC")), ("key", pa.string()),
         ("record", pa.string()), ("raw", pa.binary())]
    )  # fmt: skip
    path = directory / f"{topic.name}.parquet"
    decode = _decoder(topic, settings)
    rows, times = 0, list[int]()
    writer = None
    try:
        async for some in _in_parts(_present(settings, subject_id, topic)):
            writer = writer or pq.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(pa.Table.from_pylist([_row(record, decode) for record in some], schema))
            rows += len(some)
            stamps = [record.timestamp for record in some]
            times = [min([*times, *stamps]), max([*times, *stamps])]
    finally:
        if writer is not None:
            writer.close()
    first, last = (_text(moment_of(time)) for time in times) if times else (None, None)
    return Source(topic.name, topic.about, rows, path.name if rows else None, first, last)


async def _in_parts(records: AsyncIterator[ConsumerRecord]) -> AsyncIterator[Sequence[ConsumerRecord]]:
    some: list[ConsumerRecord] = []
    async for record in records:
        some.append(record)
        if len(some) == ROWS_A_WRITE:
            yield some
            some = []
    if some:
        yield some


async def _present(settings: Settings, subject_id: str, topic: Topic) -> AsyncIterator[ConsumerRecord]:
    """What a topic holds of a subject now: of a compacted one the last of each key, if it was not deleted."""
    latest: dict[bytes, ConsumerRecord] = {}
    async for record in everything(settings, topic.name):
        if not _is_of(record, topic, subject_id):
            continue
        if topic.compacted:
            latest.pop(record.key, None)
            latest[record.key] = record
        else:
            yield record
    for record in latest.values():
        if record.value is not None:
            yield record


def _is_of(record: ConsumerRecord, topic: Topic, subject_id: str) -> bool:
    """By the key; and where the record is JSON by what it says: a reading may lie under a key that is not its own."""
    if isinstance(record.value, Undecodable):
        return False
    if named_by(record, topic) == subject_id:
        return True
    if topic.encoding != "json" or record.value is None:
        return False
    if topic == topics.DEAD_LETTERS:
        return _buries(record.value, subject_id)
    return subject_id.encode() in record.value and _field(record.value, "subject_id") == subject_id


def named_by(record: ConsumerRecord, topic: Topic) -> str | None:
    """The subject that a record's key names; None for a key that is nobody's, or a webhook's."""
    if record.key is None or topic.key == "webhook":
        return None
    key = record.key.decode(errors="replace")
    table = _TABLES.get(topic.name)
    return key if table is None else subject_of_row(table, key)


def _buries(letter: bytes, subject_id: str) -> bool:
    """Whether a dead letter carries a message of a subject, or is about one."""
    for field in ("key_base64", "value_base64"):
        text = _field(letter, field)
        try:
            carried = base64.b64decode(text) if isinstance(text, str) else b""
        except ValueError:
            continue
        if (field == "key_base64" and carried == subject_id.encode()) or _field(carried, "subject_id") == subject_id:
            return True
    return False


def _field(value: bytes, name: str) -> Any:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return document.get(name) if isinstance(document, dict) else None


def exported(record: ConsumerRecord, topic: Topic, subject_id: str, settings: Settings) -> dict[str, Any] | None:
    """What an export says of one record of a topic; None for one that is of somebody else."""
    return _row(record, _decoder(topic, settings)) if _is_of(record, topic, subject_id) else None


def _row(record: ConsumerRecord, decode: Callable[[bytes], bytes]) -> dict[str, Any]:
    try:
        text = None if record.value is None else decode(record.value).decode()
    except (MalformedRecordError, ValueError, struct.error):
        text = None
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": moment_of(record.timestamp),
        "key": (record.key or b"").decode(errors="replace"),
        "record": text,
        "raw": record.value if text is None or record.topic in _TABLES else None,
    }


def _decoder(topic: Topic, settings: Settings) -> Callable[[bytes], bytes]:
    """How a topic's values become JSON. It raises for what it cannot read."""
    if topic.encoding == "json":
        return _checked_json
    if topic.encoding == "arrow":
        from schemas.arrow_record import ArrowRecord  # pyarrow: who only asks what remains does not need it
        from streams.contracts.records import records_of

        (kind,) = records_of(ArrowRecord, (topic,))
        return lambda value: orjson.dumps(dataclasses.asdict(kind.from_arrow(value)))
    charts = {topics.changelog(topology.app_id("calc"), table).name for table in FAN_CHART_TABLES.values()}
    if topic.name in charts:
        return lambda value: from_row(value).to_json()
    if topic == topics.changelog(topology.app_id("ingest"), SUBJECTS_TABLE):
        return lambda value: _window(RollingWindow.from_bytes(value, settings.max_late_minutes))
    if topic == topology.SCORES_CHANGELOG:
        return lambda value: _scores(ScoreState.from_bytes(value))
    if topic == topology.DAYS_CHANGELOG:
        return lambda value: _day(GlucoseDay.from_bytes(value))
    if topic == topology.SOURCES_CHANGELOG:
        return lambda value: SourceState.from_json(value).to_json()
    if topic == topology.ALERTS_CHANGELOG:
        return lambda value: AlertState.from_json(value).to_json()
    if topic == topics.changelog(topology.app_id("calc"), WATCH_TABLE):
        return lambda value: WatchState.from_json(value).to_json()
    return _unreadable


def _scores(state: ScoreState) -> bytes:
    days = [
        {
            "day": (_EPOCH + datetime.timedelta(days=day)).isoformat(),
            "horizons": [
                {"steps": steps, **sums._asdict()} for steps, sums in zip(SUMMED_STEPS, state.sums_of(day), strict=True)
            ],
        }
        for day in sorted(state.days)
    ]
    return orjson.dumps(
        {"model": state.model.hex(), "scored": state.scored, "unmeasured": state.unmeasured, "days": days}
    )


def _day(day: GlucoseDay) -> bytes:
    """By the time of day in UTC: the day itself is in the row's key."""
    readings = [
        {"time": slot_time(slot, 0).strftime("%H:%MZ"), "glucose_mgdl": centi / 100}
        for slot, centi in enumerate(day.centi)
        if centi
    ]
    return orjson.dumps({"offset_minutes": day.zone_minutes, "readings": readings})


def _checked_json(value: bytes) -> bytes:
    orjson.loads(value)
    return value


def _unreadable(_: bytes) -> bytes:
    raise MalformedRecordError("a row of a table that is written as it is")


def _window(window: RollingWindow) -> bytes:
    readings = [
        {"time": slot_time(slot, held.zone_minutes).isoformat(), "glucose_mgdl": held.centi / 100}
        for slot, held in sorted(window.slots.items())
    ]
    hours = [
        {"hour": slot_time(hour * SLOTS_AN_HOUR, 0).isoformat(), "mean_mgdl": centi / count / 100, "readings": count}
        for hour, (centi, count) in sorted(window.hours.items())
    ]
    return orjson.dumps({"readings": readings, "hours": hours})


async def erase(settings: Settings, subject_id: str) -> ReadingOutcome:
    """Order that a subject is erased, and what was uploaded as theirs; the outcome, once the worker has confirmed it.

    Raises `UnavailableError` where Kafka or the worker does not answer in time; an order that was sent goes on, and
    `TopicMismatchError` where the topics are missing.
    """
    settings = await placed(settings)
    consumer = new_consumer(settings)
    producer = AIOKafkaProducer(**producer_options(settings))
    number = partition_of(subject_id.encode(), settings.partitions)
    told = TopicPartition(topics.READING_OUTCOMES.name, number)
    await started(consumer, settings)
    try:
        await started(producer, settings)
        try:
            consumer.assign([told])
            consumer.seek(told, (await log_ends(consumer, [told]))[told])
            sent = await producer.send_and_wait(
                topics.READINGS.name, None, subject_id.encode(), number, headers=[(ERASE, b"1")]
            )
            identity = fingerprint.order_id("erased", subject_id, sent.partition, sent.offset)
            await _end_uploads(producer, settings, subject_id, identity, sent.timestamp)
            async with asyncio.timeout(CONFIRMED_WITHIN_SECONDS):
                while True:
                    outcome = _outcome((await consumer.getone()).value)
                    if outcome is not None and outcome.outcome_id == identity:
                        return outcome
        finally:
            await producer.stop()
    except TimeoutError:
        raise UnavailableError(
            "the order is on its way, but no ingest worker has confirmed it yet; is one running? Asking again is safe"
        ) from None
    except KafkaError as error:
        raise UnavailableError(f"Kafka does not take the order ({type(error).__name__}): {error}") from error
    finally:
        await consumer.stop()


async def _end_uploads(
    producer: AIOKafkaProducer, settings: Settings, subject_id: str, command_id: str, up_to_ms: int
) -> None:
    """Order the end of what was uploaded with keys for this person alone, wherever it lies."""
    command = CacheCommand(
        action="flush_owner", command_id=command_id, up_to_ms=up_to_ms, owner=fingerprint.owner_of([subject_id])
    )
    for partition in range(settings.partitions):
        await producer.send_and_wait(topics.CACHE_COMMANDS.name, command.to_json(), partition=partition)


def _outcome(value: Any) -> ReadingOutcome | None:
    try:
        return ReadingOutcome.from_json(value)
    except MalformedRecordError:
        return None


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="seconds")
