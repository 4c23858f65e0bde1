"""What is known of a field to the pixel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BACKGROUND, ARTIFACT, IGNORE = 0, 1, 255
"""Values of a truth: whoever learns or judges leaves out the pixels to ignore."""


class TruthField(NamedTuple):
    """A normalised field ``(y, x) float32`` and its truth ``(y, x) uint8``: 0 background, 1 artifact, 255 ignore."""

    contrast: NDArray[np.float32]
    truth: NDArray[np.uint8]
