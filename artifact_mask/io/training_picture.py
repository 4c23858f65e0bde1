"""Pictures of a training: how it went, and what the classifier gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLUMNS = 6
DARKEST, BRIGHTEST = -2.5, 1.25
"""Contrast that is shown as black and as white."""


@dataclass(frozen=True)
class JudgedTile:
    """A tile of the sheet.

    Attributes
    ----------
    contrast
        ``(y, x)``.
    title
        What stands above it.
    """

    contrast: NDArray[np.floating]
    title: str


def save_sheet(path: Path, tiles: Sequence[JudgedTile], heading: str) -> None:
    """Save a PNG with tiles in rows under a heading; the heading alone if there are none."""
    rows = -(-len(tiles) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, 0.7 + 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=11)
    if tiles:
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, tile in zip(axes, tiles, strict=False):
            axis.imshow(tile.contrast.astype(np.float32), cmap="gray", vmin=DARKEST, vmax=BRIGHTEST)
            axis.set_title(tile.title, fontsize=7)
    figure.savefig(path, dpi=100)


def save_curves(
    path: Path,
    epochs: Sequence[dict[str, float]],
    best_epoch: int,
    roc: tuple[NDArray[np.float64], NDArray[np.float64]],
    auc: float | None,
) -> None:
    """Save a PNG with the losses over the epochs, and the ROC curve of the held-out tiles.

    Parameters
    ----------
    path
        To write.
    epochs
        Figures of each: ``epoch``, ``loss``, ``loss_held_out``.
    best_epoch
        Which is marked.
    roc
        False and true positive rate ``(k,)``; empty where there is no curve.
    auc
        Area under the curve; None where there is none.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    numbers = [figures["epoch"] for figures in epochs]
    left.plot(numbers, [figures["loss"] for figures in epochs], label="training")
    left.plot(numbers, [figures["loss_held_out"] for figures in epochs], label="held-out wells")
    left.axvline(best_epoch, color="grey", linewidth=0.8, linestyle="--", label="kept")
    left.set(xlabel="epoch", ylabel="cross-entropy")
    left.legend(frameon=False)
    right.plot([0, 1], [0, 1], color="lightgrey", linewidth=0.8)
    right.plot(*roc, drawstyle="steps-post")
    right.set(
        xlabel="clean tiles taken for artifacts", ylabel="artifacts found", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01)
    )
    right.set_title("one class alone: no curve" if auc is None else f"area under the curve {auc:.3f}", fontsize=10)
    figure.savefig(path, dpi=100)
