"""Several sensors or apps that report for one person: which of them speaks, and what is said where they differ. Pure.

A source is a device as its readings name it; 0 is a reading that names none. Without a policy every source is heard:
the reading nearest to a slot's time holds it. With one:

* a reading of the preferred device takes its slot from any other, and no other takes it back;
* between two readings of the preferred device, and after its last, readings of others are heard only if those lie
  further apart, by their own times, than the wait and half a step: no sensor is punctual. Then all of them, so that a
  policy makes no gap of its own with a wait of a quarter of an hour;
* what is not heard is remembered: it is heard as soon as the preferred device was silent for long enough.

That is a rule of what the slots hold, not of the order in which readings came. A policy holds for readings that come
after it; of slots that were decided before it nothing is undone.

Two sources disagree where their values for one slot lie more than 20 mg/dL apart, and more than 20 % of the lower: the
20/20 rule by which studies of sensors count agreement.

A sensor is taken for another from the first reading on that names another device, or that lies behind the start of a
sensor that somebody told of. A jump between the two says nothing of a body. In the two hours after a start readings
are flagged: so long Dexcom's G5 and G6 show none of their own (G5 Mobile User Guide, 7.4; Libre waits for one), and
whoever reads a sensor earlier has what its maker does not vouch for. Another device alone is no start: it may be
another app.
"""

import bisect
import datetime
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from agents.core.local_time import spoken, wall_clock
from schemas.grid import CENTI, MGDL_PER_MMOLL, PAST_POINTS, STEP, STEP_SECONDS

UNNAMED = 0
APART_CENTI, APART_SHARE = 20 * CENTI, 0.2
WARM_UP_MICROSECONDS = 2 * 3600 * 1_000_000
DISAGREEMENT_SLOTS = 12
"""So far back from its last point a forecast says that sources disagreed."""
MOST_CHANGES = 8
"""Of a window, the newest: where sources take turns each reading is one."""
_MICROSECOND = datetime.timedelta(microseconds=1)


class OfSource(Protocol):
    """As much of a held reading as is looked at."""

    @property
    def shift_microseconds(self) -> int: ...
    @property
    def centi(self) -> int: ...
    @property
    def source(self) -> int: ...


H = TypeVar("H", bound=OfSource)


class Policy(NamedTuple):
    """The preferred source, UNNAMED for none, and for how many minutes others wait for it."""

    preferred: int = UNNAMED
    wait_minutes: int = 15

    @property
    def reach_slots(self) -> int:
        """So many slots behind a reading, at most, it keeps another device quiet."""
        return 0 if self.preferred == UNNAMED else 1 + longest_silence(self.wait_minutes) // STEP


ANYBODY = Policy()


class Disagreement(NamedTuple):
    """Two sources in one slot, how far apart, and the message that told so."""

    slot: int
    by_offset: int
    centi: int


class Change(NamedTuple):
    """The first reading of another sensor: its slot, and by how much glucose jumped, 0 for no more than it may."""

    slot: int
    jump_centi: int


def source_of(device: str | None) -> int:
    """32 bits for a device's name: equal for equal names."""
    if not device:
        return UNNAMED
    return int.from_bytes(hashlib.sha256(b"glucast-device-v1\n" + device.encode()).digest()[:4], "little") or 1


def heard(slots: dict[int, H], policy: Policy, wait: bool = True) -> dict[int, H]:
    """The slots that count by this policy; without `wait` also those after the preferred device's last reading."""
    if policy.preferred == UNNAMED:
        return slots
    own = sorted(slot for slot, held in slots.items() if held.source == policy.preferred)
    newest, longest = max(slots, default=0), longest_silence(policy.wait_minutes) // _MICROSECOND

    def counts(slot: int) -> bool:
        at = bisect.bisect_left(own, slot)
        if at == 0 or (at < len(own) and own[at] == slot):
            return True
        if at == len(own) and not wait:
            return True
        end = own[at] if at < len(own) else newest
        return time_of(end, slots[end]) - time_of(own[at - 1], slots[own[at - 1]]) > longest

    return {slot: held for slot, held in slots.items() if counts(slot)}


def longest_silence(wait_minutes: int) -> datetime.timedelta:
    """For how long nothing may come of the preferred device before others are heard: no sensor is punctual."""
    return datetime.timedelta(minutes=wait_minutes) + STEP / 2


def waits_until(slots: Mapping[int, OfSource], policy: Policy) -> int:
    """The first slot in which others speak, if the preferred device stays silent and they go on like the newest."""
    last = max((slot for slot, held in slots.items() if held.source == policy.preferred), default=None)
    if last is None:
        return min(slots)
    quiet = time_of(last, slots[last]) + longest_silence(policy.wait_minutes) // _MICROSECOND
    return (quiet - slots[max(slots)].shift_microseconds) // (STEP // _MICROSECOND) + 1


def apart(one: OfSource, other: OfSource) -> int:
    """By how much two readings disagree, in hundredths of mg/dL; 0 where they agree."""
    difference = abs(one.centi - other.centi)
    return difference if difference > max(APART_CENTI, APART_SHARE * min(one.centi, other.centi)) else 0


def time_of(slot: int, held: OfSource) -> int:
    """When a slot's reading was taken, in Unix microseconds."""
    return slot * STEP_SECONDS * 1_000_000 + held.shift_microseconds


def changes(slots: Mapping[int, OfSource], end: int, sessions: Sequence[int]) -> list[Change]:
    """Where another sensor begins among the 96 slots up to `end`, oldest first.

    `sessions`: told starts in Unix microseconds. A slot that one lies in may hold a reading of before it.
    """
    if not sessions and len({held.source for held in slots.values()} - {UNNAMED}) <= 1:
        return []
    first = end - PAST_POINTS + 1
    inside = sorted(slot for slot in slots if first <= slot <= end)
    found = []
    for before, slot in itertools.pairwise(inside):
        one, other = slots[before], slots[slot]
        named = one.source != other.source and UNNAMED not in (one.source, other.source)
        if named or (sessions and _starts_between(time_of(before, one), time_of(slot, other), sessions)):
            found.append(Change(slot, apart(one, other)))
    return found[-MOST_CHANGES:]


def _starts_between(before: int, time: int, sessions: Sequence[int]) -> bool:
    return any(before < start <= time for start in sessions)


def is_warming_up(time: int, sessions: Sequence[int]) -> int | None:
    """The start that a reading is so shortly behind, all in Unix microseconds; None for none."""
    return max((start for start in sessions if 0 <= time - start < WARM_UP_MICROSECONDS), default=None)


def warnings_of(
    end: int, end_seconds: int, found: Sequence[Change], disagreements: Sequence[Disagreement], start: int | None
) -> list[str]:
    """What a forecast says of its sources. `end_seconds`: local time of the slot `end`; `start`: of its reading's
    sensor, where that warms up."""

    def at(seconds: int) -> str:
        return f"{wall_clock(end_seconds - end * STEP_SECONDS + seconds):%H:%M}"

    told = []
    apart_centi = max((each.centi for each in disagreements if 0 <= end - each.slot < DISAGREEMENT_SLOTS), default=0)
    if apart_centi:
        told.append(f"SOURCES: two devices differ by up to {_spoken(apart_centi)} in the last hour")
    if len(found) == MOST_CHANGES:
        told.append("SENSOR_CHANGE: readings of several devices take turns; name the one that is preferred")
    elif found:
        last = found[-1]
        jump = f", and glucose jumped by {_spoken(last.jump_centi)} with it" if last.jump_centi else ""
        told.append(f"SENSOR_CHANGE: another sensor or device reports since {at(last.slot * STEP_SECONDS)}{jump}")
    if start is not None:
        began = at(start // 1_000_000)
        told.append(f"SENSOR_WARM_UP: the sensor was started at {began}; for two hours its readings may be off")
    return told


def spoken_wait(policy: Policy) -> str:
    """How long others wait, for a person."""
    minutes, seconds = divmod(longest_silence(policy.wait_minutes) // datetime.timedelta(seconds=1), 60)
    return f"{spoken(minutes)} {seconds} s"


def _spoken(centi: int) -> str:
    return f"{centi / CENTI:.0f} mg/dL ({centi / CENTI / MGDL_PER_MMOLL:.1f} mmol/L)"
