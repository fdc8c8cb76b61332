"""The outbox: an event is sent once to who wants it, nothing stale is, and its records make it again."""

import datetime
from collections.abc import Sequence
from typing import Any

import pytest

from schemas.errors import MalformedRecordError
from schemas.webhook import Delivery
from streams.notify.events import NEWER, Event, event_of_alert, event_of_chart
from streams.notify.outbox import FULL, SAID_AGAIN, TOO_LATE, LastSteps, Outbox
from streams.notify.webhook_file import Endpoint
from tests.kit.alerts import NOW, alert, endpoint
from tests.kit.charts import fan_chart

MINUTE = datetime.timedelta(minutes=1)
HOUR = 60 * MINUTE


def told(at: datetime.datetime = NOW, **changes: Any) -> Event:
    return event_of_alert(alert(**changes), at)


def forecast(number: int, at: datetime.datetime = NOW, **changes: Any) -> Event:
    chart = fan_chart(chart_id=f"{number:064x}", issue_time=at, first_target_time=at + 5 * MINUTE, **changes)
    event = event_of_chart(chart, at)
    assert event is not None
    return event


def planned(outbox: Outbox, event: Event, to: Sequence[Endpoint], now: datetime.datetime = NOW) -> list[Delivery]:
    """As if the records were confirmed and the offset committed."""
    made = outbox.plan(event, 0, to, now)
    outbox.release(made)
    return made


def waiting(outbox: Outbox, name: str = "home") -> list[str]:
    """Event ids in the order in which they would be sent."""
    found = []
    while (item := outbox.next(name)) is not None:
        found.append(item.delivery.event_id)
        outbox.tried(item, "delivered", NOW, 200, None)
    return found


def test_a_delivery_waits_until_its_event_cannot_come_again() -> None:
    outbox = Outbox(10)
    (queued,) = outbox.plan(told(), 0, [endpoint()], NOW)
    assert (queued.status, queued.event_id) == ("queued", f"alert_{'9' * 64}_raised")
    assert outbox.next("home") is None
    assert outbox.release([queued]) == {"home"}
    assert outbox.next("home") is not None


def test_the_same_event_makes_one_delivery_however_often_it_comes() -> None:
    outbox, to = Outbox(10), [endpoint()]
    assert len(planned(outbox, told(), to)) == 1
    assert planned(outbox, told(), to) == []
    assert len(waiting(outbox)) == 1
    assert planned(outbox, told(), to) == []


def test_repeats_of_an_alert_are_events_of_their_own() -> None:
    ids = {told(status="repeated", issue_time=NOW + minutes * MINUTE).event_id for minutes in (0, 5, 10)}
    assert len(ids) == 3
    assert not any("." in each for each in ids)


def test_only_who_wants_an_event_gets_it() -> None:
    outbox = Outbox(10)
    to = [
        endpoint("anna", subject_id="anna"), endpoint("bert", subject_id="bert"),
        endpoint("outcomes", events=["outcome"]), endpoint("late", added_at=NOW + MINUTE),
    ]  # fmt: skip
    assert [each.webhook_id for each in planned(outbox, told(), to)] == ["anna"]


def test_what_held_no_longer_when_it_came_is_told_as_given_up_and_not_sent() -> None:
    outbox = Outbox(10)
    (given_up,) = planned(outbox, told(at=NOW), [endpoint()], now=NOW + 61 * MINUTE)
    assert (given_up.status, given_up.reason, given_up.body) == ("expired", TOO_LATE, None)
    assert outbox.next("home") is None


@pytest.mark.parametrize("status", ["raised", "repeated"])
@pytest.mark.parametrize("kind", ["low", "urgent_high", "falling_fast"])
def test_an_alert_of_an_hour_that_is_over_when_it_comes_is_not_sent(kind: str, status: str) -> None:
    """Calc was away for three hours, and then works what had come in time: the record itself is new."""
    outbox, late = Outbox(10), NOW + 180 * MINUTE
    (given_up,) = planned(outbox, told(at=late, kind=kind, status=status), [endpoint()], now=late)
    assert (given_up.status, given_up.reason, given_up.valid_until) == ("expired", TOO_LATE, NOW + 60 * MINUTE)
    (queued,) = planned(outbox, told(at=late, alert_id="8" * 64, kind=kind, simulated=True), [endpoint()], now=late)
    assert (queued.status, queued.valid_until) == ("queued", late + 60 * MINUTE)


@pytest.mark.parametrize("kind", ["stale_data", "sensor_error"])
def test_what_is_so_until_it_has_ended_is_sent_however_late_it_comes(kind: str) -> None:
    late = NOW + 180 * MINUTE
    assert told(at=late, kind=kind).valid_until == late + 720 * MINUTE


def test_an_alert_is_not_sent_once_it_is_known_what_became_of_it() -> None:
    outbox, to = Outbox(10), [endpoint()]
    planned(outbox, told(), to)
    made = planned(outbox, told(status="false", at=NOW + 40 * MINUTE), to, NOW + 40 * MINUTE)
    assert [(each.event_type, each.status) for each in made] == [("alert.raised", "expired"), ("alert.false", "queued")]
    assert waiting(outbox) == [f"alert_{'9' * 64}_false"]


def test_a_newer_forecast_takes_the_place_of_one_that_waits_and_of_no_other_persons() -> None:
    outbox, to = Outbox(10), [endpoint()]
    planned(outbox, forecast(1), to)
    planned(outbox, forecast(2, subject_id="bert", series_key="bert"), to)
    made = planned(outbox, forecast(3, at=NOW + 5 * MINUTE), to, NOW + 5 * MINUTE)
    assert [(each.event_id.split("_")[1][-1], each.status) for each in made] == [("1", "expired"), ("3", "queued")]
    assert [each.split("_")[1][-1] for each in waiting(outbox)] == ["2", "3"]


def test_charts_that_nobody_is_told_of_are_no_events() -> None:
    sample = fan_chart(kind="sample", handle="e" * 64, index=0)
    assert event_of_chart(sample, NOW) is None
    assert event_of_chart(fan_chart(model_serves=False), NOW) is None


def test_what_waits_too_long_expires() -> None:
    outbox = Outbox(10)
    planned(outbox, forecast(1), [endpoint()])
    assert outbox.ends_next("home") == NOW + 15 * MINUTE
    assert outbox.expire("home", NOW + 14 * MINUTE) == []
    ((partition, gone),) = outbox.expire("home", NOW + 15 * MINUTE)
    assert (partition, gone.status) == (0, "expired")
    assert outbox.count() == 0


def test_a_full_queue_drops_forecasts_before_alerts_and_says_so() -> None:
    outbox, to = Outbox(2), [endpoint()]
    planned(outbox, forecast(1), to)
    planned(outbox, told(), to)
    made = planned(outbox, told(alert_id="8" * 64), to)
    assert [(each.event_type, each.status, each.reason) for each in made[1:]] == [("forecast.issued", "dropped", FULL)]
    assert waiting(outbox) == [f"alert_{'9' * 64}_raised", f"alert_{'8' * 64}_raised"]


def test_what_was_tried_least_goes_first() -> None:
    outbox, to = Outbox(10), [endpoint()]
    for digit in "12":
        planned(outbox, told(alert_id=digit * 64), to)
    first = outbox.next("home")
    assert first is not None
    failing = outbox.tried(first, "failing", NOW, 500, "it answers 500")
    assert (failing.attempts, failing.body) == (1, None)
    assert [each[6] for each in waiting(outbox)] == ["2", "1"]


def test_an_erased_person_is_told_of_no_more() -> None:
    outbox, to = Outbox(10), [endpoint()]
    planned(outbox, told(), to)
    planned(outbox, told(alert_id="8" * 64, subject_id="bert"), to)
    (gone,) = outbox.erase("anna", NOW, 0, NOW)
    assert (gone.subject_id, gone.status) == ("anna", "dropped")
    assert waiting(outbox) == [f"alert_{'8' * 64}_raised"]


def records_of(history: str) -> list[Delivery]:
    """Records of one delivery: q(ueued), f(ailing), d(elivered), e(xpired)."""
    (queued,) = Outbox(10).plan(told(), 0, [endpoint()], NOW)
    steps = {"f": "failing", "d": "delivered", "e": "expired"}
    later = [queued.model_copy(update={"status": steps[each], "body": None, "attempts": place})
             for place, each in enumerate(history) if each != "q"]  # fmt: skip
    return [queued, *later]


@pytest.mark.parametrize(("history", "waits"), [("q", 1), ("qf", 1), ("qff", 1), ("qfd", 0), ("qe", 0), ("qdf", 0)])
def test_its_records_make_it_again(history: str, waits: int) -> None:
    """What has ended stays so, whatever a process that was cut off adds."""
    outbox, records = Outbox(10), records_of(history)
    outbox.restore(0, records, NOW)
    assert outbox.count() == waits
    assert planned(outbox, told(), [endpoint()]) == [], "the event comes again, its delivery does not"
    item = outbox.next("home")
    assert (item is not None) == bool(waits)
    if item is not None:
        assert item.delivery.body == records[0].body
        assert item.delivery.attempts == records[-1].attempts


def test_of_what_is_over_for_long_whoever_takes_over_keeps_nothing() -> None:
    """A topic holds two days of forecasts: a hundred times what may still be told, or come again."""
    last = LastSteps(NOW + 3 * HOUR)
    *steps, late = records_of("qfdf")
    for each in steps:
        last.add(each)
    assert last.left() == []
    last.add(late)
    assert last.left() == [], "what has ended does not begin again"
    last.add(steps[0].model_copy(update={"delivery_id": "f" * 64}))
    assert [each.body for each in last.left()] == [steps[0].body], "it waits, and is yet to be told as expired"


def test_an_alert_that_was_restored_is_ended_like_any_other() -> None:
    outbox = Outbox(10)
    outbox.restore(0, records_of("qf"), NOW)
    made = outbox.plan(told(status="hit"), 0, [], NOW)
    assert [each.status for each in made] == ["expired"]


def test_a_partition_that_goes_to_another_process_leaves_nothing() -> None:
    outbox, to = Outbox(10), [endpoint()]
    item_of = {}
    for partition, digit in enumerate("12"):
        outbox.release(outbox.plan(told(alert_id=digit * 64), partition, to, NOW))
        item_of[partition] = outbox.next("home")
    outbox.forget(0)
    assert item_of[0] is not None
    assert not outbox.still_waits(item_of[0])
    assert waiting(outbox) == [f"alert_{'2' * 64}_raised"]
    assert len(outbox.plan(told(alert_id="1" * 64), 0, to, NOW)) == 1


def test_what_is_too_long_for_a_topic_is_no_event() -> None:
    with pytest.raises(MalformedRecordError, match="nobody can be told"):
        event_of_alert(alert(reason="x" * 70_000), NOW)


def test_what_is_so_until_it_has_ended_is_told_for_longer_and_not_once_it_has() -> None:
    outbox, to = Outbox(10), [endpoint()]
    none = {"kind": "stale_data", "threshold_mgdl": None, "probability": None, "horizon_minutes": None}
    planned(outbox, told(**none), to)
    assert outbox.expire("home", NOW + 11 * 60 * MINUTE) == []
    made = planned(outbox, told(**none, status="ended", at=NOW + 660 * MINUTE), to, NOW + 660 * MINUTE)
    assert [(each.event_type, each.status) for each in made] == [("alert.raised", "expired"), ("alert.ended", "queued")]


def test_a_forecast_of_an_earlier_time_comes_too_late_behind_a_newer_one() -> None:
    """A late reading has the window before it forecast again, in a lane that others overtake."""
    outbox, to = Outbox(10), [endpoint()]
    planned(outbox, forecast(2, at=NOW), to)
    (late,) = planned(outbox, forecast(1, at=NOW - 5 * MINUTE), to)
    assert (late.event_id.split("_")[1][-1], late.status, late.reason) == ("1", "expired", NEWER)
    assert [each.split("_")[1][-1] for each in waiting(outbox)] == ["2"]
    (late,) = planned(outbox, forecast(3, at=NOW - 5 * MINUTE), to)
    assert late.status == "expired", "also when the newer one was delivered"
    (again,) = planned(outbox, forecast(4, at=NOW), to)
    assert again.status == "queued", "one for the same time, made of more"


def test_a_forecast_that_is_delivered_again_ends_neither_itself_nor_the_one_that_took_its_place() -> None:
    """It was ended as if by a newer one, and being known it was not queued: nobody was told of any."""
    outbox, to = Outbox(10), [endpoint()]
    first, corrected = forecast(1, began_ms=1_000), forecast(2, began_ms=2_000)
    planned(outbox, first, to)
    assert planned(outbox, first, to) == []
    assert waiting(outbox) == [first.event_id]
    planned(outbox, corrected, to)
    assert planned(outbox, first, to) == []
    assert waiting(outbox) == [corrected.event_id]


def test_a_chart_that_was_drawn_anew_after_a_reset_is_told() -> None:
    """Of the same readings by the same forecaster, so of the same id, and with another calibration."""
    outbox, to = Outbox(10), [endpoint()]
    (first,) = planned(outbox, forecast(1, began_ms=1_000), to)
    assert planned(outbox, forecast(1, began_ms=1_000), to) == [], "delivered again"
    made = planned(outbox, forecast(1, began_ms=2_000), to)
    assert [(each.event_id == first.event_id, each.status) for each in made] == [(True, "expired"), (False, "queued")]


def test_whoever_takes_over_knows_the_newest_forecast() -> None:
    outbox, to = Outbox(10), [endpoint()]
    (queued,) = planned(outbox, forecast(2), to)
    delivered = queued.model_copy(update={"status": "delivered", "body": None})
    other = Outbox(10)
    other.restore(0, [queued, delivered], NOW)
    (late,) = planned(other, forecast(1, at=NOW - 5 * MINUTE), to)
    assert late.status == "expired"
    other.forget(0)
    (late,) = planned(other, forecast(1, at=NOW - 5 * MINUTE), to)
    assert late.status == "queued"


def test_an_alert_that_is_said_again_is_one_message_for_a_person() -> None:
    """The older one went last, with its "now". A program gets both: it may listen to the first alone."""
    outbox, to = Outbox(10), [endpoint(), endpoint("phone", channel="ntfy", events=["alert"], secret=None)]
    planned(outbox, told(), to)
    first = outbox.next("phone")
    assert first is not None
    outbox.tried(first, "failing", NOW, 502, "it answers 502")
    later, again = NOW + 30 * MINUTE, told(at=NOW + 30 * MINUTE, status="repeated", issue_time=NOW + 30 * MINUTE)
    made = planned(outbox, again, to, later)
    assert [(each.webhook_id, each.status, each.reason) for each in made] == [
        ("phone", "expired", SAID_AGAIN), ("home", "queued", None), ("phone", "queued", None),
    ]  # fmt: skip
    assert planned(outbox, again, to, later) == [], "delivered again it does not end itself"
    assert waiting(outbox, "phone") == [again.event_id]
    assert waiting(outbox) == [f"alert_{'9' * 64}_raised", again.event_id]


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ({"simulated": True, "computed_at": NOW}, {"simulated": True, "computed_at": NOW + MINUTE, "at": NOW - HOUR}),
        ({"began_ms": 2_000}, {"began_ms": 1_000}),
        ({"began_ms": 2_000, "revision": 8}, {"began_ms": 2_000, "revision": 7}),
    ],
    ids=["of a later time", "of a later reading", "of a later revision"],
)
@pytest.mark.parametrize("is_restored", [False, True])
def test_forecasts_are_in_the_order_of_the_table(
    newer: dict[str, Any], older: dict[str, Any], is_restored: bool
) -> None:
    """By until when they hold alone an older one ended the newer one."""
    outbox, to = Outbox(10), [endpoint()]
    old = forecast(2, **older)
    made = planned(outbox, forecast(1, **newer), to)
    if is_restored:
        outbox = Outbox(10)
        outbox.restore(0, [Delivery.from_json(each.to_json()) for each in made], NOW)
    assert [(each.status, each.reason) for each in planned(outbox, old, to)] == [("expired", NEWER)]
    assert [each.split("_")[1][-1] for each in waiting(outbox)] == ["1"]


def test_a_delivery_of_an_earlier_version_is_ended_by_a_newer_forecast() -> None:
    outbox = Outbox(10)
    (queued,) = planned(Outbox(10), forecast(1), [endpoint()])
    outbox.restore(0, [queued.model_copy(update={"issue_time": None, "revision": None, "began_at": None})], NOW)
    made = planned(outbox, forecast(2, at=NOW + 5 * MINUTE), [endpoint()], NOW + 5 * MINUTE)
    assert [each.status for each in made] == ["expired", "queued"]


def test_a_simulated_forecast_goes_to_no_site() -> None:
    outbox = Outbox(10)
    site = endpoint("site", channel="nightscout", subject_id="anna", events=["forecast"], secret="s" * 12)
    simulated = forecast(1, simulated=True, computed_at=NOW)
    assert [each.webhook_id for each in planned(outbox, simulated, [site, endpoint()])] == ["home"]
    assert [each.webhook_id for each in planned(Outbox(10), forecast(2), [site])] == ["site"]


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": "nothing"},
        {"valid_until": datetime.datetime.max.replace(tzinfo=datetime.UTC)},
        {"valid_until": datetime.datetime.min.replace(tzinfo=datetime.UTC), "event_type": "forecast.issued"},
    ],
    ids=["an id of no event", "the end of all time", "a forecast of its beginning"],
)
def test_a_record_that_no_process_of_ours_made_hinders_nobody_who_takes_over(changes: dict[str, Any]) -> None:
    (queued,) = planned(Outbox(10), told(), [endpoint()])
    other = Outbox(10)
    other.restore(0, [queued.model_copy(update={"delivery_id": "f" * 64, **changes}), queued], NOW)
    other.tidy(NOW)
    assert queued.event_id in waiting(other)
    (of_the_next,) = planned(other, told(alert_id="8" * 64), [endpoint()])
    assert of_the_next.status == "queued"
