"""What a display shows of a person: never longer than it holds, never of somebody else."""

import datetime
import json

import pytest

from schemas.reading import OTHER_DEVICE, Reading, ReadingOutcome
from streams.notify.home_assistant import Topics, announcements, entities, removals
from streams.notify.people import People, Person
from tests.kit.alerts import NOW, alert
from tests.kit.charts import fan_chart

MINUTE = datetime.timedelta(minutes=1)
TOPICS = Topics("glucast", "homeassistant", 0)


def outcome(minutes: float = 0, glucose: float = 118, status: str = "forecast_requested") -> ReadingOutcome:
    reading = Reading(subject_id="anna", time=NOW + minutes * MINUTE, glucose=glucose, unit="mg/dL")
    return ReadingOutcome.model_validate(
        {"outcome_id": "a" * 64, "subject_id": "anna", "status": status, "time": reading.time, "reading": reading}
    )


def ms(time: datetime.datetime) -> int:
    return int(time.timestamp() * 1000)


def anna(*outcomes: ReadingOutcome) -> Person:
    person = Person(partition=0)
    for each in outcomes:
        person.read(each, NOW)
    return person


def test_reading_trend_forecast_and_alert_are_shown() -> None:
    person = anna(outcome(0, 118), outcome(5, 106))
    chart = fan_chart(issue_time=NOW + 5 * MINUTE, p_below_70=[place / 100 for place in range(1, 13)])
    assert person.forecast(chart)
    assert person.tell(alert(), NOW + 5 * MINUTE)
    state = person.state(NOW + 7 * MINUTE, "mg/dL")
    assert (state["glucose"], state["trend"]) == (106, "SingleDown")
    assert state["measured_at"] == (NOW + 5 * MINUTE).isoformat()
    assert not any("age" in name for name in state), (
        "it would be true for a minute, and be published for a quarter hour"
    )
    assert (state["median_30"], state["median_60"]) == (120, 120)
    assert (state["low_percent_30"], state["low_percent_60"]) == (6, 12)
    assert (state["alert"], state["alert_kind"]) == ("ON", "low")
    assert person.state(NOW + 7 * MINUTE, "mmol/L")["glucose"] == 5.9
    assert "not for treatment decisions" in state["disclaimer"]


def test_nothing_is_shown_longer_than_it_holds() -> None:
    person = anna(outcome(0))
    person.forecast(fan_chart(issue_time=NOW))
    person.tell(alert(), NOW)
    assert person.next_end(NOW) == NOW + 15 * MINUTE
    later = person.state(NOW + 15 * MINUTE, "mg/dL")
    assert [later[name] for name in ("glucose", "trend", "median_60", "low_percent_60")] == [None] * 4
    assert (later["alert"], later["measured_at"]) == ("ON", NOW.isoformat())
    assert person.next_end(NOW + 15 * MINUTE) == NOW + 60 * MINUTE
    assert person.state(NOW + 60 * MINUTE, "mg/dL")["alert"] == "OFF"


LATE = NOW + 180 * MINUTE
"""When calc was away for three hours: what it told then speaks of an hour that is over."""


@pytest.mark.parametrize("kind", ["urgent_low", "low", "high", "urgent_high", "falling_fast"])
def test_an_alert_that_came_late_holds_no_longer_than_the_hour_that_it_speaks_of(kind: str) -> None:
    person = anna(outcome())
    person.tell(alert(kind=kind), LATE)
    assert person.state(LATE, "mg/dL")["alert"] == "OFF"
    person.tell(alert(kind=kind), NOW + 50 * MINUTE)
    assert person.state(NOW + 59 * MINUTE, "mg/dL")["alert_kind"] == kind
    assert person.state(NOW + 60 * MINUTE, "mg/dL")["alert"] == "OFF"


def test_a_simulation_has_a_clock_of_its_own_and_one_that_is_ahead_gains_nothing() -> None:
    person = anna(outcome())
    person.tell(alert(simulated=True), LATE)
    assert person.state(LATE + 59 * MINUTE, "mg/dL")["alert"] == "ON"
    assert person.state(LATE + 60 * MINUTE, "mg/dL")["alert"] == "OFF"
    person.tell(alert(issue_time=NOW + 30 * MINUTE), NOW)
    assert person.state(NOW + 60 * MINUTE, "mg/dL")["alert"] == "OFF"


@pytest.mark.parametrize("status", ["hit", "false", "unknown"])
def test_an_alert_is_over_when_it_is_known_what_became_of_it(status: str) -> None:
    person = anna(outcome())
    person.tell(alert(), NOW)
    assert person.tell(alert(status=status), NOW)
    assert person.state(NOW, "mg/dL")["alert"] == "OFF"


def test_that_no_readings_come_is_shown_until_it_has_ended() -> None:
    person = anna(outcome())
    none = {"kind": "stale_data", "threshold_mgdl": None, "probability": None, "horizon_minutes": None}
    person.tell(alert(**none), NOW)
    assert person.state(NOW + 180 * MINUTE, "mg/dL")["alert_kind"] == "stale_data"
    person.tell(alert(**none, status="ended"), NOW + 181 * MINUTE)
    assert person.state(NOW + 181 * MINUTE, "mg/dL")["alert"] == "OFF"


@pytest.mark.parametrize(
    ("raised_ms", "ended_ms", "has_ended"),
    [(ms(NOW), 0, True), (ms(NOW), ms(NOW - MINUTE), False)],
    ids=["of one that does not say when it began", "of before a reset"],
)
def test_an_alert_is_ended_by_what_began_no_earlier(raised_ms: int, ended_ms: int, has_ended: bool) -> None:
    """Of a rolling upgrade one process may raise an alert and another end it."""
    person = anna(outcome())
    none = {"kind": "stale_data", "threshold_mgdl": None, "probability": None, "horizon_minutes": None}
    person.tell(alert(**none, began_ms=raised_ms), NOW + MINUTE)
    assert person.tell(alert(**none, began_ms=ended_ms, status="ended"), NOW + 5 * MINUTE) == has_ended
    assert person.state(NOW + 60 * MINUTE, "mg/dL")["alert"] == ("OFF" if has_ended else "ON")


def test_who_was_erased_is_shown_half_a_day_later_whatever_was_reset_since() -> None:
    people, hour = People(["*"]), 60 * MINUTE
    for ago, erases in ((11, True), (1, False)):
        people.forget_subject("anna", NOW - ago * hour, 0, NOW - ago * hour, erases=erases)
    people.of("anna", 0).tell(alert(kind="sensor_error", threshold_mgdl=None, probability=None), NOW)
    assert not people.is_shown("anna", NOW), "calc may still have had it in hand"
    assert people.is_shown("anna", NOW + 2 * hour)


def test_older_readings_and_charts_change_nothing() -> None:
    person = anna(outcome(5, 106))
    assert not person.read(outcome(-60, 300), NOW), "too long ago for the trend"
    assert not person.read(outcome(10, 300, status="rejected"), NOW)
    assert person.forecast(fan_chart(chart_id="1" * 64, issue_time=NOW, began_ms=2))
    assert not person.forecast(fan_chart(chart_id="2" * 64, issue_time=NOW - 5 * MINUTE))
    assert not person.forecast(fan_chart(chart_id="3" * 64, issue_time=NOW, began_ms=1))
    assert person.forecast(fan_chart(chart_id="4" * 64, issue_time=NOW, began_ms=2, revision=11))
    assert not person.forecast(fan_chart(chart_id="1" * 64, issue_time=NOW, began_ms=2, revision=10)), "read again"
    assert person.state(NOW + 5 * MINUTE, "mg/dL")["glucose"] == 106


def test_a_correction_of_the_newest_reading_is_what_is_shown() -> None:
    """With the trend since the reading before; not since the value that it takes back."""
    person = anna(outcome(-5, 118), outcome(0, 250))
    assert person.read(outcome(0, 112), NOW)
    state = person.state(NOW + MINUTE, "mg/dL")
    assert (state["glucose"], state["trend"]) == (112, "FortyFiveDown")
    assert not person.read(outcome(0, 112), NOW), "it is delivered again"
    assert not person.read(outcome(0, 250, status="duplicate"), NOW)
    assert not person.read(outcome(0, 300).model_copy(update={"code": OTHER_DEVICE}), NOW)
    assert person.state(NOW + MINUTE, "mg/dL") == state


def test_the_trend_is_told_from_the_readings_in_their_order_as_they_count_now() -> None:
    """A correction of the one before the newest, and one that comes late, are where they belong."""
    person = anna(outcome(-10, 100), outcome(-5, 100), outcome(0, 100))
    assert person.read(outcome(-5, 130), NOW)
    assert not person.read(outcome(-5, 130), NOW), "it is delivered again"
    state = person.state(NOW + MINUTE, "mg/dL")
    assert (state["glucose"], state["trend"], state["measured_at"]) == (100, "DoubleDown", NOW.isoformat())
    for each in (outcome(-5, 60, status="rejected"), outcome(-5, 60).model_copy(update={"code": OTHER_DEVICE})):
        assert not person.read(each, NOW)
    assert person.state(NOW + MINUTE, "mg/dL") == state
    late = anna(outcome(-10, 70), outcome(0, 100))
    assert late.state(NOW, "mg/dL")["trend"] == "DoubleUp"
    assert late.read(outcome(-5, 98), NOW)
    assert late.state(NOW, "mg/dL")["trend"] == "Flat"
    for step in range(40):
        late.read(outcome(step / 2), NOW)
        late.read(outcome(step / 2 - 4.75), NOW)
    assert len(late.readings) <= 18


def silent(minutes: float, glucose: float, code: str = "implausible_change") -> ReadingOutcome:
    return outcome(minutes, glucose, status="no_forecast").model_copy(update={"code": code})


@pytest.mark.parametrize("is_chart_last", [True, False])
def test_a_newer_reading_that_got_no_forecast_ends_the_one_before(is_chart_last: bool) -> None:
    """As `query_api.present` has it."""
    person, chart = anna(outcome(0)), fan_chart(issue_time=NOW, began_ms=ms(NOW))
    if not is_chart_last:
        person.forecast(chart)
    assert person.read(silent(5, 55), NOW + 5 * MINUTE)
    if is_chart_last:
        person.forecast(chart)
    state = person.state(NOW + 6 * MINUTE, "mg/dL")
    assert state["glucose"] == 55
    names = ("median_30", "median_60", "low_percent_30", "low_percent_60", "forecast_until")
    assert [state[name] for name in names] == [None] * 5
    person.read(outcome(10, 57), NOW + 10 * MINUTE)
    person.forecast(fan_chart(chart_id="2" * 64, issue_time=NOW + 10 * MINUTE, began_ms=ms(NOW + 10 * MINUTE)))
    assert person.state(NOW + 11 * MINUTE, "mg/dL")["median_60"] == 120


@pytest.mark.parametrize(("corrected", "newest"), [(0, 0), (-5, 0)], ids=["the last reading", "one before it"])
def test_a_forecast_of_a_value_that_was_taken_back_is_not_shown(corrected: int, newest: int) -> None:
    person = anna(outcome(-5, 100), outcome(newest, 101))
    person.forecast(fan_chart(issue_time=NOW, began_ms=ms(NOW)))
    left = silent(corrected, 300).model_copy(update={"withheld_times": (NOW,)})
    assert person.read(left, NOW + MINUTE)
    assert person.state(NOW + 2 * MINUTE, "mg/dL")["median_60"] is None
    person.read(outcome(corrected, 102).model_copy(update={"issue_times": (NOW,)}), NOW + 2 * MINUTE)
    person.forecast(fan_chart(chart_id="2" * 64, issue_time=NOW, began_ms=ms(NOW + 2 * MINUTE)))
    assert person.state(NOW + 3 * MINUTE, "mg/dL")["median_60"] == 120


def test_a_reading_of_the_other_device_ends_a_forecast_and_is_not_shown() -> None:
    """It takes back what its device had said before, in a window in which that one was heard."""
    person = anna(outcome(-5, 100), outcome(0, 101))
    person.forecast(fan_chart(issue_time=NOW, began_ms=ms(NOW)))
    left = silent(-10, 300, code=OTHER_DEVICE).model_copy(update={"withheld_times": (NOW,)})
    assert person.read(left, NOW + MINUTE)
    state = person.state(NOW + 2 * MINUTE, "mg/dL")
    assert (state["glucose"], state["trend"], state["median_60"]) == (101, "Flat", None)
    assert not person.read(left, NOW + 3 * MINUTE), "it is delivered again"


def test_a_reading_beside_the_one_that_was_forecast_leaves_the_forecast() -> None:
    person = anna(outcome(0))
    person.forecast(fan_chart(issue_time=NOW, began_ms=ms(NOW)))
    assert person.read(silent(2, 119, code="superseded"), NOW + 2 * MINUTE)
    state = person.state(NOW + 2 * MINUTE, "mg/dL")
    assert (state["glucose"], state["median_60"]) == (119, 120)


def test_the_more_urgent_alert_is_the_one_that_is_shown() -> None:
    person = anna(outcome())
    for digit, kind in (("1", "low"), ("2", "urgent_low"), ("3", "high")):
        person.tell(alert(alert_id=digit * 64, kind=kind), NOW)
    assert person.state(NOW, "mg/dL")["alert_kind"] == "urgent_low"


def test_only_those_are_shown_who_are_asked_for() -> None:
    assert [People(["anna"]).wants(name) for name in ("anna", "bert", None)] == [True, False, False]
    assert People("*").wants("bert")
    assert not People("*").wants("a/#"), "it would be another topic"
    assert not People(()).wanted


def test_every_entity_reads_a_field_of_the_state_and_belongs_to_one_device() -> None:
    fields = Person(partition=0).state(NOW, "mg/dL")
    found = announcements(TOPICS, "anna@clinic", "mmol/L")
    assert len(found) == len(entities("mmol/L"))
    for topic, payload in found.items():
        prefix, component, node, field, last = topic.split("/")
        config = json.loads(payload)
        assert (prefix, last) == ("homeassistant", "config")
        assert component in ("sensor", "binary_sensor")
        assert node.replace("_", "").isalnum()
        assert config["value_template"] == f"{{{{ value_json.{field} }}}}"
        assert field in fields
        assert config["state_topic"] == "glucast/anna@clinic/state"
        assert config["availability_topic"] == "glucast/notify-0/availability"
        assert config["device"]["identifiers"] == [node]
        assert config["device"]["model"] == "Not a medical device"
    assert len({json.loads(payload)["unique_id"] for payload in found.values()}) == len(found)
    assert removals(TOPICS, "anna@clinic", "mmol/L") == dict.fromkeys(found, b"")
