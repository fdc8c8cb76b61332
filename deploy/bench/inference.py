"""How fast checkpoints are served, and the published architecture beside the reference network served its own way.

The reference (PyPI glucosedao-glucobench 0.4.1) runs as its `predict` does: module in train mode, autograd on, every
sample of every window in one batch. Engine and reference get the same random weights. Each measurement has a process of
its own, so that peak memory is that of one way of serving. The floor is the time of the engine's own matrix products
alone. CPU seconds stand beside wall seconds, because other programs may hold the cores.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigurationError
from schemas.grid import PAST_HOURS, PAST_POINTS, STEP_SECONDS

if TYPE_CHECKING:
    from agents.core.forecaster import Windows
    from agents.models.gluformer.engine import GluformerEngine

_REFERENCE = "glucobench.lib.gluformer.model"
_TIMEOUT_SECONDS = 900
_CHECKPOINT = "checkpoint "


@dataclass(frozen=True)
class Timing:
    """Best of the repeats; `peak_rss_bytes` of the whole process that measured, imports included."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    precision: str = "fp32"


@dataclass(frozen=True)
class Comparison:
    """One load: `windows` x `samples`."""

    windows: int
    samples: int
    reference: Timing
    engine: Timing
    floor: Timing

    @property
    def speed_up(self) -> float:
        return self.reference.wall_seconds / self.engine.wall_seconds

    @property
    def cpu_speed_up(self) -> float:
        return self.reference.cpu_seconds / self.engine.cpu_seconds

    @property
    def rss_share(self) -> float:
        return self.engine.peak_rss_bytes / self.reference.peak_rss_bytes

    @property
    def floor_share(self) -> float:
        """Of the engine's CPU time, what its matrix products need alone."""
        return self.floor.cpu_seconds / self.engine.cpu_seconds


def run(
    loads: tuple[tuple[int, int], ...] = ((32, 10), (1, 10)),
    *,
    precision: str = "auto",
    threads: int = 1,
    repeats: int = 3,
    progress: Callable[[str], None] = lambda _text: None,
) -> list[Comparison]:
    """Measures every load (windows, samples). ConfigurationError when the reference package is not installed."""
    if not reference_available():
        raise ConfigurationError("the reference network is missing: pip install --no-deps glucosedao-glucobench==0.4.1")
    found = []
    for windows, samples in loads:
        timings = []
        for what in ("reference", "engine", "floor"):
            progress(f"{windows} windows x {samples} samples: {what}")
            timings.append(_in_child(what, windows, samples, precision, threads, repeats))
        found.append(Comparison(windows, samples, *timings))
    return found


@dataclass(frozen=True)
class Served:
    """One checkpoint under one load."""

    checkpoint: str
    windows: int
    samples: int
    timing: Timing


def run_checkpoints(
    checkpoints: Sequence[str],
    loads: tuple[tuple[int, int], ...] = ((32, 10), (1, 10)),
    *,
    precision: str = "auto",
    threads: int = 1,
    repeats: int = 3,
    progress: Callable[[str], None] = lambda _text: None,
) -> list[Served]:
    """Measures every checkpoint ("bundled" or a file) under every load, as the inference role serves it."""
    found = []
    for checkpoint in checkpoints:
        for windows, samples in loads:
            progress(f"{windows} windows x {samples} samples: {checkpoint}")
            what = f"{_CHECKPOINT}{checkpoint}"
            found.append(
                Served(checkpoint, windows, samples, _in_child(what, windows, samples, precision, threads, repeats))
            )
    return found


def describe_checkpoints(found: list[Served]) -> str:
    """A table for people."""
    lines = [f"{'load':>8} {'wall':>10} {'CPU':>10} {'CPU/window':>11} {'peak RSS':>10}  checkpoint"]
    lines += [
        f"{one.windows:>4}x{one.samples:<3} {1e3 * one.timing.wall_seconds:>7,.1f} ms "
        f"{1e3 * one.timing.cpu_seconds:>7,.1f} ms {1e3 * one.timing.cpu_seconds / one.windows:>8,.2f} ms "
        f"{one.timing.peak_rss_bytes / 2**20:>6,.0f} MiB  {one.checkpoint}"
        for one in found
    ]
    return "\n".join(lines)


def describe(found: list[Comparison]) -> str:
    """A table for people."""
    lines = [_arithmetic(), f"{'load':>8} {'':>10} {'wall':>10} {'CPU':>10} {'peak RSS':>10}"]
    for one in found:
        for name, timing in (("reference", one.reference), ("engine", one.engine), ("floor", one.floor)):
            lines.append(
                f"{one.windows:>4}x{one.samples:<3} {name:>10} {1e3 * timing.wall_seconds:>7,.0f} ms "
                f"{1e3 * timing.cpu_seconds:>7,.0f} ms {timing.peak_rss_bytes / 2**20:>6,.0f} MiB"
            )
        lines.append(
            f"         {one.engine.precision}: {one.speed_up:.1f}x faster (CPU time {one.cpu_speed_up:.1f}x), "
            f"{one.rss_share:.2f} of the memory, {one.floor_share:.0%} of its time are matrix products"
        )
    return "\n".join(lines)


def _arithmetic() -> str:
    """What decides how far bf16 can help: the processor's matrix instructions."""
    import torch

    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return (
        f"{torch.backends.cpu.get_cpu_capability()}, bf16 products {'native' if native else 'emulated: fp32 is served'}"
    )


def reference_available() -> bool:
    return find_spec("glucobench") is not None


def reference_network() -> Any:
    """The reference's class. Its file also imports a tuner, a data library and a logger that the network never uses:
    empty modules stand in for them while it is imported.
    """
    stands_in: dict[str, dict[str, Any]] = {
        "optuna": {"trial": types.SimpleNamespace(Trial=object)},
        "darts": {},
        "torch.utils.tensorboard": {"SummaryWriter": object},
        "glucobench.utils.darts_dataset": {"SamplingDatasetDual": object},
        "glucobench.lib.gluformer.utils.training": dict.fromkeys(
            ("ExpLikeliLoss", "EarlyStop", "modify_collate", "adjust_learning_rate"), object
        ),
    }
    before = {name: sys.modules.get(name) for name in stands_in}
    for name, members in stands_in.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module
    try:
        return importlib.import_module(_REFERENCE).Gluformer
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def _in_child(what: str, windows: int, samples: int, precision: str, threads: int, repeats: int) -> Timing:
    arguments = [what, str(windows), str(samples), precision, str(threads), str(repeats)]
    done = subprocess.run(
        [sys.executable, "-m", "deploy.bench.inference", *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise ConfigurationError(f"measuring {what} failed: {done.stderr.strip().splitlines()[-1]}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def _measure(what: str, windows: int, samples: int, precision: str, threads: int, repeats: int) -> Timing:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    used = "fp32"
    if what.startswith(_CHECKPOINT):
        work = _checkpoint_work(what.removeprefix(_CHECKPOINT), windows, samples, precision, threads)
    elif what == "reference":
        work = _reference_work(windows, samples)
        repeats = min(repeats, 2) if windows > 1 else repeats
    else:
        engine = _engine(precision)
        used = engine.precision
        batch, seeds = _batch(windows), [bytes([place]) * 32 for place in range(windows)]
        engine.warm_up(samples)
        work = (
            _products_alone(engine, windows, samples)
            if what == "floor"
            else lambda: engine.sample(batch, seeds, samples)
        )
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Timing(min(walls), min(cpus), peak, used)


def _checkpoint_work(checkpoint: str, windows: int, samples: int, precision: Any, threads: int) -> Callable[[], object]:
    from agents.models.choice import Choice
    from agents.models.load import load_forecaster

    forecaster = load_forecaster(
        "network", Choice(checkpoint=checkpoint, device="cpu", precision=precision, torch_threads=threads)
    )
    forecaster.warm_up()
    batch, seeds = _batch(windows), [bytes([place]) * 32 for place in range(windows)]
    return lambda: forecaster.sample(batch, seeds, samples)


def _reference_work(windows: int, samples: int) -> Callable[[], object]:
    import torch

    from agents.models.gluformer.config import GluformerConfig

    config = GluformerConfig()
    network = reference_network()(**asdict(config))
    rows, known = windows * samples, config.label_len + config.len_pred
    inputs = (
        torch.zeros(rows, 1),
        torch.rand(rows, config.len_seq, 1),
        torch.rand(rows, config.len_seq, config.num_dynamic_features),
        torch.rand(rows, known, 1),
        torch.rand(rows, known, config.num_dynamic_features),
    )
    network.train()
    return lambda: [part.cpu().detach().numpy() for part in network(*inputs)]


def _engine(precision: Any) -> GluformerEngine:
    import numpy as np

    from agents.models.gluformer.checkpoint import Checkpoint, Scaler
    from agents.models.gluformer.config import GluformerConfig
    from agents.models.gluformer.engine import GluformerEngine
    from agents.models.gluformer.network import Gluformer

    config = GluformerConfig()
    state = {name: value.numpy() for name, value in Gluformer(config).state_dict().items()}
    spread = np.ones((1, config.len_pred), dtype=np.float32)
    checkpoint = Checkpoint(config, (state,), Scaler("window"), spread, fingerprint="random", log_variance=True)
    return GluformerEngine(checkpoint, device="cpu", precision=precision)


def _batch(windows: int) -> Windows:
    import numpy as np

    from agents.core.forecaster import Windows

    rng = np.random.default_rng(0)
    ends = np.datetime64("2026-01-01T12:00:00", "s") + np.arange(windows) * np.timedelta64(STEP_SECONDS, "s")
    past, hours = (rng.uniform(60.0, 250.0, (windows, count)).astype(np.float32) for count in (PAST_POINTS, PAST_HOURS))
    return Windows(past, ends, hours)


def _products_alone(engine: GluformerEngine, windows: int, samples: int) -> Callable[[], None]:
    """Records the matrix products of one chunk and repeats them, on tensors of the same layout, once a window."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    products: list[tuple[Any, tuple[Any, ...]]] = []

    class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (aten.linear.default, aten.matmul.default):
                with self:
                    return func.decompose(*args)
            if func in (aten.addmm.default, aten.mm.default, aten.bmm.default):
                products.append((func, args))
            return func(*args, **(kwargs or {}))

    with Recorder():  # type: ignore[no-untyped-call]
        engine.sample(_batch(1), [bytes(32)], samples)

    def repeat() -> None:
        with torch.inference_mode():
            for _ in range(windows):
                for func, args in products:
                    func(*args)

    return repeat


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(
        json.dumps(
            asdict(_measure(name, int(numbers[0]), int(numbers[1]), numbers[2], int(numbers[3]), int(numbers[4])))
        )
    )
