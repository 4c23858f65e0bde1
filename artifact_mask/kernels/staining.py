"""Absorbing stain in brightfield, such as SA-beta-Gal, as optical density against the background."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifact_mask.metadata import OD_STEP

_LOWEST, _HIGHEST = -200, 599
"""Steps of density that are told apart: a thousandth of the light, and ten times the light."""


def optical_density(image: NDArray[np.generic], background: NDArray[np.float32]) -> NDArray[np.float32]:
    """Optical density ``-log10(image / background)``: 0 is background, 0.1 lets 79 % of the light through.

    Parameters
    ----------
    image, background
        ``(y, x)``, in the same units.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, dimensionless.

    Notes
    -----
    A black pixel, and a black background, count as one grey value: a black field is not stained.

    Examples
    --------
    >>> optical_density(np.array([[100, 10, 0]]), np.full((1, 3), 100, np.float32)).tolist()
    [[-0.0, 1.0, 2.0]]
    """
    density: NDArray[np.float32] = np.maximum(image, 1).astype(np.float32)
    density /= np.maximum(background, np.float32(1))
    # NumPy computes this logarithm many pixels at a time, and the decimal one pixel by pixel.
    np.log(density, out=density)
    density *= np.float32(-1 / np.log(10))
    return density


def density_steps(density: NDArray[np.floating]) -> NDArray[np.int32]:
    """Find the number of the step of :data:`artifact_mask.metadata.OD_STEP` that each density reaches.

    Examples
    --------
    >>> density_steps(np.array([0.0, 0.0049, 0.08, -0.001])).tolist()
    [0, 0, 16, -1]
    """
    # A hair more, so that what is a multiple but for rounding reaches it.
    steps: NDArray[np.floating] = np.floor(np.asarray(density) * np.float32(1 / OD_STEP) + np.float32(1e-4))
    numbers: NDArray[np.int32] = np.clip(steps, _LOWEST, _HIGHEST).astype(np.int32)
    return numbers


def step_of(density: float) -> int:
    """Find the number of the step of a density that is a multiple of a step."""
    return round(density / OD_STEP)


@dataclass(frozen=True, eq=False)
class DensityHistogram:
    """How many pixels (or cells) have which optical density.

    Attributes
    ----------
    counts
        ``(800,)`` int64, by step from -1 to 2.995.
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, density: NDArray[np.floating]) -> "DensityHistogram":
        """Count densities, of any shape; NaN are left out."""
        steps = density_steps(density[np.isfinite(density)])
        return cls(np.bincount(steps.ravel() - _LOWEST, minlength=_HIGHEST - _LOWEST + 1).astype(np.int64))

    @classmethod
    def total(cls, histograms: Iterable["DensityHistogram"]) -> "DensityHistogram":
        """Sum of histograms, in any order."""
        counts = np.zeros(_HIGHEST - _LOWEST + 1, np.int64)
        for histogram in histograms:
            counts += histogram.counts
        return cls(counts)

    @classmethod
    def unpack(cls, packed: list[int]) -> "DensityHistogram":
        """Undo :meth:`pack`."""
        counts = np.zeros(_HIGHEST - _LOWEST + 1, np.int64)
        if packed:
            first = packed[0] - _LOWEST
            counts[first : first + len(packed) - 1] = packed[1:]
        return cls(counts)

    def pack(self) -> list[int]:
        """Write the first step that has any, and the counts from it on to the last that has any.

        Examples
        --------
        >>> DensityHistogram.of(np.array([0.01, 0.021, 0.02])).pack()
        [2, 1, 0, 2]
        """
        filled = np.flatnonzero(self.counts)
        if not filled.size:
            return []
        return [int(filled[0]) + _LOWEST, *self.counts[filled[0] : filled[-1] + 1].tolist()]

    @property
    def n(self) -> int:
        """All that was counted."""
        return int(self.counts.sum())

    def __sub__(self, other: "DensityHistogram") -> "DensityHistogram":
        return DensityHistogram(self.counts - other.counts)

    def above(self, threshold: float) -> tuple[int, float]:
        """Count what reaches a threshold, and sum its densities.

        Parameters
        ----------
        threshold
            Multiple of a step.

        Returns
        -------
        tuple[int, float]
            Number, and sum of densities; each counts as the middle of its step.

        Examples
        --------
        >>> DensityHistogram.of(np.array([0.05, 0.08, 0.1])).above(0.08)
        (2, 0.185)
        """
        first = max(step_of(threshold) - _LOWEST, 0)
        counts = self.counts[first:]
        middles = (np.arange(first, self.counts.size) + _LOWEST + 0.5) * OD_STEP
        return int(counts.sum()), round(float(counts @ middles), 6)

    def percentile(self, percent: float) -> float:
        """Smallest multiple of a step that at most ``100 - percent`` percent of what was counted reach; NaN of nothing.

        Examples
        --------
        >>> DensityHistogram.of(np.arange(100) / 1000).percentile(90)
        0.09
        """
        if not self.n:
            return float("nan")
        # How many reach each step, from above.
        reaching = self.counts[::-1].cumsum()[::-1]
        enough = np.flatnonzero(reaching <= self.n * (100 - percent) / 100)
        step = (int(enough[0]) if enough.size else self.counts.size) + _LOWEST
        return round(step * OD_STEP, 6)


def choose_threshold(histogram: DensityHistogram, method: Literal["otsu", "triangle"]) -> float:
    """Choose the optical density that parts stained from unstained pixels.

    Parameters
    ----------
    histogram
        Of the pixels outside of artifacts.
    method
        ``otsu`` finds the two classes with the least variance within; ``triangle`` the corner of a histogram with one
        peak and a long tail, which suits sparse stain better.

    Returns
    -------
    float
        Multiple of a step, at least one; NaN if there are no pixels, or all are alike.

    References
    ----------
    Otsu, IEEE Trans. SMC 9:62 (1979); Zack, Rogers and Latt, J. Histochem. Cytochem. 25:741 (1977); both as in
    scikit-image.

    Examples
    --------
    >>> two_classes = DensityHistogram.of(np.repeat([0.0, 0.01, 0.3, 0.31], 50))
    >>> 0.01 < choose_threshold(two_classes, "otsu") <= 0.3
    True
    """
    filled = np.flatnonzero(histogram.counts)
    if filled.size < 2:
        return float("nan")
    counts = histogram.counts[filled[0] : filled[-1] + 1]
    place = _otsu(counts) if method == "otsu" else _triangle(counts)
    # The threshold is the last step below; what reaches the next one is stained.
    step = int(filled[0]) + _LOWEST + place + 1
    return round(max(step, 1) * OD_STEP, 6)


def _otsu(counts: NDArray[np.int64]) -> int:
    from skimage.filters import threshold_otsu

    return int(threshold_otsu(hist=(counts, np.arange(counts.size))))


def _triangle(counts: NDArray[np.int64]) -> int:
    """Step below the corner towards the dark side: the farthest from the line between the peak and the last step."""
    peak = int(np.argmax(counts))
    if peak == counts.size - 1:
        return peak - 1
    x = np.arange(peak, counts.size) - peak
    height, width = counts[peak], counts.size - 1 - peak
    # Distance from the line, but for a factor.
    distance = height - x * (height / width) - counts[peak:]
    return peak + int(np.argmax(distance))
