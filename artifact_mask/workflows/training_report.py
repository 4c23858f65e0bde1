"""The report of a training: figures, a table of predictions, and pictures."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from artifact_mask.io.files import write_atomically
from artifact_mask.io.training_picture import Curve, JudgedTile, save_curves, save_sheet
from artifact_mask.workflows.labelled_tiles import LabelledTiles

if TYPE_CHECKING:
    from artifact_mask.nn.fit_classifier import Fitted
    from artifact_mask.nn.judgement import Judgement

MOST_SHOWN = 60
"""Misclassified tiles on the sheet."""
COLUMNS = ("plate", "well", "field", "y0", "x0", "height", "width", "label", "probability", "file")
_LABELS = ("clean", "artifact")


def write_training_report(
    folder: Path,
    fitted: "Fitted",
    judgement: "Judgement",
    held_out: LabelledTiles,
    described: Mapping[str, object],
    *,
    threshold: float,
) -> None:
    """Write ``report.json``, ``predictions.csv``, ``misclassified.png`` and ``curves.png``.

    Parameters
    ----------
    folder
        Made if it is not there; what an earlier training reported is replaced.
    fitted, judgement
        How the training went, and how good it is.
    held_out
        The tiles that were judged.
    described
        What else the report says, as JSON.
    threshold
        Probability from which on a tile has an artifact.

    Raises
    ------
    OSError
        If the disk is full or refuses to be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "predictions.csv", _tabulate(held_out, fitted.probabilities).encode())
    wrong = _misclassified(held_out.labels, fitted.probabilities, threshold)
    more = f", the worst {MOST_SHOWN} of them" if len(wrong) > MOST_SHOWN else ""
    heading = f"{len(wrong)} of {len(held_out)} held-out tiles are misclassified{more}"
    save_sheet(folder / "misclassified.png", [_show(held_out, fitted, i) for i in wrong[:MOST_SHOWN]], heading)
    roc = (judgement.false_positive_rate, judgement.true_positive_rate)
    auc = judgement.metrics.get("auc")
    title = "one class alone: no curve" if auc is None else f"area under the curve {auc:.3f}"
    curve = Curve(*roc, "clean tiles taken for artifacts", "artifacts found", title)
    save_curves(folder / "curves.png", fitted.course.epochs, fitted.course.best_epoch, curve, "cross-entropy")
    confusion = {
        said: dict(zip(_LABELS, row, strict=True))
        for said, row in zip(_LABELS, judgement.confusion.tolist(), strict=True)
    }
    report = {
        **described,
        "metrics": judgement.metrics,
        "threshold": threshold,
        "confusion": {"rows": "label", "columns": "prediction", **confusion},
        "roc": {"false_positive_rate": roc[0].tolist(), "true_positive_rate": roc[1].tolist()},
        "best_epoch": fitted.course.best_epoch,
        "epochs": fitted.course.epochs,
    }
    write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())


def _misclassified(labels: NDArray[np.intp], probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Numbers of the tiles on the wrong side, the worst first."""
    wrong = np.flatnonzero((probabilities >= threshold) != (labels == 1))
    return wrong[np.argsort(-np.abs(probabilities[wrong] - labels[wrong]), kind="stable")]


def _show(tiles: LabelledTiles, fitted: "Fitted", number: int) -> JudgedTile:
    field, box = tiles.source(number)
    place = f"\ny {box.y0}, x {box.x0}" if box else ""
    said = f"{_LABELS[tiles.labels[number]]}, p = {fitted.probabilities[number]:.2f}"
    return JudgedTile(tiles[number], f"{field.name}{place}\n{said}")


def _tabulate(tiles: LabelledTiles, probabilities: NDArray[np.float32]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, probability in enumerate(probabilities):
        field, box = tiles.source(number)
        place = (field.plate, field.well, field.field, *(box or ("",) * 4))
        writer.writerow((*place, _LABELS[tiles.labels[number]], f"{probability:.6f}", field.file))
    return text.getvalue()
