"""The sample of a matrix: complete in pairs, within the rules, small, and the same for the same seed."""

from hypothesis import given
from hypothesis import strategies as st
from support.trees.pairwise import all_allowed, pairs_of, pairwise

_DIMENSIONS = st.dictionaries(
    st.sampled_from("abcde"), st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True), min_size=2, max_size=5
)


@given(_DIMENSIONS, st.integers(0, 9), st.integers(2, 7))
def test_every_pair_that_may_meet_meets(dimensions, seed, modulus):
    """A pair which occurs in some allowed combination occurs in the sample, and nothing forbidden does."""

    def allowed(combination):
        return sum(combination.values()) % modulus != 1

    sample = pairwise(dimensions, allowed, seed=seed)
    met = set().union(*(pairs_of(combination) for combination in sample))
    possible = set().union(*(pairs_of(combination) for combination in all_allowed(dimensions, allowed)))
    assert met == possible
    assert all(allowed(combination) for combination in sample)


def test_the_sample_is_much_smaller_than_the_matrix():
    """Four dimensions of three values need 9 combinations at least, of 81; greedy choice stays below 16."""
    sample = pairwise(dict.fromkeys("abcd", (1, 2, 3)), seed=1)
    assert 9 <= len(sample) < 16


def test_a_seed_names_one_sample():
    """The same seed gives the same sample in the same order, so that a failure can be repeated."""
    dimensions = {"a": (1, 2, 3), "b": (1, 2, 3), "c": (1, 2)}
    assert pairwise(dimensions, seed=7) == pairwise(dimensions, seed=7)
    assert any(pairwise(dimensions, seed=7) != pairwise(dimensions, seed=n) for n in range(5))


def test_one_dimension_is_sampled_whole():
    """Without pairs, every allowed value is in the sample."""
    sample = pairwise({"a": (1, 2, 3)}, lambda combination: combination["a"] != 2, seed=1)
    assert sorted(combination["a"] for combination in sample) == [1, 3]
