"""Choose how a network's probabilities are cut into objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from artifact_mask.kernels.agreement import NOTHING, Truth
from artifact_mask.kernels.labels import Cut, label_artifacts
from artifact_mask.kernels.truth import ARTIFACT, IGNORE, TruthField

THRESHOLDS = (0.3, 0.4, 0.5, 0.6)
MIN_OBJECTS_PX = (12, 25, 40, 60)
LARGE_THRESHOLDS = (None, 0.1, 0.2)
RING_PX = 10
"""Around an artifact its outline is a matter of taste."""
FALSE_OBJECT_COST = 0.02
"""Of the criterion, for each false object a field."""


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Attributes
    ----------
    cut
        Best by the criterion: F1 of the pixels, averaged over all of them and all but a ring around the artifacts, plus
        the share of objects that are found, less 0.02 for each false object a field.
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
    """Choose threshold, smallest object and the threshold of large objects by trying them all.

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
        strict, tolerant = NOTHING, NOTHING
        for (field, probability), truth in zip(fields, truths, strict=True):
            found = label_artifacts(probability.astype(np.float32), field.contrast, cut) > 0
            strict += truth.count(found, ring_px=0)
            tolerant += truth.count(found, ring_px=RING_PX)
        f1 = (strict.artifact.f1 + tolerant.artifact.f1) / 2
        return f1 + tolerant.object_recall - FALSE_OBJECT_COST * tolerant.n_false_objects / len(fields)

    cuts = [
        Cut(threshold, min_object_px, reach_px, large_threshold)
        for threshold, min_object_px, large_threshold in product(thresholds, min_objects_px, LARGE_THRESHOLDS)
        if large_threshold is None or large_threshold < threshold
    ]
    return Calibration(max(cuts, key=judge), len(fields))
