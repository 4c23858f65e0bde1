"""What is counted in a plane, before any threshold of stain is known: counts that add up over planes and fields."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from artifact_mask.kernels.labels import object_areas
from artifact_mask.kernels.staining import DensityHistogram, optical_density

BLACK, WHITE = 0, 65535
"""Grey values at the ends of a camera's range."""


@dataclass(frozen=True, eq=False)
class PlaneCounts:
    """What is counted in a plane.

    Attributes
    ----------
    outside, inside
        Optical densities of the pixels outside of the artifacts, and inside.
    artifact_px
        ``(n,)`` pixels of each artifact.
    background
        Mean of the background, in grey values.
    clipped_fraction
        Share of the pixels at an end of the camera's range.
    """

    outside: DensityHistogram
    inside: DensityHistogram
    artifact_px: NDArray[np.int64]
    background: float
    clipped_fraction: float


def measure_plane(image: NDArray[np.uint16], background: NDArray[np.float32], labels: NDArray[np.int32]) -> PlaneCounts:
    """Count a plane's densities and artifacts.

    Parameters
    ----------
    image
        ``(y, x)`` uint16.
    background
        ``(y, x)``, in grey values.
    labels
        ``(y, x)``; 0 is no artifact.

    Examples
    --------
    >>> image = np.array([[100, 10, 100]], np.uint16)
    >>> counts = measure_plane(image, np.full((1, 3), 100, np.float32), np.array([[0, 0, 1]]))
    >>> counts.outside.pack()[0], counts.outside.n, counts.inside.n, counts.artifact_px.tolist()
    (0, 2, 1, [1])
    """
    density = optical_density(image, background)
    inside = DensityHistogram.of(density[labels > 0])
    return PlaneCounts(
        outside=DensityHistogram.of(density) - inside,
        inside=inside,
        artifact_px=object_areas(labels),
        background=float(background.mean()),
        clipped_fraction=float(np.count_nonzero((image == BLACK) | (image == WHITE))) / image.size,
    )
