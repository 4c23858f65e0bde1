"""From a probability map to labelled objects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_Box = tuple[slice, slice]

DARK = -0.6
"""Contrast below which a pixel next to an artifact is taken for a part of it: an eighth darker than the background."""

MOST_GROWTH, SLACK_PX = 3.0, 200
"""An object may become so many times its size, and so many pixels more."""

DOUBT = 0.375
"""Mean probability below which an object, with the dark pixels that it would grow over, is part of a stained cell."""

FAINT = 0.25
"""Share of pixels darker than :data:`DARK` from which on a large object is no shadow."""


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
    labels, boxes = _label_parts(probability >= threshold)
    n_kept = 0
    for number, box in enumerate(boxes, start=1):
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


@dataclass(frozen=True)
class Cut:
    """How a probability map becomes objects.

    Attributes
    ----------
    threshold
        Probability from which on a pixel belongs to an object.
    min_object_px
        Objects of fewer pixels are dropped.
    reach_px
        How far objects then grow over dark pixels; 0 for not at all.
    large_threshold, large_object_px
        Probability from which on a pixel belongs to a large object, and pixels that make one large: a wide, faint
        shadow is told by many pixels none of which would do alone. None for no such objects.
    """

    threshold: float
    min_object_px: int
    reach_px: float = 0.0
    large_threshold: float | None = None
    large_object_px: int = 1500


def label_artifacts(
    probability: NDArray[np.float32], contrast: NDArray[np.float32] | None, cut: Cut
) -> NDArray[np.int32]:
    """Cut a probability map into objects, grow them to their own dark edge, and add large, faint ones.

    Parameters
    ----------
    probability
        ``(y, x)``.
    contrast
        ``(y, x)``; without it, objects do not grow, none is told from a stained cell, and what is large need not be
        faint.
    cut
        How.

    Returns
    -------
    NDArray[np.int32]
        ``(y, x)``, as :func:`label_objects` numbers them.

    Notes
    -----
    Both tests keep stain out of the mask. A network is sure of a few granules of a densely stained cell, and of the
    others not at all; of an artifact it believes nearly all that is dark.

    Examples
    --------
    >>> probability = np.zeros((1, 9), np.float32)
    >>> probability[0, [1, 5]] = 0.9
    >>> contrast = np.array([[0, -2, -2, 0, 0, -2, -2, -2, 0]], np.float32)
    >>> label_artifacts(probability, contrast, Cut(0.5, 1, reach_px=9)).tolist()
    [[0, 1, 1, 0, 0, 0, 0, 0, 0]]
    """
    labels = label_objects(probability, threshold=cut.threshold, min_object_px=cut.min_object_px)
    mask = labels > 0
    if contrast is not None and cut.reach_px and mask.any():
        mask = grow_into_dark(mask, contrast, reach_px=cut.reach_px, probability=probability)
    if cut.large_threshold is not None:
        large = label_objects(probability, threshold=cut.large_threshold, min_object_px=cut.large_object_px)
        mask |= large > 0 if contrast is None else _faint(large, contrast)
    # Objects that have met are one now.
    return label_objects(mask.astype(np.float32), threshold=0.5, min_object_px=1)


def grow_into_dark(
    mask: NDArray[np.bool_],
    contrast: NDArray[np.float32],
    *,
    reach_px: float,
    darker_than: float = DARK,
    probability: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """Grow objects to their own edge: over what is dark and connected with them, as far as ``reach_px``.

    Parameters
    ----------
    mask
        ``(y, x)``; objects to grow.
    contrast
        ``(y, x)``; 0 is background.
    reach_px
        Distance from an object, in pixels, beyond which nothing is added to it.
    darker_than
        Contrast below which a pixel may be added.
    probability
        ``(y, x)``; with it, an object that meets dark pixels is dropped where the mean over it and them is below
        :data:`DOUBT`: it is part of a stained cell.

    Returns
    -------
    NDArray[np.bool_]
        ``(y, x)``; the mask and what was added, holes included, without the objects that were dropped.

    Notes
    -----
    An object that would become several times its size has met something else that is dark, such as a stained cell, and
    is left as it is.

    Examples
    --------
    >>> mask = np.array([[False, True, False, False, False, False]])
    >>> contrast = np.array([[0, -1, -1, -1, 0, -1]], np.float32)
    >>> grow_into_dark(mask, contrast, reach_px=9).tolist()
    [[False, True, True, True, False, False]]
    """
    if reach_px <= 0:
        return mask.copy()
    grown = np.zeros_like(mask)
    objects, _ = ndimage.label(mask, np.ones((3, 3)))
    margin = int(np.ceil(reach_px)) + 1
    for number, box in enumerate(ndimage.find_objects(objects), start=1):
        window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        own = objects[window] == number
        near = ndimage.distance_transform_edt(~own) <= reach_px
        whole = ndimage.binary_propagation(own, mask=own | (near & (contrast[window] < darker_than)))
        whole = ndimage.binary_fill_holes(whole)
        size, most = np.count_nonzero(whole), MOST_GROWTH * np.count_nonzero(own) + SLACK_PX
        has_grown = size > np.count_nonzero(own)
        if probability is not None and has_grown and probability[window][whole].mean(dtype=np.float64) < DOUBT:
            continue
        grown[window] |= whole if size <= most else own
    return grown


def object_areas(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Area in pixels of the objects 1, 2 ... of a label image.

    Examples
    --------
    >>> object_areas(np.array([[1, 1, 0, 2]], np.int32))
    array([2, 1])
    """
    # Of the few pixels that are objects: np.bincount copies what it counts as 64 bits.
    return np.bincount(labels[labels > 0])[1:].astype(np.int64)


def spare_number(labels: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    """Renumber the objects of a label image so that none has a number that means something else.

    Examples
    --------
    >>> spare_number(np.array([0, 1, 2, 3], np.int32), 2).tolist()
    [0, 1, 3, 4]
    """
    renumbered: NDArray[np.int32] = labels + (labels >= number).astype(np.int32)
    return renumbered


def _faint(labels: NDArray[np.int32], contrast: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels of the objects that are no darker than a shadow."""
    inside = labels > 0
    dark = np.bincount(labels[inside & (contrast < DARK)], minlength=int(labels.max()) + 1)
    is_faint = dark < FAINT * np.bincount(labels[inside], minlength=dark.size)
    is_faint[0] = False
    faint: NDArray[np.bool_] = is_faint[labels]
    return faint


def _label_parts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[_Box]]:
    """Label what touches by sides or corners in a mask, in reading order, with the bounding boxes.

    Gives what ``ndimage.label`` and ``ndimage.find_objects`` do, in an eighth of the time where objects are few: it
    connects the runs of pixels that rows are made of.
    """
    labels = np.zeros(mask.shape, np.int32)
    width = mask.shape[1] + 2  # a column of background on both sides: runs end with their row
    padded = np.zeros((mask.shape[0], width), bool)
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start, stop = edges[::2], edges[1::2]
    if not start.size:
        return labels, []
    part = _connect_runs(start, stop, width)
    labels[mask] = np.repeat(part + 1, stop - start)

    order = np.argsort(part, kind="stable")
    first = np.flatnonzero(np.diff(part[order], prepend=-1))
    row, column = np.divmod(start[order] - 1, width)
    end = column + (stop - start)[order]
    top, bottom = np.minimum.reduceat(row, first), np.maximum.reduceat(row, first) + 1
    left, right = np.minimum.reduceat(column, first), np.maximum.reduceat(end, first)
    boxes = np.stack([top, bottom, left, right], axis=1).tolist()
    return labels, [(slice(y0, y1), slice(x0, x1)) for y0, y1, x0, x1 in boxes]


def _connect_runs(start: NDArray[np.intp], stop: NDArray[np.intp], width: int) -> NDArray[np.int32]:
    """Part, from 0 in reading order, of runs of pixels ``start:stop`` in a flattened image of some width."""
    # A run touches those of the row above that, moved down by a row, overlap it or end where it starts.
    first = np.searchsorted(stop + width, start, side="left")
    n_above = np.searchsorted(start + width, stop, side="right") - first
    below = np.repeat(np.arange(start.size), n_above)
    above = np.arange(below.size) - np.repeat(np.cumsum(n_above) - n_above - first, n_above)
    touching = coo_array((np.ones(below.size, bool), (below, above)), shape=(start.size, start.size))
    parts: NDArray[np.int32] = connected_components(touching, directed=False)[1]
    return parts


def _fill_holes(parts: NDArray[np.bool_], max_hole_px: int) -> NDArray[np.bool_]:
    """Fill the holes of one object in its bounding box; what reaches the box's border is outside."""
    regions, n_regions = ndimage.label(~parts, output=np.int32)
    is_hole = np.bincount(regions.ravel(), minlength=n_regions + 1) <= max_hole_px
    is_hole[0] = False
    for border in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        is_hole[border] = False
    filled: NDArray[np.bool_] = parts | is_hole[regions]
    return filled
