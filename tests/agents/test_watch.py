"""Readings that stay away, or are error codes, are told once and till they are over, though nobody sends anything."""

import datetime
import json
from typing import Any

import pytest

from schemas.alert import Alert, AlertSettings, AlertState, ErrorChange, Snooze, StaleChange
from schemas.arrival import TICK, TICK_KEY, Arrival, WatchState
from schemas.command import CacheCommand
from schemas.errors import MalformedRecordError
from schemas.tables import ALERTS_TABLE, WATCH_TABLE
from schemas.topics import ALERTS, ARRIVALS
from streams.notify.people import Person
from streams.settings import Settings
from tests.kit.workbench import NOW_MS, Workbench, built, of

WINDOW, WATCH, COMMANDS = built("window", Settings(partitions=1)), built("watch"), built("chart_commands")
NOW = datetime.datetime.fromtimestamp(NOW_MS / 1000, datetime.timezone(datetime.timedelta(hours=2)))
MINUTE = datetime.timedelta(minutes=1)


class Stream:
    """The log of ``cgm.readings`` and what the steps make of it. Times are minutes since NOW."""

    def __init__(self) -> None:
        self.bench = Workbench()
        self.log: list[dict[str, Any]] = []

    async def reading(self, minute: float, glucose: float = 120, came: float | None = None, subject: str = "ada",
                      **fields: object) -> list[Alert]:  # fmt: skip
        time = (NOW + minute * MINUTE).isoformat()
        value = {"subject_id": subject, "time": time, "glucose": glucose, "unit": "mg/dL"} | fields
        return await self._came(json.dumps(value).encode(), minute if came is None else came, key=subject.encode())

    async def tick(self, minute: float) -> list[Alert]:
        return await self._came(None, minute, key=TICK_KEY.encode(), headers={TICK: b"1"})

    async def _came(self, value: bytes | None, minute: float, **message: object) -> list[Alert]:
        fields = {"offset": len(self.log), "timestamp_ms": NOW_MS + round(minute * 60_000)} | message
        self.log.append({"value": value, **fields})
        return await self.again(len(self.log) - 1)

    async def again(self, offset: int) -> list[Alert]:
        """Deliver a message, and what it brings to the watch; the alerts that are told."""
        sends = await self.bench.run(WINDOW, **self.log[offset])
        alerts = []
        for arrival in of(ARRIVALS, sends):
            alerts += of(ALERTS, await self.bench.run(WATCH, arrival))
        return [Alert.from_json(value) for value in alerts]

    async def command(self, action: str, minute: float = 0, **fields: object) -> None:
        time_ms = NOW_MS + round(minute * 60_000)
        command = CacheCommand(action=action, command_id="c", up_to_ms=time_ms, series_key="ada", **fields)  # type: ignore[arg-type]
        await self.bench.run(COMMANDS, command.to_json(), timestamp_ms=time_ms)

    def watched(self) -> list[str]:
        return sorted(self.bench.rows(WATCH_TABLE))


def at(minute: float) -> datetime.datetime:
    return NOW + minute * MINUTE


async def test_readings_that_stay_away_are_told_by_the_clock_once_and_until_they_come_again() -> None:
    stream = Stream()
    for minute in (0, 5):
        assert await stream.reading(minute) == []
    for minute in (20, 24):
        assert await stream.tick(minute) == []
    (raised,) = await stream.tick(25)
    assert (raised.kind, raised.status, raised.subject_id) == ("stale_data", "raised", "ada")
    assert (raised.issue_time, raised.last_reading_time, raised.glucose_mgdl) == (at(25), at(5), None)
    assert raised.reason.startswith(
        f"nothing from the sensor for 20 min; the last glucose is of {at(5):%Y-%m-%d %H:%M} UTC+02:00: no forecast"
    )
    for minute in (26, 60, 2000):
        assert await stream.tick(minute) == []
    (ended,) = await stream.reading(2001)
    assert (ended.alert_id, ended.status, ended.ended_time) == (raised.alert_id, "ended", at(2000))
    assert ended.reason == "the sensor is heard of again, after 33 h 16 min"
    (again,) = await stream.tick(2021)
    assert again.alert_id != raised.alert_id


async def test_what_waits_in_the_log_is_not_missed() -> None:
    """After an outage the readings stand before the next tick: nobody is told that they are missing."""
    stream = Stream()
    await stream.reading(0)
    for minute in range(5, 120, 5):
        assert await stream.reading(minute) == []
    assert await stream.tick(118) == []


async def test_old_readings_and_simulated_ones_make_nobody_wait() -> None:
    stream = Stream()
    await stream.reading(0, came=16)
    await stream.reading(0, subject="sim", simulated=True)
    assert stream.watched() == []
    await stream.reading(10, came=24)  # late, and of now
    await stream.reading(5, came=25)
    assert await stream.tick(29) == []
    assert [alert.last_reading_time for alert in await stream.tick(30)] == [at(10)]


async def test_an_end_whose_brokers_clock_is_behind_ends_what_is_shown() -> None:
    """A display took it for the end of an alert before that one, and went on to say that no readings come."""
    stream, person = Stream(), Person(partition=0)
    await stream.reading(0)
    told = [*await stream.tick(20.2), *await stream.reading(19.8)]
    assert [(each.status, person.tell(each, NOW)) for each in told] == [("raised", True), ("ended", True)]


@pytest.mark.parametrize("lost", ["writes", "nothing"])
async def test_delivered_again_it_is_the_same_alert(lost: str) -> None:
    stream = Stream()
    await stream.reading(0)
    before = {table: dict(stream.bench.rows(table)) for table in (WATCH_TABLE, ALERTS_TABLE)}
    raised = await stream.tick(20)
    assert len(raised) == 1
    if lost == "writes":  # told, and then the worker died
        for table, rows in before.items():
            stream.bench.tables.table(table).rows = rows
        assert await stream.again(1) == raised
    assert await stream.again(1) == await stream.again(0) == await stream.tick(21) == []


async def test_errors_of_the_sensor_in_a_row_are_told_once_and_end_with_glucose() -> None:
    stream = Stream()
    await stream.reading(0)
    assert await stream.reading(5, 12) == []
    assert await stream.reading(5, 12) == await stream.reading(6, 12, came=30) == []  # the same; too late
    assert await stream.reading(10, 12) == []
    (raised,) = await stream.reading(15, 12)
    assert (raised.kind, raised.status, raised.issue_time) == ("sensor_error", "raised", at(15))
    assert raised.reason.startswith(
        "3 readings in a row are error codes of the sensor and no glucose; the last glucose"
    )
    assert await stream.reading(20, 12) == await stream.tick(39) == []  # heard of, and known
    (stale,) = await stream.tick(40)
    assert stale.kind == "stale_data"
    assert [(each.kind, each.status) for each in await stream.reading(45)] == [
        ("stale_data", "ended"),
        ("sensor_error", "ended"),
    ]
    assert await stream.reading(50, 12) == await stream.reading(55) == await stream.reading(60, 12) == []


async def test_glucose_of_before_the_errors_that_comes_late_ends_nothing() -> None:
    stream = Stream()
    await stream.reading(0)
    for minute in (5, 10):
        await stream.reading(minute, 12)
    assert await stream.reading(3, came=12) == []
    (raised,) = await stream.reading(15, 12)  # the third in a row
    assert raised.last_reading_time == at(3)
    assert await stream.reading(4, came=17) == await stream.reading(12, came=18) == []
    assert await stream.reading(20, 12) == await stream.tick(39) == []
    (stale,) = await stream.tick(40)
    assert stale.last_reading_time == at(12)
    told = await stream.reading(45)
    assert [each.kind for each in told if each.status == "ended"] == ["stale_data", "sensor_error"]


async def test_glucose_in_the_place_of_an_error_ends_it() -> None:
    stream = Stream()
    for minute in (5, 10, 15):
        told = await stream.reading(minute, 12)
    assert [each.kind for each in told] == ["sensor_error"]
    assert [each.status for each in await stream.reading(15, came=16)] == ["ended"]


@pytest.mark.parametrize(
    ("glucose", "unit", "counts"),
    [(1, "mg/dL", 1), (38, "mg/dL", 1), (6.4, "mg/dL", 0), (1.2, "mmol/L", 0), (700, "mg/dL", 0), (0, "mg/dL", 0)],
)
async def test_an_error_code_is_whole_and_below_what_sensors_show(glucose: float, unit: str, counts: int) -> None:
    stream = Stream()
    await stream.reading(0, glucose, unit=unit)
    assert len([key for key in stream.watched() if key == "ada"]) == counts


async def test_what_comes_back_within_five_minutes_is_another_alert() -> None:
    """Under the id of the one that is over nobody hears of it: webhooks know that one already."""
    stream = Stream()
    quick = AlertSettings(sensor_error=ErrorChange(readings=2), stale_data=StaleChange(minutes=15))
    await stream.command("alerts", alert_settings=quick)
    told = []
    for minute, glucose in enumerate((12, 12, 120, 12, 12, 120)):
        told += await stream.reading(minute - 2, glucose)
    assert [(each.kind, each.status) for each in told] == [("sensor_error", "raised"), ("sensor_error", "ended")] * 2
    first, again = told[0].alert_id, told[2].alert_id
    assert [each.alert_id for each in told] == [first, first, again, again]
    assert first != again
    await stream.reading(8)
    (first,) = await stream.tick(23.1)
    (over,) = await stream.reading(9, came=23.9)
    before = {table: dict(stream.bench.rows(table)) for table in (WATCH_TABLE, ALERTS_TABLE)}
    (again,) = await stream.tick(24.1)
    assert first.alert_id == over.alert_id != again.alert_id
    for table, rows in before.items():
        stream.bench.tables.table(table).rows = rows
    assert await stream.again(len(stream.log) - 1) == [again], "told, and then the worker died"


async def test_settings_say_whether_and_when() -> None:
    stream = Stream()
    await stream.command("alerts", alert_settings=AlertSettings(stale_data=StaleChange(minutes=60)))
    await stream.reading(0)
    assert await stream.tick(59) == []
    assert len(await stream.tick(60)) == 1
    await stream.reading(61)
    off = AlertSettings(stale_data=StaleChange(enabled=False), sensor_error=ErrorChange(readings=1))
    await stream.command("alerts", alert_settings=off)
    assert await stream.tick(600) == []
    assert [each.kind for each in await stream.reading(601, 12)] == ["sensor_error"]


@pytest.mark.parametrize("readings", [0, 5])
async def test_a_shorter_wait_counts_at_once_and_a_longer_one_too(readings: int) -> None:
    """Also where a reading comes after the change: its look is filed already, for far later."""
    stream = Stream()
    await stream.command("alerts", alert_settings=AlertSettings(stale_data=StaleChange(minutes=240)))
    await stream.reading(0)
    await stream.tick(1)
    await stream.command("alerts", 10, alert_settings=AlertSettings())
    for minute in range(readings):
        await stream.reading(minute + 1)
    assert await stream.tick(19) == []
    assert len([key for key in stream.watched() if key.startswith("due/")]) == 1
    told = {minute: await stream.tick(minute) for minute in range(20, 30)}
    assert [minute for minute, alerts in told.items() if alerts] == [20 + readings]
    await stream.reading(40)
    await stream.command("alerts", 41, alert_settings=AlertSettings(stale_data=StaleChange(minutes=60)))
    assert await stream.tick(99) == []
    assert len(await stream.tick(100)) == 1


async def test_a_wait_that_is_over_already_when_it_is_made_shorter_is_told_by_the_next_tick() -> None:
    stream = Stream()
    await stream.command("alerts", alert_settings=AlertSettings(stale_data=StaleChange(minutes=240)))
    await stream.reading(0)
    await stream.command("alerts", 100, alert_settings=AlertSettings())
    (raised,) = await stream.tick(101)
    assert (raised.kind, raised.issue_time) == ("stale_data", at(20))
    assert raised.reason.startswith("nothing from the sensor for 1 h 41 min; ")
    await stream.command("alerts", 102, alert_settings=AlertSettings(stale_data=StaleChange(minutes=15)))
    assert stream.watched() == ["ada"], "it is told: nothing is looked for"
    assert await stream.tick(103) == []


@pytest.mark.parametrize(("minute", "waited"), [(2.4, 21), (2.6, 20)])
async def test_how_long_nothing_came_is_counted_to_the_minute_and_not_in_slots(minute: float, waited: int) -> None:
    stream = Stream()
    await stream.reading(minute)
    assert await stream.tick(22) == []
    (raised,) = await stream.tick(23)
    assert raised.reason.startswith(f"nothing from the sensor for {waited} min; ")
    assert await stream.again(2) == []


async def test_a_row_of_before_with_a_look_too_late_is_put_right_by_the_next_reading() -> None:
    stream = Stream()
    await stream.reading(0)
    rows = stream.bench.tables.table(WATCH_TABLE).rows
    late = NOW_MS + 240 * 60_000
    rows.clear()
    rows["ada"], rows[f"due/{late:015d}/ada"] = WatchState(reading_time=NOW, due_ms=late).to_row(), b"1"
    await stream.reading(5)
    assert len(stream.watched()) == 2
    assert len(await stream.tick(25)) == 1


async def test_a_snooze_puts_off_what_still_is_so_and_a_day_ends_it() -> None:
    stream = Stream()
    await stream.reading(0)
    await stream.command("snooze", snooze=Snooze(direction="data", until_ms=NOW_MS + 60 * 60_000))
    assert await stream.tick(20) == await stream.tick(59) == []
    (raised,) = await stream.tick(65)
    assert raised.issue_time == at(20)
    assert raised.reason.startswith("nothing from the sensor for 1 h 5 min; ")
    stream = Stream()
    await stream.command("alerts", alert_settings=AlertSettings(stale_data=StaleChange(active="22:00-22:10")))
    await stream.reading(0)  # 18:00 on the person's clock
    for minute in range(20, 1500, 5):
        if told := await stream.tick(minute):
            break
    assert [each.kind for each in told] == ["stale_data"]
    assert at(minute).strftime("%H:%M") == "22:00"
    stream = Stream()
    await stream.command("alerts", alert_settings=AlertSettings(stale_data=StaleChange(enabled=False)))
    await stream.reading(0)
    for minute in range(20, 1500, 30):
        await stream.tick(minute)
    assert stream.watched() == ["ada"], "after a day nobody looks any more"


@pytest.mark.parametrize("erases", [False, True])
async def test_of_who_begins_anew_or_is_erased_nothing_is_expected_and_nothing_comes_back(erases: bool) -> None:
    stream = Stream()
    await stream.reading(0)
    await stream.reading(0, subject="eve")
    await stream.tick(20)
    await stream.reading(30)
    await stream.command("reset", 31, erases=erases)
    assert not [key for key in stream.watched() if "ada" in key]
    assert stream.bench.rows(ALERTS_TABLE).get("ada") is None
    assert len(AlertState.from_json(stream.bench.rows(ALERTS_TABLE)["eve"]).recent) == 1
    late = Arrival(what="reading", came_ms=NOW_MS + 30 * 60_000, subject_id="ada", time=at(30))
    assert await stream.bench.run(WATCH, late.to_json()) == []
    assert await stream.tick(500) == []
    assert not [key for key in stream.watched() if "ada" in key]


@pytest.mark.parametrize("erases", [False, True])
async def test_who_was_heard_of_after_a_reset_is_watched_whatever_is_read_first(erases: bool) -> None:
    """``cgm.arrivals`` and ``cgm.cache-commands`` have no order between them, and a command may come again."""
    for order in ("reset reading", "reading reset", "reset reading reset"):
        stream = Stream()
        slow = AlertSettings(stale_data=StaleChange(minutes=240))
        await stream.command("alerts", -20, alert_settings=slow if erases else AlertSettings())
        for minute in (-10, -5):
            await stream.reading(minute, 12)
        for what in order.split():
            if what == "reading":
                await stream.reading(1)
            else:
                await stream.command("reset", 0, erases=erases)
        assert await stream.tick(20) == []
        (raised,) = await stream.tick(21)
        assert (raised.kind, raised.issue_time, raised.last_reading_time) == ("stale_data", at(20), at(1)), order
        await stream.command("reset", 0, erases=erases)
        assert [(each.alert_id, each.status) for each in await stream.reading(60)] == [(raised.alert_id, "ended")]
        assert (
            WatchState.from_json(stream.bench.rows(WATCH_TABLE)["ada"]).error_time is None or order != "reading reset"
        )


@pytest.mark.parametrize("order", ["reset error", "error reset"])
async def test_errors_that_go_on_after_a_reset_are_told_anew_whatever_is_read_first(order: str) -> None:
    stream = Stream()
    for minute in (-15, -10, -5):
        await stream.reading(minute, 12)
    for what in order.split():
        await (stream.command("reset", 0) if what == "reset" else stream.reading(5, 12))
    told = [each.kind for minute in (10, 15, 20) for each in await stream.reading(minute, 12)]
    assert told == ["sensor_error"]


async def test_a_reading_that_is_no_newer_than_one_of_before_the_reset_is_heard_of_too() -> None:
    """A clock that was ahead, and is put right."""
    stream = Stream()
    await stream.reading(3, came=-1)
    late = Arrival(what="reading", came_ms=NOW_MS + 60_000, subject_id="ada", time=at(1))
    await stream.bench.run(WATCH, late.to_json())
    await stream.command("reset", 0)
    assert len(await stream.tick(23)) == 1


async def test_a_tick_looks_at_so_many_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.calc.watch.MOST_A_TICK", 2)
    stream = Stream()
    for number in range(5):
        await stream.reading(0, subject=f"p{number}")
    told = [[each.subject_id for each in await stream.tick(20 + number)] for number in range(4)]
    assert told == [["p0", "p1"], ["p2", "p3"], ["p4"], []]


async def test_a_row_costs_little_and_its_entry_is_put_off_when_its_time_comes() -> None:
    stream = Stream()
    for minute in range(0, 500, 5):
        await stream.reading(minute)
        await stream.tick(minute + 1)
        entries = [key for key in stream.watched() if key.startswith("due/")]
        assert len(entries) == 1
        assert len(stream.bench.rows(WATCH_TABLE)["ada"]) < 120


@pytest.mark.parametrize("fields", [{}, {"subject_id": "ada"}, {"time": NOW}])
async def test_an_arrival_of_nobody_or_no_time_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(WATCH, Arrival(what="reading", came_ms=NOW_MS, **fields).to_json())


async def test_a_row_that_cannot_be_read_begins_anew() -> None:
    stream = Stream()
    await stream.reading(0)
    stream.bench.tables.table(WATCH_TABLE).rows["ada"] = b"{"
    assert await stream.tick(20) == []
    assert stream.watched() == ["ada"]
    await stream.reading(25)
    assert WatchState.from_json(stream.bench.rows(WATCH_TABLE)["ada"]).reading_time == at(25)
    assert len(await stream.tick(45)) == 1
