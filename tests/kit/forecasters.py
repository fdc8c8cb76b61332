"""Forecasters for tests: exact, quick, and as bad as a test asks."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from agents.core.calibration import Calibration
from agents.core.forecaster import Samples, Windows

FINGERPRINT = "f" * 64


class RecordingForecaster:
    """Samples the last value plus a shift taken from each seed, and remembers the seeds in the order of drawing.

    `gate`: draws wait until it is set, where one is given. `trouble` is called before each draw and may raise.
    """

    name = "recording"
    fingerprint = FINGERPRINT
    calibration: Calibration | None = None

    def __init__(
        self, gate: threading.Event | None = None, trouble: Callable[[Windows, int], None] | None = None
    ) -> None:
        self.drawn: list[bytes] = []
        self.calls: list[int] = []
        self.began = threading.Event()
        self._gate, self._trouble = gate, trouble

    def warm_up(self) -> None:
        """Nothing to warm."""

    def sample(self, windows: Windows, seeds: Sequence[bytes], num_samples: int) -> Samples:
        self.calls.append(len(windows))
        asked_for = [seed for seed in seeds if any(seed)]  # the timing of one quiet window has no name
        if self._trouble is not None:
            self._trouble(windows, num_samples)
        if self._gate is not None and asked_for:
            self.began.set()
            self._gate.wait(120)
        self.drawn += asked_for
        shifts = [np.random.Generator(np.random.SFC64(list(seed))).normal(size=(num_samples, 12)) for seed in seeds]
        samples = windows.past_mgdl[:, -1][:, None, None] + np.array(shifts, np.float32)
        return Samples(samples.astype(np.float32), np.full((len(windows), 12), 5.0, np.float32))
