"""What steps need to know of the model whose forecasts they ask for."""

from typing import Protocol


class Sampling(Protocol):
    """How often the model is sampled, and from which seed."""

    @property
    def num_samples(self) -> int: ...
    @property
    def seed(self) -> int: ...
