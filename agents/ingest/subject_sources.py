"""Orders about where a subject's readings come from: which device is preferred, and that a sensor was started.

An order is a message of ``cgm.readings`` with the subject as its key, no value, and what is ordered in a header
(`schemas.sources`). So each reading is before or after it, by its offset, whoever reads it and however often: the row
says which policy held from which offset on, and keeps an earlier one while a reading of its time may be delivered
again. Beside that it names the devices that spoke, for whoever has to choose one.
"""

import datetime

from agents.core import fingerprint, sources
from agents.core.rolling_window import RollingWindow
from agents.ingest import subject_reset
from agents.work import Message, Work
from schemas.errors import MalformedRecordError
from schemas.grid import slot_of
from schemas.reading import ReadingOutcome
from schemas.record import FIRST_YEAR, LAST_YEAR
from schemas.sources import (
    MOST_DEVICES,
    MOST_STARTS,
    POLICY,
    SENSOR_START,
    DecidedPolicy,
    SensorStart,
    SourcePolicy,
    SourceState,
)
from schemas.tables import SOURCES_TABLE as TABLE
from schemas.topics import READING_OUTCOMES

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)

MOST_UNSETTLED = 8
"""Orders, not yet committed, from which on another waits for a commit: so a row is bounded."""


def is_order(message: Message) -> bool:
    """Whether a message of the topic is such an order, and no reading."""
    return not message.value and bool({POLICY, SENSOR_START} & message.headers.keys())


def guide(work: Work, subject_id: str, window: RollingWindow) -> SourceState:
    """Give the window the policy that held when the message came, and the starts that were known then.

    Returns what is known of the subject's sources, for `remember`.
    """
    state, offset = _state(work, subject_id), work.message.offset
    held = [each.policy for each in state.policies if each.offset < offset]
    if held:
        preferred, wait = held[-1].preferred_device, held[-1].wait_minutes
        window.policy = sources.Policy(sources.source_of(preferred), wait)
    window.sessions = [_microseconds(each.time) for each in state.starts if each.offset < offset]
    return state


def remember(work: Work, subject_id: str, state: SourceState, device: str | None) -> None:
    """That a device has spoken, if it is new."""
    if device and device not in state.devices:
        _put(work, subject_id, state, {"devices": (*state.devices, device)[-MOST_DEVICES:]})


async def carry_out(work: Work, subject_id: str, most_ahead_seconds: float) -> bool:
    """What a message orders; False of a subject that was erased since. Raises `MalformedRecordError` for a header that
    orders nothing.

    A start in the future is rejected in an outcome. One that was told before changes nothing; a policy is written
    again, because whoever ordered it waits for the row.
    """
    message = work.message
    policy, start = message.headers.get(POLICY), message.headers.get(SENSOR_START)
    wanted = None if policy is None else SourcePolicy.from_json(policy)
    time = None if start is None else _time(start)
    marker = subject_reset.forgotten(work, subject_id)
    if marker is not None and marker[0] == "erased":
        return False
    state = _state(work, subject_id)
    offsets = [*map(_offset, state.policies), *map(_offset, state.starts)]
    unsettled = sum(offset >= work.committed for offset in offsets)
    if message.offset > max(offsets, default=-1) and unsettled >= MOST_UNSETTLED:
        await work.settled()
    if wanted is not None:
        decided = {each.offset: each for each in state.policies}
        decided[message.first_offset] = DecidedPolicy(offset=message.first_offset, policy=wanted)
        _put(work, subject_id, state, {"policies": _needed(sorted(decided.values(), key=_offset), work.committed)})
        return True
    assert time is not None  # noqa: S101  one of both is there
    ahead = time.timestamp() - message.timestamp_ms / 1000
    if ahead > most_ahead_seconds:
        _reject(work, subject_id, time, f"the sensor's start is {ahead:.0f} s ahead: check the clock of the device")
    elif slot_of(time) not in {slot_of(each.time) for each in state.starts}:
        told = sorted((*state.starts, SensorStart(offset=message.first_offset, time=time)), key=_offset)
        settled = sorted((each for each in told if each.offset < work.committed), key=lambda each: each.time)
        kept = [each for each in told if each in settled[-MOST_STARTS:] or each.offset >= work.committed]
        _put(work, subject_id, state, {"starts": tuple(kept)})
    return True


def forget(work: Work, subject_id: str, erases: bool, offset: int, done: subject_reset.Done) -> None:
    """An order to begin anew lets the starts and devices of before it go, one to erase all of before it.

    `done`: of the order; where it was done before, a row that was written since holds nothing of before.
    """
    row = work.get(TABLE, subject_id)
    if row is None:
        return
    state = _state(work, subject_id)
    if done == "superseded":  # a later reset has left the policies of before
        later = tuple(each for each in state.policies if not erases or each.offset > offset)
        if later != state.policies:
            _put(work, subject_id, state, {"policies": later})
        return
    if done == "before" and state.began_ms >= subject_reset.began_ms(work, subject_id):
        return
    starts = tuple(each for each in state.starts if each.offset > offset)
    policies = tuple(each for each in state.policies if not erases or each.offset > offset)
    if policies or starts:
        _put(work, subject_id, state, {"starts": starts, "policies": policies, "devices": ()})
    else:
        work.delete(TABLE, subject_id)


def _state(work: Work, subject_id: str) -> SourceState:
    """Of nobody, and of a row that a later version wrote, the beginning."""
    row = work.get(TABLE, subject_id)
    try:
        return SourceState.from_json(row) if row else SourceState()
    except MalformedRecordError:
        return SourceState()


def _put(work: Work, subject_id: str, state: SourceState, update: dict[str, object]) -> None:
    began_ms = subject_reset.began_ms(work, subject_id)
    work.put(TABLE, subject_id, state.model_copy(update={**update, "began_ms": began_ms}).to_row())


def _needed(policies: list[DecidedPolicy], committed: int) -> tuple[DecidedPolicy, ...]:
    """By offset: the last, and those that held for a message which may be delivered again."""
    ends = [each.offset for each in policies[1:]]
    return (*(each for each, end in zip(policies, ends, strict=False) if end > committed), policies[-1])


def _offset(each: DecidedPolicy | SensorStart) -> int:
    return each.offset


def _microseconds(start: datetime.datetime) -> int:
    """Unix time."""
    return (start - _EPOCH) // _MICROSECOND


def _time(text: bytes) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text.decode())
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise MalformedRecordError("the start of a sensor is a time in RFC 3339 with its offset from UTC") from None
    return time


def _reject(work: Work, subject_id: str, time: datetime.datetime, reason: str) -> None:
    message = work.message
    outcome = ReadingOutcome(
        outcome_id=fingerprint.order_id("sensor-start", subject_id, message.partition, message.offset),
        subject_id=subject_id,
        status="rejected",
        code="future",
        reason=reason,
        time=time,
    )
    work.publish(READING_OUTCOMES, subject_id, outcome)
