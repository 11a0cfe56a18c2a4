"""Sums of floats that do not depend on the order in which they were made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class ExactSum:
    """The exact sum of floats, rounded once when it is asked for.

    Beam adds and merges in any order, and floating-point addition is not associative: a mean of
    per-image scores would change in its last digits with the number of workers. This keeps
    Shewchuk's non-overlapping partial sums (as `math.fsum` does inside), a handful of floats.

    Attributes:
        partials: Floats whose exact sum is the exact sum of everything added.
    """

    partials: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Adds one finite float."""
        kept = []
        for partial in self.partials:
            if abs(value) < abs(partial):
                value, partial = partial, value
            high = value + partial
            low = partial - (high - value)
            if low:
                kept.append(low)
            value = high
        kept.append(value)
        self.partials = kept

    def __iadd__(self, other: ExactSum) -> ExactSum:
        for partial in list(other.partials):
            self.add(partial)
        return self

    def value(self) -> float:
        """The sum, correctly rounded."""
        return math.fsum(self.partials)


@dataclass(slots=True)
class MeanStatistics:
    """Sufficient statistics of a mean over images."""

    count: int = 0
    total: ExactSum = field(default_factory=ExactSum)

    def add_value(self, value: float) -> None:
        """Adds the value of one image."""
        self.count += 1
        self.total.add(value)

    def __iadd__(self, other: MeanStatistics) -> MeanStatistics:
        self.count += other.count
        self.total += other.total
        return self

    def mean(self) -> float:
        """The mean, NaN without any image."""
        return self.total.value() / self.count if self.count else math.nan
