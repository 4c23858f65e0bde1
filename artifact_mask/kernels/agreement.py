"""How well predicted masks agree with true ones: pixels, objects, and the curve of precision over recall."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FOUND_SHARE = 0.5
"""Of an object's pixels, from which on it is found."""
BINS = 1024
"""Of probability; a power of two, so that each lies in its bin exactly."""

_EIGHT = np.ones((3, 3))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class Counts:
    """What was counted on one field, or on several.

    Attributes
    ----------
    true_px, false_px, missed_px
        Pixels of artifacts that are predicted, predicted pixels that are none, and pixels of artifacts that are not
        predicted.
    background_px
        Pixels that rightly are not predicted.
    n_objects, n_found
        Objects of the truth, and those of which at least half is predicted.
    n_false_objects
        Predicted objects near no artifact and no pixel that is left out.

    Notes
    -----
    A ratio of nothing is NaN.
    """

    true_px: int
    false_px: int
    missed_px: int
    background_px: int
    n_objects: int
    n_found: int
    n_false_objects: int

    def __add__(self, other: "Counts") -> "Counts":
        """Pool two counts."""
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def accuracy(self) -> float:
        """Share of the pixels that are right."""
        right = self.true_px + self.background_px
        return _ratio(right, right + self.false_px + self.missed_px)

    @property
    def artifact(self) -> "ClassScores":
        """Scores of the artifacts' pixels."""
        return _score(self.true_px, self.false_px, self.missed_px)

    @property
    def background(self) -> "ClassScores":
        """Scores of the other pixels."""
        return _score(self.background_px, self.missed_px, self.false_px)

    @property
    def mean_iou(self) -> float:
        """Mean of both classes' IoU."""
        return (self.artifact.iou + self.background.iou) / 2

    @property
    def object_recall(self) -> float:
        """Share of the objects that are found."""
        return _ratio(self.n_found, self.n_objects)


NOTHING = Counts(0, 0, 0, 0, 0, 0, 0)


class ClassScores(NamedTuple):
    """Scores of one class of pixels."""

    precision: float
    recall: float
    f1: float
    iou: float


def _score(true_px: int, false_px: int, missed_px: int) -> ClassScores:
    return ClassScores(
        precision=_ratio(true_px, true_px + false_px),
        recall=_ratio(true_px, true_px + missed_px),
        f1=_ratio(2 * true_px, 2 * true_px + false_px + missed_px),
        iou=_ratio(true_px, true_px + false_px + missed_px),
    )


class Truth:
    """What is true of a field, and everything about it that does not depend on a prediction.

    Parameters
    ----------
    target
        ``(y, x)`` bool, the artifacts to be found. Pixels that touch by a corner are one object.
    left_out
        ``(y, x)`` bool, pixels that are neither right nor wrong, whatever is predicted there; of the others alone.

    Attributes
    ----------
    n_objects
        Objects of the target.

    Examples
    --------
    >>> target = np.array([[1, 1, 0, 0, 0, 0]], bool)
    >>> truth = Truth(target, np.zeros_like(target))
    >>> counts = truth.count(np.array([[1, 0, 1, 0, 0, 1]], bool), ring_px=1)
    >>> counts.true_px, counts.false_px, counts.missed_px, counts.n_found, counts.n_false_objects
    (1, 1, 1, 1, 1)
    """

    def __init__(self, target: NDArray[np.bool_], left_out: NDArray[np.bool_]) -> None:
        self._target, marked = target, target | left_out
        self._left_out = left_out & ~target
        self._labels, self.n_objects = ndimage.label(target, _EIGHT)
        self._areas = np.bincount(self._labels.ravel(), minlength=self.n_objects + 1)[1:]
        # Of an image without a mark SciPy measures the distance to nowhere.
        self._distance = ndimage.distance_transform_edt(~marked) if marked.any() else np.full(target.shape, np.inf)

    def count(self, predicted: NDArray[np.bool_], *, ring_px: float) -> Counts:
        """Compare a prediction.

        Parameters
        ----------
        predicted
            ``(y, x)``.
        ring_px
            Background within this distance of an artifact, or of what is left out, is left out as well: where an
            outline runs is a convention. 0 for none.
        """
        covered = np.bincount(self._labels[predicted], minlength=self.n_objects + 1)[1:]
        background = self.background(ring_px)
        true_px, n_predicted = int(covered.sum()), int(np.count_nonzero(predicted & background))
        return Counts(
            true_px=true_px,
            false_px=n_predicted,
            missed_px=int(self._areas.sum()) - true_px,
            background_px=int(np.count_nonzero(background)) - n_predicted,
            n_objects=self.n_objects,
            n_found=int(np.count_nonzero(covered >= FOUND_SHARE * self._areas)),
            n_false_objects=self._count_false_objects(predicted, ring_px),
        )

    def background(self, ring_px: float) -> NDArray[np.bool_]:
        """Pixels ``(y, x)`` where a prediction is wrong."""
        return ~self._target & ~self._left_out & ((self._distance > ring_px) | (ring_px == 0))

    def _count_false_objects(self, predicted: NDArray[np.bool_], ring_px: float) -> int:
        parts, n_parts = ndimage.label(predicted, _EIGHT)
        near = np.unique(parts[self._distance <= max(ring_px, 1)])
        return int(n_parts - np.count_nonzero(near))

    def count_probabilities(self, probability: NDArray[np.floating], *, ring_px: float) -> NDArray[np.int64]:
        """Count the pixels of artifacts and of background by their probability.

        Parameters
        ----------
        probability
            ``(y, x)``, 0..1.
        ring_px
            As in :meth:`count`.

        Returns
        -------
        NDArray[np.int64]
            ``(2, BINS)``, artifacts first. Add them up over fields for :func:`precision_recall`.
        """
        bins = np.minimum((probability * BINS).astype(np.intp), BINS - 1)
        return np.stack([np.bincount(bins[mask], minlength=BINS) for mask in (self._target, self.background(ring_px))])


class PrecisionRecall(NamedTuple):
    """Precision and recall at falling thresholds, ``(k,)`` each, and the area below."""

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    average_precision: float


def precision_recall(counts: NDArray[np.int64]) -> PrecisionRecall:
    """Curve of precision over recall.

    Parameters
    ----------
    counts
        ``(2, n)`` pixels of artifacts and of background in equal bins of probability, as
        :meth:`Truth.count_probabilities` counts them.

    Notes
    -----
    Average precision is the sum of precision times the gain in recall, without interpolation; NaN without artifacts.
    Thresholds at which nothing is predicted are left out.

    Examples
    --------
    >>> curve = precision_recall(np.array([[0, 1, 0, 1], [3, 0, 1, 0]]))
    >>> curve.thresholds.tolist(), curve.recall.tolist(), round(curve.average_precision, 3)
    ([0.75, 0.5, 0.25, 0.0], [0.5, 0.5, 1.0, 1.0], 0.833)
    """
    n_bins = counts.shape[1]
    true_px, false_px = np.cumsum(counts[:, ::-1], axis=1)
    is_there = true_px + false_px > 0
    true_px, false_px = true_px[is_there], false_px[is_there]
    thresholds = np.arange(n_bins - 1, -1, -1)[is_there] / n_bins
    n_artifact = int(counts[0].sum())
    precision = true_px / (true_px + false_px)
    recall = true_px / n_artifact if n_artifact else np.full(true_px.shape, np.nan)
    average = float((np.diff(recall, prepend=0) * precision).sum()) if n_artifact else float("nan")
    return PrecisionRecall(thresholds, precision, recall, average)


def pool(counts: Sequence[Counts]) -> Counts:
    """Add up the counts of some fields."""
    return sum(counts, start=NOTHING)
