"""A coarse saliency map made fine, cut at a level, and what is left of a field shown alone."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.transform import resize

PUBLISHED_CUT = 0.059
"""Share of the range at which the published code cuts: 0.15 of a grey value that had gone through a colour map."""


def upsample(saliency: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate a coarse map ``(h, w)`` linearly to ``shape``, constant beyond the outermost cells' centres.

    Examples
    --------
    >>> upsample(np.array([[0, 1]], np.float32), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    fine: NDArray[np.float32] = resize(saliency, shape, order=1, mode="edge", anti_aliasing=False, preserve_range=True)
    return fine.astype(np.float32, copy=False)


def cut_level(refined: NDArray[np.float32], cut: float | None) -> float:
    """Value of a refined map above which there is artifact.

    Parameters
    ----------
    refined
        ``(y, x)``.
    cut
        Share of the map's range; None for Otsu's threshold.

    Returns
    -------
    float
        Infinite for a map without any range: nothing is above it.

    References
    ----------
    Otsu, IEEE Trans. Syst. Man Cybern. 9:62 (1979), https://doi.org/10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> cut_level(np.array([[1.0, 3.0]], np.float32), 0.25)
    1.5
    """
    low, high = float(refined.min()), float(refined.max())
    if high <= low:
        return float("inf")
    return float(threshold_otsu(refined)) if cut is None else low + cut * (high - low)


def isolate(
    contrast: NDArray[np.float32], mask: NDArray[np.bool_], *, margin_px: int = 4, feather_px: int = 4
) -> NDArray[np.float32]:
    """Show some pixels of a field alone, on an empty background.

    Parameters
    ----------
    contrast
        ``(y, x)``; 0 is background.
    mask
        ``(y, x)``; what is shown.
    margin_px
        What is shown around the mask.
    feather_px
        Over how many further pixels it fades away: a hard border would be an edge of its own.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``.

    Examples
    --------
    >>> mask = np.array([[True, False, False, False, False]])
    >>> isolate(np.ones((1, 5), np.float32), mask, margin_px=1, feather_px=2).tolist()
    [[1.0, 1.0, 0.5, 0.0, 0.0]]
    """
    distance = ndimage.distance_transform_edt(~mask)
    visible = np.clip(1 - (distance - margin_px) / feather_px, 0, 1)
    shown: NDArray[np.float32] = (contrast * visible).astype(np.float32)
    return shown
