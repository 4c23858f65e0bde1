"""Nuclei in a fluorescence channel, and cells as what lies near them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import h_maxima
from skimage.segmentation import expand_labels, watershed

from artifact_mask.kernels.illumination import estimate_background

_MAD = 1.4826
"""Standard deviation of normal noise over its median absolute deviation."""
_LEAST_WAIST_PX = 0.75
"""What is less is the steps of the pixels."""


@dataclass(frozen=True)
class NucleusSearch:
    """What counts as a nucleus.

    Attributes
    ----------
    min_area_um2, max_area_um2
        Smaller and larger objects are none.
    blur_um
        Standard deviation of the Gaussian that noise is smoothed with.
    split_um
        Two middles are those of two nuclei if the waist between them is narrower than the thinner one by so much, at
        half its width.
    least_solidity
        Objects that fill so much of their convex hull are one nucleus.
    least_noise
        How many standard deviations of the background a nucleus stands out at least.
    """

    min_area_um2: float = 25.0
    max_area_um2: float = 2000.0
    blur_um: float = 0.5
    split_um: float = 0.25
    least_solidity: float = 0.97
    least_noise: float = 5.0


def segment_nuclei(image: NDArray[np.generic], *, pixel_size_um: float, search: NucleusSearch) -> NDArray[np.int32]:
    """Find nuclei: smooth, subtract the background, threshold, split what touches, cut each at half its height.

    Parameters
    ----------
    image
        ``(y, x)``: nuclei are bright.
    pixel_size_um
        Side of a pixel.
    search
        What counts as a nucleus.

    Returns
    -------
    NDArray[np.int32]
        ``(y, x)``: nuclei from 1, in the order of their first pixels; those at the border too.

    Notes
    -----
    The first threshold is half of Otsu's of the square roots, so that faint nuclei beside bright ones are found; each
    object's edge is then where it has half of its own brightness, which is where the edge of a blurred disk is. Objects
    that are not convex are split along the waists of their distance transform. The background is that of the whole
    field, so that the kernel cannot be cut into tiles.

    Examples
    --------
    >>> y, x = np.mgrid[:60, :80]
    >>> image = 100 + 900 * (np.hypot(y - 30, x - 25) < 9) + 900.0 * (np.hypot(y - 30, x - 42) < 9)
    >>> nuclei = segment_nuclei(image, pixel_size_um=0.5, search=NucleusSearch())
    >>> int(nuclei.max()), int(nuclei[30, 25]), int(nuclei[30, 42])
    (2, 1, 2)
    """
    light = np.asarray(image, np.float32)
    light = ndimage.gaussian_filter(light - estimate_background(light), search.blur_um / pixel_size_um)
    noise = _MAD * float(np.median(np.abs(light - np.median(light))))
    # A nucleus is brighter by one grey value at least: a field that is all the same has rounding errors.
    lowest = max(search.least_noise * noise, 1.0)
    if light.max() <= lowest:
        return np.zeros(image.shape, np.int32)
    first = max(lowest, 0.5 * float(threshold_otsu(np.sqrt(np.maximum(light, 0)))) ** 2)
    objects = label(ndimage.binary_fill_holes(light > first), connectivity=1)
    pixel_um2 = pixel_size_um**2
    found = np.zeros(image.shape, np.int32)
    number = 0
    for region in regionprops(objects):
        if region.area * pixel_um2 < search.min_area_um2:
            continue
        box = region.slice
        for nucleus in _split(region.image, region.solidity, light[box], pixel_size_um=pixel_size_um, search=search):
            if search.min_area_um2 <= np.count_nonzero(nucleus) * pixel_um2 <= search.max_area_um2:
                number += 1
                found[box][nucleus] = number
    return found


def expand_to_cells(nuclei: NDArray[np.int32], *, pixel_size_um: float, reach_um: float) -> NDArray[np.int32]:
    """Take the pixels within ``reach_um`` of a nucleus for its cell; those near two are the nearer one's.

    Parameters
    ----------
    nuclei
        ``(y, x)``; 0 is none.
    pixel_size_um
        Side of a pixel.
    reach_um
        How far a cell reaches from its nucleus.

    Returns
    -------
    NDArray[np.int32]
        ``(y, x)``: each cell with the number of its nucleus.

    Examples
    --------
    >>> expand_to_cells(np.array([[0, 1, 0, 0, 2]], np.int32), pixel_size_um=0.5, reach_um=0.5).tolist()
    [[1, 1, 1, 2, 2]]
    """
    cells: NDArray[np.int32] = expand_labels(nuclei, reach_um / pixel_size_um)
    return cells


def _split(
    shape: NDArray[np.bool_],
    solidity: float,
    light: NDArray[np.float32],
    *,
    pixel_size_um: float,
    search: NucleusSearch,
) -> list[NDArray[np.bool_]]:
    """Nuclei of one object ``(y, x)`` in its box, each cut at half of its own brightness."""
    parts = shape.astype(np.int32)
    if solidity < search.least_solidity:
        padded = np.pad(shape, 1)  # the border of the field is no waist
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(padded), 0.5 / pixel_size_um * 0.5)
        waist_px = max(search.split_um / pixel_size_um, _LEAST_WAIST_PX)
        markers = label(h_maxima(depth, waist_px) > 0, connectivity=2)
        parts = watershed(-depth, markers, mask=padded)[1:-1, 1:-1]
    nuclei = []
    for number in range(1, int(parts.max()) + 1):
        part = parts == number
        if not part.any():
            continue
        height = float(np.percentile(light[part], 90))
        core = part & (light > height / 2)
        pieces = label(core, connectivity=1)
        core = pieces == np.argmax(np.bincount(pieces[core], minlength=2)) if core.any() else core
        # A hole in one nucleus must not swallow its neighbour.
        nuclei.append(ndimage.binary_fill_holes(core) & part)
    return nuclei
