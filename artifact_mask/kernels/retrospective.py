"""The shading that many fields have in common, found from these fields alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import special

DEGREES = (2, 4, 6, 8)
"""Degrees of the surface that are tried; 0, no shading at all, is tried too."""
FEWEST_FIELDS = 3
GRID = 36
"""Blocks a side that fields are reduced to."""
FOREGROUND_QUANTILE = 0.2
"""Of the pixels of a block: what is background where some of it is bright cells."""

_TUKEY = 4.685
_ROUNDS = 30
_MAD_TO_SD = 1.4826
_CONFIDENCE = 0.95
_LEAST_GAIN = 0.95
"""Of the variation that a simpler surface leaves, a finer one must leave less than this share."""


@dataclass(frozen=True, eq=False)
class Shading:
    """Smooth surface: the exponential of a sum of Legendre polynomials of the position.

    Attributes
    ----------
    coefficients
        ``(n, n)`` float64: of ``P_i(v) P_j(u)``, where ``v`` and ``u`` run from -1 to 1 along y and x.
    """

    coefficients: NDArray[np.float64]

    def evaluate(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Flat field ``(y, x)`` float32 of mean 1."""
        y, x = (_terms(n, len(self.coefficients)) for n in shape)
        surface = np.exp(y @ self.coefficients @ x.T)
        flat: NDArray[np.float32] = (surface / surface.mean()).astype(np.float32)
        return flat


@dataclass(frozen=True, eq=False)
class Estimate:
    """Shading of a channel, and how much it explains.

    Attributes
    ----------
    shading
        What was found; flat if no surface leaves held-out fields flatter than they are.
    degree
        Of its polynomials; 0 for flat.
    before, after
        ``(n,)`` variation (robust standard deviation over median) of each field's background, as it is and divided by
        what was found **without** that field; without its share of the fields, to be precise.
    """

    shading: Shading
    degree: int
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @property
    def is_sure(self) -> bool:
        """Whether held-out fields are flatter by more than chance: one-sided paired t-test of the logarithms, 95 %.

        A few fields may agree by accident. A flat one is sure: it changes nothing.
        """
        if not self.degree:
            return True
        least = np.finfo(np.float64).tiny
        gain = np.log(np.maximum(self.before, least) / np.maximum(self.after, least))
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        return bool(gain.mean() > special.stdtrit(len(gain) - 1, _CONFIDENCE) * error)


def reduce_to_blocks(image: NDArray[np.number[Any]], *, quantile: float = 0.5, grid: int = GRID) -> NDArray[np.float32]:
    """Quantile of the pixels of each block of an image.

    Parameters
    ----------
    image
        ``(y, x)``, of any size.
    quantile
        0.5 where objects are darker and brighter than the background, :data:`FOREGROUND_QUANTILE` where they are
        brighter.
    grid
        Blocks a side, if the image has as many pixels.

    Returns
    -------
    NDArray[np.float32]
        ``(grid, grid)``.

    Examples
    --------
    >>> reduce_to_blocks(np.arange(16).reshape(4, 4), grid=2)
    array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    """
    rows, columns = (np.array_split(np.arange(n), min(grid, n)) for n in image.shape)
    return np.array(
        [[np.quantile(image[r[0] : r[-1] + 1, c[0] : c[-1] + 1], quantile) for c in columns] for r in rows], np.float32
    )


def estimate_shading(fields: NDArray[np.float32]) -> Estimate:
    """Find the shading that fields have in common.

    Parameters
    ----------
    fields
        ``(n, y, x)``, reduced to blocks, :data:`FEWEST_FIELDS` at least; not positive where nothing is known.

    Raises
    ------
    ValueError
        If there are fewer fields.

    Notes
    -----
    The logarithm of a field is its own level, plus the surface, plus what cells, debris and well edges add or take,
    which is large in few blocks and counts less the larger it is (Tukey's biweight, iterated). The degree of the
    surface is the one that leaves fields flattest that had no part in it; with few fields that is a low one. What the
    camera adds to every pixel in the dark is part of the surface, and makes that of a faint channel too flat.

    References
    ----------
    Peng et al., Nat. Commun. 8:14836 (2017), https://doi.org/10.1038/ncomms14836, for the idea: a common profile, a
    level for each image, and a sparse rest.

    Examples
    --------
    >>> u = np.linspace(-1, 1, 12)
    >>> slope = (1 + 0.2 * u)[None, None, :] * np.array([900.0, 1000.0, 1100.0])[:, None, None]
    >>> found = estimate_shading(np.repeat(slope, 12, axis=1).astype(np.float32))
    >>> bool(np.abs(found.shading.evaluate((1, 12)) - (1 + 0.2 * u)).max() < 0.01)
    True
    """
    if len(fields) < FEWEST_FIELDS:
        raise ValueError(f"there are {len(fields)} fields, expected at least {FEWEST_FIELDS}")
    before = _variation(fields)
    best, after = 0, before
    for degree in DEGREES:
        left = _hold_out(fields, degree)
        if np.median(left) >= _LEAST_GAIN * np.median(after):
            continue
        best, after = degree, left
    return Estimate(fit_shading(fields, best), best, before, after)


def fit_shading(fields: NDArray[np.float32], degree: int) -> Shading:
    """Fit the surface of a degree to fields ``(n, y, x)``; see :func:`estimate_shading`."""
    n = degree + 1
    orders = [(i, j) for i in range(n) for j in range(n - i) if i + j > 0]
    coefficients = np.zeros((n, n))
    if not orders:
        return Shading(coefficients)
    known = fields > 0
    logs = np.log(np.where(known, fields, 1)).astype(np.float64)
    y, x = (_terms(size, n) for size in fields.shape[1:])
    basis = np.stack([np.outer(y[:, i], x[:, j]).ravel() for i, j in orders], axis=1)
    surface = np.zeros(fields.shape[1:])
    level = np.array([np.median(log[k]) if k.any() else 0.0 for log, k in zip(logs, known, strict=True)])
    for _ in range(_ROUNDS):
        rest = logs - level[:, None, None] - surface
        weight = _biweight(rest, known)
        level += _mean(rest, weight, axis=(1, 2))
        rest = logs - level[:, None, None]
        total = weight.sum(axis=0).ravel()
        wanted = _mean(rest, weight, axis=0).ravel()
        root = np.sqrt(total)
        found, *_ = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)
        changed = (basis @ found).reshape(surface.shape)
        settled = np.abs(changed - surface).max() < 1e-6
        surface = changed
        if settled:
            break
    for (i, j), value in zip(orders, found, strict=True):
        coefficients[i, j] = value
    return Shading(coefficients)


def _hold_out(fields: NDArray[np.float32], degree: int) -> NDArray[np.float64]:
    """Variation of each field once divided by the surface of the others: of two halves, or of all but one of a few."""
    n_parts = 2 if len(fields) >= 4 * FEWEST_FIELDS else len(fields)
    part = np.arange(len(fields)) % n_parts
    left = np.empty(len(fields))
    for number in range(n_parts):
        held = part == number
        flat = fit_shading(fields[~held], degree).evaluate((fields.shape[1], fields.shape[2]))
        left[held] = _variation(fields[held] / flat)
    return left


def _variation(fields: NDArray[np.float32]) -> NDArray[np.float64]:
    """Robust standard deviation over median of each field's blocks."""
    return np.array([variation(field[field > 0]) for field in fields])


def variation(values: NDArray[np.floating]) -> float:
    """Robust coefficient of variation: 1.4826 x median absolute deviation / median; 0 of nothing.

    Examples
    --------
    >>> round(variation(np.array([9.0, 10.0, 11.0])), 5)
    0.14826
    """
    if not values.size:
        return 0.0
    centre = float(np.median(values))
    return float(_MAD_TO_SD * np.median(np.abs(values - centre)) / centre) if centre else 0.0


def _biweight(rest: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    spread = max(_MAD_TO_SD * float(np.median(np.abs(rest[known]))), 1e-5) if known.any() else 1.0
    share = np.clip(np.abs(rest) / (_TUKEY * spread), 0, 1)
    weight: NDArray[np.float64] = np.where(known, (1 - share**2) ** 2, 0.0)
    return weight


def _mean(
    values: NDArray[np.float64], weight: NDArray[np.float64], *, axis: int | tuple[int, int]
) -> NDArray[np.float64]:
    """Weighted mean; 0 where there is no weight."""
    total = weight.sum(axis=axis)
    mean: NDArray[np.float64] = (values * weight).sum(axis=axis) / np.where(total > 0, total, 1)
    return mean


def _terms(n_pixels: int, n_terms: int) -> NDArray[np.float64]:
    """Legendre polynomials ``(n_pixels, n_terms)`` at the centres of the pixels, from -1 to 1 over the image."""
    position = (np.arange(n_pixels) + 0.5) * (2 / n_pixels) - 1
    terms: NDArray[np.float64] = legendre.legvander(position, n_terms - 1)
    return terms


def spread_evenly(n: int, wanted: int) -> list[int]:
    """Choose some of ``n`` places at random, the same each time, so that no pattern of the plate is followed."""
    return sorted(np.random.default_rng(0).permutation(n)[:wanted].tolist())
