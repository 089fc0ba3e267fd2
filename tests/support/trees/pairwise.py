"""A small sample of a matrix in which every pair of values that may meet does meet."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Combination = dict[str, Any]


def all_allowed(
    dimensions: Mapping[str, Sequence[Any]], allowed: Callable[[Combination], bool] = lambda _: True
) -> list[Combination]:
    """Every combination of one value per dimension that ``allowed`` admits, in the order of the dimensions."""
    names = list(dimensions)
    product = (dict(zip(names, values, strict=True)) for values in itertools.product(*dimensions.values()))
    return [combination for combination in product if allowed(combination)]


def pairs_of(combination: Combination) -> set[tuple[str, Any, str, Any]]:
    """The pairs of values that meet in a combination, each with the names of its dimensions."""
    return {(a, x, b, y) for (a, x), (b, y) in itertools.combinations(combination.items(), 2)}


def pairwise(
    dimensions: Mapping[str, Sequence[Any]],
    allowed: Callable[[Combination], bool] = lambda _: True,
    *,
    seed: int,
) -> list[Combination]:
    """Choose combinations that cover every pair which occurs in some allowed combination.

    Greedy over the whole product, so for small matrices only. The same seed gives the same sample.
    """
    candidates = all_allowed(dimensions, allowed)
    random.Random(seed).shuffle(candidates)
    open_pairs = set().union(*(pairs_of(candidate) for candidate in candidates))
    if not open_pairs:  # a single dimension has no pairs: all of its values are the sample
        return candidates
    sample = []
    while open_pairs:
        best = max(candidates, key=lambda candidate: len(pairs_of(candidate) & open_pairs))
        open_pairs -= pairs_of(best)
        sample.append(best)
    return sample
