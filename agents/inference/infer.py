"""From requests to forecasts: equal computations share their samples, and a window that fails fails alone."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from agents.core.forecaster import Forecaster, Samples, Windows
from schemas.errors import UnavailableError
from schemas.forecast import Forecast, ForecastRequest, ForecastWindow
from schemas.grid import CENTI, HORIZON_STEPS, PAST_HOURS, PAST_POINTS

OBJECTS_BYTES = 600
"""Measured by tracemalloc: more than the numbers of ten samples."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WindowSamples:
    """What a model says of one window: samples (S, 12) and residual spread (12,), float32, mg/dL."""

    samples_mgdl: NDArray[np.float32]
    residual_sd_mgdl: NDArray[np.float32]

    @property
    def size_bytes(self) -> int:
        """What remembering it takes, its key and the objects around the numbers included."""
        return self.samples_mgdl.nbytes + self.residual_sd_mgdl.nbytes + OBJECTS_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class NoAnswer:
    """A window that the model cannot answer, however often it is asked."""

    reason: str


Answers = dict[str, WindowSamples | NoAnswer]


class Chunk(Protocol):
    """Samples of the next windows of a batch."""

    @property
    def samples(self) -> Samples: ...


@runtime_checkable
class Streaming(Protocol):
    """A forecaster that hands out a batch in chunks, in order, so that its first windows need not wait for its last."""

    def stream(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Iterator[Chunk]: ...


class Inference:
    """The model behind the batcher. Blocking: it belongs in a thread of its own, one call at a time."""

    def __init__(self, forecaster: Forecaster, attempts: int, cache_bytes: int = 8 << 20, serves: bool = True) -> None:
        """`attempts`: how often a failing window is tried. `cache_bytes`: samples kept for repeated requests.

        `serves`: False for a model on trial beside the served one.
        """
        self._forecaster = forecaster
        self._attempts = attempts
        self._remembered: LRUCache[str, WindowSamples] = LRUCache(cache_bytes, getsizeof=lambda each: each.size_bytes)
        self._calibration_json = forecaster.calibration.to_json() if forecaster.calibration else ""
        self._serves = serves
        self.windows_sampled = 0
        self.samples_made = 0

    def time_one_window(self, num_samples: int) -> float:
        """Seconds that the samples of one quiet window take; warm the forecaster up before."""
        quiet = Windows(np.full((1, PAST_POINTS), 120.0, np.float32), np.array([0], "datetime64[s]"))
        began = time.perf_counter()
        self._forecaster.sample(quiet, [bytes(32)], num_samples)
        return time.perf_counter() - began

    def answers(self, requests: Mapping[str, ForecastRequest]) -> Iterator[Answers]:
        """The samples of each computation (forecast id → one of its requests), some at a time, as they are ready.

        What is remembered comes first, then the order is that of the requests within each number of samples. Raises
        `UnavailableError` where not the windows but the model is at fault: the rest is not answered then.
        """
        known: Answers = {}
        missing: dict[int, list[str]] = {}
        for forecast_id, request in requests.items():
            sample = None if request.force else self._remembered.get(forecast_id)
            if sample is not None:
                known[forecast_id] = sample
            else:
                missing.setdefault(request.num_samples, []).append(forecast_id)
        if known:
            yield known
        for num_samples, forecast_ids in missing.items():
            yield from self._sample(forecast_ids, requests, num_samples)

    def forecast(self, request: ForecastRequest, forecast_id: str, sample: WindowSamples) -> Forecast:
        """The record that answers a request with the samples of its computation."""
        carried = {field.name: getattr(request, field.name) for field in dataclasses.fields(ForecastWindow)}
        return Forecast(
            **carried,
            forecast_id=forecast_id,
            model=self._forecaster.name,
            model_fingerprint=self._forecaster.fingerprint,
            model_serves=self._serves,
            samples_mgdl=sample.samples_mgdl.ravel().tolist(),
            residual_sd_mgdl=sample.residual_sd_mgdl.tolist(),
            calibration_json=self._calibration_json,
        )

    def _sample(
        self, forecast_ids: Sequence[str], requests: Mapping[str, ForecastRequest], num_samples: int, attempt: int = 1
    ) -> Iterator[Answers]:
        """Sample them together; where that fails, each half of the rest, down to the windows that are to blame."""
        done = 0
        try:
            for answers in self._sample_together(forecast_ids, requests, num_samples):
                done += len(answers)
                yield answers
        except Exception as error:  # whatever a model raises is one window's failure, or the model's own
            self._check_model(error)
            rest = forecast_ids[done:]
            if len(rest) > 1:
                middle = len(rest) // 2
                yield from self._sample(rest[:middle], requests, num_samples)
                yield from self._sample(rest[middle:], requests, num_samples)
            elif rest and attempt < self._attempts:
                yield from self._sample(rest, requests, num_samples, attempt + 1)
            elif rest:
                yield {rest[0]: NoAnswer(f"the model could not answer this window ({type(error).__name__})")}

    def _sample_together(
        self, forecast_ids: Sequence[str], requests: Mapping[str, ForecastRequest], num_samples: int
    ) -> Iterator[Answers]:
        past = np.array([requests[each].past_centi_mgdl for each in forecast_ids], dtype=np.float32) / np.float32(CENTI)
        ends = np.array([requests[each].end_seconds for each in forecast_ids], dtype="datetime64[s]")
        hours = np.full((len(forecast_ids), PAST_HOURS), np.nan, dtype=np.float32)
        for row, each in enumerate(forecast_ids):
            known = requests[each].hours_centi_mgdl
            if known:
                hours[row, -len(known) :] = np.array(known, dtype=np.float32) / np.float32(CENTI)  # None is NaN
        seeds = [bytes.fromhex(forecast_id) for forecast_id in forecast_ids]
        start = 0
        for part in self._parts(Windows(past, ends, hours), seeds, num_samples):
            stop = start + len(part.samples_mgdl)
            answers = {
                forecast_id: _checked(part.samples_mgdl[row], part.residual_sd_mgdl[row], num_samples)
                for row, forecast_id in enumerate(forecast_ids[start:stop])
            }
            for forecast_id, answer in answers.items():
                if isinstance(answer, WindowSamples) and answer.size_bytes <= self._remembered.maxsize:
                    self._remembered[forecast_id] = answer
            self.windows_sampled += len(answers)
            self.samples_made += len(answers) * num_samples
            start = stop
            yield answers
        if start != len(forecast_ids):
            raise ValueError(f"the model answered {start} of {len(forecast_ids)} windows")

    def _parts(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Iterator[Samples]:
        if isinstance(self._forecaster, Streaming):
            yield from (chunk.samples for chunk in self._forecaster.stream(windows, seeds, num_samples))
        else:
            yield self._forecaster.sample(windows, seeds, num_samples)

    def _check_model(self, error: Exception) -> None:
        """Raises `UnavailableError` where even the model's own warm-up fails: a lost device, not a strange window."""
        try:
            self._forecaster.warm_up()
        except Exception:
            raise UnavailableError(f"the forecaster {self._forecaster.name} fails: {error!r}") from error


def _checked(samples: NDArray[np.float32], spread: NDArray[np.float32], num_samples: int) -> WindowSamples | NoAnswer:
    """Raises ValueError for what has not the shape of an answer; one that is not finite fails by itself."""
    if samples.shape != (num_samples, HORIZON_STEPS) or spread.shape != (HORIZON_STEPS,):
        raise ValueError(f"the model gave samples {samples.shape}, not {(num_samples, HORIZON_STEPS)}")
    if not (np.isfinite(samples).all() and np.isfinite(spread).all()):
        return NoAnswer("the model gave no finite forecast for this window")
    return WindowSamples(samples.copy(), spread.copy())
