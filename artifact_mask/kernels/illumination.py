"""Background of a brightfield field, and intensities relative to it."""

import numpy as np
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
    coarse = ndimage.median_filter(means, size=sizes, mode="reflect")
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
    contrast = image.astype(np.float32)
    contrast /= np.maximum(background, np.float32(1e-6))
    contrast -= 1
    contrast /= np.float32(contrast_unit)
    return contrast


def _block_means(image: NDArray[np.float32], block_px: int) -> NDArray[np.float32]:
    """Average ``(y, x)`` over blocks that divide each side as evenly as whole pixels allow."""
    for axis in (0, 1):
        n_blocks = max(1, round(image.shape[axis] / block_px))
        edges = np.linspace(0, image.shape[axis], n_blocks + 1).round().astype(np.intp)
        widths = np.diff(edges).astype(np.float32)
        sums = np.add.reduceat(image, edges[:-1], axis=axis, dtype=np.float32)
        image = (sums / np.expand_dims(widths, 1 - axis)).astype(np.float32)
    return image


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
