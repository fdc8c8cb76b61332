"""A dead letter that is sent again, late or twice, counts as of when its message came: what came since stays."""

import datetime
import itertools
import json
from typing import Any

import pytest

from agents.core.rolling_window import RollingWindow
from agents.work import Failure, Message, Send
from schemas.alert import AlertSettings, AlertState, RuleChange, Snooze
from schemas.command import CacheCommand
from schemas.dead_letter import REPLAY_OF, DeadLetter, Place
from schemas.glucose_day import slot_of_row
from schemas.grid import STEPS_A_DAY
from schemas.reading import ERASE, REROUTED, RESET, ReadingOutcome
from schemas.series import Series
from schemas.sources import POLICY, SENSOR_START, SourcePolicy, SourceState
from schemas.tables import ALERTS_TABLE, DAYS_TABLE, SOURCES_TABLE, SUBJECTS_TABLE, day_key
from schemas.topics import CACHE_COMMANDS, LIVE, READING_OUTCOMES, READINGS, UPLOAD_OUTCOMES, UPLOADS
from schemas.upload import UploadOutcome
from streams import dead_letters, dlq
from streams.settings import Settings
from tests.kit import samples
from tests.kit.workbench import NOW_MS, Built, HereParser, Workbench, built, of

WINDOW, COMMANDS, SERIES_COMMANDS = (
    built("window", Settings(partitions=1)),
    built("chart_commands"),
    built("series_commands"),
)
MINUTE_MS = 60_000
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.UTC)


def message(offset: int, value: bytes | None, minutes: float = 0, topic: str = READINGS.name, **parts: Any) -> Message:
    """Of Ada, as it came so many minutes from now."""
    came_ms = NOW_MS + round(minutes * MINUTE_MS)
    return Message(**{"topic": topic, "key": b"ada", "value": value, "offset": offset, "timestamp_ms": came_ms} | parts)


def again(failed: Message, offset: int, minutes: float, step: str = "window") -> Message:
    """What a replay sends of the letter of a message, as it comes to its step."""
    _, text = dead_letters.message_of(failed, step, Failure("failed", "OSError: disk", 3))
    letter = DeadLetter.from_json(text)
    original = dlq.carried(letter)
    assert original is not None
    headers = dict(dlq.headers_of(letter, original))
    return message(offset, original.value, minutes, failed.topic, key=original.key, headers=headers)


async def deliver(bench: Workbench, step: Built, given: Message) -> list[Send]:
    fields = {name: getattr(given, name) for name in ("topic", "partition", "offset", "key", "headers", "timestamp_ms")}
    return await bench.run(step, given.value, **fields)


def reading(minutes: float, glucose: float, subject: str = "ada", **more: Any) -> bytes:
    time = (NOW + datetime.timedelta(minutes=minutes)).isoformat()
    return json.dumps({"subject_id": subject, "time": time, "glucose": glucose, "unit": "mg/dL", **more}).encode()


async def read(bench: Workbench, given: Message) -> tuple[str, str | None]:
    (value,) = of(READING_OUTCOMES, await deliver(bench, WINDOW, given))
    outcome = ReadingOutcome.from_json(value)
    return outcome.status, outcome.code


def held(bench: Workbench) -> list[float]:
    row = RollingWindow.from_bytes(bench.rows(SUBJECTS_TABLE).get("ada"), 24)
    return [each.centi / 100 for _, each in sorted(row.slots.items())]


async def test_a_correction_outlives_what_it_corrected_in_whatever_order_letters_are_replayed() -> None:
    wrong, right = message(3, reading(0, 250)), message(5, reading(0, 52), 1)
    bench = Workbench()
    assert await read(bench, again(wrong, 10, 2)) == ("no_forecast", "warming_up")
    assert await read(bench, again(wrong, 10, 2)) == ("no_forecast", "warming_up"), "delivered again"
    assert await read(bench, message(11, reading(0, 52), 3)) == ("no_forecast", "warming_up")
    assert await read(bench, again(wrong, 12, 4)) == ("duplicate", "superseded")
    assert held(bench) == [52.0]
    for order in itertools.permutations([wrong, right, wrong, right]):
        bench = Workbench()
        for place, each in enumerate(order):
            await read(bench, again(each, 20 + place, 10))
        assert held(bench) == [52.0], order


async def test_a_replay_is_a_late_reading_and_delivered_again_it_has_its_effects_again() -> None:
    bench = Workbench()
    bench.tables.committed = 0
    lost = message(50, reading(5 * 49, 120), 5 * 49)
    for place in range(1, 120):
        if place not in (49, 50, 51):
            await deliver(bench, WINDOW, message(place, reading(5 * place, 120 + place % 2), 5 * place))
    assert of(LIVE, bench.sent) == [], "a gap of 20 minutes"
    bench.tables.committed = 118
    given = again(lost, 200, 600)
    first = await deliver(bench, WINDOW, given)
    assert ReadingOutcome.from_json(of(READING_OUTCOMES, first)[0]).status == "forecast_requested"
    rows = bench.rows(SUBJECTS_TABLE) | bench.rows(DAYS_TABLE)
    second = await deliver(bench, WINDOW, given)
    assert [(each.topic, each.value) for each in second] == [(each.topic, each.value) for each in first]
    assert bench.rows(SUBJECTS_TABLE) | bench.rows(DAYS_TABLE) == rows
    day = day_key("ada", NOW_MS // 300_000 // STEPS_A_DAY)
    del bench.tables.table(DAYS_TABLE).rows[day]  # a crash came between the rows of the window and of the day
    await deliver(bench, WINDOW, given)
    assert slot_of_row(bench.rows(DAYS_TABLE)[day], (NOW_MS // 300_000 + 49) % STEPS_A_DAY) == 12_000


async def test_a_letter_that_takes_no_slot_is_told_without_its_value() -> None:
    """Whoever keeps readings by their times would take back with it what has corrected it since."""
    for later in (reading(0, 52), reading(850, 52)):  # of the same time, and when that is too long ago to be kept
        bench, lost = Workbench(), message(3, reading(0, 250))
        await deliver(bench, WINDOW, message(5, later, 851))
        told = []
        for given in (
            again(lost, 10, 852),
            message(11, reading(850, 52), 853),
            again(message(4, reading(855, 60)), 12, 856),
        ):
            (value,) = of(READING_OUTCOMES, await deliver(bench, WINDOW, given))
            told.append(ReadingOutcome.from_json(value))
        assert told[0].code in ("superseded", "too_old")
        assert [each.reading and each.reading.glucose for each in told] == [None, 52, 60]


async def test_the_nearer_of_two_readings_takes_its_slot_also_from_a_letter() -> None:
    bench = Workbench()
    assert await read(bench, message(5, reading(1.5, 100), 2)) == ("no_forecast", "warming_up")
    nearer = again(message(3, reading(0.5, 90), 1), 10, 3)
    assert await read(bench, nearer) == await read(bench, nearer) == ("no_forecast", "warming_up")
    assert held(bench) == [90.0]


async def test_an_order_of_a_letter_takes_nothing_that_came_after_it() -> None:
    for done_again, left in ((True, 40), (False, 39)):
        bench = Workbench()
        await deliver(bench, WINDOW, message(2, reading(-5, 300), -5))
        if done_again:
            await deliver(bench, WINDOW, message(4, None, 1, headers={ERASE: b"1"}))
        first = 5 if done_again else 6
        for place in range(first, 45):
            await deliver(bench, WINDOW, message(place, reading(5 * place, 120), 5 * place))
        failed = message(3, None, 0.5, headers={ERASE: b"1"})
        sends = await deliver(bench, WINDOW, again(failed, 200, 300))
        commands = [CacheCommand.from_json(each).up_to_ms for each in of(CACHE_COMMANDS, sends)]
        assert commands == ([] if done_again else [NOW_MS + MINUTE_MS // 2])
        assert bool(sends) != done_again, "readers forget a subject by what is told of an order"
        assert held(bench) == [120.0] * left
        assert any("ada" in key for key in bench.rows(DAYS_TABLE))


async def test_an_order_that_is_replayed_twice_is_told_once() -> None:
    """Readers forget a subject by what is told: its readings of since were gone from API and displays."""
    bench, failed = Workbench(), message(3, None, headers={RESET: b"1"})
    assert await deliver(bench, WINDOW, again(failed, 4, 1))
    await deliver(bench, WINDOW, message(5, reading(5, 120), 5))
    assert await deliver(bench, WINDOW, again(failed, 100, 300)) == []
    assert held(bench) == [120.0]
    work = await Workbench().tables.run(*WINDOW, again(failed, 4, 1))
    assert work.sends_first, "a crash that kept the marker alone would leave it untold"


async def test_an_erasure_that_is_replayed_after_a_reset_takes_the_preferred_device_of_before() -> None:
    """The reset had left it, and it stayed for good."""
    bench = Workbench()
    bench.tables.committed = 0
    g6, g7 = ({POLICY: SourcePolicy(preferred_device=name).to_json()} for name in ("G6", "G7"))
    for offset, headers in ((2, g6), (5, {RESET: b"1"}), (6, g7)):
        await deliver(bench, WINDOW, message(offset, None, offset, headers=headers))
    await deliver(bench, WINDOW, again(message(4, None, 4, headers={ERASE: b"1"}), 50, 60))
    state = SourceState.from_json(bench.rows(SOURCES_TABLE)["ada"])
    assert [each.policy.preferred_device for each in state.policies] == ["G7"]


@pytest.mark.parametrize("place", [Place("cgm.readings", 0, 3, NOW_MS, "window"), None], ids=["at home", "elsewhere"])
async def test_a_letter_of_before_an_erasure_brings_nobody_back(place: Place | None) -> None:
    bench = Workbench()
    await deliver(bench, WINDOW, message(4, None, 1, headers={ERASE: b"1"}))
    orders = ({POLICY: SourcePolicy(preferred_device="G6").to_json()}, {SENSOR_START: NOW.isoformat().encode()})
    given = again(message(3, reading(0, 118, device="G7")), 10, 20)
    assert given.headers == {REPLAY_OF: b"cgm.readings/0/3/%d/window" % NOW_MS}
    if place is None:  # it lay under another key and comes from another partition, by when it was there
        given = message(
            11, given.value, 20, headers={REPLAY_OF: b"cgm.readings/1/300/1/window", REROUTED: b"%d" % NOW_MS}
        )
    assert await read(bench, given) == ("rejected", "erased")
    for each in orders:
        assert await deliver(bench, WINDOW, again(message(2, None, headers=each), 12, 20)) == []
    settings = message(3, alerts(RuleChange(threshold_mgdl=65)), topic=CACHE_COMMANDS.name)
    assert await deliver(bench, SERIES_COMMANDS, again(settings, 13, 20, "series_commands")) == []
    for table in (SUBJECTS_TABLE, DAYS_TABLE, SOURCES_TABLE):
        assert not any("ada" in key for key in bench.rows(table)), table
    await deliver(bench, SERIES_COMMANDS, message(15, settings.value, 20, CACHE_COMMANDS.name))
    assert any("ada" in key for key in bench.rows(SUBJECTS_TABLE)), "one of now is of somebody new"


async def test_what_a_wrong_partition_sends_on_came_when_its_letter_says() -> None:
    bench = Workbench(4)
    wrong = next(each for each in range(4) if each != bench.tables._partition_of(b"ada"))
    failed = message(3, reading(0, 118), partition=wrong, key=b"x")
    given = again(failed, 10, 20)
    four = built("window", Settings(partitions=4))
    fields = {"topic": READINGS.name, "key": b"x", "partition": wrong, "offset": 10, "headers": given.headers}
    (send,) = await bench.run(four, given.value, **fields, timestamp_ms=given.timestamp_ms)
    assert send.headers[REROUTED] == b"%d" % NOW_MS


async def test_of_two_preferred_devices_the_one_that_was_chosen_later_stays() -> None:
    chosen = [message(3 + place, None, place, headers={POLICY: SourcePolicy(preferred_device=name).to_json()})
              for place, name in enumerate(("G6", "G7"))]  # fmt: skip
    for order in itertools.permutations((*chosen, chosen[0])):
        bench = Workbench()
        for place, each in enumerate(order):
            await deliver(bench, WINDOW, again(each, 10 + place, 20))
        assert SourceState.from_json(bench.rows(SOURCES_TABLE)["ada"]).policy.preferred_device == "G7"


def alerts(low: RuleChange | None = None, snooze: Snooze | None = None) -> bytes:
    settings = None if low is None else AlertSettings(low=low)
    action = "alerts" if snooze is None else "snooze"
    return CacheCommand(
        action=action, command_id="c", up_to_ms=0, series_key="ada", alert_settings=settings, snooze=snooze,
    ).to_json()  # fmt: skip


def alert_state(bench: Workbench) -> AlertState:
    return AlertState.from_json(bench.rows(ALERTS_TABLE)["ada"])


async def test_settings_and_snoozes_that_came_later_stay() -> None:
    topic = CACHE_COMMANDS.name
    low = [message(3 + place, alerts(RuleChange(threshold_mgdl=60 + place)), place, topic) for place in range(3)]
    quiet = [
        message(6 + place, alerts(snooze=Snooze(direction="low", until_ms=NOW_MS + until)), place, topic)
        for place, until in enumerate((10**8, 0, 10**7))
    ]
    for sent in (low, quiet):
        for order in itertools.permutations((*sent, sent[0])):
            bench = Workbench()
            await deliver(bench, COMMANDS, message(1, alerts(RuleChange()), -60, topic))
            for place, each in enumerate(order):
                await deliver(bench, COMMANDS, again(each, 10 + place, 20, "chart_commands"))
            state = alert_state(bench)
            if sent is low:
                assert state.settings.low.threshold_mgdl == 62
            else:
                assert state.snoozed_until_ms == {"low": NOW_MS + 10**7}


async def test_settings_of_before_an_erasure_stay_erased_and_others_outlive_a_reset() -> None:
    topic = CACHE_COMMANDS.name
    failed = message(3, alerts(RuleChange(threshold_mgdl=60)), 0, topic)
    for erases in (True, False):
        bench = Workbench()
        await deliver(bench, COMMANDS, message(2, alerts(RuleChange(threshold_mgdl=90)), -1, topic))
        reset = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS + 1, series_key="ada", erases=erases)
        await deliver(bench, COMMANDS, message(4, reset.to_json(), 1, topic))
        await deliver(bench, COMMANDS, again(failed, 5, 20, "chart_commands"))
        assert ("ada" in bench.rows(ALERTS_TABLE)) != erases
        if not erases:
            assert alert_state(bench).settings.low.threshold_mgdl == 60
            await deliver(bench, COMMANDS, again(message(2, alerts(RuleChange(threshold_mgdl=90)), -1, topic), 6, 20))
            assert alert_state(bench).settings.low.threshold_mgdl == 60


@pytest.mark.parametrize("erases", [True, False])
async def test_settings_of_before_an_erasure_do_not_come_back_to_who_began_anew(erases: bool) -> None:
    """Replayed, they held for who had another setting or snooze by then; and of a reset, the first ones were lost."""
    bench, topic = Workbench(), CACHE_COMMANDS.name
    reset = CacheCommand(action="reset", command_id="r", up_to_ms=NOW_MS + 1, series_key="ada", erases=erases)
    await deliver(bench, COMMANDS, message(4, reset.to_json(), 1, topic))
    if erases:
        snooze = Snooze(direction="high", until_ms=NOW_MS + 10**9)
        await deliver(bench, COMMANDS, message(5, alerts(snooze=snooze), 10, topic))
    failed = message(3, alerts(RuleChange(threshold_mgdl=65)), 0, topic)
    await deliver(bench, COMMANDS, again(failed, 6, 20, "chart_commands"))
    assert alert_state(bench).settings.low.threshold_mgdl == (None if erases else 65)


async def test_settings_come_in_their_order_whatever_the_clocks_of_brokers_say() -> None:
    bench = Workbench()
    for offset, minutes in ((1, 5), (2, 0)):
        given = message(offset, alerts(RuleChange(threshold_mgdl=60 + offset)), minutes, CACHE_COMMANDS.name)
        await deliver(bench, COMMANDS, given)
    state = alert_state(bench)
    assert state.settings.low.threshold_mgdl == 62
    assert state.began_ms == NOW_MS + 5 * MINUTE_MS, "by an earlier time a reader that knows an erasure would hide it"
    await deliver(bench, COMMANDS, message(0, alerts(RuleChange(threshold_mgdl=90)), -60, CACHE_COMMANDS.name))
    assert alert_state(bench).settings.low.threshold_mgdl == 62, "all read again: what was of an hour ago"


async def test_an_upload_of_a_letter_began_when_it_came() -> None:
    """So it stays deleted, where it was deleted since."""
    for raw in (b"no file of a vendor", samples.dexcom(samples.glucose_rows(150))):
        failed = message(3, raw, 0, UPLOADS.name)
        (sent,) = await deliver(Workbench(), built("unify", parser=HereParser()), again(failed, 9, 60, "unify"))
        told = UploadOutcome.from_json(sent.value) if sent.topic == UPLOAD_OUTCOMES else Series.from_arrow(sent.value)
        assert told.began_ms == NOW_MS


def test_a_place_counts_in_its_partition_and_never_ahead_of_its_message() -> None:
    def given(header: bytes, **parts: Any) -> Message:
        return message(10, b"", 1, headers={REPLAY_OF: header}, **parts)

    place = Place("cgm.readings", 0, 3, NOW_MS, "window")
    assert Place.from_header(place.to_header()) == given(place.to_header()).first == place
    ahead = given(place._replace(offset=11, came_ms=NOW_MS + 10**9).to_header())
    assert (ahead.first_offset, ahead.came_ms) == (ahead.offset, ahead.timestamp_ms) == (10, NOW_MS + MINUTE_MS)
    for other in (place._replace(partition=1), place._replace(topic="cgm.uploads")):
        assert given(other.to_header()).first is None
    for nothing in (
        b"",
        b"cgm.readings/0/3/1",
        b"\xff",
        b"cgm.readings/0/-3/1/window",
        b"cgm.readings/0/3/1/a/b",
        b"a" * 999,
    ):
        assert given(nothing).first is None
        assert (given(nothing).first_offset, given(nothing).came_ms) == (10, NOW_MS + MINUTE_MS)
    twice = again(again(message(3, b"x"), 10, 20), 30, 40)
    assert (twice.first_offset, twice.came_ms) == (3, NOW_MS), "its replay failed too"
