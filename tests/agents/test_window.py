"""window: one outcome a reading, forecasts where they are due, and nobody else's data."""

import datetime
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core import fingerprint
from agents.inference.intake import check_request
from schemas.errors import MalformedRecordError
from schemas.forecast import ForecastRequest
from schemas.grid import HIGHEST_MGDL, LOWEST_SENSOR_MGDL, MGDL_PER_MMOLL, MOST_INTERPOLATED
from schemas.reading import ReadingOutcome
from schemas.tables import SUBJECTS_TABLE
from schemas.topics import ARRIVALS, BACKFILL, LIVE, READING_OUTCOMES, READINGS, Topic
from streams.kafka.partitioning import partition_of
from streams.settings import Settings
from tests.kit.workbench import Workbench, built, of

ONE = Settings(partitions=1)
START = datetime.datetime(2024, 3, 14, 6, 0, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
STEP = built("window", ONE)


def reading(step: int, glucose: float = 120.0, subject: str = "ada", **fields: object) -> bytes:
    time = START + datetime.timedelta(minutes=5 * step)
    return json.dumps(
        {"subject_id": subject, "time": time.isoformat(), "glucose": glucose, "unit": "mg/dL"} | fields
    ).encode()


def message(step: int, subject: str = "ada") -> dict[str, object]:
    time = START + datetime.timedelta(minutes=5 * step)
    return {"key": subject.encode(), "offset": step, "timestamp_ms": int(time.timestamp() * 1000)}


async def publish(bench: Workbench, steps: range, subject: str = "ada", level: float = 100.0) -> list[ForecastRequest]:
    requests = []
    for step in steps:
        sends = await bench.run(STEP, reading(step, level + step % 50, subject), **message(step, subject))
        assert len(of(READING_OUTCOMES, sends)) == 1
        requests += [ForecastRequest.from_arrow(value) for value in of(LIVE, sends)]
    return requests


def outcome_of(sends: list) -> ReadingOutcome:
    (value,) = of(READING_OUTCOMES, sends)
    return ReadingOutcome.from_json(value)


async def test_eight_gap_free_hours_give_a_forecast_and_each_reading_another() -> None:
    bench = Workbench()
    assert await publish(bench, range(95)) == []
    first, second = await publish(bench, range(95, 97))
    assert (first.kind, first.series_key, first.subject_id, first.timezone) == ("live", "ada", "ada", "+02:00")
    assert first.past_centi_mgdl == [10000 + 100 * (step % 50) for step in range(96)]
    assert first.truth_centi_mgdl == []
    assert first.input_hash == fingerprint.input_hash(first.end_seconds, first.past_centi_mgdl)
    end = START + datetime.timedelta(minutes=5 * 95)
    assert first.end_seconds == int((end.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)).total_seconds())
    assert second.end_seconds == first.end_seconds + 300


async def test_what_came_before_the_eight_hours_goes_with_the_request_and_stays_its_subjects_own() -> None:
    bench = Workbench()
    asked = await publish(bench, range(192))
    await publish(bench, range(192), "bob", 150.0)
    (last,) = await publish(bench, range(192, 193))
    check_request(last)
    first = asked[0]
    assert (first.hours_version, first.hours_centi_mgdl) == (0, [])
    assert (last.hours_version, len(last.hours_centi_mgdl)) == (1, 9)  # 97 readings lie before its window
    own = [sum(10000 + 100 * (12 * hour + place) % 5000 for place in range(12)) / 12 for hour in range(9)]
    nearly = [share * new + (1 - share) * old for share, new, old in zip([1 / 12] * 8, own[1:], own, strict=False)]
    assert last.hours_centi_mgdl[1:] == pytest.approx(nearly, abs=1)


async def test_delivered_again_everything_is_the_same_whether_the_table_kept_it_or_not() -> None:
    for kept in (True, False):
        bench = Workbench()
        await publish(bench, range(100))
        sends = await bench.run(STEP, reading(100), apply=kept, **message(100))
        again = await bench.run(STEP, reading(100), **message(100))
        assert again == sends
        assert outcome_of(again).status == "forecast_requested"


async def test_the_same_value_sent_twice_is_a_duplicate() -> None:
    bench = Workbench()
    await publish(bench, range(97))
    before = dict(bench.rows(SUBJECTS_TABLE))
    sends = await bench.run(STEP, reading(96, 146.0), **message(96) | {"offset": 500})
    assert outcome_of(sends).status == "duplicate"
    assert len(sends) == 1
    assert dict(bench.rows(SUBJECTS_TABLE)) == before


async def test_two_subjects_never_mix() -> None:
    alone, together = Workbench(), Workbench()
    expected = await publish(alone, range(98), "ada") + await publish(alone, range(98), "eve", 150.0)
    found = []
    for step in range(98):
        for subject, level in (("ada", 100.0), ("eve", 150.0)):
            found += await publish(together, range(step, step + 1), subject, level)
    assert sorted(found, key=lambda request: request.request_id) == sorted(expected, key=lambda r: r.request_id)


async def test_two_people_with_equal_readings_have_requests_of_their_own() -> None:
    bench = Workbench()
    (ada,) = await publish(bench, range(96), "ada")
    (eve,) = await publish(bench, range(96), "eve")
    assert ada.input_hash == eve.input_hash
    assert ada.request_id != eve.request_id


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"glucose": 2000.0}, "implausible"),
        ({"glucose": -5.0}, "implausible"),
        ({"glucose": 38.0}, "sensor_error"),
        ({"glucose": 12.0}, "sensor_error"),
        ({"glucose": 1.0}, "sensor_error"),
        ({"glucose": 12.5}, "implausible"),
        ({"glucose": 1.0, "unit": "mmol/L"}, "implausible"),
        ({"glucose": 0.0}, "implausible"),
        ({"glucose": 24.0}, "sensor_error"),
        ({"glucose": 2.1, "unit": "mmol/L"}, "sensor_error"),
        ({"glucose": 120.0, "unit": "mmol/L"}, "implausible"),
        ({"time": "2031-01-01T00:00:00Z"}, "future"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "implausible"),
        ({"time": "2024-03-14T06:00:00"}, "malformed"),
        ({"glucose": "NaN"}, "malformed"),
        ({"glucose": None}, "malformed"),
        ({"unit": None}, "malformed"),
    ],
)
async def test_what_cannot_be_right_is_rejected_with_a_reason(fields: dict[str, object], code: str) -> None:
    bench = Workbench()
    sends = await bench.run(STEP, reading(0, **fields), **message(0))  # type: ignore[arg-type]
    outcome = outcome_of(sends)
    assert (outcome.status, outcome.code, sends[0].key) == ("rejected", code, b"ada")
    assert outcome.reason
    assert {key for key in bench.rows(SUBJECTS_TABLE) if "seen" not in key} == set(), "it was heard of, and no more"


@given(st.floats(LOWEST_SENSOR_MGDL, HIGHEST_MGDL), st.integers(0, 3))
async def test_no_number_that_a_sensor_shows_passes_under_the_other_unit(mgdl: float, digits: int) -> None:
    """So nothing has to be compared with what the person had before."""
    bench = Workbench()
    for number, wrong in ((mgdl / MGDL_PER_MMOLL, "mg/dL"), (mgdl, "mmol/L")):
        sends = await bench.run(STEP, reading(0, round(number, digits), unit=wrong), **message(0))  # type: ignore[arg-type]
        assert outcome_of(sends).status == "rejected"


@pytest.mark.parametrize(
    "value", [None, b"", b"no json", b"[1]", b'{"subject_id": "../x"}', b'{"glucose": 1}', b"\xff"]
)
async def test_what_names_no_subject_is_a_dead_letter(value: bytes | None) -> None:
    with pytest.raises(MalformedRecordError):
        await Workbench().run(STEP, value)


async def test_a_wrong_key_is_sent_to_its_home_and_does_nothing_else() -> None:
    bench = Workbench()
    sends = await bench.run(STEP, reading(0), **message(0) | {"key": b"eve", "headers": {"trace": b"1"}})
    assert [(send.topic, send.key, send.value) for send in sends] == [(READINGS, b"ada", reading(0))]
    assert sends[0].headers == {"trace": b"1", "rerouted": b"%d" % message(0)["timestamp_ms"]}
    assert bench.rows(SUBJECTS_TABLE) == {}


async def test_a_wrong_partition_is_rerouted_once() -> None:
    four = built("window")
    wrong = (partition_of(b"ada", 4) + 1) % 4
    sends = await Workbench(4).run(four, reading(0), **message(0) | {"partition": wrong})
    assert [send.topic for send in sends] == [READINGS]
    bench = Workbench(4)
    sends = await bench.run(four, reading(0), **message(0) | {"partition": wrong, "headers": {"rerouted": b"1"}})
    assert outcome_of(sends).status == "no_forecast"
    assert "ada" in bench.rows(SUBJECTS_TABLE)


async def test_mmol_is_accepted() -> None:
    sends = await Workbench().run(STEP, reading(0, 7.0, unit="mmol/L"), **message(0))
    assert outcome_of(sends).status == "no_forecast"


async def test_redelivery_of_any_suffix_emits_the_same_ids() -> None:
    chance = random.Random(7)
    order = list(range(125))
    for at in range(100, 120, 6):
        order[at], order[at + 1] = order[at + 1], order[at]
    messages = [
        (reading(step, chance.uniform(100, 140)), message(step) | {"offset": n}) for n, step in enumerate(order)
    ]
    bench = Workbench()
    emitted = [[send.value for send in await bench.run(STEP, value, **where)] for value, where in messages]
    for first in (124, 118, 101, 97):
        for kept in (True, False):
            again = [
                [send.value for send in await bench.run(STEP, value, apply=kept, **where)]
                for value, where in messages[first:]
            ]
            assert again == emitted[first:]


@pytest.mark.parametrize(("level", "jump"), [(100.0, 400.0), (250.0, 40.0)])
async def test_a_jump_that_no_body_makes_gets_no_forecast_for_a_quarter_of_an_hour(level: float, jump: float) -> None:
    bench = Workbench()
    for step in range(96):
        await bench.run(STEP, reading(step, level), **message(step))
    codes = []
    for step in range(96, 101):
        sends = await bench.run(STEP, reading(step, jump), **message(step))
        outcome = outcome_of(sends)
        codes.append((outcome.status, outcome.code))
        assert bool(of(LIVE, sends)) == (outcome.status == "forecast_requested")
        if outcome.code:
            assert f"changes by {abs(jump - level):.0f} mg/dL in 5 minutes" in (outcome.reason or "")
    assert codes == [("no_forecast", "implausible_change")] * 3 + [("forecast_requested", None)] * 2


async def test_late_readings_do_not_fill_the_live_lane() -> None:
    """A week of readings is sent backwards: the live lane gets one request a reading at most, the rest is backfill."""
    bench = Workbench()
    await publish(bench, range(100))
    await publish(bench, range(101, 125))
    before = len(of(LIVE, bench.sent))
    sends = await bench.run(STEP, reading(100, 150.0), **message(100) | {"offset": 500})
    assert outcome_of(sends).status == "forecast_requested"
    (live,) = [ForecastRequest.from_arrow(value) for value in of(LIVE, sends)]
    late = [ForecastRequest.from_arrow(value) for value in of(BACKFILL, sends)]
    assert live.end_seconds == max(request.end_seconds for request in [live, *late])
    assert len(late) == 24
    assert len({request.end_seconds for request in [live, *late]}) == 25
    assert len(of(LIVE, bench.sent)) == before + 1


@pytest.mark.parametrize(
    ("minutes_late", "fields", "lane"),
    [
        (0, {}, LIVE),
        (15, {}, LIVE),
        (16, {}, BACKFILL),
        (60 * 24 * 30, {}, BACKFILL),
        (60 * 24 * 30, {"simulated": True}, LIVE),
    ],
)
async def test_a_forecast_that_is_no_longer_the_present_one_is_backfill(
    minutes_late: int, fields: dict[str, object], lane: Topic
) -> None:
    bench = Workbench()
    await publish(bench, range(100))
    arrival = message(100)["timestamp_ms"] + minutes_late * 60_000  # type: ignore[operator]
    sends = await bench.run(STEP, reading(100, **fields), **message(100) | {"timestamp_ms": arrival})  # type: ignore[arg-type]
    (value,) = of(lane, sends)
    request = ForecastRequest.from_arrow(value)
    assert len([send for send in sends if send.topic != ARRIVALS]) == 2
    issued = arrival if fields else message(100)["timestamp_ms"]
    assert (request.deadline_ms, request.revision) == (issued + 15 * 60_000, 100)  # type: ignore[operator]


async def test_a_sensor_of_every_quarter_of_an_hour_gets_forecasts_that_name_what_nobody_measured() -> None:
    bench = Workbench()
    for step in range(0, 100, 3):
        sends = await bench.run(STEP, reading(step), **message(step))
    (value,) = of(LIVE, sends)
    request = ForecastRequest.from_arrow(value)
    assert request.interpolated_points == [place for place in range(96) if place % 3 != 95 % 3]
    assert len(request.interpolated_points) == 64
    assert request.warnings == ["IMPUTATION: 64 of 96 points are interpolated"]
    check_request(request)


@pytest.mark.parametrize("seconds", [890, 902, 930, 1050])
async def test_a_sensor_of_about_a_quarter_of_an_hour_has_no_gaps_whatever_its_place_beside_the_slots(
    seconds: int,
) -> None:
    bench, forecasts, most = Workbench(), [], 0
    for number in range(60):
        time = START + datetime.timedelta(seconds=147 + number * seconds)
        at = {"key": b"ada", "offset": number, "timestamp_ms": int(time.timestamp() * 1000)}
        sends = await bench.run(STEP, reading(0, 120.0 + number % 9, time=time.isoformat()), **at)
        forecasts.append(outcome_of(sends).status == "forecast_requested")
        for value in of(LIVE, sends):
            request = ForecastRequest.from_arrow(value)
            check_request(request)
            most = max(most, len(request.interpolated_points))
    assert forecasts == [False] * forecasts.index(True) + [True] * (60 - forecasts.index(True))
    assert forecasts.index(True) <= 33
    assert most <= MOST_INTERPOLATED


async def test_a_gap_is_as_long_as_the_time_between_two_readings() -> None:
    """Three slots apart, but nearly twenty minutes."""
    bench = Workbench()
    await publish(bench, range(97))
    time = START + datetime.timedelta(minutes=5 * 96, seconds=1051)
    at = {"key": b"ada", "offset": 97, "timestamp_ms": int(time.timestamp() * 1000)}
    outcome = outcome_of(await bench.run(STEP, reading(0, 146.0, time=time.isoformat()), **at))
    assert (outcome.code, "since a gap of 17 min" in (outcome.reason or "")) == ("gap", True)
