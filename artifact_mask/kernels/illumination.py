"""Background of a brightfield field, and intensities relative to it."""

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

CONTRAST_UNIT = 0.2
"""Relative deviation from the background that counts as 1 after :func:`normalise_by_background`."""

DARKEST_BACKGROUND = 0.6
"""Lowest background, as a fraction of its upper quartile in the field."""


def estimate_background(image: NDArray[np.generic], *, block_px: int = 30, window: float = 0.5) -> NDArray[np.float32]:
    """Estimate the smooth background of one brightfield field of view by a wide median.

    The field is averaged over blocks, the blocks are replaced by the median of a window that spans ``window`` of the
    field, and the result is smoothed and interpolated back to full resolution.

    Parameters
    ----------
    image
        ``(y, x)``, any real dtype.
    block_px
        Side of the averaged blocks, in pixels.
    window
        Side of the median window, as a fraction of the field's side.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, in the units of ``image``.

    Notes
    -----
    Objects that fill less than half of the window do not bend the background: cells, crystals and defocused blobs stay
    visible against it. A field covered for more than half has no background to estimate; its own median is returned
    there, but never less than 0.6 of the field's upper quartile: a black well edge is not its own background. The
    whole field is the neighbourhood, so that the kernel cannot be cut into tiles.

    Examples
    --------
    >>> field = np.full((120, 120), 1000, np.uint16)
    >>> field[40:60, 40:60] = 100
    >>> background = estimate_background(field)
    >>> bool(np.allclose(background, 1000))
    True
    """
    means = _block_means(np.asarray(image, dtype=np.float32), block_px)
    sizes = [max(1, round(window * n) // 2 * 2 + 1) for n in means.shape]
    coarse = _median_filter(means, sizes)
    # A wide well edge is darker than any shading: it must not become its own background.
    coarse = np.maximum(coarse, np.float32(DARKEST_BACKGROUND) * np.percentile(coarse, 75).astype(np.float32))
    coarse = ndimage.gaussian_filter(coarse, sigma=[n / 8 for n in sizes], mode="reflect")
    rows, columns = (_linear_interpolation(n_out, n_in) for n_out, n_in in zip(image.shape, coarse.shape, strict=True))
    background: NDArray[np.float32] = rows @ coarse @ columns.T
    return background


def normalise_by_background(
    image: NDArray[np.generic], background: NDArray[np.float32], *, contrast_unit: float = CONTRAST_UNIT
) -> NDArray[np.float32]:
    """Express a field as contrast against its background: ``(image / background - 1) / contrast_unit``.

    Parameters
    ----------
    image, background
        ``(y, x)``, in the same units.
    contrast_unit
        Relative deviation that counts as 1; a network wants the one that it was trained with.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, dimensionless; 0 is background, -1 is darker by one unit.

    Examples
    --------
    >>> normalise_by_background(np.array([[80, 100, 120]]), np.full((1, 3), 100, np.float32)).round(3)
    array([[-1.,  0.,  1.]], dtype=float32)
    """
    # (image / background - 1) / unit in as few passes as possible. Looking for the minimum costs a tenth of np.maximum.
    units = background * np.float32(contrast_unit)
    darkest = np.float32(1e-6 * contrast_unit)
    if units.min() < darkest:
        np.maximum(units, darkest, out=units)
    contrast = image.astype(np.float32)
    contrast /= units
    contrast -= np.float32(1 / contrast_unit)
    return contrast


def _block_means(image: NDArray[np.float32], block_px: int) -> NDArray[np.float32]:
    """Average ``(y, x)`` over blocks that divide each side as evenly as whole pixels allow."""
    for _ in range(2):
        n_blocks = max(1, round(image.shape[0] / block_px))
        edges = np.linspace(0, image.shape[0], n_blocks + 1).round().astype(np.intp)
        # Block by block: whole rows add up in a third of the time that np.add.reduceat takes.
        sums = [image[start:stop].sum(axis=0) / np.float32(stop - start) for start, stop in pairwise(edges)]
        image = np.stack(sums).T
    return image


def _median_filter(image: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    """Median of a window of odd sides, the image mirrored at its borders.

    The windows span half of a small image. Partitioning each is exact, and takes a fifth of SciPy's time.
    """
    padded = np.pad(image, [(size // 2, size // 2) for size in sizes], mode="symmetric")
    middle = sizes[0] * sizes[1] // 2
    filtered = np.empty_like(image)
    # Row by row, since all windows of a large image would fill the memory.
    for row, windows in zip(filtered, sliding_window_view(padded, sizes), strict=True):
        row[:] = np.partition(windows.reshape(row.size, -1), middle, axis=1)[:, middle]
    return filtered


def _linear_interpolation(n_out: int, n_in: int) -> NDArray[np.float32]:
    """Matrix ``(n_out, n_in)`` that interpolates block centres linearly, constant beyond the outermost ones."""
    position = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    left = np.minimum(position.astype(np.intp), max(n_in - 2, 0))
    weight = (position - left).astype(np.float32)
    matrix = np.zeros((n_out, n_in), np.float32)
    row = np.arange(n_out)
    matrix[row, np.minimum(left + 1, n_in - 1)] = weight
    matrix[row, left] += 1 - weight
    return matrix
