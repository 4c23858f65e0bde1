"""Planes as a person sees them: 0 is black, 1 is white."""

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize_local_mean

from artifact_mask.kernels.illumination import estimate_background

DARKEST, BRIGHTEST = 0.55, 1.25
"""What is shown as black and as white, as a fraction of the background."""
FLUORESCENCE_PERCENTILES = (1.0, 99.8)
"""What is shown as black and as white where the background is dark."""


def display_range(pixels: NDArray[np.uint16], *, dark: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Grey values that are shown as black and as white at each place.

    Parameters
    ----------
    pixels
        ``(y, x)``.
    dark
        Whether the background is, as in fluorescence.

    Returns
    -------
    tuple
        Black and white, each to be broadcast to ``(y, x)``.
    """
    if dark:
        low, high = np.percentile(pixels, FLUORESCENCE_PERCENTILES)
        return np.asarray(low, np.float32), np.asarray(max(high, low + 1), np.float32)
    background = np.maximum(estimate_background(pixels), np.float32(1e-6))
    return background * np.float32(DARKEST), background * np.float32(BRIGHTEST)


def display(pixels: NDArray[np.uint16], *, dark: bool) -> NDArray[np.float32]:
    """Map a plane ``(y, x)`` to what is shown; there may be values below 0 and above 1.

    Examples
    --------
    >>> field = np.full((120, 120), 1000, np.uint16)
    >>> round(float(display(field, dark=False)[0, 0]), 3)
    0.643
    """
    return shade(pixels, *display_range(pixels, dark=dark))


def shade(
    pixels: NDArray[np.uint16] | NDArray[np.float32], black: NDArray[np.float32], white: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Map a plane ``(y, x)`` to what is shown in a range that :func:`display_range` gave."""
    return np.asarray((pixels - black) / (white - black), np.float32)


def shrink(image: NDArray[np.float32], longest_px: int) -> NDArray[np.float32]:
    """Average ``(y, x)`` over areas until the longest side has so many pixels; a smaller image stays as it is."""
    scale = longest_px / max(image.shape)
    if scale >= 1:
        return image
    shape = tuple(max(1, round(n * scale)) for n in image.shape)
    return np.asarray(resize_local_mean(image, shape, preserve_range=True), np.float32)


def to_grey(shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values ``(y, x)`` of what is shown, for a picture.

    Examples
    --------
    >>> to_grey(np.array([[-0.5, 0.5, 2.0]], np.float32))
    array([[  0, 128, 255]], dtype=uint8)
    """
    return np.asarray(np.clip(shown, 0, 1) * 255 + 0.5, np.uint8)
