"""A second model in the read model: only the served one answers, whatever lies beside it in the changelog."""

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from query_api.projections.fan_charts import ChartRow, sample_key, subject_key
from query_api.read_model import Entry, ReadModel
from query_api.store import Store
from query_api.subscriptions import Subscriptions
from schemas.fan_chart import FanChart
from streams.topology import CHART_CHANGELOGS
from tests.kit.charts import ISSUE, fan_chart

HANDLE = "e" * 64
OLD, NEW, TRIED = (digit * 64 for digit in "123")
MIB = 1 << 20


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ReadModel]:
    model = ReadModel(Store(tmp_path / "read-model", MIB, MIB), Subscriptions())
    yield model
    model.close()


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the fan-chart table, at a place, by a model; without one as before models were told apart."""

    place: str
    model: str
    chart: FanChart | None

    @property
    def key(self) -> str:
        return f"{self.place}/{self.model[:16]}" if self.model else self.place

    @property
    def entry(self) -> Entry:
        """As the changelog carries it; a tombstone where there is no chart."""
        value = None
        if self.chart is not None:
            fields = json.loads(self.chart.to_json())
            if not self.model:
                del fields["model_serves"]
            value = json.dumps(fields).encode()
        return Entry(CHART_CHANGELOGS["interactive"].name, 0, 0, self.key.encode(), value)


def sample(index: int, model: str, serves: bool = True, **changes: Any) -> Row:
    chart = fan_chart(
        kind="sample", subject_id=None, series_key="tail", handle=HANDLE, index=index,
        model_fingerprint=model or OLD, model_serves=serves, **changes,
    )  # fmt: skip
    return Row(f"handle/{HANDLE}/{index}", model, chart)


def live(step: int, model: str, serves: bool = True, slot: int | None = None) -> Row:
    """A forecast of anna, `step` steps after the first."""
    time = ISSUE + datetime.timedelta(minutes=5 * step)
    chart = fan_chart(issue_time=time, model_fingerprint=model or OLD, model_serves=serves)
    return Row(f"subject/anna/{step if slot is None else slot}", model, chart)


def gone(row: Row) -> Row:
    return dataclasses.replace(row, chart=None)


def follow(model: ReadModel, *rows: Row) -> None:
    model.apply([row.entry for row in rows], {})
    assert model.skipped == 0


def model_of(row: ChartRow | None) -> str | None:
    return None if row is None else row.chart.model_fingerprint


def samples(model: ReadModel) -> dict[int, str | None]:
    """Which model answers each sample; both ways of asking agree."""
    found = {index: model_of(row) for index, row in model.fan_charts.of_handle(HANDLE).items()}
    assert found == {index: model_of(model.fan_charts.of_sample(HANDLE, index)) for index in found}
    return found


def steps(model: ReadModel) -> list[int]:
    """Which forecasts of anna are in her history."""
    rows = model.fan_charts.history("anna", None, None)
    assert {row.chart.model_serves for row in rows} <= {True}
    return [(row.issue_seconds - int(ISSUE.timestamp())) // 300 for row in rows]


def latest(model: ReadModel) -> tuple[int, str] | None:
    row = model.fan_charts.latest("anna")
    return None if row is None else ((row.issue_seconds - int(ISSUE.timestamp())) // 300, row.chart.model_fingerprint)


# samples


def test_a_trial_answers_no_sample_whichever_comes_first(model: ReadModel) -> None:
    follow(model, sample(-3, TRIED, serves=False))
    assert (samples(model), model.fan_charts.of_sample(HANDLE, -3)) == ({}, None)
    follow(model, sample(-3, OLD))
    assert samples(model) == {-3: OLD}
    follow(model, sample(-3, TRIED, serves=False), sample(-4, TRIED, serves=False))
    assert samples(model) == {-3: OLD}


def test_a_trial_wakes_nobody(model: ReadModel) -> None:
    with model.subscriptions.subscribe(sample_key(HANDLE, -3), subject_key("anna")) as waiter:
        follow(model, sample(-3, TRIED, serves=False), live(5, TRIED, serves=False))
        assert waiter._items == []
        follow(model, sample(-3, OLD), live(5, OLD))
        assert [item.chart.model_fingerprint for item in waiter._items if isinstance(item, ChartRow)] == [OLD, OLD]


@pytest.mark.parametrize("first", ["served", "trial"])
def test_a_tombstone_takes_only_its_own_row(model: ReadModel, first: str) -> None:
    served, tried = sample(-3, OLD), sample(-3, TRIED, serves=False)
    follow(model, served, tried)
    if first == "trial":
        follow(model, gone(tried))
        assert samples(model) == {-3: OLD}
        follow(model, gone(served))
    else:
        follow(model, gone(served))
        assert samples(model) == {}, "a trial does not fill in"
        follow(model, gone(tried))
    assert (samples(model), model.fan_charts.of_sample(HANDLE, -3)) == ({}, None)


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "apart"])
def test_the_next_served_model_takes_over(model: ReadModel, together: bool) -> None:
    follow(model, sample(-3, OLD))
    batches = [[sample(-3, NEW), gone(sample(-3, OLD))]]  # as the step writes them
    for batch in batches if together else [[row] for row in batches[0]]:
        follow(model, *batch)
    assert samples(model) == {-3: NEW}


def test_a_row_from_before_models_were_told_apart_answers_until_it_is_replaced(model: ReadModel) -> None:
    legacy = sample(-3, "")
    follow(model, legacy, sample(-33, OLD), sample(-3, TRIED, serves=False))
    assert samples(model) == {-33: OLD, -3: OLD}
    follow(model, sample(-3, NEW), gone(legacy))
    assert samples(model) == {-33: OLD, -3: NEW}
    follow(model, gone(sample(-3, NEW)))
    assert samples(model) == {-33: OLD}
    assert model.fan_charts.of_sample(HANDLE, -3) is None, "its index only begins alike"


def test_a_trial_that_is_served_at_last_answers(model: ReadModel) -> None:
    follow(model, sample(-3, OLD), sample(-3, TRIED, serves=False))
    follow(model, sample(-3, TRIED), gone(sample(-3, OLD)))
    assert samples(model) == {-3: TRIED}
    follow(model, gone(sample(-3, TRIED)))
    assert samples(model) == {}


# subjects


def test_a_trial_is_nobodys_latest_forecast(model: ReadModel) -> None:
    follow(model, live(9, TRIED, serves=False))
    assert (latest(model), steps(model), model.fan_charts.subjects()) == (None, [], [])
    follow(model, live(5, OLD), live(6, OLD), live(10, TRIED, serves=False))
    assert (latest(model), steps(model), model.fan_charts.subjects()) == ((6, OLD), [5, 6], ["anna"])


def test_the_latest_forecast_moves_to_the_next_served_model(model: ReadModel) -> None:
    follow(model, live(5, OLD), live(6, OLD), live(6, TRIED, serves=False))
    follow(model, live(6, NEW))
    assert latest(model) == (6, NEW), "equally new, and computed later"
    follow(model, gone(live(6, OLD)))
    assert (latest(model), steps(model)) == ((6, NEW), [5, 6])
    follow(model, live(7, NEW))
    assert latest(model) == (7, NEW)


def test_where_the_latest_forecast_goes_the_newest_served_one_that_is_left_answers(model: ReadModel) -> None:
    follow(model, live(4, OLD), live(5, OLD), live(6, OLD), live(6, TRIED, serves=False))
    follow(model, gone(live(6, OLD)))
    assert (latest(model), steps(model)) == ((5, OLD), [4, 5])
    follow(model, gone(live(5, OLD)), gone(live(4, OLD)))
    assert (latest(model), steps(model)) == (None, [])


def test_a_late_forecast_is_history_and_not_the_latest(model: ReadModel) -> None:
    follow(model, live(6, OLD), live(4, NEW))
    assert (latest(model), steps(model)) == ((6, OLD), [4, 6])


def test_the_ring_of_before_models_were_told_apart_goes_on(model: ReadModel) -> None:
    legacy = live(5, "")
    follow(model, legacy, live(5, TRIED, serves=False))
    assert (latest(model), steps(model)) == ((5, OLD), [5])
    follow(model, live(5 + 288, NEW, slot=5), gone(legacy))
    assert (latest(model), steps(model)) == ((5 + 288, NEW), [5 + 288])


# whoever reads later


records = st.lists(
    st.tuples(
        st.sampled_from(["sample", "live"]),
        st.integers(3, 5),
        st.sampled_from(["", OLD, NEW, TRIED]),
        st.sampled_from(["chart", "chart", "tombstone"]),
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(records)
def test_a_replica_that_reads_what_compaction_has_left_answers_the_same(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, int, str, str]]
) -> None:
    """Kafka keeps the last record of a key: whoever starts tomorrow sees no more. A model keeps its role here."""
    made = [
        {"sample": sample, "live": live}[kind](position, model, model != TRIED) for kind, position, model, _ in records
    ]
    log = [gone(row) if what == "tombstone" else row for row, (*_, what) in zip(made, records, strict=True)]
    compacted = {row.key: row for row in log}.values()
    answers = []
    for rows in (log, [row for row in compacted if row.chart]):
        model = ReadModel(Store(tmp_path_factory.mktemp("table") / "rows", MIB, MIB), Subscriptions())
        for row in rows:
            follow(model, row)
        newest = latest(model)
        answers.append((set(model.fan_charts.of_handle(HANDLE)), steps(model), newest and newest[0]))
        model.close()
    assert answers[0] == answers[1]
