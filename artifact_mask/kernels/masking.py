"""Take artifacts out of an image."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import inpaint_biharmonic

from artifact_mask.kernels.illumination import estimate_background
from artifact_mask.metadata import ArtifactFill

LARGEST_INPAINTED_PX = 20_000
"""Of an artifact; far from its rim nothing is known."""
MOST_INPAINTED_PX = 150_000
"""Of a field; they take about a second."""
_RIM_PX = 8
"""What is looked at around the artifacts."""


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
    Ali et al., Scientific Reports 12:11404 (2022), https://doi.org/10.1038/s41598-022-14703-y

    Examples
    --------
    >>> fill_with_median(np.array([[7, 8, 0]], np.uint16), np.array([[False, False, True]]))
    array([[7, 8, 7]], dtype=uint16)
    """
    masked = image.copy()
    if mask.any():
        masked[mask] = _median(image)
    return masked


def fill_with_background(
    image: NDArray[np.uint16], mask: NDArray[np.bool_], background: NDArray[np.float32]
) -> NDArray[np.uint16]:
    """Replace the masked pixels of an image by its local background.

    Parameters
    ----------
    image
        ``(y, x)`` uint16.
    mask
        ``(y, x)``; True where an artifact is.
    background
        ``(y, x)``, in grey values.

    Examples
    --------
    >>> image, mask = np.array([[7, 8, 0]], np.uint16), np.array([[False, False, True]])
    >>> fill_with_background(image, mask, np.array([[7.2, 7.6, 8.2]], np.float32))
    array([[7, 8, 8]], dtype=uint16)
    """
    filled = image.copy()
    filled[mask] = np.clip(np.rint(background[mask]), 0, np.iinfo(np.uint16).max)
    return filled


def inpaint(image: NDArray[np.uint16], mask: NDArray[np.bool_], background: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Replace the masked pixels of an image by a smooth surface that continues its surroundings.

    Parameters
    ----------
    image
        ``(y, x)`` uint16.
    mask
        ``(y, x)``; True where an artifact is.
    background
        ``(y, x)``, in grey values.

    Notes
    -----
    Artifacts of more than :data:`LARGEST_INPAINTED_PX` pixels become the local background, and of the others the
    largest, where all together have more than :data:`MOST_INPAINTED_PX`: the equations of so many take long. What is
    inpainted is solved at once, since thousands of specks one by one take a hundred times as long. An image that is all
    artifact becomes the background.

    References
    ----------
    Biharmonic inpainting as in scikit-image: Damelin and Hoang (2018), https://doi.org/10.1155/2018/3950312

    Examples
    --------
    >>> image = np.full((9, 9), 100, np.uint16)
    >>> mask = np.zeros((9, 9), bool)
    >>> mask[4, 4], image[4, 4] = True, 0
    >>> int(inpaint(image, mask, np.full((9, 9), 50, np.float32))[4, 4])
    100
    """
    filled = fill_with_background(image, mask, background)
    unknown = _choose_inpainted(mask)
    rows, columns = np.nonzero(unknown)
    if not rows.size:
        return filled
    window = tuple(slice(max(found.min() - _RIM_PX, 0), found.max() + 1 + _RIM_PX) for found in (rows, columns))
    inside = unknown[window]
    surface = inpaint_biharmonic(filled[window].astype(np.float64), inside)
    filled[window][inside] = np.clip(np.rint(surface[inside]), 0, np.iinfo(np.uint16).max)
    return filled


def blank(image: NDArray[np.uint16], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Make the masked pixels of an image ``(y, x)`` NaN.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``; uint16 has no NaN.

    Examples
    --------
    >>> blank(np.array([[7, 8]], np.uint16), np.array([[False, True]]))
    array([[ 7., nan]], dtype=float32)
    """
    blanked = image.astype(np.float32)
    blanked[mask] = np.nan
    return blanked


def fill_artifacts(
    fill: ArtifactFill, image: NDArray[np.uint16], mask: NDArray[np.bool_], background: NDArray[np.float32] | None
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Replace the masked pixels of an image in one of the ways of this module.

    Parameters
    ----------
    fill
        Which; ``nan`` gives float32, the others uint16.
    image, mask, background
        ``(y, x)``. Without a background it is estimated where it is needed.
    """
    if fill == "median":
        return fill_with_median(image, mask)
    if fill == "nan":
        return blank(image, mask)
    light = estimate_background(image) if background is None else background
    return inpaint(image, mask, light) if fill == "inpaint" else fill_with_background(image, mask, light)


def _choose_inpainted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Artifacts that are small enough, the smallest first, as many as can be; none where there is nothing else."""
    if mask.all():
        return np.zeros_like(mask)
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    order = np.argsort(sizes, kind="stable")
    chosen = np.zeros(sizes.size, bool)
    chosen[order] = (sizes[order] <= LARGEST_INPAINTED_PX) & (np.cumsum(sizes[order]) <= MOST_INPAINTED_PX)
    chosen[0] = False
    inpainted: NDArray[np.bool_] = chosen[labels]
    return inpainted


def _median(image: NDArray[np.uint16]) -> int:
    """Median of uint16 pixels by their histogram, several times faster than by sorting; rounded down."""
    counts = np.cumsum(np.bincount(image.ravel()))
    low, high = np.searchsorted(counts, [(image.size - 1) // 2 + 1, image.size // 2 + 1])
    return int((low + high) // 2)
