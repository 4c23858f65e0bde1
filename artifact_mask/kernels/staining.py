"""Absorbing stain in brightfield, such as SA-beta-Gal."""

import numpy as np
from numpy.typing import NDArray


def optical_density(image: NDArray[np.generic], background: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density against the background: ``-log10(image / background)``.

    Parameters
    ----------
    image, background
        ``(y, x)``, in the same units.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``; 0 is background, 0.1 lets 79 % of the light through.

    Notes
    -----
    A black pixel counts as one grey value, so that the result is finite.

    Examples
    --------
    >>> optical_density(np.array([[100, 10]]), np.full((1, 2), 100, np.float32))
    array([[0., 1.]], dtype=float32)
    """
    ratio = np.maximum(image, 1).astype(np.float32)
    ratio /= np.maximum(background, 1)
    np.log10(ratio, out=ratio)
    density: NDArray[np.float32] = np.float32(0) - ratio  # not -ratio, whose zeros are negative
    return density


def stained_fraction(density: NDArray[np.float32], mask: NDArray[np.bool_], *, threshold: float) -> float:
    """Fraction of the pixels outside of ``mask`` whose optical density reaches ``threshold``; NaN if none is left.

    Examples
    --------
    >>> stained_fraction(np.array([[0.0, 0.2, 0.9]]), np.array([[False, False, True]]), threshold=0.1)
    0.5
    """
    measured = mask.size - np.count_nonzero(mask)
    if measured == 0:
        return float("nan")
    return float(np.count_nonzero((density >= threshold) & ~mask) / measured)


def stained_fractions(
    image: NDArray[np.generic], background: NDArray[np.float32], mask: NDArray[np.bool_], *, threshold: float
) -> tuple[float, float]:
    """Fraction of the pixels whose optical density reaches ``threshold``: of all, and of those outside of ``mask``.

    The optical density is ``-log10(image / background)``: 0 is background, 0.1 lets 79 % of the light through.

    Parameters
    ----------
    image, background
        ``(y, x)``, in the same units.
    mask
        ``(y, x)``; True where an artifact is.
    threshold
        Optical density from which on a pixel counts as stained; positive.

    Returns
    -------
    tuple[float, float]
        0..1; NaN for the second if the mask leaves no pixel.

    Notes
    -----
    A black pixel counts as one grey value: a black field is not stained.

    Examples
    --------
    >>> image, mask = np.array([[100, 50, 50, 100]]), np.array([[False, False, True, True]])
    >>> stained_fractions(image, np.full((1, 4), 100, np.float32), mask, threshold=0.1)
    (0.5, 0.5)
    """
    # Grey values instead of densities: the logarithm of a million pixels takes longer than all the rest.
    limit = background * np.float32(10**-threshold)
    stained = image.astype(np.float32) <= limit
    if limit.min() < 1:
        stained &= limit >= 1
    n_unmasked = mask.size - int(np.count_nonzero(mask))
    outside = int(np.count_nonzero(stained & ~mask)) / n_unmasked if n_unmasked else float("nan")
    return int(np.count_nonzero(stained)) / mask.size, outside
