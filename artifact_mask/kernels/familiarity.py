"""Whether fields look like those that a model was trained on: a few cheap statistics, and the range that they had."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FLAT = 0.002
"""Contrast below which neighbours count as equal: noise makes few such pairs, clipping and few grey levels many."""

TEXTURE = ("roughness", "flat_fraction", "sharpness")
"""Statistics that depend on the size of a pixel."""

_STRIDE_PX = 5
_BLOCK_PX = 4
_EVERY = 3
"""Of the rows of blocks, one in so many is looked at."""
_ENOUGH_FIELDS = 40
"""From so many on a percentile of 2.5 leaves a field out."""


class Unfamiliar(NamedTuple):
    """A statistic that is not what the training fields had.

    Attributes
    ----------
    name
        As :func:`describe_field` calls it.
    found
        Median over the fields.
    low, high
        Range over the training fields.
    """

    name: str
    found: float
    low: float
    high: float


class _Margin(NamedTuple):
    """How far a range is widened: divided and multiplied, then moved; an infinite one leaves that side open."""

    below: float
    above: float
    is_factor: bool = True
    plus: float = 0.0


# Chosen on 20 real and 10 simulated fields: neither kind, nor half of the real ones, warns against the ranges of the
# other, and the same fields inverted, with 8 bits, clipped at their 80th percentile, with 8 % noise, or blurred by
# 8 px do.
_MARGINS = {
    "contrast_p01": _Margin(2, math.inf),
    "contrast_p99": _Margin(2, 2),
    "contrast_asymmetry": _Margin(0.25, 0.25, is_factor=False),
    "roughness": _Margin(2, 2),
    "flat_fraction": _Margin(math.inf, 3),
    "sharpness": _Margin(1.25, math.inf),
    "artifact_fraction": _Margin(math.inf, 2, plus=0.05),
}


def describe_field(contrast: NDArray[np.float32], mask: NDArray[np.bool_]) -> dict[str, float]:
    """Measure what tells one kind of image from another, of every few pixels outside of the artifacts.

    Parameters
    ----------
    contrast
        ``(y, x)``, against the background.
    mask
        ``(y, x)``; True where an artifact is.

    Returns
    -------
    dict[str, float]
        ``contrast_p01`` and ``contrast_p99``, percentiles; ``contrast_asymmetry``, their sum over their difference,
        negative where dark stands out; ``roughness``, median difference of neighbours, which is noise in most images;
        ``flat_fraction``, neighbours that are equal; ``sharpness``, 97th percentile of the difference between
        neighbouring blocks of 4 x 4 pixels, over the distance of the percentiles; ``artifact_fraction``. NaN where no
        pixel is left to measure.

    Examples
    --------
    >>> field = np.zeros((40, 40), np.float32)
    >>> field[:, ::2] = 0.1
    >>> describe_field(field, np.zeros((40, 40), bool))["roughness"]
    0.1
    """
    sample = contrast[::_STRIDE_PX, ::_STRIDE_PX][~mask[::_STRIDE_PX, ::_STRIDE_PX]]
    p01, p99 = _percentiles(sample, 1, 99)
    fine = _differences(contrast[:: 2 * _STRIDE_PX], mask[:: 2 * _STRIDE_PX])
    (coarse,) = _percentiles(_differences(*_blocks(contrast, mask)), 97)
    spread = p99 - p01
    return {
        "contrast_p01": p01,
        "contrast_p99": p99,
        "contrast_asymmetry": (p99 + p01) / spread if spread > 0 else math.nan,
        "roughness": _percentiles(fine, 50)[0],
        "flat_fraction": float(np.mean(fine < FLAT)) if fine.size else math.nan,
        "sharpness": coarse / spread if spread > 0 else math.nan,
        "artifact_fraction": float(np.count_nonzero(mask)) / mask.size,
    }


def summarise(fields: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Range of each statistic over the fields that a model is trained on.

    Parameters
    ----------
    fields
        What :func:`describe_field` says of each.

    Returns
    -------
    dict[str, tuple[float, float]]
        From the 2.5th to the 97.5th percentile; of less than 40 fields the smallest and the largest. What could be
        measured in none is left out.

    Examples
    --------
    >>> summarise([{"roughness": 0.1}, {"roughness": 0.3}, {"roughness": 0.2}])
    {'roughness': (0.1, 0.3)}
    """
    ends = (2.5, 97.5) if len(fields) >= _ENOUGH_FIELDS else (0, 100)
    ranges = {}
    for name in dict.fromkeys(name for field in fields for name in field):
        values = _finite([field[name] for field in fields if name in field])
        if values.size:
            low, high = _percentiles(values, *ends)
            ranges[name] = low, high
    return ranges


def find_unfamiliar(
    measured: Mapping[str, Sequence[float]], seen: Mapping[str, tuple[float, float]]
) -> list[Unfamiliar]:
    """Find what is unusual about a plate: medians over its fields, against the training fields' widened ranges.

    Parameters
    ----------
    measured
        What was measured of each field, by the names of :func:`describe_field`.
    seen
        What :func:`summarise` made of the training fields. Names that only one of the two has are passed over.

    Examples
    --------
    >>> find_unfamiliar({"roughness": [0.9, 0.5, 0.6]}, {"roughness": (0.1, 0.25)})
    [Unfamiliar(name='roughness', found=0.6, low=0.1, high=0.25)]
    """
    unfamiliar = []
    for name, margin in _MARGINS.items():
        values = _finite(measured.get(name, ()))
        if name not in seen or not values.size:
            continue
        found = float(np.median(values))
        low, high = _widen(*seen[name], margin)
        if not low <= found <= high:
            unfamiliar.append(Unfamiliar(name, found, *seen[name]))
    return unfamiliar


def _widen(low: float, high: float, margin: _Margin) -> tuple[float, float]:
    """Limits of what is still familiar."""
    if not margin.is_factor:
        return low - margin.below, high + margin.above
    # Away from the range, whatever its sign is.
    lowest = low / margin.below if low > 0 else low * margin.below
    highest = high * margin.above if high > 0 else high / margin.above
    return (
        -math.inf if math.isinf(margin.below) else lowest - margin.plus,
        math.inf if math.isinf(margin.above) else highest + margin.plus,
    )


def _blocks(contrast: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Means of the blocks in some rows of blocks, and which of these touch an artifact."""
    rows, columns = (n // _BLOCK_PX for n in contrast.shape)

    def cut(image: NDArray[Any]) -> NDArray[Any]:
        cropped = image[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
        return cropped.reshape(rows, _BLOCK_PX, columns, _BLOCK_PX)[::_EVERY]

    means: NDArray[np.float32] = cut(contrast).mean(axis=1).mean(axis=2)
    touched: NDArray[np.bool_] = np.asarray(cut(mask).any(axis=(1, 3)))
    return means, touched


def _differences(image: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Differences of neighbours in a row, neither of which is in an artifact."""
    clean = ~(mask[:, 1:] | mask[:, :-1])
    differences: NDArray[np.float32] = np.abs(image[:, 1:] - image[:, :-1])[clean]
    return differences


def _percentiles(values: NDArray[np.floating], *percents: float) -> list[float]:
    if not values.size:
        return [math.nan] * len(percents)
    return [round(float(value), 6) for value in np.percentile(values, percents)]


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]
