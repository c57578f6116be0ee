"""How the learning rate changes over a run."""

import math
from abc import ABC, abstractmethod

from recsys_lt.errors import UserError


class Schedule(ABC):
    """The share of the learning rate that holds after a share of the run's steps.

    Parameters
    ----------
    warmup
        Share of the steps over which the rate rises in a line from 0.
    final
        Share of the rate that is left at the end.

    Raises
    ------
    UserError
        For a share out of range.
    """

    def __init__(self, warmup: float = 0.0, final: float = 0.0) -> None:
        for key, value in (("warmup", warmup), ("final", final)):
            if not 0 <= value <= 1 or (key == "warmup" and value == 1):
                raise UserError(f"it is {value}", where=f"schedule.{key}", remedy="Give a share, such as 0.1")
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
        """From 1 to 0 as what is gone of the time after the warm-up goes from 0 to 1."""


class Constant(Schedule):
    """The same rate throughout, once it is warm.

    Parameters
    ----------
    warmup
        See ``Schedule``.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        super().__init__(warmup)

    def falling(self, gone: float) -> float:
        """See ``Schedule.falling``."""
        return 1.0


class Linear(Schedule):
    """Down in a line."""

    def falling(self, gone: float) -> float:
        """See ``Schedule.falling``."""
        return 1 - gone


class Cosine(Schedule):
    """Down along half a cosine (Loshchilov & Hutter, ICLR 2017)."""

    def falling(self, gone: float) -> float:
        """See ``Schedule.falling``."""
        return (1 + math.cos(math.pi * gone)) / 2
