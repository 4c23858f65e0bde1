"""Absorbing stain in brightfield, such as SA-beta-Gal."""

import numpy as np
from numpy.typing import NDArray


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
