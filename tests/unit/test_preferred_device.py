"""While another device than the preferred one reports, its values are not shown and the forecast goes on to hold."""

import datetime
from pathlib import Path

from query_api.present import present
from query_api.routers.overview import newest_heard
from schemas.reading import OTHER_DEVICE, Reading, ReadingOutcome
from schemas.sources import SourcePolicy
from streams.notify.people import Person
from tests.kit.charts import ISSUE
from tests.kit.followed import Followed, forecast, reading

MINUTE = datetime.timedelta(minutes=1)
ARM = SourcePolicy(preferred_device="arm")


def sent(minutes: float, device: str | None, glucose: float = 120) -> Reading:
    return Reading(subject_id="anna", time=ISSUE + minutes * MINUTE, glucose=glucose, unit="mg/dL", device=device)


def other(minutes: float) -> ReadingOutcome:
    said = sent(minutes, "leg", 200)
    return ReadingOutcome(
        outcome_id="a" * 64, subject_id="anna", status="no_forecast", code=OTHER_DEVICE, reason="another is preferred",
        time=said.time, reading=said,
    )  # fmt: skip


def test_the_forecast_of_the_preferred_device_holds_while_another_reports(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.apply(reading("anna", 0, reading=sent(0, "arm")), forecast("anna", 0))
    topic, subject, key, _ = reading("anna", 1)
    followed.apply((topic, subject, key, other(4).to_json()))
    row, newest = followed.model.fan_charts.latest("anna"), followed.model.readings.newest("anna")
    assert row is not None
    assert newest is not None
    assert newest.time == ISSUE
    assert present(row, newest, ISSUE + 5 * MINUTE).age_seconds == 300
    assert [each.device for each in followed.model.readings.measured.newest_first("anna")] == ["leg", "arm"]


def test_the_newest_value_is_of_the_preferred_device_where_it_spoke_within_the_wait() -> None:
    spoken = [sent(12, "leg"), sent(11, "leg"), sent(10, "arm"), sent(7, "leg"), sent(5, "arm")]
    assert [each.time - ISSUE for each in newest_heard(iter(spoken), ARM)] == [10 * MINUTE, 7 * MINUTE, 5 * MINUTE]
    assert [each.time - ISSUE for each in newest_heard(iter(spoken), SourcePolicy())][:2] == [12 * MINUTE, 11 * MINUTE]
    silent = [sent(40, "leg"), sent(35, "leg"), sent(10, "arm")]
    assert [each.time - ISSUE for each in newest_heard(iter(silent), ARM)] == [40 * MINUTE, 35 * MINUTE]
    assert [each.device for each in newest_heard(iter([sent(40, "leg"), sent(10, "arm")]), ARM)] == ["leg"]
    for wait, devices in ((17.5, ["arm"]), (17.51, ["leg"])):  # half a step more: no sensor is punctual
        assert [each.device for each in newest_heard(iter([sent(wait, "leg"), sent(0, "arm")]), ARM)] == devices
    assert not newest_heard(iter([]), ARM)
    assert len(newest_heard(iter([sent(0, None)]), ARM)) == 1


def test_a_display_shows_no_value_of_a_device_that_does_not_count() -> None:
    person = Person(0)
    first = other(0).model_copy(update={"code": None, "reading": sent(0, "arm")})
    assert person.read(first, ISSUE)
    assert not person.read(other(4), ISSUE + 5 * MINUTE)
    assert person.readings[0].device == "arm"
