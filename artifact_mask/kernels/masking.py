"""Take artifacts out of an image."""

import numpy as np
from numpy.typing import NDArray


def fill_with_median(image: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Replace the masked pixels of an image by the median of the whole image.

    Parameters
    ----------
    image
        ``(y, x)`` uint16.
    mask
        ``(y, x)``; True where an artifact is.

    Returns
    -------
    NDArray[np.uint16]
        A copy of ``image``; outside of the mask it is unchanged.

    Notes
    -----
    The median includes the artifacts, as in the published method: they cover a few percent of a field and hardly move
    it.

    References
    ----------
    Ali et al., Scientific Reports 12:11404 (2022), https://doi.org/10.1038/s41598-022-14824-y

    Examples
    --------
    >>> fill_with_median(np.array([[7, 8, 0]], np.uint16), np.array([[False, False, True]]))
    array([[7, 8, 7]], dtype=uint16)
    """
    masked = image.copy()
    if mask.any():
        masked[mask] = _median(image)
    return masked


def _median(image: NDArray[np.uint16]) -> int:
    """Median of uint16 pixels by their histogram, several times faster than by sorting; rounded down."""
    counts = np.cumsum(np.bincount(image.ravel()))
    low, high = np.searchsorted(counts, [(image.size - 1) // 2 + 1, image.size // 2 + 1])
    return int((low + high) // 2)
