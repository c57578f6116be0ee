"""Learning-rate schedules."""

import math
from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field

Warmup = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Schedule(ABC):
    """A schedule: the factor of the learning rate at each step of a run.

    The rate rises linearly from 0 over a share ``warmup`` of the steps, and ends at a share ``final`` of itself.
    """

    def __init__(self, warmup: Warmup = 0.0, final: Share = 0.0) -> None:
        self.warmup, self.final = warmup, final

    def __call__(self, step: int, steps: int) -> float:
        """Factor of the learning rate for step ``step`` (from 0) of ``steps``."""
        rising = self.warmup * steps
        if step < rising:
            return (step + 1) / (math.floor(rising) + 1)
        gone = (step - rising) / max(steps - rising, 1)
        return self.final + (1 - self.final) * self.falling(min(gone, 1.0))

    @abstractmethod
    def falling(self, gone: float) -> float:
        """A factor from 1 to 0, for the share of the steps after the warm-up that is done, from 0 to 1."""


class Constant(Schedule):
    """A constant rate after the warm-up."""

    def __init__(self, warmup: Warmup = 0.0) -> None:
        super().__init__(warmup)

    def falling(self, gone: float) -> float:
        return 1.0


class Linear(Schedule):
    """A linear decay."""

    def falling(self, gone: float) -> float:
        return 1 - gone


class Cosine(Schedule):
    """A decay along half a cosine (Loshchilov & Hutter, ICLR 2017)."""

    def falling(self, gone: float) -> float:
        return (1 + math.cos(math.pi * gone)) / 2
