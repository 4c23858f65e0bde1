"""Vary tiles for training: turned, under another light, out of focus, and laid over each other."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from artifact_mask.kernels.illumination import CONTRAST_UNIT

_GAIN, _OFFSET = 0.15, 0.06
"""Standard deviations of the logarithm of the gain, and of the offset in units of contrast."""
_NOISE, _NOISE_CHANCE = 0.08, 0.3
"""Largest standard deviation of added noise, in units of contrast, and how often it is added."""
_FAINTEST_OVERLAY = 0.5
_SHADING = 0.04
"""Largest standard deviation of the shading's nodes, in units of contrast."""
_DEFOCUS_PX, _DEFOCUS_CHANCE = (0.4, 1.3), 0.25


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


def shade(tile: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Vary the illumination of a tile ``(y, x)``: a smooth surface through 3 x 3 random nodes is added."""
    nodes = rng.standard_normal((3, 3)) * rng.uniform(0, _SHADING)
    rows, columns = (_smooth_interpolation(n) for n in tile.shape)
    return tile + (rows @ nodes @ columns.T).astype(np.float32)


def defocus(tile: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Blur some tiles ``(y, x)`` a little."""
    if rng.random() >= _DEFOCUS_CHANCE:
        return tile
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(tile, rng.uniform(*_DEFOCUS_PX))
    return blurred


@cache
def _smooth_interpolation(n: int) -> NDArray[np.float64]:
    """Matrix ``(n, 3)`` of the parabola through three nodes."""
    x = np.linspace(-1, 1, n)
    return np.stack([x * (x - 1) / 2, 1 - x**2, x * (x + 1) / 2], axis=1)


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
