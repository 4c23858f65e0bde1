"""Outlines of labelled objects as paths of SVG, short enough for a page with thousands of fields."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon

from artifact_mask.kernels.outlines import Polygon

STEPS_PER_PX = 4
"""Coordinates are whole numbers of this part of a pixel."""


def draw_path(polygons: Iterable[Polygon], *, scale: float, tolerance_px: float) -> str:
    """Write polygons as one path of SVG, in steps of a quarter pixel.

    Parameters
    ----------
    polygons
        Closed rings ``(n, 2)`` of ``x`` and ``y``, as :func:`artifact_mask.kernels.outlines.trace_outlines` gives them.
    scale
        Pixels of the picture for each pixel of theirs.
    tolerance_px
        How far the path may run beside the outline, in pixels of the picture.

    Returns
    -------
    str
        Rings of fewer than three corners are left out: empty if nothing is left. To be filled by ``evenodd``.

    Examples
    --------
    >>> square = np.array([[1, 0], [3, 0], [3, 2], [1, 2], [1, 0]], float)
    >>> draw_path([[square]], scale=1.0, tolerance_px=0.5)
    'M4 0l8 0 0 8-8 0z'
    """
    return "".join(
        _draw_ring(approximate_polygon(ring * scale, tolerance_px)) for polygon in polygons for ring in polygon
    )


def _draw_ring(corners: NDArray[np.float64]) -> str:
    points = np.rint(corners[:-1] * STEPS_PER_PX).astype(int)
    if len(points) < 3:
        return ""
    steps = np.diff(points, axis=0).ravel().tolist()
    written = "".join(f" {step}" if step >= 0 else str(step) for step in steps).lstrip()
    return f"M{points[0, 0]} {points[0, 1]}l{written}z"
