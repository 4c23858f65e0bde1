"""From a probability map to labelled objects."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def label_objects(
    probability: NDArray[np.float32], *, threshold: float, min_object_px: int, max_hole_px: int = 5000
) -> NDArray[np.int32]:
    """Threshold a probability map, fill the objects' holes, drop small objects and number the rest.

    Parameters
    ----------
    probability
        ``(y, x)``.
    threshold
        Pixels at or above it belong to an object.
    min_object_px
        Objects of fewer pixels, holes included, are dropped.
    max_hole_px
        Larger holes stay open: what a curled fibre surrounds is not an artifact.

    Returns
    -------
    NDArray[np.int32]
        ``(y, x)``; 0 is background, objects are 1, 2 ... in reading order. Pixels that touch by a corner are one
        object.

    Examples
    --------
    >>> ring = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], np.float32)
    >>> label_objects(ring, threshold=0.5, min_object_px=9).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    """
    labels: NDArray[np.int32]
    labels, _ = ndimage.label(probability >= threshold, structure=_EIGHT_NEIGHBOURS, output=np.int32)
    n_kept = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        window = labels[box]
        # Object by object in its own box: a few small objects in a large field are the rule.
        parts = window == number
        # A speck in too small a box is not worth filling.
        filled = _fill_holes(parts, max_hole_px) if window.size >= min_object_px and parts.any() else parts
        if np.count_nonzero(filled) >= max(min_object_px, 1):
            n_kept += 1
            # What lay in a filled hole becomes part of the object. Numbers only ever shrink, so that none is met twice.
            window[filled] = n_kept
        else:
            window[parts] = 0
    return labels


def object_areas(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Area in pixels of the objects 1, 2 ... of a label image.

    Examples
    --------
    >>> object_areas(np.array([[1, 1, 0, 2]], np.int32))
    array([2, 1])
    """
    return np.bincount(labels.ravel())[1:].astype(np.int64)


def _fill_holes(parts: NDArray[np.bool_], max_hole_px: int) -> NDArray[np.bool_]:
    """Fill the holes of one object in its bounding box; what reaches the box's border is outside."""
    regions, n_regions = ndimage.label(~parts, output=np.int32)
    is_hole = np.bincount(regions.ravel(), minlength=n_regions + 1) <= max_hole_px
    is_hole[0] = False
    for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        is_hole[border] = False
    filled: NDArray[np.bool_] = parts | is_hole[regions]
    return filled
