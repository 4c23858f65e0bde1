"""Resolution levels of an image, each half as large as the one before."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)


def downsample_mean(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Halve a ``(y, x)`` uint16 image by the rounded mean of 2 x 2 pixels.

    Notes
    -----
    An odd last row or column is repeated, so that the result has ``ceil(n / 2)`` pixels a side.

    Examples
    --------
    >>> downsample_mean(np.array([[1, 3, 8], [1, 3, 8]], np.uint16))
    array([[2, 8]], dtype=uint16)
    """
    image = np.pad(image, [(0, n % 2) for n in image.shape], mode="edge") if any(n % 2 for n in image.shape) else image
    # Rows first: only what is left of them is read with a stride.
    rows = image[::2].astype(np.uint32)
    rows += image[1::2]
    total = rows[:, ::2] + rows[:, 1::2]
    total += 2
    total >>= 2
    return total.astype(np.uint16)


def downsample_known(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halve a ``(y, x)`` float32 image by the mean of those of 2 x 2 pixels that are not NaN; NaN where all are.

    Examples
    --------
    >>> downsample_known(np.array([[1, np.nan, np.nan], [3, np.nan, np.nan]], np.float32))
    array([[ 2., nan]], dtype=float32)
    """
    rows, columns = ((n + 1) // 2 for n in image.shape)
    padded = np.full((2 * rows, 2 * columns), np.nan, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    parts = padded.reshape(rows, 2, columns, 2)
    known = ~np.isnan(parts)
    n = known.sum(axis=(1, 3))
    total = np.where(known, parts, 0).sum(axis=(1, 3), dtype=np.float32)
    mean: NDArray[np.float32] = np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(np.float32)
    return mean


def downsample_nearest(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Halve a ``(y, x)`` label image by every second pixel: no label is invented.

    Examples
    --------
    >>> downsample_nearest(np.array([[1, 0, 2], [0, 0, 0]], np.int32))
    array([[1, 2]], dtype=int32)
    """
    return np.ascontiguousarray(labels[::2, ::2])


def build_pyramid(
    image: NDArray[Pixel], n_levels: int, downsample: Callable[[NDArray[Pixel]], NDArray[Pixel]]
) -> list[NDArray[Pixel]]:
    """Levels of an image, the full resolution first."""
    levels = [image]
    while len(levels) < n_levels:
        levels.append(downsample(levels[-1]))
    return levels


def pyramid_shapes(shape: tuple[int, int], *, smallest: int = 256) -> list[tuple[int, int]]:
    """Shapes ``(y, x)`` of the levels: halved until both sides fit into ``smallest`` pixels.

    Examples
    --------
    >>> pyramid_shapes((1080, 1080))
    [(1080, 1080), (540, 540), (270, 270), (135, 135)]
    """
    shapes = [shape]
    while max(shapes[-1]) > smallest:
        shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
    return shapes
