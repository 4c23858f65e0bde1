"""The report of a U-Net's training: figures of each held-out field, how it went, and pictures."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifact_mask.io.files import write_atomically
from artifact_mask.io.training_picture import Curve, save_curves
from artifact_mask.kernels.agreement import BINS, Counts, Truth, pool, precision_recall
from artifact_mask.kernels.calibration import RING_PX
from artifact_mask.kernels.labels import label_artifacts
from artifact_mask.kernels.truth import ARTIFACT, IGNORE
from artifact_mask.workflows.training_fields import TrainingFields

if TYPE_CHECKING:
    from artifact_mask.nn.fitting import Course
    from artifact_mask.nn.predict import Segmenter


@dataclass(frozen=True)
class HeldOutCounts:
    """What was counted on held-out fields.

    Attributes
    ----------
    strict, tolerant
        Counts of each field: of all pixels, and without a ring around the artifacts.
    curve
        ``(2, BINS)`` pixels by their probability, without the ring.
    """

    strict: list[Counts]
    tolerant: list[Counts]
    curve: NDArray[np.int64]

    @property
    def metrics(self) -> dict[str, float]:
        """Scores of all fields together; empty without an artifact."""
        found = pool(self.strict)
        if not found.n_objects:
            return {}
        metrics = {
            f"{kind}_{name}": round(value, 4)
            for kind, counts in (("strict", found), (f"ring{RING_PX}", pool(self.tolerant)))
            for name, value in counts.artifact._asdict().items()
        }
        return metrics | {
            "mean_iou": round(found.mean_iou, 4),
            "objects_found": round(found.object_recall, 4),
            "false_objects_per_field": round(pool(self.tolerant).n_false_objects / len(self.tolerant), 4),
        }


def judge_fields(segmenter: "Segmenter", fields: TrainingFields) -> HeldOutCounts:
    """Predict fields one by one, and compare them with their truth."""
    strict, tolerant, curve = [], [], np.zeros((2, BINS), np.int64)
    for number in range(len(fields)):
        contrast, truth = fields[number].truth_field
        known = Truth(truth == ARTIFACT, truth == IGNORE)
        probability = segmenter.predict(contrast[np.newaxis])[0]
        found = label_artifacts(probability, contrast, segmenter.card.cut()) > 0
        strict.append(known.count(found, ring_px=0))
        tolerant.append(known.count(found, ring_px=RING_PX))
        curve += known.count_probabilities(probability, ring_px=RING_PX)
    return HeldOutCounts(strict, tolerant, curve)


def write_unet_report(
    folder: Path,
    courses: "Sequence[Course]",
    judgement: HeldOutCounts,
    held_out: TrainingFields,
    described: Mapping[str, object],
) -> None:
    """Write ``report.json``, ``fields.csv`` and ``curves.png``.

    Parameters
    ----------
    folder
        Made if it is not there; what an earlier training reported is replaced.
    courses
        Of all rounds.
    judgement, held_out
        How good the network is, and on which fields.
    described
        What else the report says, as JSON.

    Raises
    ------
    OSError
        If the disk is full or refuses to be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "fields.csv", _tabulate(judgement, held_out).encode())
    curve = precision_recall(judgement.curve)
    title = (
        "nothing held out: no curve"
        if np.isnan(curve.average_precision)
        else f"average precision {curve.average_precision:.3f} (but for a ring of {RING_PX} px)"
    )
    epochs = [figures for course in courses for figures in course.epochs]
    best_epoch = sum(len(course.epochs) for course in courses[:-1]) + courses[-1].best_epoch
    shown = Curve(curve.recall, curve.precision, "recall", "precision", title)
    save_curves(folder / "curves.png", epochs, best_epoch, shown, "cross-entropy + Dice")
    report = {
        **described,
        "metrics": judgement.metrics,
        "average_precision": None if np.isnan(curve.average_precision) else curve.average_precision,
        "rounds": [{"best_epoch": course.best_epoch, "epochs": course.epochs} for course in courses],
    }
    write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())


def _tabulate(judgement: HeldOutCounts, held_out: TrainingFields) -> str:
    text = io.StringIO(newline="")
    counts = [{f"strict_{name}": n for name, n in asdict(each).items()} for each in judgement.strict]
    for row, tolerant, source in zip(counts, judgement.tolerant, held_out.sources, strict=True):
        row |= {f"ring{RING_PX}_{name}": n for name, n in asdict(tolerant).items()}
        row |= {"plate": source.plate, "well": source.well, "field": source.field, "file": source.file}
    columns = ["plate", "well", "field", "file", *(name for name in (counts[0] if counts else {}) if "_" in name)]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(counts)
    return text.getvalue()
