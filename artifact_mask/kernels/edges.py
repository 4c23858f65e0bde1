"""Where a field of view has detail that an artifact may be made of: edges, and darkness."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DARKEST = 2.5
"""Contrast below the background that is as dark as it counts: half of the
background's light."""


def edge_map(image: NDArray[np.generic], *, dilation_px: int = 5, saturated: float = 0.001) -> NDArray[np.float32]:
    """Map the edges of a field: gradient magnitude, dilated, normalised.

    Parameters
    ----------
    image
        ``(y, x)``, any real dtype and unit.
    dilation_px
        Side of the square that the magnitude is dilated by.
    saturated
        Share of the pixels, those with the strongest edges, that all become 1: a single bright crystal must not take
        the range from everything else. With 0 the strongest edge alone is 1, as published.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, 0..1; all 0 for a constant image.

    Notes
    -----
    Depth of the neighbourhood: ``1 + dilation_px // 2`` pixels, apart from the normalisation, which is
    over the whole image.

    References
    ----------
    Ali et al., Scientific Reports 12:11404 (2022), https://doi.org/10.1038/s41598-022-14703-y

    Examples
    --------
    >>> image = np.zeros((5, 9), np.float32)
    >>> image[:, 6:] = 1
    >>> edge_map(image, dilation_px=1, saturated=0)[2].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    """
    pixels = np.asarray(image, np.float32)
    magnitude = np.hypot(ndimage.sobel(pixels, axis=0), ndimage.sobel(pixels, axis=1))
    magnitude = ndimage.maximum_filter(magnitude, size=dilation_px)
    low = magnitude.min()
    high = np.quantile(magnitude, 1 - saturated) if saturated else magnitude.max()
    if high <= low:
        # Fewer pixels have an edge than may be saturated.
        high = magnitude.max()
    if high <= low:
        return np.zeros(magnitude.shape, np.float32)
    edges: NDArray[np.float32] = np.clip((magnitude - low) / (high - low), 0, 1).astype(np.float32)
    return edges


def darkness_map(
    contrast: NDArray[np.float32], *, darkest: float = DARKEST, dilation_px: int = 3
) -> NDArray[np.float32]:
    """Map how much darker than the background a field is: opaque debris inside, where it has no edge.

    Parameters
    ----------
    contrast
        ``(y, x)``, see :func:`artifact_mask.kernels.illumination.normalise_by_background`.
    darkest
        Contrast below zero that counts as 1.
    dilation_px
        Side of the square that it is dilated by.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, 0..1; 0 is background or brighter.

    Examples
    --------
    >>> darkness_map(np.array([[0.5, -1.0, -9.0]], np.float32), darkest=2.0, dilation_px=1).tolist()
    [[0.0, 0.5, 1.0]]
    """
    darkness = np.clip(contrast * np.float32(-1 / darkest), 0, 1)
    dilated: NDArray[np.float32] = ndimage.maximum_filter(darkness, size=dilation_px)
    return dilated
