"""What the read model shows where a write failed, or where lanes are read at paces of their own."""

from pathlib import Path

import pytest

from query_api.read_model import ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas import topics
from schemas.errors import StorageError
from schemas.grid import STEP
from schemas.reading import ReadingOutcome
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import ISSUE, fan_chart
from tests.kit.disks import full_disk
from tests.kit.followed import MIB, Followed, reading


def test_an_erasure_that_could_not_be_written_at_first_leaves_nothing(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "table")
    followed.apply(reading("anna", 0), reading("anna", 1), reading("eve", 0))
    store, ends = followed.model._store, dict(followed._ends)
    erased = ReadingOutcome(outcome_id="f" * 64, subject_id="anna", status="erased", time=ISSUE + 10 * STEP)
    order = (topics.READING_OUTCOMES.name, "anna", "anna", erased.to_json())

    large = reading("eve", 1, reason="x" * (1 << 20))
    with full_disk(), pytest.raises(StorageError):
        followed.apply(order, large)
    followed._ends.clear()
    followed._ends.update(ends)  # the follower reads it again
    followed.apply(order, large)
    assert [key for key, row in store.scan(b"") if key.startswith(b"v/") and b"anna" in row] == []
    followed.model.close()
    again = ReadModel(Store(tmp_path / "table", MIB, MIB), Subscriptions())
    assert {event.subject_id for event in again.events._events if event.kind != "reset"} == {"eve"}
    again.close()


def test_a_backlog_shows_no_forecast_of_readings_that_were_corrected_since(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "table")

    def charted(lane: str, made: int, glucose_mgdl: float) -> tuple[str, str, str, bytes]:
        chart = fan_chart(
            series_key="anna", subject_id="anna", chart_id=f"{made:064x}", issue_time=ISSUE,
            first_target_time=ISSUE + STEP, began_ms=1000 * made, past_mgdl=[glucose_mgdl] * 96,
        )  # fmt: skip
        return CHART_CHANGELOGS[lane].name, "anna", "subject/anna/7/m", chart.to_json()

    def shown() -> float:
        latest = followed.model.fan_charts.latest("anna")
        assert latest is not None
        return latest.chart.past_mgdl[-1]

    followed.apply(charted("live", 2, 60.0))
    followed.apply(charted("backfill", 1, 180.0))  # written before it, and read later
    assert shown() == 60.0
    followed.apply((CHART_CHANGELOGS["backfill"].name, "anna", "subject/anna/7/m", None))
    assert shown() == 60.0
    followed.apply(charted("backfill", 3, 75.0))
    assert shown() == 75.0
    followed.model.close()
