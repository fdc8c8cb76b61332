"""Kernel density of one forecast's samples: the closed form beside twelve calls of scipy, in one run."""

import time
from collections.abc import Callable


def bench_fan_chart(repeats: int = 200, count: int = 10, points: int = 100) -> dict[str, float]:
    """Milliseconds a forecast of both, their ratio, and the largest relative difference."""
    import numpy as np
    from scipy.stats import gaussian_kde

    from agents.calc.fan_chart import kernel_density, kernel_grid

    samples = 120 + np.cumsum(np.random.default_rng(0).normal(0, 4, (count, 12)), axis=1)
    grid = kernel_grid(samples, points)

    def closed() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return kernel_density(samples, grid)

    def scipys() -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return np.stack([gaussian_kde(samples[:, step])(grid[:, step]) for step in range(12)], axis=1)

    difference = float(np.max(np.abs(closed() / scipys() - 1)))
    ours, theirs = _best(closed, repeats), _best(scipys, max(1, repeats // 10))
    return {"closed_ms": ours, "scipy_ms": theirs, "ratio": theirs / ours, "largest_relative_difference": difference}


def _best(call: Callable[[], object], repeats: int) -> float:
    """The shortest of so many calls, in milliseconds: what others on the machine do only adds to it."""
    shortest = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest * 1000


def print_fan_chart() -> None:
    """What `bench_fan_chart` measured, as lines."""
    for points in (21, 100):
        found = bench_fan_chart(points=points)
        print(
            f"{points} grid points: closed form {found['closed_ms']:.3f} ms, scipy {found['scipy_ms']:.3f} ms, "
            f"{found['ratio']:.0f} times faster, largest relative difference {found['largest_relative_difference']:.1e}"
        )
