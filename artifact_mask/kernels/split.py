"""Part labelled samples by the groups that they come from: what shares a group never lies on both sides."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_N_ORDERS = 500
"""Random orders of the groups that are tried; trying is cheap."""


def split_groups(labels: ArrayLike, groups: Sequence[Hashable], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups to keep back, so that about a share of every class is kept back.

    Parameters
    ----------
    labels
        ``(n,)``, the class of each sample.
    groups
        ``n`` names, such as plate and well.
    share
        Wanted share of the samples that are kept back, between 0 and 1.
    seed
        Decides among splits that are equally good.

    Returns
    -------
    NDArray[np.bool_]
        ``(n,)``, True for what is kept back. Every class is on both sides if the groups allow it at all, and neither
        side is empty.

    Raises
    ------
    ValueError
        If there are fewer than two groups, the share is not between 0 and 1, or the lengths differ.

    Notes
    -----
    Many random orders of the groups are cut where the parts come closest to the share; the best cut of all is taken.

    Examples
    --------
    >>> split_groups([0, 1, 0, 1], ["B02", "B02", "B03", "B03"], 0.5, seed=0).sum()
    np.int64(2)
    """
    counts, group_of = _count(labels, groups)
    if len(counts) < 2:
        raise ValueError(f"Found {len(counts)} group(s); expected two or more, since a group is never parted.")
    if not 0 < share < 1:
        raise ValueError(f"Found a share of {share}; expected one between 0 and 1.")
    rng = np.random.default_rng(seed)
    totals = counts.sum(axis=0)
    best, kept = np.inf, np.empty(0, np.intp)
    for _ in range(_N_ORDERS):
        order = rng.permutation(len(counts))
        held = np.cumsum(counts[order], axis=0)[:-1]
        n_missing = (held == 0).sum(axis=1) + (held == totals).sum(axis=1)
        off = np.abs(held / totals - share).sum(axis=1)
        cost = n_missing * (1 + len(totals)) + off  # a missing class outweighs any deviation
        cut = int(np.argmin(cost))
        if cost[cut] < best - 1e-12:
            best, kept = float(cost[cut]), order[: cut + 1]
    return np.isin(group_of, kept)


def fold_groups(labels: ArrayLike, groups: Sequence[Hashable], n_folds: int, seed: int) -> NDArray[np.intp]:
    """Deal whole groups into folds of about equal size and mix of classes, for cross-validation.

    Parameters
    ----------
    labels
        ``(n,)``, the class of each sample.
    groups
        ``n`` names, such as plate and well.
    n_folds
        How many folds.
    seed
        Decides the order of groups of the same size.

    Returns
    -------
    NDArray[np.intp]
        ``(n,)``, the fold of each sample, 0 to ``n_folds - 1``; no fold is empty.

    Raises
    ------
    ValueError
        If there are fewer groups than folds, fewer than two folds, or the lengths differ.

    Examples
    --------
    >>> sorted(fold_groups([0, 1, 0], ["B02", "B02", "B03"], 2, seed=0).tolist())
    [0, 0, 1]
    """
    counts, group_of = _count(labels, groups)
    if not 2 <= n_folds <= len(counts):
        raise ValueError(f"Found {n_folds} folds of {len(counts)} groups; expected two folds or more, a group each.")
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    shares = counts / counts.sum(axis=0)
    filled = np.zeros((n_folds, counts.shape[1]))
    fold_of = np.empty(len(counts), np.intp)
    for n_done, group in enumerate(order):
        # Squares grow least where the classes of this group are rarest so far.
        cost = ((filled + shares[group]) ** 2 - filled**2).sum(axis=1)
        n_left, empty = len(order) - n_done, ~filled.any(axis=1)
        if n_left <= empty.sum():
            cost[~empty] = np.inf
        fold_of[group] = int(np.argmin(cost))
        filled[fold_of[group]] += shares[group]
    return fold_of[group_of]


def _count(labels: ArrayLike, groups: Sequence[Hashable]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count samples ``(group, class)``; with them, the number of each sample's group, in the order of appearance."""
    classes, class_of = np.unique(np.asarray(labels), return_inverse=True)
    if len(class_of) != len(groups):
        raise ValueError(f"Found {len(class_of)} labels and {len(groups)} groups; expected as many.")
    numbers: dict[Hashable, int] = {}
    group_of = np.array([numbers.setdefault(group, len(numbers)) for group in groups], np.intp)
    counts = np.zeros((len(numbers), len(classes)), np.intp)
    np.add.at(counts, (group_of, class_of), 1)
    return counts, group_of
