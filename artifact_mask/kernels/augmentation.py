"""Vary tiles for training: turned, under another light, and laid over each other."""

import numpy as np
from numpy.typing import NDArray

from artifact_mask.kernels.illumination import CONTRAST_UNIT

_GAIN, _OFFSET = 0.15, 0.06
"""Standard deviations of the logarithm of the gain, and of the offset in units of contrast."""
_NOISE, _NOISE_CHANCE = 0.08, 0.3
"""Largest standard deviation of added noise, in units of contrast, and how often it is added."""
_FAINTEST_OVERLAY = 0.5


def augment_tile(
    tile: NDArray[np.float32], rng: np.random.Generator, *, clean: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Vary a tile in every way that leaves its label true.

    Parameters
    ----------
    tile
        ``(y, x)`` contrast; square, so that it can be turned.
    rng
        Decides everything.
    clean
        ``(y, x)``, a clean tile to lay over it: two clean tiles stay clean, and an artifact stays one over anything.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``.
    """
    varied = turn(tile, rng)
    if clean is not None:
        varied = overlay(varied, turn(clean, rng) * np.float32(rng.uniform(_FAINTEST_OVERLAY, 1)))
    return relight(varied, rng)


def turn(tile: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Show a tile ``(y, x)`` in one of its eight orientations, each as likely; a view."""
    turned: NDArray[np.float32] = np.rot90(tile, int(rng.integers(4)))
    return turned[:, ::-1] if rng.random() < 0.5 else turned


def relight(tile: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Vary gain and offset of a tile ``(y, x)``, and sometimes add noise."""
    gain, offset = np.exp(rng.normal(0, _GAIN)), rng.normal(0, _OFFSET)
    lit = tile * np.float32(gain) + np.float32(offset)
    if rng.random() < _NOISE_CHANCE:
        lit += rng.standard_normal(tile.shape, np.float32) * np.float32(rng.uniform(0, _NOISE))
    return np.ascontiguousarray(lit, np.float32)


def overlay(
    tile: NDArray[np.float32], other: NDArray[np.float32], *, contrast_unit: float = CONTRAST_UNIT
) -> NDArray[np.float32]:
    """Lay one tile over another, as transparent objects lie over each other: transmissions multiply.

    Parameters
    ----------
    tile, other
        ``(y, x)`` contrast, ``(image / background - 1) / contrast_unit``.
    contrast_unit
        Relative deviation from the background that counts as 1.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)`` contrast.

    Examples
    --------
    >>> overlay(np.full((1, 2), -2.5, np.float32), np.array([[0, -2.5]], np.float32))
    array([[-2.5 , -3.75]], dtype=float32)
    """
    unit = np.float32(contrast_unit)
    return tile + other + unit * tile * other
