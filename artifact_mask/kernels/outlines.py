"""From outlines to masks, and back."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage.measure import find_contours, points_in_poly

Polygon = list[NDArray[np.float64]]
"""Closed rings ``(n, 2)`` of ``x`` and ``y``: the outer one, then those of its holes."""


def fill_outline(rings: Sequence[ArrayLike], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask the pixels whose middle lies inside an outline.

    Parameters
    ----------
    rings
        Closed or open polygons ``(n, 2)`` of ``x`` and ``y`` in pixels, of one object. What an even number of them
        surrounds is outside, so that a ring in a ring is a hole. They may reach beyond the image.
    shape
        ``(y, x)`` of the image.

    Returns
    -------
    NDArray[np.bool_]
        ``(y, x)``.

    Notes
    -----
    The first pixel reaches from 0 to 1, as in ImageJ and QuPath: its middle is at 0.5.

    Examples
    --------
    >>> square = [(1, 0), (3, 0), (3, 2), (1, 2)]
    >>> fill_outline([square], (3, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    mask = np.zeros(shape, bool)
    points = [np.asarray(ring, np.float64) for ring in rings]
    start = np.concatenate([np.zeros((0, 2)), *points])
    end = np.concatenate([np.zeros((0, 2)), *(np.roll(ring, -1, axis=0) for ring in points)])
    ys = np.sort([start[:, 1], end[:, 1]], axis=0)
    low, high = np.clip(np.ceil(ys - 0.5), 0, shape[0]).astype(int)
    n_rows = high - low
    if not n_rows.any():
        return mask
    # Where each edge crosses the middle of each row; from there on a row is inside until the next crossing.
    edge = np.repeat(np.arange(len(start)), n_rows)
    row = np.arange(edge.size) - np.repeat(np.cumsum(n_rows) - n_rows - low, n_rows)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    column = np.clip(np.ceil(x - 0.5), 0, shape[1]).astype(int)
    top, left = row.min(), column.min()
    crossings = np.zeros((row.max() + 1 - top, column.max() + 1 - left), np.int32)
    np.add.at(crossings, (row - top, column - left), 1)
    inside = np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return mask


def ellipse(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    """Outline ``(n, 2)`` of an ellipse in a rectangle, in pixels."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return np.stack([x + width * (1 + np.cos(angle)) / 2, y + height * (1 + np.sin(angle)) / 2], axis=1)


def trace_outlines(labels: NDArray[np.int32]) -> dict[int, list[Polygon]]:
    """Trace the outlines of labelled objects, half way between the pixels inside and those outside.

    Parameters
    ----------
    labels
        ``(y, x)``; 0 is background.

    Returns
    -------
    dict[int, list[Polygon]]
        Polygons of each object, more than one where it has parts that do not touch. :func:`fill_outline` of all rings
        gives the object back.

    Examples
    --------
    >>> ((outer,),) = trace_outlines(np.array([[0, 0, 0], [0, 5, 5]], np.int32))[5]
    >>> fill_outline([outer], (2, 3)).astype(int).tolist()
    [[0, 0, 0], [0, 1, 1]]
    """
    found = {}
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        padded = np.pad(labels[box] == number, 1).astype(np.float32)
        offset = np.array([box[1].start - 0.5, box[0].start - 0.5])
        rings = [ring[:, ::-1] + offset for ring in find_contours(padded, 0.5, fully_connected="high")]
        found[number] = _nest(rings)
    return found


def _nest(rings: Sequence[NDArray[np.float64]]) -> list[Polygon]:
    """Give each hole to the smallest outer ring around it; scikit-image runs around both in opposite directions."""
    polygons = sorted(([ring] for ring in rings if _area(ring) > 0), key=lambda polygon: _area(polygon[0]))
    for hole in (ring for ring in rings if _area(ring) <= 0):
        around = (polygon for polygon in polygons if points_in_poly(hole[:1], polygon[0])[0])
        next(around, polygons[-1]).append(hole)
    return polygons


def _area(ring: NDArray[np.float64]) -> float:
    """Area within a closed ring, negative for one that runs the other way around."""
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
