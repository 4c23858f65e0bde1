"""Splits by group: nothing of a well on both sides, and every class on both where that can be."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact_mask.kernels.split import fold_groups, split_groups

SAMPLES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda samples: len({group for _, group in samples}) >= 2
)


def both_sides_have_every_class(labels, held):
    return set(labels[held]) == set(labels[~held]) == set(labels)


def is_possible(labels, groups):
    names = sorted(set(groups))
    return any(
        both_sides_have_every_class(labels, np.isin(groups, chosen))
        for n in range(1, len(names))
        for chosen in combinations(names, n)
    )


@given(SAMPLES, st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_group_is_never_parted_and_no_side_is_empty(samples, share, seed):
    labels, groups = (np.array(values) for values in zip(*samples, strict=True))
    held = split_groups(labels, groups.tolist(), share, seed)
    assert not set(groups[held]) & set(groups[~held])
    assert 0 < held.sum() < len(held)


@given(SAMPLES, st.integers(0, 5))
def test_every_class_is_on_both_sides_if_the_groups_allow_it(samples, seed):
    labels, groups = (np.array(values) for values in zip(*samples, strict=True))
    held = split_groups(labels, groups.tolist(), 0.2, seed)
    assert both_sides_have_every_class(labels, held) == is_possible(labels, groups)


def test_about_the_share_of_each_class_is_held_out():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 600)
    labels = (rng.random(600) < 0.2).astype(int)
    held = split_groups(labels, groups.tolist(), 0.2, seed=3)
    for label in (0, 1):
        assert held[labels == label].mean() == pytest.approx(0.2, abs=0.03)


def test_the_seed_alone_decides_the_split():
    groups = [f"plate/{i % 12}" for i in range(96)]
    labels = [i % 2 for i in range(96)]
    splits = [split_groups(labels, groups, 0.25, seed).tolist() for seed in (1, 1, 2)]
    assert splits[0] == splits[1] != splits[2]


@given(SAMPLES, st.integers(2, 5), st.integers(0, 5))
def test_folds_keep_groups_whole_and_none_is_empty(samples, n_folds, seed):
    labels, groups = (np.array(values) for values in zip(*samples, strict=True))
    n_folds = min(n_folds, len(set(groups)))
    folds = fold_groups(labels, groups.tolist(), n_folds, seed)
    assert set(folds) == set(range(n_folds))
    assert all(len(set(folds[groups == group])) == 1 for group in groups)


def test_folds_have_about_the_same_mix_of_classes():
    rng = np.random.default_rng(1)
    groups, labels = rng.integers(0, 60, 600), (rng.random(600) < 0.3).astype(int)
    folds = fold_groups(labels, groups.tolist(), 5, seed=0)
    for label in (0, 1):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert counts.max() <= 1.3 * counts.min()


@pytest.mark.parametrize(
    ("labels", "groups", "share", "message"),
    [
        ([0, 1], ["a", "a"], 0.5, "1 group"),
        ([0, 1], ["a", "b"], 1.0, "share of 1.0"),
        ([0], ["a", "b"], 0.5, "1 label"),
    ],
)
def test_a_split_that_cannot_be_is_an_error(labels, groups, share, message):
    with pytest.raises(ValueError, match=message):
        split_groups(labels, groups, share, 0)


@pytest.mark.parametrize("n_folds", [1, 3])
def test_folds_need_a_group_each(n_folds):
    with pytest.raises(ValueError, match=f"{n_folds} folds of 2 groups"):
        fold_groups([0, 1], ["a", "b"], n_folds, 0)
