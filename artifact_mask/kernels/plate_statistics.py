"""Statistics over the fields of a well, and over the wells of a plate."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 2000
MAD_TO_SD = 1.4826
"""Standard deviation of normal values over the median of their absolute deviations."""


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], *, percent: float = 95.0, seed: int | Sequence[int] = 0
) -> tuple[float, float]:
    """Confidence interval of a ratio of sums over fields, which are drawn with replacement.

    Parameters
    ----------
    numerators, denominators
        Of each field, such as stained and measured area.
    percent
        Of the resampled ratios that the interval holds.
    seed
        The same seed and fields, in the same order, give the same interval.

    Returns
    -------
    tuple[float, float]
        Lower and upper end; NaN for fewer than two fields, of which nothing is known about their spread.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13: the percentile interval.

    Examples
    --------
    >>> bootstrap_ratio([1, 1, 1], [10, 10, 10])
    (0.1, 0.1)
    """
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if above.size < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(above.size, size=(N_RESAMPLES, above.size))
    totals = below[drawn].sum(axis=1)
    ratios = above[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    if not ratios.size:
        return math.nan, math.nan
    low, high = np.percentile(ratios, [50 - percent / 2, 50 + percent / 2])
    return float(low), float(high)


def robust_z(values: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of values from the median of a reference, in units of its robust standard deviation.

    Parameters
    ----------
    values
        ``(n,)``; NaN stay NaN.
    reference
        ``(m,)``; NaN are left out.

    Returns
    -------
    NDArray[np.float64]
        ``(n,)``; NaN where the reference has fewer than two values, or no spread.

    References
    ----------
    Malo et al., Nat. Biotechnol. 24:167 (2006), https://doi.org/10.1038/nbt1186

    Examples
    --------
    >>> robust_z(np.array([3.0, 6.0]), np.array([2.0, 3.0, 4.0])).round(3).tolist()
    [0.0, 2.023]
    """
    centre, spread = _centre_and_spread(reference)
    scores: NDArray[np.float64] = (values - centre) / (spread or math.nan)
    return scores


def z_prime(positive: NDArray[np.float64], negative: NDArray[np.float64], *, robust: bool = False) -> float:
    """Z'-factor: how far two groups of control wells are apart; 1 is perfect, from 0.5 on an assay is called excellent.

    Parameters
    ----------
    positive, negative
        Of the control wells; NaN are left out.
    robust
        Whether medians and median absolute deviations take the place of means and standard deviations.

    Returns
    -------
    float
        At most 1; NaN where a group has fewer than two wells, or both have the same centre.

    References
    ----------
    Zhang, Chung and Oldenburg, J. Biomol. Screen. 4:67 (1999).

    Examples
    --------
    >>> round(z_prime(np.array([9.0, 10.0, 11.0]), np.array([0.0, 1.0, 2.0])), 3)
    0.333
    """
    groups = [group[np.isfinite(group)] for group in (positive, negative)]
    if min(group.size for group in groups) < 2:
        return math.nan
    if robust:
        (high, spread_high), (low, spread_low) = (_centre_and_spread(group) for group in groups)
    else:
        (high, spread_high), (low, spread_low) = ((g.mean(), g.std(ddof=1)) for g in groups)
    return float(1 - 3 * (spread_high + spread_low) / abs(high - low)) if high != low else math.nan


def _centre_and_spread(values: NDArray[np.float64]) -> tuple[float, float]:
    """Median and robust standard deviation; NaN for fewer than two values."""
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return math.nan, math.nan
    centre = float(np.median(finite))
    return centre, float(MAD_TO_SD * np.median(np.abs(finite - centre)))
