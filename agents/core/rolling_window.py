"""What is remembered of one subject: the newest readings on UTC 5-minute slots, and the windows they make.

A reading belongs to the slot nearest to its time. Of several in a slot the one nearest to the slot's time holds it, of
two as near the earlier one; of two at the same time with different values the one that came later, a correction.
Where a device is preferred it comes before all that: see `agents.core.sources`, also for where two disagree. Gaps to 15
minutes between two readings' own times, and half a step more, are interpolated linearly. So the slots do not depend on
the order in which readings arrive, corrections aside.

Messages are delivered at least once, and what a message wrote or sent may survive while the rest of it did not. So a
slot remembers the offset of its message, and what left a slot is kept with the offset of the message that displaced
it, until that one can never be delivered again. At offset `o` those readings were known which came before `o` and were
not displaced before `o`: a message delivered again is judged by them, and has exactly the effects it had.

One that a dead letter sends again is a late reading like any other, judged by what is known when it comes. But it is
held by the offset that it had first, so it takes no slot from what has corrected it since.

That holds for as long as a message's offset is not committed. Where the group's offsets are set back, by an operator or
because Kafka has lost something, what was displaced is gone: a message from before may find ``too_old``, ``gap`` or
``warming_up`` where there was a forecast.

Of readings too old for their slot to be kept the sums of their hours remain, for a week (`agents.core.past_hours`): a
reading goes there once the message that made it leave is committed. A window's hours are of the readings known at the
offset that issues it; a reading that comes later changes the windows that it lies in, and nobody's hours. So they are
the same when it is delivered again. Rows of before know no hours yet: those fill up from then on.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Literal, NamedTuple

from agents.core import sources
from agents.core.fingerprint import to_centi
from agents.core.local_time import spoken
from agents.core.past_hours import SLOTS_AN_HOUR, Sum, add, hours_before, newest_hour
from agents.core.plausibility import implausible_change
from agents.core.slot_windows import FURTHEST_SLOTS, Issue, begin, next_end, window
from agents.core.sources import Disagreement, Policy
from agents.core.window_row import Displaced, Held, Row, Slots, packed, unpacked
from schemas.grid import PAST_HOURS, PAST_POINTS, STEP_SECONDS
from schemas.reading import OTHER_DEVICE

Flag = Literal["sources_disagree", "sensor_warm_up", "sensor_change"]

SPARE_SLOTS = 19  # kept beyond what windows need
MOST_UNSETTLED = 64
"""Displaced readings, not yet committed, from which on a reading waits for a commit: so a row is bounded."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_STEP_MICROSECONDS = STEP_SECONDS * 1_000_000


class Verdict(NamedTuple):
    """What becomes of a reading; `issues` are windows to be forecast, oldest first."""

    status: Literal["forecast_requested", "no_forecast", "duplicate"]
    issues: list[Issue]
    code: str | None = None
    reason: str | None = None
    kept: bool = True
    """Whether the reading takes a slot."""
    newest: int = 0
    """The newest slot, this reading's included."""
    newest_heard: int | None = None
    """The newest of those whose device is heard, where there is one: the present window ends there."""
    withheld: Sequence[Issue] = ()
    """The windows that it changes and that get no forecast: as they were before, oldest first."""
    expected: int | None = None
    """Where there is no forecast: the first last slot of one, if from now on a reading comes to each slot."""
    flags: tuple[Flag, ...] = ()


def place(
    time: datetime.datetime, glucose_mgdl: float, message_offset: int, device: str | None = None
) -> tuple[int, Held]:
    """The slot of a reading, and the reading as the slot holds it."""
    microseconds = (time - _EPOCH) // _MICROSECOND
    slot = (microseconds + _STEP_MICROSECONDS // 2) // _STEP_MICROSECONDS
    zone = (time.utcoffset() or datetime.timedelta()) // datetime.timedelta(minutes=1)
    shift = microseconds - slot * _STEP_MICROSECONDS
    return slot, Held(shift, to_centi(glucose_mgdl), message_offset, zone, sources.source_of(device))


def slot_time(slot: int, zone_minutes: int) -> datetime.datetime:
    """The time of a slot, on the clock of its reading."""
    zone = datetime.timezone(datetime.timedelta(minutes=zone_minutes))
    return datetime.datetime.fromtimestamp(slot * STEP_SECONDS, zone)


@dataclasses.dataclass(slots=True)
class RollingWindow:
    """The slots of one subject. `late_slots`: how far before the newest slot a window's end may be to be issued."""

    slots: Slots
    late_slots: int
    displaced: list[Displaced] = dataclasses.field(default_factory=list)
    hours: dict[int, Sum] = dataclasses.field(default_factory=dict)
    """What is left of readings whose slots are not kept any more."""
    disagreements: list[Disagreement] = dataclasses.field(default_factory=list)
    policy: Policy = sources.ANYBODY
    """As it was when the message came that is to be accepted; not of the row. So are the next."""
    sessions: Sequence[int] = ()
    """When sensors were started, in Unix microseconds."""

    @property
    def capacity(self) -> int:
        """Slots kept before the newest: a window that ended `late_slots` ago, what it leans on, a margin."""
        return self.late_slots + PAST_POINTS + FURTHEST_SLOTS - 1 + SPARE_SLOTS

    @classmethod
    def from_bytes(cls, data: bytes | None, late_slots: int) -> "RollingWindow":
        """Inverse of `to_bytes`; reads earlier versions too. Raises ValueError for another version's bytes."""
        if not data:
            return cls({}, late_slots)
        row = unpacked(data)
        return cls(row.slots, late_slots, row.displaced, row.hours, row.disagreements)

    def to_bytes(self) -> bytes:
        """As `agents.core.window_row` has it."""
        return packed(Row(self.slots, self.displaced, self.hours, self.disagreements))

    def must_settle(self, message_offset: int, committed: int) -> bool:
        """Whether a new message had better wait until those before it are committed: the row holds much for them."""
        offsets = [each.by_offset for each in self.displaced] + [each.by_offset for each in self.disagreements]
        unsettled = sum(offset >= committed for offset in offsets)
        return unsettled > MOST_UNSETTLED and message_offset > self._reached

    def accept(self, slot: int, reading: Held, committed: int = 0, at: int | None = None) -> tuple[Verdict, bool]:
        """What becomes of a reading, and whether the row has to be written.

        Messages of lower offsets than `committed` are never delivered again: what they displaced is let go. `at` is the
        offset of the message that brings it, if the reading came first with an earlier one.
        """
        at = reading.message_offset if at is None else at
        known = self._known(at, slot, reading)
        verdict = self._judge(known, slot, reading, at)
        after = known | {slot: reading} if verdict.kept else known
        if verdict.status == "no_forecast":
            verdict = verdict._replace(expected=self._expected(after))
        disagreement = self._disagreement(known, slot, reading, verdict, at)
        verdict = verdict._replace(flags=self._flags(after, slot, reading, verdict, disagreement))
        told = self._tell(disagreement, committed)
        if not verdict.kept or self._has_seen(slot, reading, at):
            is_replay = at != reading.message_offset
            return verdict, told or (is_replay and self.slots.get(slot) == reading)  # its day may not be written yet
        newest = max(self.slots, default=slot)
        leaving = [slot] if slot in self.slots else []
        if slot > newest:
            oldest = slot - self.capacity
            leaving += [other for other in self.slots if other < oldest]
        self._settle(committed)
        self.displaced += [Displaced(other, self.slots.pop(other), at) for other in sorted(leaving)]
        self.slots[slot] = reading
        return verdict, True

    def _disagreement(self, known: Slots, slot: int, reading: Held, verdict: Verdict, at: int) -> Disagreement | None:
        """What a reading says against another source's in its slot, if it does."""
        holder = known.get(slot)
        if holder is None or holder.source == reading.source or verdict.status == "duplicate":
            return None
        centi = sources.apart(holder, reading)
        return Disagreement(slot, at, centi) if centi else None

    def _tell(self, new: Disagreement | None, committed: int) -> bool:
        """Remember a disagreement that is greater than its slot's others; whether there was one to remember."""
        if new is None or any(
            each.slot == new.slot and each.by_offset <= new.by_offset and each.centi >= new.centi
            for each in self.disagreements
        ):
            return False
        settled = [slot for slot, held in self.slots.items() if held.message_offset < committed]
        oldest = max(settled, default=new.slot) - self.late_slots - sources.DISAGREEMENT_SLOTS
        self.disagreements = [each for each in self.disagreements if each.by_offset >= committed or each.slot > oldest]
        self.disagreements.append(new)
        return True

    def _flags(
        self, after: Slots, slot: int, reading: Held, verdict: Verdict, disagreement: Disagreement | None
    ) -> tuple[Flag, ...]:
        found: list[Flag] = []
        if verdict.status != "duplicate":
            if disagreement is not None:
                found.append("sources_disagree")
            if sources.is_warming_up(sources.time_of(slot, reading), self.sessions) is not None:
                found.append("sensor_warm_up")
            now = sources.heard(after, self.policy)
            if verdict.kept and any(each.slot == slot for each in sources.changes(now, slot, self.sessions)):
                found.append("sensor_change")
        return tuple(found)

    def _expected(self, after: Slots) -> int:
        """The first last slot of a forecast: of whichever device is heard then, if its readings go on."""
        end = next_end(sources.heard(after, self.policy, wait=False))
        if max(after) in sources.heard(after, self.policy):
            return end
        return max(end, sources.waits_until(after, self.policy))

    def _settle(self, committed: int) -> None:
        """Let go of what no message can ask for again: of readings that aged their hours remember the sum."""
        aged = [each for each in self._aged() if each.by_offset < committed]
        add(self.hours, ((each.slot, each.held.centi) for each in aged))
        self.displaced = [each for each in self.displaced if each.by_offset >= committed]
        newest = max([slot for slot, held in self.slots.items() if held.message_offset < committed], default=None)
        if newest is not None:
            oldest = newest_hour(newest - self.late_slots) - PAST_HOURS
            self.hours = {hour: each for hour, each in self.hours.items() if hour >= oldest}

    def _aged(self) -> list[Displaced]:
        """The displaced readings that nothing took the place of: their slots are too old to be kept."""
        last: dict[int, Displaced] = {}
        for each in self.displaced:
            if each.slot not in self.slots and (each.slot not in last or last[each.slot].by_offset < each.by_offset):
                last[each.slot] = each
        return list(last.values())

    def _sums(self, slots: Slots, offset: int, end_slot: int) -> dict[int, Sum]:
        """Readings by hour as the message of this offset finds them, as far as a window up to `end_slot` asks.

        `slots` are those that are kept.
        """
        stop = (newest_hour(end_slot) + 1) * SLOTS_AN_HOUR
        sums = dict(self.hours)
        add(sums, ((each.slot, each.held.centi) for each in self._aged() if each.by_offset < offset))
        add(sums, ((slot, held.centi) for slot, held in slots.items() if slot < stop))
        return sums

    @property
    def _reached(self) -> int:
        """The offset of the latest message that changed the slots: nothing can have displaced its reading."""
        return max([held.message_offset for held in self.slots.values()], default=-1)

    def _known(self, at: int, slot: int, reading: Held) -> Slots:
        """The slots as the message of offset `at`, which brings the reading, found them when it was delivered first."""
        if at > self._reached and at == reading.message_offset:
            return self.slots
        own = (slot, reading)
        known = {
            each.slot: each.held
            for each in self.displaced
            if each.held.message_offset < at <= each.by_offset and each[:2] != own
        }
        return known | {
            each: held for each, held in self.slots.items() if held.message_offset < at and (each, held) != own
        }

    def _has_seen(self, slot: int, reading: Held, at: int) -> bool:
        """Whether the slots hold it, later messages build on it, or leave no place for it.

        The latter only where offsets were set back, or its step failed when it was delivered first.
        """
        holder = self.slots.get(slot)
        if holder == reading:
            return True
        if at > self._reached:
            return False
        if any(each.slot == slot and each.held == reading for each in self.displaced):
            return True
        return slot < max(self.slots) - self.capacity or (holder is not None and holder.message_offset >= at)

    def _judge(self, known: Slots, slot: int, reading: Held, at: int) -> Verdict:
        """The verdict where `known` is all that came before."""
        newest = max(known, default=slot)
        if slot < newest - self.capacity:
            return _too_old(newest - slot)._replace(kept=False, newest=newest)
        holder = known.get(slot)
        if holder is not None and not self._is_taken_from(holder, reading):
            if self._is_taken_from(reading, holder):
                reason = "the preferred device has measured in this 5-minute slot"
                return Verdict("no_forecast", [], OTHER_DEVICE, reason, kept=False)
            if holder[:2] == reading[:2]:
                return Verdict("duplicate", [], "duplicate", "the same value at the same time is known", kept=False)
            if holder[0] != reading[0] and _nearness(holder) < _nearness(reading):
                reason = "another reading is nearer to this 5-minute slot"
                return Verdict("no_forecast", [], "superseded", reason, kept=False)
            if holder[0] == reading[0] and holder.message_offset > reading.message_offset:
                reason = "a later reading of the same time is known"
                return Verdict("duplicate", [], "superseded", reason, kept=False)
        after = known | {slot: reading}
        newest = max(newest, slot)
        return self._forecasts(known, after, slot, newest, at)._replace(newest=newest)

    def _is_taken_from(self, holder: Held, reading: Held) -> bool:
        """Whether a slot is the preferred device's, who has not got it."""
        preferred = self.policy.preferred
        return preferred != sources.UNNAMED and holder.source != preferred and reading.source == preferred

    def _forecasts(self, known: Slots, after: Slots, slot: int, newest: int, at: int) -> Verdict:
        """Which windows the reading of `slot` makes or changes, or why none."""
        before, now = sources.heard(known, self.policy), sources.heard(after, self.policy)
        first = slot - self.policy.reach_slots  # others that were heard from there on may not be any more
        last = slot + PAST_POINTS - 2 + FURTHEST_SLOTS + self.policy.reach_slots
        plausible: list[Issue] = []
        withheld: list[Issue] = []
        jump: str | None = None
        for end in range(max(first, newest - self.late_slots), min(last, newest) + 1):
            former, issue = window(before, end), window(now, end)
            if issue == former and end != slot:
                continue
            change = None if issue is None else implausible_change(issue.past_centi)
            if issue is not None and change is None:
                if end >= slot:
                    plausible.append(issue)
                continue
            if end >= slot:
                jump = change or jump
            if former is not None:
                withheld.append(former)
        if slot not in now and not plausible:
            wait = sources.spoken_wait(self.policy)
            reason = f"another device is preferred: this one is heard after {wait} without it"
            return Verdict("no_forecast", [], OTHER_DEVICE, reason, withheld=withheld)
        if plausible:
            sums = self._sums(after, at, plausible[-1].slot)
            told = [each for each in self.disagreements if each.by_offset < at]
            if (own := self._disagreement(known, slot, after[slot], Verdict("forecast_requested", []), at)) is not None:
                told.append(own)
            whole = [
                self._of_sources(issue._replace(hours_centi=hours_before(sums, issue.slot)), now, told)
                for issue in plausible
            ]
            return Verdict("forecast_requested", whole, newest_heard=max(now), withheld=withheld)
        if jump is not None:
            return Verdict("no_forecast", [], "implausible_change", jump, withheld=withheld)
        if slot < newest - self.late_slots:
            return _too_old(newest - slot)._replace(withheld=withheld)
        return _unready(now, slot)._replace(withheld=withheld)

    def _of_sources(self, issue: Issue, slots: Slots, disagreements: Sequence[Disagreement]) -> Issue:
        """The window with what its sources give reason to say."""
        found = sources.changes(slots, issue.slot, self.sessions)
        first = issue.slot - PAST_POINTS + 1
        start = sources.is_warming_up(sources.time_of(issue.slot, slots[issue.slot]), self.sessions)
        told = sources.warnings_of(issue.slot, issue.end_seconds, found, disagreements, start)
        return issue._replace(changed_points=[each.slot - first for each in found], warnings=told)


def _nearness(held: Held) -> tuple[int, int]:
    return abs(held.shift_microseconds), held.shift_microseconds


def _too_old(slots_late: int) -> Verdict:
    late = spoken(slots_late * STEP_SECONDS // 60)
    return Verdict(
        "no_forecast", [], "too_old", f"the reading is {late} older than the newest: no forecast waits for it"
    )


def _unready(slots: Slots, end: int) -> Verdict:
    """Why there is no window up to `end`: a gap within the last 8 hours, or readings have only begun."""
    position = begin(slots, end)
    begun = sources.time_of(position, slots[position])
    have = spoken((sources.time_of(end, slots[end]) - begun) // 60_000_000)
    older = max((slot for slot in slots if slot < position), default=None)
    if older is None:
        reason = f"{have} of gap-free readings so far; a forecast needs 8 h"
        return Verdict("no_forecast", [], "warming_up", reason)
    gap = spoken((begun - sources.time_of(older, slots[older])) // 60_000_000)
    reason = f"{have} of readings since a gap of {gap}; a forecast needs 8 h with no gap over 15 min"
    return Verdict("no_forecast", [], "gap", reason)
