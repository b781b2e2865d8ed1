"""The median of a few measurements, and the interval that the sign test gives for it.

Nothing is asked of the distribution: the interval goes from the k-th smallest to the k-th largest value, with the
greatest k for which the median of what was sampled lies outside of it in at most 5 % of all cases. (W. J. Conover,
Practical Nonparametric Statistics, 3rd edition, section 3.2.)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

OUTSIDE = 0.05
FEWEST = 6  # below, not even smallest and largest value make an interval of 95 %


@dataclass(frozen=True)
class Median:
    """A median with its interval of 95 %."""

    value: float
    low: float
    high: float

    def shown(self, form: str) -> str:
        """As `value (low to high)`, each in that format."""
        return f"{self.value:{form}} ({self.low:{form}} to {self.high:{form}})"


def median(values: Sequence[float]) -> Median:
    """The median of at least six values."""
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values have no interval of 95 %; it takes {FEWEST}")
    ordered = sorted(values)
    number = len(ordered)
    skipped = max(k for k in range(number // 2) if 2 * _at_most(k, number) <= OUTSIDE)
    return Median(statistics.median(ordered), ordered[skipped], ordered[number - 1 - skipped])


def _at_most(k: int, number: int) -> float:
    """How likely at most `k` of `number` fair coins show heads."""
    return sum(math.comb(number, heads) for heads in range(k + 1)) / 2**number
