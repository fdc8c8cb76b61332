"""From requests to forecasts: equal computations share their draws, and a window that fails fails alone."""

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.forecasters.interface import Forecaster, Windows
from schemas.errors import UnavailableError
from schemas.fan_chart import HORIZON_STEPS, PAST_POINTS
from schemas.forecast import Forecast, ForecastRequest
from schemas.outcome import RequestOutcome
from schemas.series import CENTI


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """What a model says of one window: samples (S, 12) and residual spread (12,), float32, mg/dL."""

    samples_mgdl: NDArray[np.float32]
    residual_sd_mgdl: NDArray[np.float32]

    @property
    def size_bytes(self) -> int:
        return self.samples_mgdl.nbytes + self.residual_sd_mgdl.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A window that the model cannot answer, however often it is asked."""

    reason: str


class DrawCache:
    """The most recently used draws by forecast id, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._draws: OrderedDict[str, Draw] = OrderedDict()
        self.size_bytes = 0

    def get(self, forecast_id: str) -> Draw | None:
        draw = self._draws.get(forecast_id)
        if draw is not None:
            self._draws.move_to_end(forecast_id)
        return draw

    def put(self, forecast_id: str, draw: Draw) -> None:
        if (old := self._draws.pop(forecast_id, None)) is not None:
            self.size_bytes -= old.size_bytes
        self._draws[forecast_id] = draw
        self.size_bytes += draw.size_bytes
        while self.size_bytes > self._most_bytes:
            self.size_bytes -= self._draws.popitem(last=False)[1].size_bytes


class Inference:
    """The model behind the batcher. Blocking: it belongs in a thread of its own, one call at a time."""

    def __init__(self, forecaster: Forecaster, attempts: int, cache_bytes: int = 16 << 20) -> None:
        """`attempts`: how often a failing window is tried. `cache_bytes`: draws kept for repeated requests."""
        self._forecaster = forecaster
        self._attempts = attempts
        self._cache = DrawCache(cache_bytes)
        self._calibration_json = forecaster.calibration.to_json() if forecaster.calibration else ""
        self.windows_drawn = 0
        self.draws_made = 0

    def time_one_window(self, num_samples: int) -> float:
        """Seconds that the draws of one quiet window take; warm the forecaster up before."""
        quiet = Windows(np.full((1, PAST_POINTS), 120.0, np.float32), np.array([0], "datetime64[s]"))
        began = time.perf_counter()
        self._forecaster.draw(quiet, [bytes(32)], num_samples)
        return time.perf_counter() - began

    def draws(self, requests: Mapping[str, ForecastRequest]) -> dict[str, Draw | Failure]:
        """The draws of each computation (forecast id → one of its requests), from memory where they are known.

        Raises `UnavailableError` where not the windows but the model is at fault: nothing is answered then.
        """
        answers: dict[str, Draw | Failure] = {}
        missing: dict[int, list[str]] = {}
        for forecast_id, request in requests.items():
            known = None if request.force else self._cache.get(forecast_id)
            if known is not None:
                answers[forecast_id] = known
            else:
                missing.setdefault(request.num_samples, []).append(forecast_id)
        for num_samples, forecast_ids in missing.items():
            fresh = self._draw(forecast_ids, requests, num_samples)
            for forecast_id, draw in fresh.items():
                if isinstance(draw, Draw):
                    self._cache.put(forecast_id, draw)
            answers |= fresh
        return answers

    def forecast(self, request: ForecastRequest, forecast_id: str, draw: Draw) -> Forecast:
        """The record that answers a request with the draws of its computation."""
        carried = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        del carried["force"], carried["deadline_ms"]
        return Forecast(
            **carried,
            forecast_id=forecast_id,
            model=self._forecaster.name,
            model_fingerprint=self._forecaster.fingerprint,
            samples_mgdl=draw.samples_mgdl.ravel().tolist(),
            residual_sd_mgdl=draw.residual_sd_mgdl.tolist(),
            calibration_json=self._calibration_json,
        )

    def _draw(
        self, forecast_ids: Sequence[str], requests: Mapping[str, ForecastRequest], num_samples: int, attempt: int = 1
    ) -> dict[str, Draw | Failure]:
        """Draw them together; where that fails, each half by itself, down to the windows that are to blame."""
        try:
            answers = self._draw_together([requests[each] for each in forecast_ids], forecast_ids, num_samples)
        except Exception as error:  # whatever a model raises is one window's failure, or the model's own
            self._check_model(error)
            if len(forecast_ids) == 1:
                if attempt < self._attempts:
                    return self._draw(forecast_ids, requests, num_samples, attempt + 1)
                return {forecast_ids[0]: Failure(f"the model could not answer this window ({type(error).__name__})")}
            middle = len(forecast_ids) // 2
            return self._draw(forecast_ids[:middle], requests, num_samples) | self._draw(
                forecast_ids[middle:], requests, num_samples
            )
        self.windows_drawn += len(forecast_ids)
        self.draws_made += len(forecast_ids) * num_samples
        return answers

    def _draw_together(
        self, requests: Sequence[ForecastRequest], forecast_ids: Sequence[str], num_samples: int
    ) -> dict[str, Draw | Failure]:
        past = np.array([request.past_centi_mgdl for request in requests], dtype=np.float32) / np.float32(CENTI)
        ends = np.array([request.end_seconds for request in requests], dtype="datetime64[s]")
        seeds = [bytes.fromhex(forecast_id) for forecast_id in forecast_ids]
        drawn = self._forecaster.draw(Windows(past_mgdl=past, end_times=ends), seeds, num_samples)
        wanted = (len(requests), num_samples, HORIZON_STEPS)
        if drawn.samples_mgdl.shape != wanted or drawn.residual_sd_mgdl.shape != (len(requests), HORIZON_STEPS):
            raise ValueError(f"the model gave samples {drawn.samples_mgdl.shape}, not {wanted}")
        finite = [
            bool(np.isfinite(drawn.samples_mgdl[row]).all() and np.isfinite(drawn.residual_sd_mgdl[row]).all())
            for row in range(len(requests))
        ]
        return {
            forecast_id: Draw(drawn.samples_mgdl[row].copy(), drawn.residual_sd_mgdl[row].copy())
            if finite[row]
            else Failure("the model gave no finite forecast for this window")
            for row, forecast_id in enumerate(forecast_ids)
        }

    def _check_model(self, error: Exception) -> None:
        """Raises `UnavailableError` where even the model's own warm-up fails: a lost device, not a strange window."""
        try:
            self._forecaster.warm_up()
        except Exception:
            raise UnavailableError(f"the forecaster {self._forecaster.name} fails: {error!r}") from error


def outcome(request: ForecastRequest, status: str, reason: str) -> RequestOutcome:
    """How a request ends without a forecast."""
    return RequestOutcome.model_validate(
        {
            "request_id": request.request_id,
            "series_key": request.series_key,
            "status": status,
            "reason": reason,
            "subject_id": request.subject_id,
            "handle": request.handle,
            "index": request.index,
            "demand_id": request.demand_id,
        }
    )
