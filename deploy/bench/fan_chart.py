"""What a fan chart costs calc: from the forecast's bytes to the record and the row, by the number charted at once."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

BATCHES = (1, 8, 32, 128)
REPEATS = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds a chart of each part, the least of several runs."""

    batch: int
    decode: float
    chart: float
    encode: float

    @property
    def whole(self) -> float:
        return self.decode + self.chart + self.encode


def bench_fan_charts(repeats: int = REPEATS) -> Iterator[Cost]:
    """One cost a batch size, of forecasts of ten samples."""
    import datetime

    import numpy as np

    from agents.calc.fan_chart import Ready, fan_charts
    from schemas.fan_chart import FanChart
    from schemas.fan_chart_row import to_row
    from schemas.forecast import Forecast

    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for batch in BATCHES:
        messages = [_forecast(np.random.default_rng(number).normal(0, 1.5, (10, 12))) for number in range(batch)]
        ready = [Ready(Forecast.from_arrow(message), now) for message in messages]
        charts = [chart for chart in fan_charts(ready) if isinstance(chart, FanChart)]
        yield Cost(
            batch,
            decode=_least(_each(Forecast.from_arrow, messages), repeats) / batch,
            chart=_least(partial(fan_charts, ready), repeats) / batch,
            encode=_least(_each(lambda chart: (chart.to_json(), to_row(chart)), charts), repeats) / batch,
        )


def _each(call: Callable[[Any], object], items: Sequence[Any]) -> Callable[[], object]:
    return lambda: [call(item) for item in items]


def _forecast(moves: Any) -> bytes:
    import numpy as np

    from schemas.forecast import Forecast

    return Forecast(
        request_id="a" * 64, kind="live", series_key="ada", subject_id="ada", timezone="UTC", end_seconds=1_710_000_000,
        past_centi_mgdl=[12000] * 96, truth_centi_mgdl=[], input_hash="b" * 64, num_samples=10, seed=0,
        forecast_id="c" * 64, model="bench", model_fingerprint="d" * 64,
        samples_mgdl=(120 + np.cumsum(moves, axis=1)).ravel().tolist(), residual_sd_mgdl=[12.0] * 12,
    ).to_arrow()  # fmt: skip


def _least(call: Callable[[], object], repeats: int) -> float:
    """CPU microseconds of the cheapest of so many calls: what others on the machine do only adds to it."""
    least = float("inf")
    for _ in range(repeats):
        began = time.process_time_ns()
        call()
        least = min(least, (time.process_time_ns() - began) / 1000)
    return least


def print_fan_charts() -> None:
    """What `bench_fan_charts` measured, a line a batch size."""
    for cost in bench_fan_charts():
        print(
            f"{cost.batch:>4} at once: {cost.whole:6.0f} us a chart (decode {cost.decode:.0f}, chart {cost.chart:.0f}, "
            f"encode {cost.encode:.0f})"
        )
