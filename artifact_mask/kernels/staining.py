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
