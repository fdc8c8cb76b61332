"""Somebody who was silent for too long is gone from the API's own table and its lists, as who was erased is."""

import datetime
import json
from pathlib import Path

from schemas import topics
from schemas.arrival import TICK, TICK_KEY
from schemas.tables import DAYS_TABLE
from schemas.topics import DAY_MS
from streams.settings import Settings
from streams.topology import DAYS_CHANGELOG
from tests.kit.followed import Followed, alerts, forecast, reading, scores
from tests.kit.workbench import NOW_MS, Workbench, built, of

WINDOW = built("window", Settings(partitions=1, subject_kept_days=30))


async def test_an_outcome_of_expiry_takes_all_rows_and_the_name_from_the_list(tmp_path: Path) -> None:
    bench, followed = Workbench(), Followed(tmp_path)
    for offset, subject in enumerate(("anna", "eve")):
        late = offset * 20 * DAY_MS
        time = datetime.datetime.fromtimestamp((NOW_MS + late) / 1000, datetime.UTC).isoformat()
        value = json.dumps({"subject_id": subject, "time": time, "glucose": 120, "unit": "mg/dL"}).encode()
        sends = await bench.run(WINDOW, value, key=subject.encode(), offset=offset, timestamp_ms=NOW_MS + late)
        outcomes = of(topics.READING_OUTCOMES, sends)
        followed.apply(
            *((topics.READING_OUTCOMES.name, subject, subject, each) for each in outcomes),
            *(
                (DAYS_CHANGELOG.name, subject, key, row)
                for key, row in bench.rows(DAYS_TABLE).items()
                if key.startswith(subject)
            ),
            forecast(subject, 1), alerts(subject, 5_000_000), scores(subject, 7),
        )  # fmt: skip
    assert followed.model.readings.subjects() == (["anna", "eve"], 0)
    assert naming(followed, b"anna")
    tick = {"key": TICK_KEY.encode(), "headers": {TICK: b"1"}, "timestamp_ms": NOW_MS + 31 * DAY_MS}
    (expired,) = of(topics.READING_OUTCOMES, await bench.run(WINDOW, None, offset=2, **tick))
    followed.apply((topics.READING_OUTCOMES.name, "anna", "anna", expired))
    assert followed.model.readings.subjects() == (["eve"], 0)
    assert naming(followed, b"anna") == []
    assert followed.model.skipped == 0


def test_where_not_all_find_room_those_of_the_newest_readings_are_listed(tmp_path: Path) -> None:
    followed = Followed(tmp_path)
    followed.apply(*(reading(f"s{number}", step) for step, number in enumerate((3, 1, 4, 0, 2))))
    assert followed.model.readings.subjects(limit=5) == (["s0", "s1", "s2", "s3", "s4"], 0)
    assert followed.model.readings.subjects(limit=2) == (["s2", "s0"], 3)
    assert followed.model.readings.subjects({"s3", "s1", "nobody"}, limit=1) == (["s1"], 1)


def naming(followed: Followed, name: bytes) -> list[bytes]:
    """Rows that hold the name; of events one says that the subject is gone, to those who follow it."""
    rows = followed.model._store.scan(b"")
    return [key for key, value in rows if not key.startswith((b"v/", b"w/")) and (name in key or name in value)]
