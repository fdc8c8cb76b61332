"""Orders about devices and sensors: in order with readings, the same when delivered again, gone with the subject."""

import datetime
import json
from typing import Any

import pytest

from agents.work import Send
from schemas.errors import MalformedRecordError
from schemas.forecast import ForecastRequest
from schemas.reading import ERASE, RESET, ReadingOutcome
from schemas.sources import MOST_DEVICES, MOST_STARTS, POLICY, SENSOR_START, SourcePolicy, SourceState
from schemas.tables import SOURCES_TABLE
from schemas.topics import BACKFILL, DAY_MS, LIVE, READING_OUTCOMES, READINGS
from streams.settings import Settings
from tests.kit.workbench import Workbench, built, of

STEP = built("window", Settings(partitions=1))
START = datetime.datetime(2024, 3, 14, 6, 0, tzinfo=datetime.UTC)
PREFERS_ARM = SourcePolicy(preferred_device="arm").to_json()


def at(minutes: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=minutes)


def reading_of(minutes: float, device: str | None, glucose: float = 120.0, subject: str = "ada") -> bytes:
    fields = {"subject_id": subject, "time": at(minutes).isoformat(), "glucose": glucose, "unit": "mg/dL"}
    return json.dumps(fields | ({"device": device} if device else {})).encode()


class Log:
    """Messages of one partition, one after the other."""

    def __init__(self) -> None:
        self.bench = Workbench()
        self.offset = 0

    async def put(self, value: bytes | None, minutes: float, *, apply: bool = True, **fields: Any) -> list[Send]:
        where: dict[str, Any] = {
            "key": b"ada", "offset": self.offset, "timestamp_ms": int(at(minutes).timestamp() * 1000)
        }  # fmt: skip
        sends = await self.bench.run(STEP, value, apply=apply, **where | fields)
        self.offset += 1
        return sends

    async def read(
        self, minutes: float, device: str | None, glucose: float = 120.0, subject: str = "ada"
    ) -> list[Send]:
        return await self.put(reading_of(minutes, device, glucose, subject), minutes, key=subject.encode())

    async def order(self, header: str, value: bytes, minutes: float, **fields: Any) -> list[Send]:
        return await self.put(None, minutes, headers={header: value}, **fields)

    @property
    def state(self) -> SourceState:
        return SourceState.from_json(self.bench.rows(SOURCES_TABLE)["ada"])


def outcome_of(sends: list[Send]) -> ReadingOutcome:
    (value,) = of(READING_OUTCOMES, sends)
    return ReadingOutcome.from_json(value)


async def test_a_policy_holds_for_the_readings_behind_it() -> None:
    log = Log()
    for step in range(96):
        await log.read(5 * step, "arm")
    assert outcome_of(await log.read(480, "leg")).status == "forecast_requested"
    assert await log.order(POLICY, PREFERS_ARM, 481) == []
    refused = outcome_of(await log.read(485, "leg"))
    assert (refused.status, refused.code) == ("no_forecast", "other_device")
    assert refused.reading is not None
    assert refused.expected_time is not None
    assert outcome_of(await log.read(490, "arm")).status == "forecast_requested"
    assert log.state.policy.preferred_device == "arm"
    assert log.state.devices == ("arm", "leg")
    await log.order(POLICY, b"{}", 491)
    assert outcome_of(await log.read(495, "leg")).status == "forecast_requested"


async def test_the_present_forecast_of_the_preferred_device_is_urgent_while_another_is_a_slot_ahead() -> None:
    log = Log()
    await log.order(POLICY, PREFERS_ARM, 0)
    for step in range(96):
        await log.read(5 * step, "arm")
    for step in range(96, 99):
        assert outcome_of(await log.read(5 * step + 4, "leg")).code == "other_device"
        sends = await log.put(reading_of(5 * step, "arm"), 5 * step + 4.2)  # an uploader that needs four minutes
        assert (len(of(LIVE, sends)), of(BACKFILL, sends)) == (1, [])
    sends = await log.put(reading_of(5 * 97, "arm", 124.0), 5 * 98 + 4.5)  # a correction: its own window is of before
    assert (len(of(LIVE, sends)), len(of(BACKFILL, sends))) == (1, 1)


async def test_what_is_delivered_again_meets_the_policy_of_its_time() -> None:
    for kept in (True, False):
        log = Log()
        log.bench.tables.committed = 0
        messages: list[tuple[int, str | None, bytes]] = [
            (5 * step, "leg" if step % 2 else "arm", b"") for step in range(100)
        ]
        messages[97:97] = [(482, None, PREFERS_ARM)]
        messages += [(498, None, b"{}"), (500, "leg", b"")]

        async def play(first: int, apply: bool, log: Log = log, messages: Any = messages) -> list[list[bytes | None]]:
            found = []
            for offset in range(first, len(messages)):
                log.offset = offset
                minutes, device, policy = messages[offset]
                if device is None:
                    sends = await log.order(POLICY, policy, minutes, apply=apply)
                else:
                    sends = await log.read(minutes, device)
                found.append([send.value for send in sends])
            return found

        issued = await play(0, True)
        rows = dict(log.bench.rows(SOURCES_TABLE))
        for first in (95, 97, 99):
            assert await play(first, kept) == issued[first:]
        assert dict(log.bench.rows(SOURCES_TABLE)) == rows


async def test_a_row_stays_small_however_many_orders_and_devices_come() -> None:
    log = Log()
    log.bench.tables.committed = 0
    for number in range(40):
        await log.order(POLICY, SourcePolicy(preferred_device=f"d{number}").to_json(), number)
        await log.order(SENSOR_START, at(-5 * number).isoformat().encode(), number)
        await log.read(5 * number, f"device {number}")
    state = log.state
    assert len(state.devices) == MOST_DEVICES
    assert state.devices[-1] == "device 39"
    assert len(state.policies) + len(state.starts) <= 2 * 8 + MOST_STARTS + 1
    assert state.policy.preferred_device == "d39"


async def test_a_start_flags_what_comes_behind_it_and_one_told_twice_counts_once() -> None:
    log = Log()
    for step in range(96):
        await log.read(5 * step, None)
    await log.order(SENSOR_START, at(477).isoformat().encode(), 478)
    row = log.bench.rows(SOURCES_TABLE)["ada"]
    await log.order(SENSOR_START, at(477).isoformat().encode(), 479)
    assert log.bench.rows(SOURCES_TABLE)["ada"] == row
    sends = await log.read(480, None)
    assert outcome_of(sends).flags == ("sensor_warm_up", "sensor_change")
    (value,) = of(LIVE, sends)
    request = ForecastRequest.from_arrow(value)
    assert request.changed_points == [95]
    assert [warning.partition(":")[0] for warning in request.warnings] == ["SENSOR_CHANGE", "SENSOR_WARM_UP"]
    assert "started at 13:57" in request.warnings[1]


async def test_a_start_ahead_of_the_clock_is_rejected_in_words() -> None:
    log = Log()
    outcome = outcome_of(await log.order(SENSOR_START, at(60).isoformat().encode(), 0))
    assert (outcome.status, outcome.code) == ("rejected", "future")
    assert "check the clock" in (outcome.reason or "")
    assert SOURCES_TABLE not in log.bench.rows(SOURCES_TABLE)


@pytest.mark.parametrize(
    ("header", "value"),
    [(POLICY, b""), (POLICY, b"\xff"), (POLICY, b'{"wait_minutes": 1}'), (POLICY, b'{"preferred_device": ""}'),
     (SENSOR_START, b"now"), (SENSOR_START, b"\xff"), (SENSOR_START, b"2024-03-14T06:00:00"),
     (SENSOR_START, b"9999-12-31T23:59:59-12:00")],
)  # fmt: skip
async def test_what_orders_nothing_is_a_dead_letter(header: str, value: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        await Log().order(header, value, 0)


async def test_under_another_key_an_order_goes_to_its_subject_and_no_further() -> None:
    log = Log()
    with pytest.raises(MalformedRecordError):
        await log.order(POLICY, PREFERS_ARM, 0, key=b"no/subject")


async def test_a_reset_keeps_the_policy_and_an_erasure_keeps_nothing() -> None:
    log = Log()
    await log.order(POLICY, PREFERS_ARM, 0)
    await log.order(SENSOR_START, at(0).isoformat().encode(), 0)
    await log.read(5, "arm")
    await log.put(None, 6, headers={RESET: b"1"})
    assert (log.state.policy.preferred_device, log.state.starts, log.state.devices) == ("arm", (), ())
    await log.put(None, 7, headers={ERASE: b"1"})
    assert log.bench.rows(SOURCES_TABLE) == {}
    log.offset = 0
    await log.order(POLICY, PREFERS_ARM, 0)  # delivered again
    assert log.bench.rows(SOURCES_TABLE) == {}
    assert not any("ada" in key for key in log.bench.rows("subjects"))


async def test_who_is_silent_for_long_is_forgotten_with_policy_and_devices() -> None:
    log = Log()
    await log.order(POLICY, PREFERS_ARM, 0)
    await log.read(40 * DAY_MS / 60_000, "arm", subject="bob")
    assert set(log.bench.rows(SOURCES_TABLE)) == {"bob"}


async def test_an_order_in_another_partition_is_sent_to_its_own() -> None:
    bench = Workbench(4)
    sends = await bench.run(
        built("window"), None, key=b"ada", partition=(bench.tables._partition_of(b"ada") + 1) % 4,
        headers={POLICY: PREFERS_ARM},
    )  # fmt: skip
    assert [(send.topic, send.key, send.headers[POLICY]) for send in sends] == [(READINGS, b"ada", PREFERS_ARM)]
    assert bench.rows(SOURCES_TABLE) == {}
