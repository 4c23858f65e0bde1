"""Flat fields that somebody else has measured: evaluated, and divided by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DARKEST_FLAT_FIELD = 0.1
"""Lowest flat field that is divided by; its mean is 1."""

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Flat field as a polynomial of the position in the image.

    Attributes
    ----------
    coefficients
        ``[n][j]`` is that of ``u**(n - j) * v**j``.
    origin, scale
        ``(x, y)``: ``u = (column - origin[0]) * scale[0]`` and ``v = (row - origin[1]) * scale[1]``, in pixels.
    shape
        ``(y, x)`` of the image that the pixels are counted in.
    """

    coefficients: tuple[tuple[float, ...], ...]
    origin: tuple[float, float]
    scale: tuple[float, float]
    shape: tuple[int, int]


def evaluate_polynomial(polynomial: Polynomial, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Evaluate a flat field at every pixel.

    Parameters
    ----------
    polynomial
        What to evaluate.
    shape
        ``(y, x)`` of the image. If it is not the polynomial's, as after another binning, the flat field is stretched
        over it.

    Returns
    -------
    NDArray[np.float32]
        ``(y, x)``, dimensionless, about 1 on average.

    Examples
    --------
    >>> slope = Polynomial(((1.0,), (0.5, 0.0)), origin=(1.0, 0.0), scale=(0.5, 0.5), shape=(1, 3))
    >>> evaluate_polynomial(slope, (1, 3))
    array([[0.75, 1.  , 1.25]], dtype=float32)
    """
    n = len(polynomial.coefficients)
    powers = np.zeros((n, n))
    for degree, row in enumerate(polynomial.coefficients):
        for j, coefficient in enumerate(row):
            powers[j, degree - j] = coefficient
    v = _powers(shape[0], polynomial.shape[0], polynomial.origin[1], polynomial.scale[1], n)
    u = _powers(shape[1], polynomial.shape[1], polynomial.origin[0], polynomial.scale[0], n)
    values: NDArray[np.float32] = (v @ powers).astype(np.float32) @ u.T.astype(np.float32)
    return values


def correct_flat_field(plane: NDArray[np.uint16], profile: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Divide an image by its flat field.

    Parameters
    ----------
    plane
        ``(y, x)`` uint16.
    profile
        ``(y, x)`` float32, dimensionless, 1 where the light is as bright as on average.

    Returns
    -------
    NDArray[np.uint16]
        ``(y, x)``, rounded, and clipped at 65535.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Where the flat field is less than 0.1, or no number, 0.1 takes its place: no objective loses nine tenths of the
    light at the corner, but a polynomial may swing there, and would amplify the camera's noise without limit or turn
    the image over.

    Examples
    --------
    >>> correct_flat_field(np.array([[100, 60000, 7]], np.uint16), np.array([[0.5, 0.5, -3.0]], np.float32))
    array([[  200, 65535,    70]], dtype=uint16)
    """
    if plane.shape != profile.shape:
        raise ValueError(f"The image is {plane.shape}, its flat field {profile.shape}; they must be the same.")
    # The comparison is false for NaN, too. Looking for the minimum is cheaper than np.fmax.
    guarded = profile.size > 0 and not profile.min() >= DARKEST_FLAT_FIELD
    corrected = np.empty_like(plane)
    # A few rows at a time stay in the processor's cache.
    for start in range(0, len(plane), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        divisor = np.fmax(profile[rows], np.float32(DARKEST_FLAT_FIELD)) if guarded else profile[rows]
        values = plane[rows].astype(np.float32)
        values /= divisor
        np.minimum(values, np.float32(65535), out=values)
        np.rint(values, out=values)
        corrected[rows] = values
    return corrected


def _powers(n_pixels: int, n_given: int, origin: float, scale: float, n: int) -> NDArray[np.float64]:
    """Powers 0 to ``n - 1`` of the scaled position of each pixel's centre, ``(n_pixels, n)``."""
    position = (np.arange(n_pixels, dtype=np.float64) + 0.5) * (n_given / n_pixels) - 0.5
    scaled: NDArray[np.float64] = (position - origin) * scale
    return scaled[:, np.newaxis] ** np.arange(n)
