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

import numpy as np

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


RESAMPLED = 1000


def pooled_change(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], percent: float) -> Median:
    """By what share a quantile of all that `first` measured is above that of `second`, with its interval of 95 %.

    Both are lists of rounds, of the same rounds. A tail needs more values than one round has, so the rounds are pooled;
    and the values of a round are not independent, so whole rounds are drawn again (bootstrap by clusters; B. Efron and
    R. Tibshirani, An Introduction to the Bootstrap, section 8.6), the same ones of both.
    """
    number = len(first)
    if number != len(second) or number < FEWEST:
        raise ValueError(f"{number} and {len(second)} rounds; it takes {FEWEST} of each, and as many of both")
    one, other = ([np.asarray(values, dtype=float) for values in rounds] for rounds in (first, second))

    def change(rounds: Sequence[int]) -> float:
        above, below = (
            np.quantile(np.concatenate([values[i] for i in rounds]), percent / 100) for values in (one, other)
        )
        return float(above / below - 1)

    chance = np.random.default_rng(7)
    drawn = [change(chance.integers(number, size=number).tolist()) for _ in range(RESAMPLED)]
    low, high = np.quantile(drawn, (OUTSIDE / 2, 1 - OUTSIDE / 2))
    return Median(change(range(number)), float(low), float(high))


def _at_most(k: int, number: int) -> float:
    """How likely at most `k` of `number` fair coins show heads."""
    return sum(math.comb(number, heads) for heads in range(k + 1)) / 2**number
