"""Leave out of a weak label what a network that was trained on many of them contradicts."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.kernels.truth import ARTIFACT, BACKGROUND, IGNORE

DENIED, CERTAIN = 0.1, 0.8
"""Mean probability below which a labelled object is doubted; probability from which an unlabelled one is seen."""
_SMALLEST_SEEN_PX = 20
_RIM_PX = 3
"""Around a doubtful object its outline is as doubtful."""


def clean_truth(truth: NDArray[np.uint8], probability: NDArray[np.float32]) -> tuple[NDArray[np.uint8], int, int]:
    """Leave out the objects that label and network disagree about; whole objects, never parts of one.

    Parameters
    ----------
    truth
        ``(y, x)``: 0 background, 1 artifact, 255 leave out. Unchanged.
    probability
        ``(y, x)``, what the network says.

    Returns
    -------
    truth
        The same, with 255 where they disagree.
    n_denied
        Labelled objects that the network does not see.
    n_added
        Objects that the network is certain of, and that are not labelled.

    Notes
    -----
    A network fits what most labels agree on before it fits their mistakes, so that in an early training its
    contradictions are worth more than the single label. They are left out, not turned round: if it is wrong, little
    is lost.

    Examples
    --------
    >>> truth = np.zeros((1, 9), np.uint8)
    >>> truth[0, 4] = 1
    >>> clean_truth(truth, np.zeros((1, 9), np.float32))[0].tolist()
    [[0, 255, 255, 255, 255, 255, 255, 255, 0]]
    """
    denied, n_denied = _find_denied(truth, probability)
    added, n_added = _find_unlabelled(truth, probability)
    if not n_denied + n_added:
        return truth, 0, 0
    around = ndimage.binary_dilation(denied | added, np.ones((3, 3)), iterations=_RIM_PX)
    cleaned = truth.copy()
    # The rim of a doubtful object must not wipe out a neighbour that nobody doubts.
    cleaned[denied | (around & (truth == BACKGROUND))] = IGNORE
    return cleaned, n_denied, n_added


def _find_denied(truth: NDArray[np.uint8], probability: NDArray[np.float32]) -> tuple[NDArray[np.bool_], int]:
    labels, n = ndimage.label(truth == ARTIFACT, np.ones((3, 3)))
    if not n:
        return labels > 0, 0
    said = ndimage.mean(probability, labels, np.arange(1, n + 1))
    is_denied = np.concatenate([[False], np.asarray(said) < DENIED])
    return is_denied[labels], int(is_denied.sum())


def _find_unlabelled(truth: NDArray[np.uint8], probability: NDArray[np.float32]) -> tuple[NDArray[np.bool_], int]:
    labels, n = ndimage.label(probability >= CERTAIN, np.ones((3, 3)))
    if not n:
        return labels > 0, 0
    areas = np.bincount(labels.ravel(), minlength=n + 1)
    touched = np.zeros(n + 1, bool)
    touched[np.unique(labels[truth != BACKGROUND])] = True
    is_new = ~touched & (areas >= _SMALLEST_SEEN_PX)
    is_new[0] = False
    return is_new[labels], int(is_new.sum())
