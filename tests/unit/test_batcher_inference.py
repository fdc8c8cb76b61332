"""Requests become forecasts: shared, remembered, the same in any company, and a bad window fails alone."""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.core import fingerprint
from agents.core.forecaster import Windows
from agents.inference import intake
from agents.inference.batcher import MeasuredCost
from agents.inference.infer import OBJECTS_BYTES, Answers, Inference, NoAnswer, WindowSamples
from schemas.errors import ImplausibleError, MalformedRecordError, UnavailableError
from schemas.forecast import Forecast, ForecastRequest
from schemas.grid import MOST_INTERPOLATED
from tests.kit.forecasters import FINGERPRINT, RecordingForecaster
from tests.kit.requests import forecast_id_of, request_of


def named(*requests: ForecastRequest) -> dict[str, ForecastRequest]:
    return {forecast_id_of(request, FINGERPRINT): request for request in requests}


def drawn(inference: Inference, *requests: ForecastRequest) -> Answers:
    """All answers to these requests, each given once."""
    answers: Answers = {}
    for some in inference.answers(named(*requests)):
        assert not answers.keys() & some.keys()
        answers |= some
    return answers


def poisoned(*numbers: int) -> Any:
    """Trouble whenever one of these windows is in the batch."""
    last = {request_of(number).past_centi_mgdl[-1] / 100 for number in numbers}

    def trouble(windows: Windows, num_samples: int) -> None:
        if any(abs(value - bad) < 1e-3 for value in windows.past_mgdl[:, -1] for bad in last):
            raise RuntimeError("CUDA error")

    return trouble


def test_a_computation_is_the_same_alone_and_among_others() -> None:
    wanted = request_of(3)
    alone = drawn(Inference(RecordingForecaster(), attempts=1), wanted)
    together = drawn(Inference(RecordingForecaster(), attempts=1), *map(request_of, range(7)))
    (name,) = named(wanted)
    assert isinstance(alone[name], WindowSamples)
    np.testing.assert_array_equal(alone[name].samples_mgdl, together[name].samples_mgdl)


def test_known_draws_are_not_made_again_unless_forced() -> None:
    forecaster = RecordingForecaster()
    inference = Inference(forecaster, attempts=1)
    first = drawn(inference, request_of(1))
    assert drawn(inference, request_of(1)) == first
    assert forecaster.calls == [1]
    forced = drawn(inference, request_of(1, force=True))
    assert forecaster.calls == [1, 1]
    ((before,), (after,)) = first.values(), forced.values()
    assert isinstance(before, WindowSamples)
    assert isinstance(after, WindowSamples)
    np.testing.assert_array_equal(before.samples_mgdl, after.samples_mgdl)


def test_different_numbers_of_samples_are_drawn_apart() -> None:
    forecaster = RecordingForecaster()
    answers = drawn(Inference(forecaster, attempts=1), request_of(1), request_of(2, num_samples=20), request_of(3))
    shapes = sorted(draw.samples_mgdl.shape for draw in answers.values() if isinstance(draw, WindowSamples))
    assert shapes == [(10, 12), (10, 12), (20, 12)]
    assert sorted(forecaster.calls) == [1, 2]


def test_one_bad_window_does_not_take_its_batch_mates_along() -> None:
    forecaster = RecordingForecaster(trouble=poisoned(5))
    answers = drawn(Inference(forecaster, attempts=3), *map(request_of, range(16)))
    (bad,) = named(request_of(5))
    assert {name for name, answer in answers.items() if isinstance(answer, NoAnswer)} == {bad}
    assert len(answers) == 16
    assert forecaster.calls.count(1) >= 3, "the bad window is tried three times by itself"


class Chunked(RecordingForecaster):
    """Hands out its batch window by window."""

    def stream(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Iterator[SimpleNamespace]:
        for row, seed in enumerate(seeds):
            part = Windows(windows.past_mgdl[row : row + 1], windows.end_times[row : row + 1])
            yield SimpleNamespace(samples=self.sample(part, [seed], num_samples))


def test_a_batch_in_chunks_is_answered_as_it_goes() -> None:
    forecaster = Chunked()
    answers = Inference(forecaster, attempts=1).answers(named(*map(request_of, range(5))))
    assert len(next(answers)) == 1
    assert len(forecaster.drawn) == 1, "the first answer does not wait for the second window"
    assert sum(len(some) for some in answers) == 4


def test_a_failure_after_some_chunks_repeats_none_of_them() -> None:
    forecaster = Chunked(trouble=poisoned(5))
    answers = drawn(Inference(forecaster, attempts=2), *map(request_of, range(16)))
    (bad,) = named(request_of(5))
    assert {name for name, answer in answers.items() if isinstance(answer, NoAnswer)} == {bad}
    assert len(forecaster.drawn) == len(set(forecaster.drawn)) == 15


def test_a_window_without_a_finite_answer_fails_alone() -> None:
    class Undecided(RecordingForecaster):
        def sample(self, windows: Windows, seeds: Any, num_samples: int) -> Any:
            draws = super().sample(windows, seeds, num_samples)
            draws.samples_mgdl[1, 4, 7] = np.nan
            return draws

    answers = drawn(Inference(Undecided(), attempts=1), *map(request_of, range(3)))
    assert [isinstance(answer, NoAnswer) for answer in answers.values()] == [False, True, False]


def test_a_lost_device_is_not_blamed_on_the_windows() -> None:
    class Lost(RecordingForecaster):
        def warm_up(self) -> None:
            raise RuntimeError("device lost")

    with pytest.raises(UnavailableError, match="recording fails"):
        drawn(Inference(Lost(trouble=poisoned(1)), attempts=3), request_of(1), request_of(2))


def test_the_record_carries_the_request_and_the_model() -> None:
    request = request_of(4, truth_centi_mgdl=[12_000, None], warnings=["IMPUTATION: two points"], demand_id="d")
    inference = Inference(RecordingForecaster(), attempts=1)
    ((name, draw),) = drawn(inference, request).items()
    assert isinstance(draw, WindowSamples)
    record = Forecast.from_arrow(inference.forecast(request, name, draw).to_arrow())
    for field in ("request_id", "series_key", "handle", "index", "demand_id", "truth_centi_mgdl", "warnings"):
        assert getattr(record, field) == getattr(request, field)
    assert (record.model, record.model_fingerprint, record.forecast_id) == ("recording", FINGERPRINT, name)
    assert np.array_equal(np.float32(record.samples_mgdl).reshape(10, 12), draw.samples_mgdl)


def test_so_many_bytes_are_remembered_and_the_least_used_is_forgotten_first() -> None:
    forecaster, each_bytes = RecordingForecaster(), OBJECTS_BYTES + 4 * (10 * 12 + 12)
    inference = Inference(forecaster, attempts=1, cache_bytes=3 * each_bytes)
    for number in (1, 2, 3, 1, 4, 4, 1, 3):  # 4 takes the place of 2, which nobody has asked for since
        drawn(inference, request_of(number))
    assert forecaster.calls == [1] * 4
    drawn(inference, request_of(2))
    assert forecaster.calls == [1] * 5


def test_samples_that_would_fill_the_memory_alone_are_answered_and_forgotten() -> None:
    forecaster = RecordingForecaster()
    inference = Inference(forecaster, attempts=1, cache_bytes=100)
    for _ in range(2):
        (draw,) = drawn(inference, request_of(1)).values()
        assert isinstance(draw, WindowSamples)
    assert forecaster.calls == [1, 1]


def test_the_hours_before_a_window_reach_the_model_and_name_the_computation() -> None:
    hours = [12_000, None, 18_050]
    plain = request_of(1)
    digest = fingerprint.input_hash(plain.end_seconds, plain.past_centi_mgdl, hours)
    request = request_of(1, hours_centi_mgdl=hours, hours_version=1, input_hash=digest)
    read = intake.read_request(request.to_arrow())
    intake.check_request(read)
    assert len({digest, plain.input_hash, fingerprint.input_hash(plain.end_seconds, plain.past_centi_mgdl, [1])}) == 3
    seen: list[Windows] = []
    drawn(Inference(RecordingForecaster(trouble=lambda windows, _: seen.append(windows)), attempts=1), read, plain)
    (asked,) = seen
    np.testing.assert_array_equal(asked.hours[0, -3:], np.array([120.0, np.nan, 180.5], np.float32))
    assert np.isnan(asked.hours[0, :-3]).all()
    assert np.isnan(asked.hours[1]).all()


def test_the_cost_follows_what_is_measured() -> None:
    cost = MeasuredCost(samples=10, seconds=0.1)
    assert cost.seconds_per_sample == pytest.approx(0.01)
    for _ in range(200):
        cost.observe(320, 0.32)
    assert cost.seconds_per_sample == pytest.approx(0.001, rel=0.05)
    cost.observe(0, 5.0)
    assert cost.seconds_per_sample == pytest.approx(0.001, rel=0.05), "a batch from memory says nothing"


@pytest.mark.parametrize(
    "changes",
    [
        {"past_centi_mgdl": [10_000] * 95},
        {"past_centi_mgdl": [10_000] * 95 + [None]},
        {"past_centi_mgdl": [10_000] * 95 + [-100]},
        {"past_centi_mgdl": [10_000] * 95 + [60_001]},
        {"truth_centi_mgdl": [10_000] * 13},
        {"num_samples": 0},
        {"num_samples": 100_000},
        {"end_seconds": -(10**12)},
        {"end_seconds": 2**60},
        {"input_hash": "b" * 64},
        {"timezone": "Nowhere/Else"},
        {"end_seconds": -(10**11)},
        {"revision": None},
        {"interpolated_points": None},
        {"interpolated_points": [96 + 12]},
        {"interpolated_points": [-1]},
        {"interpolated_points": list(range(MOST_INTERPOLATED + 1))},
        {"hours_centi_mgdl": [12_000]},  # of no version
        {"hours_version": 1},
        {"hours_centi_mgdl": [12_000], "hours_version": 2},
        {"hours_centi_mgdl": [12_000] * 169, "hours_version": 1},
        {"hours_centi_mgdl": [None, 12_000], "hours_version": 1},
        {"hours_centi_mgdl": [12_000, 100], "hours_version": 1},
        {"hours_centi_mgdl": [12_000], "hours_version": 1},  # the hash knows nothing of them
        {"hours_centi_mgdl": None},
    ],
)
def test_a_request_that_no_model_can_answer_is_refused_in_words(changes: dict[str, Any]) -> None:
    request = intake.read_request(request_of(1, **changes).to_arrow())
    with pytest.raises(ImplausibleError):
        intake.check_request(request)


@pytest.mark.parametrize(
    "changes", [{"series_key": ""}, {"series_key": None}, {"request_id": "x" * 10_000}, {"handle": "someone"}]
)
def test_a_request_that_cannot_even_be_answered_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecordError):
        intake.read_request(request_of(1, **changes).to_arrow())


def test_a_good_request_passes() -> None:
    request = intake.read_request(request_of(1, deadline_ms=5).to_arrow())
    intake.check_request(request)
    entry = intake.entry_of(request, "live", 7, FINGERPRINT, 1.5)
    assert (entry.forecast_id, entry.lane, entry.origin) == (forecast_id_of(request, FINGERPRINT), "live", 7)
