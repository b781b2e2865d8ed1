"""The interval of a median against the tables of the sign test."""

from __future__ import annotations

import math
import random

import pytest

from tests.bench.intervals import Median, median, pooled_change
from tests.bench.tracing import verdict


@pytest.mark.parametrize(
    ("number", "low", "high"),
    # Ranks that every table of the sign test has for 95 %.
    [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (12, 3, 10), (15, 4, 12), (20, 6, 15), (25, 8, 18)],
)
def test_the_ranks_are_those_of_the_tables(number, low, high):
    values = list(range(1, number + 1))
    random.Random(1).shuffle(values)
    assert median(values) == Median((number + 1) / 2, low, high)


def test_it_holds_what_it_says():
    """Of a skewed distribution, whose median is known: the interval misses it in at most 5 % of the cases."""
    chance = random.Random(2)
    found = [median([chance.expovariate(1) for _ in range(10)]) for _ in range(4000)]
    true = math.log(2)
    missed = sum(not interval.low <= true <= interval.high for interval in found) / len(found)
    assert 0.012 < missed < 0.032  # 2.15 % by the binomial


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="5 values have no interval of 95 %; it takes 6"):
        median([1, 2, 3, 4, 5])


def test_it_is_shown_with_its_interval():
    assert Median(0.0312, -0.004, 0.05).shown("+.1%") == "+3.1% (-0.4% to +5.0%)"


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (Median(-0.1, -0.2, 0.0), "met"),
        (Median(0.1, 0.001, 0.2), "not met"),
        (Median(0.01, -0.05, 0.08), "no difference found, +1.0% (-5.0% to +8.0%)"),
    ],
)
def test_a_cost_is_kept_or_not_only_where_the_whole_interval_says_so(cost, said):
    assert verdict(cost, 0) == said


def rounds(chance: random.Random, scale: float, number: int = 30) -> list[list[float]]:
    """Rounds that are slow or fast as a whole, as those of a machine with neighbours."""
    return [
        [scale * pace * chance.expovariate(1) for _ in range(300)]
        for pace in (chance.uniform(0.8, 1.25) for _ in range(number))
    ]


def test_a_change_of_the_tail_is_found_and_its_absence_not():
    chance = random.Random(3)
    slower = pooled_change(rounds(chance, 1.5), rounds(chance, 1), 99)
    assert 0.2 < slower.low < 0.5 < slower.high < 0.8
    same = [pooled_change(rounds(chance, 1), rounds(chance, 1), 99) for _ in range(8)]
    assert sum(not change.low <= 0 <= change.high for change in same) <= 1
    with pytest.raises(ValueError, match="5 and 6 rounds"):
        pooled_change(rounds(chance, 1, 5), rounds(chance, 1, 6), 99)
