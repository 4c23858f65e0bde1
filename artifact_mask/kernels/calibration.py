"""Choose how a network's probabilities are cut into objects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from artifact_mask.kernels.agreement import NOTHING, Truth
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.kernels.truth import ARTIFACT, IGNORE, TruthField

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
MIN_OBJECTS_PX = (12, 25, 40, 60)
RING_PX = 10
"""Around an artifact its outline is a matter of taste."""
FALSE_OBJECT_COST = 0.01
"""Of the criterion, for each false object a field."""


LARGE_THRESHOLDS = (None, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Attributes
    ----------
    cut
        Best by the criterion: F1 of the pixels, but for a ring around the artifacts, plus the share of objects that are
        found, less 0.01 for each false object a field. Of thresholds as good within 0.005, the one in the middle.
    n_fields
        On which it was chosen.
    """

    cut: Cut
    n_fields: int


def calibrate(
    fields: Sequence[tuple[TruthField, NDArray[np.float16]]],
    reach_px: float,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    min_objects_px: Sequence[int] = MIN_OBJECTS_PX,
) -> Calibration | None:
    """Choose a threshold and the smallest object, then the threshold of large objects.

    Parameters
    ----------
    fields
        Contrast, truth and probability of each, ``(y, x)``.
    reach_px
        How far objects grow, see :func:`artifact_mask.kernels.labels.grow_into_dark`.
    thresholds, min_objects_px
        To choose from.

    Returns
    -------
    Calibration | None
        None if there is no artifact in any field.
    """
    truths = [Truth(field.truth == ARTIFACT, field.truth == IGNORE) for field, _ in fields]
    if not any(truth.n_objects for truth in truths):
        return None

    def judge(cut: Cut) -> float:
        counts = NOTHING
        for (field, probability), truth in zip(fields, truths, strict=True):
            labels = label_artifacts(probability.astype(np.float32), field.contrast, cut)
            counts += truth.count(labels > 0, ring_px=RING_PX)
        return counts.artifact.f1 + counts.object_recall - FALSE_OBJECT_COST * counts.n_false_objects / len(fields)

    value = np.array([[judge(Cut(t, n, reach_px)) for n in min_objects_px] for t in thresholds])
    good = np.argwhere(value >= value.max() - 0.005)
    row, column = min(good.tolist(), key=lambda place: float(np.abs(good - place).sum()))
    base = Cut(thresholds[row], min_objects_px[column], reach_px)
    cuts = [
        replace(base, large_threshold=large) for large in LARGE_THRESHOLDS if large is None or large < base.threshold
    ]
    return Calibration(max(cuts, key=judge), len(fields))
