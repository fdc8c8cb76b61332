"""Every record survives its encoding, matches its committed schema, and tolerates a neighbour's version."""

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.calc.fan_chart import fan_chart
from schemas.arrival import Arrival
from schemas.arrow_record import ArrowRecord
from schemas.errors import MalformedRecordError
from schemas.fan_chart import FanChart
from schemas.fan_chart_row import from_row, head_of
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.reading import Reading, ReadingOutcome
from schemas.record import Record
from schemas.score import TargetScore
from streams.contracts.export import DIRECTORY
from streams.contracts.records import ARROW_RECORDS, JSON_RECORDS
from tests.contracts.generated import arrow_records, records
from tests.kit.charts import fan_chart as fan_chart_of_tests

examples = settings(max_examples=20, deadline=None)
json_records = pytest.mark.parametrize("kind", JSON_RECORDS, ids=lambda kind: kind.__name__)
every_arrow_record = pytest.mark.parametrize("kind", ARROW_RECORDS, ids=lambda kind: kind.__name__)


@functools.cache
def committed(kind: type[Record]) -> Any:
    schema = json.loads((DIRECTORY / "json" / f"{kind.__name__}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def test_the_score_in_the_papers_is_one() -> None:
    (example,) = re.findall(
        r"A record of `cgm\.scores`:\n\n```json\n(.*?)```", Path("ARCHITECTURE.md").read_text(), re.DOTALL
    )
    committed(TargetScore).validate(json.loads(example))
    assert json.loads(TargetScore.from_json(example.encode()).to_json()) == json.loads(example)


@json_records
@examples
@given(data=st.data())
def test_json_round_trips_and_matches_the_committed_schema(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(kind))
    text = record.to_json()
    assert kind.from_json(text) == record
    committed(kind).validate(json.loads(text))


@json_records
@examples
@given(data=st.data())
def test_json_of_a_newer_writer_is_read(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(kind))
    newer = json.loads(record.to_json()) | {"a_field_of_tomorrow": [1, {"x": None}]}
    assert kind.from_json(json.dumps(newer).encode()) == record
    committed(kind).validate(newer)


@json_records
@examples
@given(junk=st.binary(max_size=200) | st.none())
def test_bytes_that_are_no_json_record_are_named_so(kind: type[Record], junk: bytes | None) -> None:
    with pytest.raises(MalformedRecordError, match=kind.__name__):
        kind.from_json(junk)


@pytest.mark.parametrize("glucose", [0.0, 12.0, 601.0, 130_000.0])
def test_an_outcome_carries_no_reading_that_cannot_be(glucose: float) -> None:
    reading = Reading(subject_id="anna", time=datetime(2026, 3, 1, tzinfo=UTC), glucose=glucose, unit="mg/dL")
    told = {
        "outcome_id": "a" * 64,
        "subject_id": "anna",
        "status": "no_forecast",
        "reading": reading.model_dump(mode="json"),
    }
    with pytest.raises(MalformedRecordError):
        ReadingOutcome.from_json(json.dumps(told).encode())


@pytest.mark.parametrize("read", [from_row, head_of])
@pytest.mark.parametrize("row", [b'{"a":' * 40_000, b"[" * 40_000], ids=["JSON", "a head"])
def test_a_row_of_charts_that_nests_without_end_is_none(read: Callable[[bytes], object], row: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        read(row)


def test_the_reason_never_repeats_the_value() -> None:
    with pytest.raises(MalformedRecordError) as caught:
        Reading.from_json(b'{"subject_id": "secret person", "time": "2026-01-01T00:00:00", "glucose": "twelve"}')
    assert "secret" not in str(caught.value)
    assert "twelve" not in str(caught.value)
    assert "subject_id" in str(caught.value)


@every_arrow_record
@examples
@given(data=st.data())
def test_arrow_round_trips(kind: type[ArrowRecord], data: st.DataObject) -> None:
    record = data.draw(arrow_records(kind))
    assert kind.from_arrow(record.to_arrow()) == record


@every_arrow_record
@examples
@given(data=st.data())
def test_many_records_at_once_are_each_its_own_stream(kind: type[ArrowRecord], data: st.DataObject) -> None:
    records = [data.draw(arrow_records(kind)) for _ in range(data.draw(st.integers(0, 4)))]
    assert [kind.from_arrow(each) for each in kind.all_to_arrow(records)] == records


@every_arrow_record
@examples
@given(junk=st.binary(max_size=300) | st.none())
def test_bytes_that_are_no_arrow_record_are_named_so(kind: type[ArrowRecord], junk: bytes | None) -> None:
    with pytest.raises(MalformedRecordError, match=kind.arrow_name):
        kind.from_arrow(junk)


def request() -> ForecastRequest:
    return ForecastRequest(
        request_id="r", kind="live", series_key="s", end_seconds=0, past_centi_mgdl=[10_000] * 96,
        truth_centi_mgdl=[], input_hash="0" * 64, num_samples=10, seed=0, warnings=["a"], deadline_ms=5,
    )  # fmt: skip


def rewritten(data: bytes, drop: str = "", add: str = "", name: str = "forecast-request") -> bytes:
    """The same message as another version would write it: without a column, or with one more."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    if drop:
        table = table.drop_columns([drop])
    if add:
        table = table.append_column(add, pa.array(["tomorrow"]))
    table = table.replace_schema_metadata({"record": name, "version": "1"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_an_older_writer_lacks_optional_columns_and_a_newer_one_adds_some() -> None:
    data = request().to_arrow()
    assert ForecastRequest.from_arrow(rewritten(data, add="a_column_of_tomorrow")) == request()
    assert ForecastRequest.from_arrow(rewritten(data, drop="deadline_ms")).deadline_ms is None
    assert ForecastRequest.from_arrow(rewritten(data, drop="warnings")).warnings == []
    before_the_hours = rewritten(rewritten(data, drop="hours_centi_mgdl"), drop="hours_version")
    assert ForecastRequest.from_arrow(before_the_hours) == request()


@pytest.mark.parametrize("damage", [{"drop": "past_centi_mgdl"}, {"name": "forecast"}])
def test_a_missing_column_or_another_records_name_is_refused(damage: dict[str, str]) -> None:
    with pytest.raises(MalformedRecordError, match="forecast-request"):
        ForecastRequest.from_arrow(rewritten(request().to_arrow(), **damage))


@pytest.mark.parametrize("byte", [0x00, 0x7F, 0xFF])
def test_no_damaged_byte_of_an_arrow_message_ends_the_process(byte: int) -> None:
    """Arrow does not check where the offsets of lists and texts point before it reads there."""
    data, read = request().to_arrow(), 0
    for position in range(len(data)):
        damaged = data[:position] + bytes([byte]) + data[position + 1 :]
        try:
            ForecastRequest.from_arrow(damaged)
        except MalformedRecordError:
            continue
        read += 1
    assert 0 < read < len(data)


def test_an_arrow_message_cannot_unpack_to_more_than_it_is() -> None:
    data = dataclasses.replace(request(), past_centi_mgdl=[0] * 5_000_000).to_arrow()
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    packed = bytes(sink.getvalue())
    assert len(packed) * 1000 < len(data)
    with pytest.raises(MalformedRecordError, match="forecast-request"):
        ForecastRequest.from_arrow(packed)


def test_a_truncated_message_is_refused_wherever_it_ends() -> None:
    data = request().to_arrow()
    for end in range(0, len(data) - 8, 97):
        with pytest.raises(MalformedRecordError):
            ForecastRequest.from_arrow(data[:end])


@examples
@given(
    centre=st.floats(40, 400),
    spread=st.floats(0, 80),
    residual=st.floats(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_fan_chart_of_any_forecast_matches_its_schema_and_stays_small(
    centre: float, spread: float, residual: float, seed: int
) -> None:
    samples = np.random.default_rng(seed).normal(centre, spread, 200 * 12).astype(np.float32)
    identity = {field.name: getattr(request(), field.name) for field in dataclasses.fields(ForecastWindow)}
    identity |= {
        "kind": "sample",
        "handle": "a" * 64,
        "index": 0,
        "num_samples": 200,
        "truth_centi_mgdl": [10_000] * 12,
    }
    forecast = Forecast(
        **identity, forecast_id="b" * 64, model="m", model_fingerprint="c" * 64,
        samples_mgdl=samples.tolist(), residual_sd_mgdl=[residual] * 12,
    )  # fmt: skip
    text = fan_chart(forecast, datetime(2026, 1, 1, tzinfo=UTC)).to_json()
    assert len(text) <= 40_000
    committed(FanChart).validate(json.loads(text))


@pytest.mark.parametrize(
    "broken",
    [
        {"epistemic_fan": None}, {"epistemic_fan": [5]}, {"target_times": []}, {"quantiles_mgdl": 5},
        {"quantile_levels": "x"}, {"quantile_levels": [None]}, {"epistemic_fan": [{"glucose_mgdl": []}]},
    ],
)  # fmt: skip
def test_a_broken_chart_of_version_1_is_malformed_and_nothing_else(broken: dict[str, object]) -> None:
    document = json.loads((Path(__file__).parent / "fan-chart-version-1.json").read_text()) | broken
    with pytest.raises(MalformedRecordError, match="FanChart"):
        FanChart.from_json(json.dumps(document).encode())


@pytest.mark.parametrize(
    "broken",
    [
        {"past_mgdl": [700.0] * 96}, {"median_mgdl": [-1.0] * 12}, {"p_below_54": [1.5] * 12},
        {"quantiles_mgdl": [[140.0] * 12, *[[120.0] * 12] * 7]}, {"quantile_levels": [0.1 * step for step in range(8)]},
        {"total_sd_mgdl": [1e9] * 12}, {"mean_mgdl": [1e300] * 12}, {"series_key": "a/b"}, {"index": 2**70},
    ],
)  # fmt: skip
def test_a_chart_of_what_cannot_be_is_malformed(broken: dict[str, object]) -> None:
    with pytest.raises(MalformedRecordError, match="FanChart"):
        FanChart.from_json(json.dumps(fan_chart_of_tests().model_dump(mode="json") | broken).encode())


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_an_arrival_is_of_these_times(year: str) -> None:
    """Hours are added to it: the step failed, with the name of an exception for a reason."""
    arrival = f'{{"what": "reading", "came_ms": 1, "subject_id": "anna", "time": "{year}-12-31T23:59:00Z"}}'
    with pytest.raises(MalformedRecordError, match="a time lies between 1970 and 9998"):
        Arrival.from_json(arrival.encode())
